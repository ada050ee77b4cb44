/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine with the integration components for their tests: the model's own, or one component played by the test,
 * which sends any bytes and keeps what comes back. Each test program uses what it needs of it.
 */
#pragma once
#include "drivers/drivers.h"
#include "drivers/ic.h"
#include "hv/hv.h"
#include "rt/candela.h"
#include "rt/services.h"
#include "tests/fake_arch/hv_host.h"
#include "tests/host/host_internal.h"
#include "tests/unit/child.h"

#pragma GCC diagnostic ignored "-Wunused-function"   /* not every program uses all of it */

#define RAM_BYTES   (64ull << 20)
#define HOST_EPOCH  (IC_TIME_UNIX_EPOCH + 1763635500ull * 10000000)   /* 2025-11-20 10:45:00 UTC */

static struct host *host;
static struct host_config host_cfg;
static struct host_ic_config ic_cfg;

static void defaults(void)
{
    fake_arch_boot(RAM_BYTES);
    host_config_default(&host_cfg);
    host_ic_config_default(&ic_cfg);
    ic_cfg.time_100ns = HOST_EPOCH;
}

static int guest_up(void)
{
    if (!hv_init())
        return -E_NOTSUP;
    hv_clock_init();
    if (hv_synic_init())
        return -E_NOTSUP;
    ic_register();
    return vmbus_connect();
}

static void start(void)
{
    host = hv_host_start(&host_cfg);
    if (!host_add_ics(host, &ic_cfg))
        test_fail(__FILE__, __LINE__, "no components");
    int e = guest_up();
    if (e)
        test_fail(__FILE__, __LINE__, "guest not up: %s", error_name(e));
}

#define RUN_UNTIL(cond, limit_s)                                                        \
    ({                                                                                  \
        uint64_t end_ = rt_now_100ns() + S_100NS(limit_s);                              \
        while (!(cond) && rt_now_100ns() < end_)                                        \
            task_sleep_us((limit_s) * 200);                                             \
        (cond);                                                                         \
    })

static struct host_ic_state state_of(enum host_ic_kind which)
{
    struct host_ic_state state;

    host_ic_get_state(host, which, &state);
    return state;
}

static bool all_negotiated(void)
{
    for (unsigned i = 0; i < HOST_ICS; i++)
        if (ic_cfg.present & 1u << i && !state_of(i).negotiated && !state_of(i).refused)
            return false;
    return true;
}

/* The last result of this transaction; false: it did not come. */
static bool kvp_wait(uint32_t transaction, struct host_kvp_result *r)
{
    uint64_t end = rt_now_100ns() + S_100NS(5);

    hv_host_run();
    while (rt_now_100ns() < end) {
        while (host_kvp_result(host, r))
            if (r->transaction == transaction && r->last)
                return true;
        task_sleep_us(1000);
    }
    return false;
}

static uint32_t kvp_status(uint32_t transaction)
{
    struct host_kvp_result r;

    return transaction && kvp_wait(transaction, &r) ? r.status : HOST_KVP_NO_ANSWER;
}

/* ---- a network to tell of ---- */

static void describe(struct machine_network *n)
{
    memcpy(n->mac, (uint8_t[]){0x00, 0x15, 0x5D, 0x01, 0x02, 0x03}, 6);
    n->by_dhcp = true;
    n->hostname = "candle.example";
    n->address_count = 3;
    n->addresses[0] = (struct network_address){false, {10, 0, 2, 15}, 20, "10.0.2.15"};
    n->addresses[1] = (struct network_address){true, {0xFE, 0x80, [15] = 5}, 64, "FE80::5"};
    n->addresses[2] = (struct network_address){true, {0x20, 0x01, [15] = 9}, 64, "2001::9"};
    n->gateway_count = 1;
    n->gateways[0] = (struct network_address){false, {10, 0, 2, 2}, 0, "10.0.2.2"};
    n->dns_count = 2;
    n->dns[0] = (struct network_address){false, {10, 0, 2, 3}, 0, "10.0.2.3"};
    n->dns[1] = (struct network_address){true, {0x20, 0x01, [15] = 1}, 0, "2001::1"};
}

/* ---- a component played by the test ---- */

static struct host_chan *played;
static uint8_t played_got[16384];
static uint32_t played_got_bytes, played_count;
static bool played_open, played_stall;

static bool on_open(struct host_chan *ch UNUSED)
{
    played_open = true;
    return true;
}
static void on_close(struct host_chan *ch UNUSED) { played_open = false; }
static uint32_t on_in_flight(struct host_chan *ch UNUSED) { return 0; }
static void on_freed(struct host_chan *ch UNUSED) { played = NULL; }
static void on_output(struct host_chan *ch UNUSED) {}
static enum host_take on_packet(struct host_chan *ch UNUSED, const struct host_packet *p)
{
    if (played_stall)
        return HOST_STALLED;
    played_got_bytes = MIN(p->bytes, (uint32_t)sizeof(played_got));
    memcpy(played_got, p->data, played_got_bytes);
    played_count++;
    return HOST_TAKEN;
}

static void start_played(struct guid class_id)
{
    static const struct host_dev_ops ops = {
        .name = "played", .open = on_open, .close = on_close, .packet = on_packet, .output = on_output,
        .in_flight = on_in_flight, .freed = on_freed, .offer_flags = VMBUS_OFFER_NAMED_PIPE_MODE,
    };
    static struct guid class;

    class = class_id;
    host = hv_host_start(&host_cfg);
    played = vchan_create(host, &ops, NULL, &class, NULL, 0, false);
    int e = guest_up();
    if (e || !played_open)
        test_fail(__FILE__, __LINE__, "guest not up: %s", error_name(e));
}

/* Sends these bytes as they are; true when an answer came. */
static bool say_raw(const void *data, uint32_t bytes)
{
    struct host_piece payload = {data, bytes};
    uint32_t before = played_count;

    vchan_send(played, VMBUS_PACKET_INBAND, 0, 7, NULL, &payload);
    vchan_queue(played);
    hv_host_run();
    return RUN_UNTIL(played_count > before, 1);
}

static uint8_t said[16384];
static struct ic_message *const say_head = (void *)said;
static uint8_t *const say_body = said + sizeof(struct ic_message);

/* Makes a request with an empty body of so many bytes, to be filled and sent. */
static void *prepare(uint16_t type, uint32_t body_bytes)
{
    memset(said, 0, sizeof(said));
    *say_head = (struct ic_message){
        .pipe = {IC_PIPE_DATA, (uint32_t)sizeof(struct ic_header) + body_bytes},
        .header = {.type = type, .body_bytes = (uint16_t)body_bytes, .flags = IC_FLAGS_REQUEST, .transaction = 9},
    };
    return say_body;
}

static bool say(void) { return say_raw(said, ALIGN_UP((uint32_t)sizeof(say_head->pipe) + say_head->pipe.bytes, 8u)); }

/* The status of the answer to what was prepared; nobody's status when there was none. */
#define NO_ANSWER 0xFFFFFFFFu
static uint32_t answer_to(void)
{
    const struct ic_message *m = (const void *)played_got;

    if (!say())
        return NO_ANSWER;
    return m->header.flags == IC_FLAGS_RESPONSE && m->header.transaction == 9 ? m->header.status : NO_ANSWER - 1;
}

/* Negotiates framework 3.0 and this one version. */
static bool agree(uint16_t major, uint16_t minor)
{
    struct ic_negotiate *m = prepare(IC_NEGOTIATE, 16);
    const struct ic_negotiate *got = (const void *)(played_got + sizeof(struct ic_message));

    m->framework_count = m->message_count = 1;
    m->versions[0] = (struct ic_version){3, 0};
    m->versions[1] = (struct ic_version){major, minor};
    return answer_to() == IC_STATUS_OK && got->framework_count == 1 && got->message_count == 1;
}
