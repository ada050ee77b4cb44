/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Integration components, shared by their files:
 *
 *   ic.c            what all have in common: channel, negotiation, decoding, answering
 *   ic_shutdown.c   the host asks the machine to end
 *   ic_heartbeat.c  the host asks whether it lives
 *   ic_timesync.c   the host tells the time of day
 *   ic_kvp.c        key-value pairs both ways; ic_kvp_ip.c: the words about addresses
 *
 * A component is a table: versions, a limit and a function, which finds the body of a request, no longer than it says,
 * in a buffer of its own, where it writes its answer. Everything runs in the channel's event and nothing blocks.
 */
#pragma once
#include "drivers/ic_wire.h"
#include "rt/rt.h"
#include "vmbus/vmbus.h"

#define IC_RING_BYTES (4u * 4096)             /* each way, as other guests have them */

struct ic;

struct ic_component {
    uint16_t type;                            /* enum ic_message_type */
    uint16_t version_count;
    const struct ic_version *versions;        /* newest first */
    uint32_t body_max;                        /* longest body of its own messages */
    /* Answers a request in place and returns IC_STATUS_*. Tasks that it wakes run when the answer has gone. */
    uint32_t (*request)(struct ic *ic, void *body, uint32_t bytes);
};

struct ic {
    const struct ic_component *component;
    struct vmbus_channel *channel;
    const char *name;
    bool negotiated;
    struct ic_version framework, message;     /* as negotiated */
    uint32_t answer_bytes;                    /* an answer that found no room; nothing is read until it has gone */
    uint64_t answer_id;
    uint64_t lies;
    struct rt_log_budget lines;               /* about what the host asks for, however often it asks */
    uint32_t buffer_bytes;
    uint8_t buffer[] __attribute__((aligned(8)));   /* one message */
};

struct ic_counters { uint64_t requests, refused, lies, answers_dropped, heartbeats; };
extern struct ic_counters ic_counters;

int ic_probe(struct vmbus_channel *ch, const struct ic_component *component);
void ic_remove(struct vmbus_channel *ch);
/* One line for the first lie of a while, all counted. */
void ic_lie(struct ic *ic, const char *what, uint64_t value);

/* Each registers its driver; ic.c's ic_register calls them all. */
void ic_shutdown_register(void);
void ic_heartbeat_register(void);
void ic_timesync_register(void);
void ic_kvp_register(void);

/* ---- ic_kvp_ip.c: the body of GET_IP, before 5.0 and from 5.0 on. IC_STATUS_*. ---- */
uint32_t ic_kvp_get_ip(struct ic_kvp_ip *m);
uint32_t ic_kvp_get_ip_binary(struct ic_kvp_ip_binary *m);
