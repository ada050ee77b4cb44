/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest played by hand talks to one integration component: takes what the host asks, sends it back as a good
 * guest does, or changed. Time passes only in pass().
 */
#pragma once
#include "tests/unit/played_guest.h"
#include "drivers/ic_wire.h"

#define MS(n) ((n) * HOST_TICKS_PER_MS)

static struct host_ic_config ic_cfg;
static enum host_ic_kind ic_kind;
static uint32_t ic_relid;
static struct vmbus_msg_offer_channel ic_offer;
static struct host_ic_state ic_state;

/* What the host asked last. */
static struct {
    struct vmbus_packet_header frame;
    uint32_t bytes;                        /* of the packet's payload */
    union {
        uint8_t raw[IC_MESSAGE_MAX];
        struct {
            struct ic_message m;
            union {
                uint8_t body[IC_MESSAGE_MAX - 28];
                struct ic_negotiate negotiate;
                struct ic_heartbeat heartbeat;
                struct ic_shutdown shutdown;
                struct ic_timesync timesync;
                struct ic_timesync_4 timesync_4;
                struct ic_vss vss;
                struct ic_kvp_get_set kvp;
                struct ic_kvp_delete kvp_delete;
                struct ic_kvp_enumerate enumerate;
                struct ic_kvp_ip ip;
                struct ic_kvp_ip_binary ip_binary;
            } __attribute__((packed));
        } __attribute__((packed));
    };
} asked;

/* As the transport: the alarms that are due on the way fire at their time. */
static void pass(uint64_t time_100ns)
{
    uint64_t end = now + time_100ns;

    poll_all();
    while (own_deadline <= end) {
        if (own_deadline > now)
            now = own_deadline;
        own_deadline = HOST_NEVER;
        host_timer_fired(host, HOST_NO_VP);
        poll_all();
    }
    now = end;
}

static struct host_ic_state *state(void)
{
    host_ic_get_state(host, ic_kind, &ic_state);
    return &ic_state;
}

/* The next message of the host; false: there is none. */
static bool next_message(void)
{
    static uint8_t packet[IC_MESSAGE_MAX];
    uint32_t at;

    memset(&asked, 0, sizeof(asked));
    asked.bytes = receive(&asked.frame, packet);
    if (asked.bytes == 0)
        return false;
    at = asked.frame.data_offset8 * 8u;
    memcpy(asked.raw, packet + at, asked.bytes);
    return true;
}

static bool next_of(uint16_t type)
{
    return next_message() && asked.m.header.type == type;
}

static void send_back(void)
{
    send(ic_relid, VMBUS_PACKET_INBAND, 0, 0, NULL, 0, asked.raw, asked.bytes);
}

static void respond(uint32_t status)
{
    asked.m.header.flags = IC_FLAGS_RESPONSE;
    asked.m.header.status = status;
    send_back();
}

/* Chooses the last of either list, or nothing. */
static void choose(uint16_t framework, uint16_t message)
{
    struct ic_version v[2] = {{framework >> 8, framework & 0xFF}, {message >> 8, message & 0xFF}};

    asked.negotiate.framework_count = asked.negotiate.message_count = 1;
    memcpy(asked.body + sizeof(struct ic_negotiate), v, sizeof(v));
    asked.m.header.body_bytes = IC_NEGOTIATED_BYTES;
    respond(IC_STATUS_OK);
}

static struct ic_version listed(uint32_t n)
{
    struct ic_version v;

    memcpy(&v, asked.body + sizeof(struct ic_negotiate) + n * sizeof(v), sizeof(v));
    return v;
}

static void choose_highest(void)
{
    struct ic_version f = listed(asked.negotiate.framework_count - 1u);
    struct ic_version m = listed(asked.negotiate.framework_count + asked.negotiate.message_count - 1u);

    choose((uint16_t)(f.major << 8 | f.minor), (uint16_t)(m.major << 8 | m.minor));
}

/* Answers as good guests do whatever the host asks, without looking further. */
static void serve(void)
{
    while (next_message()) {
        if (asked.m.header.type == IC_NEGOTIATE) {
            choose_highest();
            continue;
        }
        if (asked.m.header.type == IC_HEARTBEAT)
            asked.heartbeat.sequence++;
        if (asked.m.header.flags != 0)
            respond(IC_STATUS_OK);
    }
}

/* A second of a guest that answers at once: step by step, so that each answer comes in its time. */
static void live(uint64_t ms)
{
    for (uint64_t t = 0; t < ms; t += 100) {
        pass(MS(100));
        serve();
    }
}

/* Has come so far: the channel is open and the host's question for versions is waiting. */
static bool ic_opened(enum host_ic_kind kind)
{
    ic_kind = kind;
    now = 12345678;
    start();
    ic_cfg.present = 1u << kind;
    if (!host_add_ics(host, &ic_cfg) || !connect(VMBUS_VERSION_WIN10_5_3) || !first_offer(&ic_offer))
        return false;
    ic_relid = ic_offer.relid;
    return open_channel(ic_relid);
}

static bool ic_negotiated(enum host_ic_kind kind)
{
    if (!ic_opened(kind) || !next_of(IC_NEGOTIATE))
        return false;
    choose_highest();
    return state()->negotiated;
}

__attribute__((constructor)) static void default_ic_config(void)
{
    host_ic_config_default(&ic_cfg);
}
