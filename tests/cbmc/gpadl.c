/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Building GPADLs (vmbus/gpadl.c): for any number of pages that can be told, the messages carry each page once, in
 * order, behind a header that says as many, and none is longer than a message may be.
 *
 * Copies of page frames are not made but looked at: from which frame on, how many, and to where in the message.
 */
#include "tests/cbmc/proof.h"
#include <string.h>

static void *checked_copy(void *to, const void *from, size_t bytes);
#define memcpy checked_copy
#include "vmbus/gpadl.c"
#undef memcpy

#define FRAMES_AT_HEADER (sizeof(struct vmbus_msg_gpadl_header) + sizeof(struct vmbus_gpa_range_header))
#define FRAMES_AT_BODY   sizeof(struct vmbus_msg_gpadl_body)

static uint64_t frames[GPADL_PAGES_MAX];
static struct shmem memory;
static struct gpadl g;
static size_t told, messages;          /* frames in the messages so far */
static size_t copied, copied_at;       /* of the message under way */

static void *checked_copy(void *to, const void *from, size_t bytes)
{
    if (!__CPROVER_same_object(from, frames)) {
        for (size_t i = 0; i < bytes; i++)
            ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
        return to;
    }
    prove(bytes % sizeof(uint64_t) == 0 && __CPROVER_POINTER_OFFSET(from) == told * sizeof(uint64_t),
          "the next frames that the host does not know yet");
    prove(bytes <= (memory.pages - told) * sizeof(uint64_t), "none behind the last");
    prove(__CPROVER_POINTER_OFFSET(to) + bytes <= __CPROVER_OBJECT_SIZE(to), "they fit the message");
    copied_at = __CPROVER_POINTER_OFFSET(to);
    copied = bytes / sizeof(uint64_t);
    return to;
}

int vmbus_post_message(const void *message, uint32_t bytes)
{
    size_t at = messages ? FRAMES_AT_BODY : FRAMES_AT_HEADER;

    prove(bytes <= VMBUS_MESSAGE_MAX && bytes == at + copied * sizeof(uint64_t), "as long as header and frames");
    prove(copied_at == at, "the frames lie behind the header");
    prove(copied > 0, "each message carries something, so that the list ends");
    if (messages == 0) {
        struct vmbus_msg_gpadl_header m;
        struct vmbus_gpa_range_header range;
        checked_copy(&m, message, sizeof(m));
        checked_copy(&range, (const uint8_t *)message + sizeof(m), sizeof(range));
        prove(m.header.type == VMBUS_MSG_GPADL_HEADER && m.relid == g.relid && m.gpadl == g.id, "whose it is");
        prove(m.range_count == 1 && m.range_buffer_bytes == sizeof(range) + memory.pages * sizeof(uint64_t),
              "the length of the list, in 16 bits");
        prove(range.byte_offset == 0 && range.byte_count == memory.pages * PAGE_BYTES, "the range is all of it");
    } else {
        struct vmbus_msg_gpadl_body m;
        checked_copy(&m, message, sizeof(m));
        prove(m.header.type == VMBUS_MSG_GPADL_BODY && m.gpadl == g.id && m.message_number == messages, "whose it is");
    }
    told += copied;
    messages++;
    return any_bool() ? 0 : -E_REFUSED;
}

/* Any list, so much of it told by so many messages. */
static void any_list(size_t pages_most)
{
    memory.pages = ANY(size_t);
    memory.frames = frames;
    assume(memory.pages > 0 && memory.pages <= pages_most);
    g.id = ANY(uint32_t);
    g.relid = ANY(uint32_t);
    g.memory = &memory;
}

/* The first message of a list of any length. */
void proof_header(void)
{
    uint32_t sent = ANY(uint32_t);

    any_list(GPADL_PAGES_MAX);
    post_header(&g, &sent);
    prove(messages == 1 && sent == told && told <= memory.pages, "the count goes on from what was told");
    PROOF_END;
}

/* Any message behind it: each leads from one such state to the next. */
void proof_body(void)
{
    uint32_t sent = ANY(uint32_t);

    any_list(GPADL_PAGES_MAX);
    messages = ANY(size_t);
    assume(sent > 0 && sent < memory.pages && messages > 0 && messages < UINT32_MAX);
    told = sent;
    post_body(&g, (uint32_t)messages, &sent);
    prove(sent == told && told <= memory.pages, "the count goes on from what was told");
    PROOF_END;
}

/* From the first message to the last, or to the one that the host refuses. */
void proof_list(void)
{
    struct vmbus_channel ch;
    bool started;

    any_list(VMBUS_GPADL_HEADER_PFNS_MAX + VMBUS_GPADL_BODY_PFNS_MAX + 1);
    ch.rescinded = any_bool();
    int rc = announce(&ch, &g, &started);
    prove(rc || ch.rescinded || told == memory.pages, "the whole list was told");
    prove(told <= memory.pages, "and nothing more");
    prove(started == (rc == 0 || messages > 1), "the host heard of it when the first message went");
    PROOF_END;
}
