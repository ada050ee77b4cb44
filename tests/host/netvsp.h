/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netvsp.h: a network adapter, shared by netvsp.c (NVSP handshake), netvsp_tx.c, netvsp_rx.c, netvsp_sum.c
 * and rndis_host.c, rndis_oid.c (the RNDIS side).
 */
#pragma once
#include "drivers/netvsc_wire.h"
#include "drivers/rndis_wire.h"
#include "tests/host/host_internal.h"

#define NETVSP_CONTROL_SECTIONS 16u       /* receive sections kept for control messages */
#define NETVSP_CONTROL_MAX      4096u     /* longest control message taken */
#define NETVSP_HEADER_MAX       256u      /* bytes of a frame that are copied to change headers */
#define NETVSP_FRAME_MIN        82u         /* the least MTU of IPv4, 68, and the header */
#define NETVSP_FRAME_DEFAULT    1514u
#define NETVSP_FRAME_MAX        9216u
#define NETVSP_VLAN_BYTES       4u
#define NETVSP_NONE             0xFFFFFFFFu

enum netvsp_section_state { SECTION_FREE, SECTION_QUEUED, SECTION_GUEST_FIRST, SECTION_GUEST };

struct netvsp_section {
    uint32_t bytes;                       /* of the message in it */
    uint32_t next;                        /* in the free list, the queue or the packet */
    uint8_t state;
    uint8_t queue;                        /* not free: of the channel that it goes by, and comes back by */
    bool control;
};

/* Messages that wait to be told to the guest, per channel. */
struct netvsp_queue {
    struct host_chan *ch;                 /* NULL: not open */
    uint32_t first, last, count;
    uint32_t used;                        /* sections: those that wait and those the guest has */
};

struct host_nic {
    struct list node;
    struct host *h;
    struct host_nic_config cfg;
    const struct host_net_ops *ops;
    void *backend;
    struct host_chan *primary;

    /* NVSP */
    uint32_t version;                     /* 0: INIT has not succeeded */
    bool config_seen, ndis_seen;
    uint32_t frame_bytes;                 /* longest frame, with the Ethernet header */
    struct host_gpadl *recv, *send;
    uint16_t recv_id, send_id;
    uint32_t send_sections;
    bool revoked;                         /* after REVOKE nothing is served */
    uint32_t granted;                     /* channels after a request for sub-channels, the primary included */
    bool table_sent;                      /* where to send: once, when all of them are open */

    /* receive sections */
    struct netvsp_section *section;
    uint32_t sections, section_bytes;
    uint32_t free_first, free_count, held;
    struct netvsp_queue queue[HOST_MAX_CHANNELS];
    uint32_t queues;

    /* RNDIS */
    bool initialized, halted;
    uint32_t filter;
    bool link_up;
    struct ndis_offload_parameters offload;    /* what the guest has switched on */
    bool rss;
    uint32_t rss_hash;                    /* NDIS_RSS_HASH_* */
    uint8_t rss_key[NDIS_RSS_KEY_BYTES];
    uint32_t rss_table[NDIS_RSS_TABLE_ENTRIES], rss_entries;
    uint64_t rss_queues;                  /* that are in the table: they share the receive sections */
    uint32_t rss_queue_count;
};
_Static_assert(HOST_MAX_CHANNELS <= 64, "a bit for each queue");

/* What one frame's headers say; offsets from the frame's start. */
struct netvsp_headers {
    bool ipv4, ipv6, tcp, udp, fragment;
    uint32_t ip, transport, end;          /* end: of the IP packet */
};

static inline uint32_t nvsp_bytes(const struct host_nic *n)
{
    return n->version >= NVSP_VERSION_6_1 ? NVSP_MESSAGE_BYTES_6_1 : NVSP_MESSAGE_BYTES;
}

/* netvsp.c */
bool netvsp_ready(const struct host_nic *n);
bool netvsp_queue_open(const struct host_nic *n, uint32_t queue);
enum host_fault_kind netvsp_complete(struct host_chan *ch, const struct host_packet *p, struct nvsp_message *m,
                                     uint32_t bytes, enum host_fault_point point);
/* netvsp_tx.c */
enum host_take netvsp_transmit(struct host_chan *ch, const struct host_packet *p,
                               const struct nvsp_message *m);
/* netvsp_rx.c */
bool netvsp_make_sections(struct host_nic *n);
void netvsp_drop_sections(struct host_nic *n);
void netvsp_drop_queue(struct host_nic *n, uint32_t queue);   /* its channel was closed */
bool netvsp_section_returned(struct host_nic *n, uint32_t queue, uint64_t id);
void netvsp_output(struct host_chan *ch);
void netvsp_send_control(struct host_nic *n, const void *message, uint32_t bytes);
/* malice_packet.c: a message in a section, before the guest is told of it */
void malice_rndis(struct host_nic *n, uint32_t section);
/* the same: a control message before it is sent; false: it never is */
bool malice_rndis_answer(struct host_nic *n, uint8_t *message, uint32_t bytes);
/* netvsp_sum.c: sums are folded, not complemented, in host order of big-endian words */
uint16_t netvsp_sum(const struct host_seg *segs, uint32_t count, uint32_t offset, uint32_t bytes);
uint16_t netvsp_sum_add(uint16_t a, uint16_t b);
bool netvsp_parse(const uint8_t *head, uint32_t head_bytes, uint32_t frame_bytes, struct netvsp_headers *out);
uint16_t netvsp_pseudo_sum(const uint8_t *head, const struct netvsp_headers *f, uint32_t length);
/* false: none of the hashes the guest asked for applies to this packet */
bool netvsp_hash(const struct host_nic *n, const uint8_t *head, const struct netvsp_headers *f, uint32_t *hash);
/* rndis_host.c: false: a real host would stop serving the channel */
bool rndis_host_message(struct host_nic *n, const uint8_t *message, uint32_t bytes);
/* rndis_oid.c: an RNDIS status */
uint32_t rndis_oid_query(struct host_nic *n, uint32_t oid, const uint8_t *in, uint32_t in_bytes, uint8_t *out,
                         uint32_t room, uint32_t *bytes);
uint32_t rndis_oid_set(struct host_nic *n, uint32_t oid, const uint8_t *in, uint32_t bytes);
