/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * balloon_wire.h: the dynamic memory protocol between a guest and its host, versions 0.3, 1.0 and 2.0.
 *
 * Source: the messages as Linux's hv_balloon sends them and QEMU's hv-balloon expects them. They travel as inband
 * packets without completion, transaction id 0, one message a packet. A page is 4 KiB everywhere.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define DM_WIRE_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has a fixed size")
#define DM_WIRE_OFFSET(type, field, bytes) \
    _Static_assert(offsetof(type, field) == (bytes), #type "." #field " has a fixed offset")

#define DM_VERSION(major, minor) ((uint32_t)((major) << 16 | (minor)))
#define DM_VERSION_WIN7          DM_VERSION(0, 3)
#define DM_VERSION_WIN8          DM_VERSION(1, 0)
#define DM_VERSION_WIN10         DM_VERSION(2, 0)

#define DM_MESSAGE_MAX           4096u           /* bytes of any message */

enum dm_type {
    DM_ERROR = 0,
    DM_VERSION_REQUEST = 1,              /* guest */
    DM_VERSION_RESPONSE = 2,             /* host */
    DM_CAPABILITIES_REPORT = 3,          /* guest */
    DM_CAPABILITIES_RESPONSE = 4,        /* host */
    DM_STATUS_REPORT = 5,                /* guest, every second, not answered */
    DM_BALLOON_REQUEST = 6,              /* host wants pages */
    DM_BALLOON_RESPONSE = 7,             /* guest, in parts */
    DM_UNBALLOON_REQUEST = 8,            /* host gives pages back, in parts */
    DM_UNBALLOON_RESPONSE = 9,           /* guest, after the last part */
    DM_HOT_ADD_REQUEST = 10,             /* host */
    DM_HOT_ADD_RESPONSE = 11,            /* guest */
    DM_INFO = 12,                        /* host, from 1.0 on, not answered */
    DM_HOT_REMOVE_REQUEST = 13,          /* host, 2.0, to guests that announced it */
    DM_HOT_REMOVE_RESPONSE = 14,
};

struct dm_header {
    uint16_t type;                       /* enum dm_type */
    uint16_t size;                       /* of the whole message */
    uint32_t transaction_id;             /* the sender counts; answers to version and capabilities repeat the guest's */
};
DM_WIRE_SIZE(struct dm_header, 8);

#define DM_LAST_ATTEMPT 1u               /* no older version will be tried */
struct dm_version_request {
    struct dm_header header;
    uint32_t version;                    /* DM_VERSION_* */
    uint32_t flags;                      /* DM_LAST_ATTEMPT */
};
DM_WIRE_SIZE(struct dm_version_request, 16);

/* The answer to version and capabilities. */
#define DM_ACCEPTED         1ull
#define DM_HOT_REMOVE_KNOWN 2ull         /* capabilities, 2.0 */
#define DM_NO_REPORTS       4ull         /* capabilities, 2.0: the host does not want status reports */
struct dm_answer {
    struct dm_header header;
    uint64_t flags;
};
DM_WIRE_SIZE(struct dm_answer, 16);

#define DM_CAP_BALLOON          1ull
#define DM_CAP_HOT_ADD          2ull
#define DM_CAP_ALIGNMENT_SHIFT  2        /* four bits n: hot-added ranges are aligned to 2^n MiB */
#define DM_CAP_HOT_REMOVE       0x40ull
struct dm_capabilities {
    struct dm_header header;
    uint64_t capabilities;
    uint64_t min_pages;                  /* hosts do not look at these two: 0 and all ones */
    uint64_t max_page;
};
DM_WIRE_SIZE(struct dm_capabilities, 32);

struct dm_status {
    struct dm_header header;
    uint64_t available;                  /* pages */
    uint64_t committed;                  /* pages; what the host computes the pressure from */
    uint64_t page_file;
    uint64_t zero_free;
    uint32_t page_file_writes;
    uint32_t io_difference;
};
DM_WIRE_SIZE(struct dm_status, 48);
DM_WIRE_OFFSET(struct dm_status, committed, 16);
DM_WIRE_OFFSET(struct dm_status, page_file_writes, 40);

struct dm_balloon_request {
    struct dm_header header;
    uint32_t pages;
    uint32_t reserved;
};
DM_WIRE_SIZE(struct dm_balloon_request, 16);

/* A range of pages in one word: frame number in bits 39:0, count in bits 63:40. */
#define DM_RANGE_FIRST_BITS      40
#define DM_RANGE_PAGES_MAX       0xFFFFFFull
#define DM_RANGE(first, pages)   ((uint64_t)(first) | (uint64_t)(pages) << DM_RANGE_FIRST_BITS)
#define DM_RANGE_FIRST(range)    ((range) & ((1ull << DM_RANGE_FIRST_BITS) - 1))
#define DM_RANGE_PAGES(range)    ((range) >> DM_RANGE_FIRST_BITS)

#define DM_MORE                  1u      /* another part of this transaction follows */
#define DM_COUNT_SHIFT           1
struct dm_balloon_response {
    struct dm_header header;
    uint32_t reserved;
    uint32_t more_count;                 /* DM_MORE, number of ranges << DM_COUNT_SHIFT; no range: nothing to give */
    uint64_t ranges[];
};
DM_WIRE_SIZE(struct dm_balloon_response, 16);
DM_WIRE_OFFSET(struct dm_balloon_response, more_count, 12);
#define DM_RANGES_MAX ((DM_MESSAGE_MAX - sizeof(struct dm_balloon_response)) / sizeof(uint64_t))

struct dm_unballoon_request {
    struct dm_header header;
    uint32_t flags;                      /* DM_MORE */
    uint32_t count;
    uint64_t ranges[];
};
DM_WIRE_SIZE(struct dm_unballoon_request, 16);

struct dm_unballoon_response {
    struct dm_header header;
};
DM_WIRE_SIZE(struct dm_unballoon_response, 8);

struct dm_hot_add_request {
    struct dm_header header;
    uint64_t range;
    uint64_t region;                     /* only in the longer form: the range is a part of this region */
};
DM_WIRE_SIZE(struct dm_hot_add_request, 24);
#define DM_HOT_ADD_BYTES  16u            /* the shorter form */

/* pages < asked: the guest can't reach what is left, the host need not ask again. pages 0: result 1 says never,
 * result 0 says not now. */
struct dm_hot_add_response {
    struct dm_header header;
    uint32_t pages;
    uint32_t result;
};
DM_WIRE_SIZE(struct dm_hot_add_response, 16);

#define DM_INFO_MAX_PAGES 0u             /* a u64: the most pages that the machine may get */
struct dm_info {
    struct dm_header header;
    uint32_t reserved;
    uint32_t info_bytes;                 /* of the rest */
    uint32_t info_type;
    uint32_t data_bytes;
    uint64_t value;
};
DM_WIRE_SIZE(struct dm_info, 32);
DM_WIRE_OFFSET(struct dm_info, value, 24);
