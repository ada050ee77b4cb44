/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus host fake_arch */
/*
 * The bus when things go wrong: rescind and close in every state, hosts that lie, each allocation, reply and post
 * failing once. Each test ends with the memory it began with.
 */
#include "tests/unit/test.h"
#include "hv/dma.h"
#include "tests/unit/vmbus_echo.h"

/* Beside the bounce pool, which an isolated machine has from start to end. */
static uint64_t shared_pages(void) { return shmem_stats.pages_shared - dma_stats.pages; }

/* ---- rescind, in every state ---- */

struct rescind { struct host *h; uint32_t relid; uint64_t delay_us; };

/* Takes the offer back while somebody else waits for something. */
static void rescind_task(void *arg)
{
    struct rescind r = *(struct rescind *)arg;

    kfree(arg);
    task_sleep_us(r.delay_us);
    host_rescind(r.h, r.relid);
    hv_host_run();
}

static void rescind_later(struct host *h, uint32_t relid, uint64_t delay_us)
{
    struct rescind *r = kzalloc(sizeof(*r));

    *r = (struct rescind){h, relid, delay_us};
    task_spawn("rescind", rescind_task, r, 0);
}

/* Until the channel is released and its relid free again; false: it never was. */
static bool relid_comes_back(struct host *h, uint32_t relid)
{
    for (unsigned i = 0; i < 1000; i++) {
        if (!bus.channels[relid] && !vchan_find(h, relid))
            return true;
        task_sleep_us(1000);
    }
    return false;
}

TEST(vmbus_rescind_unserved)
{
    static const struct guid class = VMBUS_GUID_VIDEO;

    boot();
    struct host *h = start();
    struct host_chan *ch = vchan_create(h, &echo_ops, NULL, &class, NULL, 0, false);
    uint32_t relid = ch->relid;
    CHECK_EQ(vmbus_connect(), 0);
    CHECK_EQ(echo_probes, 0);
    CHECK(bus.channels[relid] != NULL);
    rescind_later(h, relid, 10);
    CHECK(relid_comes_back(h, relid));
    CHECK_EQ(vmbus_counters.rescinds, 1);
    vmbus_disconnect(false);
    stop();
}

TEST(vmbus_rescind_open)
{
    boot();
    struct host *h = start();
    for (unsigned i = 0; i < 30; i++) {
        uint32_t relid = echo_add(h, false)->relid;
        if (i == 0) {
            CHECK_EQ(vmbus_connect(), 0);
        } else {
            hv_host_run();                     /* hot add */
            for (unsigned n = 0; n < 1000 && !echo_device; n++)
                task_sleep_us(100);
        }
        CHECK(echo_device != NULL);
        CHECK_EQ(echo_round(echo_device, 64, 1), 0);
        rescind_later(h, relid, 10);
        CHECK(relid_comes_back(h, relid));
        CHECK_EQ(echo_removes, i + 1);
    }
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    CHECK_EQ(shared_pages(), bus.interrupt_page.pages + bus.monitor_pages.pages);
    vmbus_disconnect(false);
    stop();
}

/* The reply that the guest waits for never comes; the rescind does. */
static enum { DROP_NOTHING, DROP_CREATED, DROP_OPEN, DROP_TORNDOWN } drop_what;
static enum host_fault_kind drop_reply(enum host_fault_point point UNUSED, uint64_t number)
{
    /* replies: 1 GPADL_CREATED, 2 OPEN_RESULT, 3 GPADL_TORNDOWN */
    return number == (uint64_t)drop_what ? HOST_FAULT_DROP : HOST_FAULT_NONE;
}

static void rescind_while(int what, bool probe_fails)
{
    static bool up;

    drop_what = what;
    echo_probe_fails = probe_fails ? -E_IO : 0;
    struct host *h = hv_host.host;
    if (!up) {
        boot();
        h = start();
        CHECK_EQ(vmbus_connect(), 0);
        up = true;
    }
    hv_host.fault = drop_reply;
    host_set_fault(h, HOST_FAULT_VMBUS_REPLY, 0, HOST_FAULT_NONE);
    uint32_t relid = echo_add(h, false)->relid;
    uint64_t before = rt_now_100ns();
    rescind_later(h, relid, 5000);
    hv_host_run();
    CHECK(relid_comes_back(h, relid));
    CHECK(rt_now_100ns() - before < S_100NS(1));   /* nobody waited for a limit */
    CHECK_EQ(bus.device_tasks, 0);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
}

TEST(vmbus_rescind_while_announcing_the_ring)
{
    rescind_while(DROP_CREATED, false);
    CHECK_EQ(echo_open_rc, -E_REMOVED);
}

TEST(vmbus_rescind_while_opening)
{
    rescind_while(DROP_OPEN, false);
    CHECK_EQ(echo_open_rc, -E_REMOVED);
}

TEST(vmbus_rescind_while_closing)
{
    rescind_while(DROP_TORNDOWN, true);
    CHECK_EQ(echo_open_rc, -E_IO);
}

/* At every microsecond of a life: between any two messages. */
TEST(vmbus_rescind_at_any_time)
{
    boot();
    struct host *h = start();
    CHECK_EQ(vmbus_connect(), 0);
    struct mm_stats s0, s1;
    for (unsigned us = 0; us < 60; us++) {
        if (us == 4)
            mm_get_stats(&s0);
        uint32_t relid = echo_add(h, false)->relid;
        rescind_later(h, relid, us);
        CHECK(relid_comes_back(h, relid));
    }
    mm_get_stats(&s1);
    CHECK_EQ(s1.heap_bytes, s0.heap_bytes);
    CHECK_EQ(s1.free_pages, s0.free_pages);
    CHECK_EQ(echo_probes, echo_removes + (echo_probes - echo_removes));
    vmbus_disconnect(false);
    stop();
}

/* vmbus_close from another task than the one inside vmbus_open. */
static int opener_rc;
static struct vmbus_channel *opener_channel;
static void opener(void *arg UNUSED)
{
    opener_rc = vmbus_open(opener_channel, 8192, 8192, NULL, 0, echo_readable, NULL, NULL);
}

TEST(vmbus_close_in_every_state)
{
    static const struct guid class = VMBUS_GUID_VIDEO;

    boot();
    struct host *h = start();
    uint32_t relid = vchan_create(h, &echo_ops, NULL, &class, NULL, 0, false)->relid;
    CHECK_EQ(vmbus_connect(), 0);
    opener_channel = bus.channels[relid];
    vmbus_close(opener_channel);                       /* closed already */
    for (drop_what = DROP_CREATED; drop_what <= DROP_OPEN; drop_what++) {
        hv_host.fault = drop_reply;
        host_set_fault(h, HOST_FAULT_VMBUS_REPLY, 0, HOST_FAULT_NONE);
        opener_rc = 1;
        task_spawn("opener", opener, NULL, 0);
        task_sleep_us(1000);
        CHECK_EQ(opener_rc, 1);
        vmbus_close(opener_channel);
        CHECK_EQ(opener_channel->state, CHANNEL_CLOSED);
        task_sleep_us(10);
        CHECK_EQ(opener_rc, -E_REMOVED);
    }
    host_set_fault(h, 0, 0, HOST_FAULT_NONE);
    opener(NULL);
    CHECK_EQ(opener_rc, 0);
    vmbus_close(opener_channel);
    CHECK_EQ(opener_channel->state, CHANNEL_CLOSED);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    vmbus_disconnect(false);
    stop();
}

/* ---- a host that lies ---- */

static void tell(struct host *h, const void *message, uint32_t bytes)
{
    vserver_send(h, message, bytes, false);
    hv_host_run();
    task_sleep_us(10);
}

TEST(vmbus_malformed_messages)
{
    struct {
        struct vmbus_msg_header header;
        uint32_t word[58];
    } m;

    boot();
    struct host *h = start();
    uint32_t relid = echo_add(h, false)->relid;
    CHECK_EQ(vmbus_connect(), 0);
    unsigned offers = bus.channel_count;
    /* every type, every length, three fillings: nothing may change but the count of what was dropped */
    for (uint32_t type = 0; type < 40; type++) {
        for (uint32_t bytes = 8; bytes <= sizeof(m); bytes += 4) {
            for (unsigned fill = 0; fill < 3; fill++) {
                memset(&m, fill == 0 ? 0 : fill == 1 ? 0xFF : 0x11, sizeof(m));
                m.header.type = type;
                tell(h, &m, bytes);
            }
        }
    }
    CHECK_EQ(bus.channel_count, offers);
    CHECK(vmbus_counters.messages_dropped > 6000);
    CHECK(echo_device != NULL);
    /* answers for what exists, but was not asked for */
    struct vmbus_msg_open_result result = {.header.type = VMBUS_MSG_OPEN_RESULT, .relid = relid, .open_id = 1};
    tell(h, &result, sizeof(result));
    CHECK(fake_log_contains("OPEN_RESULT for"));
    uint32_t ring = echo_device->ch->ring_gpadl;
    struct vmbus_msg_gpadl_torndown gone = {.header.type = VMBUS_MSG_GPADL_TORNDOWN, .gpadl = ring};
    tell(h, &gone, sizeof(gone));
    CHECK_EQ(echo_round(echo_device, 64, 1), 0);
    vmbus_disconnect(false);
    stop();
}

TEST(vmbus_absurd_offers)
{
    struct vmbus_msg_offer_channel m = {
        .header.type = VMBUS_MSG_OFFER_CHANNEL, .interface_type = VMBUS_GUID_VIDEO, .connection_id = 0x3000,
        .monitor_id = 255, .dedicated_interrupt = 1,
    };
    boot();
    struct host *h = start();
    uint32_t relid = echo_add(h, false)->relid;
    CHECK_EQ(vmbus_connect(), 0);
    unsigned offers = bus.channel_count;
    static const uint32_t bad_relids[] = {0, 2048, 0x10000, 0xFFFFFFFF};
    for (unsigned i = 0; i < 4; i++) {
        m.relid = bad_relids[i];
        m.instance.bytes[0]++;
        tell(h, &m, sizeof(m));
    }
    m.relid = relid;                                   /* taken */
    m.instance.bytes[0]++;
    tell(h, &m, sizeof(m));
    m.relid = 100;                                     /* an instance that exists */
    m.instance = bus.channels[relid]->offer.instance;
    tell(h, &m, sizeof(m));
    m.instance.bytes[3] ^= 0x55;                       /* a sub-channel of nothing */
    m.sub_channel_index = 3;
    tell(h, &m, sizeof(m));
    CHECK_EQ(bus.channel_count, offers);
    m.sub_channel_index = 0;                           /* a monitor id beyond the page: kept, without monitor */
    m.monitor_allocated = 1;
    m.monitor_id = 128;
    tell(h, &m, sizeof(m));
    CHECK_EQ(bus.channel_count, offers + 1);
    CHECK_EQ(bus.channels[100]->offer.monitor_allocated, 0);
    vmbus_disconnect(false);
    stop();
}

TEST(vmbus_thousands_of_offers)
{
    static const struct guid class = VMBUS_GUID_VIDEO;
    struct mm_stats s0, s1;

    boot();
    struct host *h = start();
    for (unsigned i = 0; i < VMBUS_RELID_MAX; i++)
        CHECK(vchan_create(h, &echo_ops, NULL, &class, NULL, 0, false) != NULL);
    CHECK_EQ(vmbus_connect(), 0);
    vmbus_disconnect(false);
    mm_get_stats(&s0);
    CHECK_EQ(vmbus_connect(), 0);
    CHECK_EQ(bus.channel_count, VMBUS_RELID_MAX);
    CHECK(fake_log_contains("2047 offers, 0 of them served"));
    vmbus_disconnect(false);
    mm_get_stats(&s1);
    CHECK_EQ(s1.heap_bytes, s0.heap_bytes);
    CHECK_EQ(s1.free_pages, s0.free_pages);
    stop();
}

/* ---- signals that the hypervisor refuses, and signals of a channel while another is flooded ---- */

static unsigned refusals_left, signals_refused;
static uint16_t refused_with;

static bool refuse_signals(uint64_t control, uint64_t in UNUSED, uint64_t out UNUSED, uint64_t *result)
{
    if ((uint16_t)control != HVCALL_SIGNAL_EVENT || refusals_left == 0)
        return false;
    refusals_left--;
    signals_refused++;
    *result = refused_with;
    return true;
}

static void refused(unsigned times, uint16_t status)
{
    struct vmbus_channel_stats before, after;

    boot();
    struct host *h = start();
    echo_add(h, false);
    CHECK_EQ(vmbus_connect(), 0);
    struct echo *e = echo_device;
    CHECK_EQ(echo_round(e, 100, 1), 0);
    hv_host.intercept = refuse_signals;
    refused_with = status;
    refusals_left = times;
    signals_refused = 0;
    vmbus_channel_get_stats(e->ch, &before);
    uint64_t begun = rt_now_100ns(), done = e->completions;
    for (unsigned i = 0; i < 3; i++) {           /* the later ones trust in the first one's signal */
        struct vmbus_piece piece = {&i, 4};
        CHECK_EQ(vmbus_send(e->ch, &piece, 1, i + 1, true), 0);
        vmbus_kick(e->ch);
    }
    CHECK(WAIT_UNTIL(&e->waiters, e->completions == done + 3, 5000000, "answers"));
    CHECK(rt_now_100ns() - begun < (times == 1 ? MS_100NS(3) : S_100NS(1)));
    CHECK_EQ(signals_refused, times);
    vmbus_channel_get_stats(e->ch, &after);
    CHECK_EQ(after.signals_refused - before.signals_refused, times);
    CHECK(!e->ch->signal_timer.armed && !e->ch->signal_delay_us);
    CHECK_EQ(echo_round(e, 100, 9), 0);
    CHECK_EQ(host_counters(h)->signals_unneeded, 0);
    vmbus_disconnect(false);
    stop();
}

TEST(vmbus_refused_signal) { refused(1, HV_STATUS_INSUFFICIENT_BUFFERS); }
TEST(vmbus_refused_signals) { refused(10, HV_STATUS_INVALID_SYNIC_STATE); }

/* Nobody signals for a channel that is no more. */
TEST(vmbus_refused_signals_end_with_the_channel)
{
    boot();
    struct host *h = start();
    uint32_t relid = echo_add(h, false)->relid;
    CHECK_EQ(vmbus_connect(), 0);
    struct echo *e = echo_device;
    struct vmbus_piece piece = {&relid, 4};
    hv_host.intercept = refuse_signals;
    refused_with = HV_STATUS_INSUFFICIENT_BUFFERS;
    refusals_left = UINT32_MAX;
    CHECK_EQ(vmbus_send(e->ch, &piece, 1, 1, true), 0);
    vmbus_kick(e->ch);
    task_sleep_us(900000);
    unsigned tries = signals_refused;
    CHECK(tries >= 8 && tries <= 14);            /* 1, 2, 4 ms and so on; longer waits end at SIGNAL_LAST_DELAY_US */
    rescind_later(h, relid, 10);
    CHECK(relid_comes_back(h, relid));
    tries = signals_refused;
    task_sleep_us(900000);
    CHECK_EQ(signals_refused, tries);
    vmbus_disconnect(false);
    stop();
}

static struct { struct echo *flooded, *other; struct rt_event kick; uint64_t raised_at, most; unsigned kicks; } crowd;

static void crowd_kick(void *arg UNUSED)
{
    crowd.most = MAX(crowd.most, crowd.flooded->in_band - crowd.raised_at);
    vmbus_kick(crowd.other->ch);
    crowd.kicks++;
}

/* As a disk's requests are signalled: the event is raised with the packet, in the middle of whatever goes on. */
static void crowd_send(void *arg UNUSED)
{
    struct vmbus_piece piece = {&crowd.kicks, 4};

    crowd.raised_at = crowd.flooded->in_band;
    CHECK_EQ(vmbus_send(crowd.other->ch, &piece, 1, 1, true), 0);
    event_raise(&crowd.kick);
}

TEST(vmbus_flood_leaves_others_their_signals)
{
    struct rt_event send = RT_EVENT_INIT(crowd_send, NULL);

    boot();
    struct host *h = start();
    echo_add(h, false);
    CHECK_EQ(vmbus_connect(), 0);
    crowd.flooded = echo_device;
    echo_add(h, false);
    hv_host_run();
    task_sleep_us(100000);
    crowd.other = echo_device;
    CHECK(crowd.other != crowd.flooded);
    crowd.kick = (struct rt_event)RT_EVENT_INIT(crowd_kick, NULL);
    /* The host never stops: as soon as there is room it has the next packets. */
    struct echo_flood flood = {ECHO_FLOOD, 200000, 8};
    struct vmbus_piece piece = {&flood, sizeof(flood)};
    CHECK_EQ(vmbus_send(crowd.flooded->ch, &piece, 1, 0, false), 0);
    vmbus_kick(crowd.flooded->ch);
    for (unsigned round = 0; round < 100; round++) {
        uint64_t before = crowd.other->completions;
        event_raise(&send);
        for (unsigned turn = 0; turn < 4 && crowd.other->completions == before; turn++)
            task_yield();
        CHECK_EQ(crowd.other->completions, before + 1);
    }
    CHECK_EQ(crowd.kicks, 100);
    CHECK(crowd.most > 0 && crowd.most <= VMBUS_RECEIVE_BUDGET);
    CHECK(crowd.flooded->in_band < 200000);      /* all the time */
    CHECK(WAIT_UNTIL(&crowd.flooded->waiters, crowd.flooded->in_band == 200000, 100000000, "flood"));
    vmbus_disconnect(false);
    stop();
}

/* The host writes nonsense into a ring: one message, the device goes, the machine and the bus stay. */
static void corrupt(unsigned how)
{
    boot();
    struct host *h = start();
    uint32_t relid = echo_add(h, false)->relid;
    CHECK_EQ(vmbus_connect(), 0);
    struct echo *e = echo_device;
    struct vmbus_channel *ch = e->ch;
    struct vmbus_ring_control *in = (void *)ch->in.control, *out = (void *)ch->out.control;
    uint8_t byte = 0;
    struct vmbus_piece piece = {&byte, 1};
    hv_host.violations_expected = true;
    switch (how) {
    case 0: in->write_index = 5; break;
    case 1: in->write_index = ch->in.size; break;
    case 2: in->write_index = 8; break;
    case 3: memset(ch->in.data, 0xFF, 64); in->write_index = 64; break;
    case 4:
        out->read_index = 3;
        vmbus_send(ch, &piece, 1, 0, false);
        vmbus_kick(ch);
        break;
    case 5:
        out->read_index = 0xFFFFFFF8;
        CHECK_EQ(vmbus_send_space(ch), 0);
        while (vmbus_send(ch, &piece, 1, 0, false) == 0)
            ;
        break;
    }
    event_raise(&ch->event);
    task_sleep_us(1000);
    CHECK_EQ(vmbus_counters.ring_errors, 1);
    CHECK_EQ(echo_removes, 1);
    CHECK(echo_device == NULL);
    CHECK(fake_log_contains("the host broke the"));
    CHECK_EQ(ch->state, CHANNEL_CLOSED);
    CHECK_EQ(bus.device_tasks, 0);
    rescind_later(h, relid, 10);
    CHECK(relid_comes_back(h, relid));
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    vmbus_disconnect(false);
    stop();
}
TEST(vmbus_corrupt_ring_unaligned) { corrupt(0); }
TEST(vmbus_corrupt_ring_beyond) { corrupt(1); }
TEST(vmbus_corrupt_ring_stub) { corrupt(2); }
TEST(vmbus_corrupt_ring_packet) { corrupt(3); }
TEST(vmbus_corrupt_read_index) { corrupt(4); }
TEST(vmbus_corrupt_read_index_when_full) { corrupt(5); }

/* ---- everything fails once ---- */

/* One whole life; whatever fails, it ends. Returns what went well. */
static bool whole_life(void)
{
    struct shmem memory;
    uint32_t id;
    bool good = true;

    if (vmbus_connect())
        return false;
    if (echo_device) {
        good &= echo_round(echo_device, 700, 5) == 0;
        if (shmem_alloc(&memory, 100, SHMEM_LINEAR, 0) == 0) {
            if (vmbus_gpadl_create(echo_device->ch, &memory, &id) == 0)
                vmbus_gpadl_teardown(echo_device->ch, id);
            else
                good = false;
            shmem_free(&memory);
        } else {
            good = false;
        }
    } else {
        good = false;
    }
    vmbus_disconnect(false);
    return good;
}

TEST(vmbus_every_allocation_fails_once)
{
    struct mm_stats s0, s1;
    uint64_t n;

    boot();
    struct host *h = start();
    echo_add(h, false);
    CHECK(whole_life());
    CHECK(whole_life());
    mm_get_stats(&s0);
    for (n = 1;; n++) {
        uint64_t before = mm_alloc_count();
        mm_fail_nth(n);
        bool good = whole_life();
        bool reached = mm_alloc_count() - before >= n;
        mm_fail_nth(0);
        mm_get_stats(&s1);
        if (s1.heap_bytes != s0.heap_bytes || s1.free_pages != s0.free_pages)
            printf("allocation %llu\n", (unsigned long long)n);
        CHECK_EQ(s1.heap_bytes, s0.heap_bytes);
        CHECK_EQ(s1.free_pages, s0.free_pages);
        CHECK_EQ(bus.state, BUS_DISCONNECTED);
        CHECK_EQ(shmem_stats.pages_leaked, 0);
        CHECK_EQ(shared_pages(), 0);
        if (!reached) {
            CHECK(good);
            break;
        }
    }
    CHECK(n > 20);
    stop();
}

static void every_reply(uint32_t points, enum host_fault_kind kind)
{
    struct mm_stats s0, s1;

    boot();
    struct host *h = start();
    echo_add(h, false);
    CHECK(whole_life());
    CHECK(whole_life());
    hv_host.violations_expected = true;
    for (uint64_t n = 1;; n++) {
        uint64_t leaked = shmem_stats.pages_leaked;
        mm_get_stats(&s0);
        host_set_fault(h, points, n, kind);
        bool good = whole_life();
        bool reached = host_fault_count(h) >= n;
        host_set_fault(h, 0, 0, HOST_FAULT_NONE);
        mm_get_stats(&s1);
        leaked = shmem_stats.pages_leaked - leaked;
        CHECK_EQ(bus.state, BUS_DISCONNECTED);
        CHECK_EQ(bus.device_tasks, 0);
        if (s1.heap_bytes != s0.heap_bytes || s1.free_pages + leaked != s0.free_pages)
            printf("reply %llu, %llu pages leaked\n", (unsigned long long)n, (unsigned long long)leaked);
        CHECK_EQ(s1.heap_bytes, s0.heap_bytes);
        CHECK_EQ(s1.free_pages + leaked, s0.free_pages);
        CHECK(whole_life());                           /* and the next connection works */
        if (!reached) {
            CHECK(good);
            CHECK(n > 3);
            break;
        }
    }
    vmbus_disconnect(false);
    stop();
}
TEST(vmbus_every_reply_lost) { every_reply(HOST_FAULT_VMBUS_REPLY, HOST_FAULT_DROP); }
TEST(vmbus_every_reply_an_error) { every_reply(HOST_FAULT_VMBUS_REPLY, HOST_FAULT_ERROR); }
TEST(vmbus_every_reply_short) { every_reply(HOST_FAULT_VMBUS_REPLY, HOST_FAULT_SHORT); }
TEST(vmbus_every_reply_wrong_id) { every_reply(HOST_FAULT_VMBUS_REPLY, HOST_FAULT_WRONG_ID); }
TEST(vmbus_every_reply_twice) { every_reply(HOST_FAULT_VMBUS_REPLY, HOST_FAULT_TWICE); }
TEST(vmbus_every_reply_garbage) { every_reply(HOST_FAULT_VMBUS_REPLY, HOST_FAULT_GARBAGE); }
TEST(vmbus_every_post_refused_once) { every_reply(HOST_FAULT_POST_MESSAGE, HOST_FAULT_ERROR); }

/* The host's queue never has room again. */
static enum host_fault_kind always_full(enum host_fault_point point UNUSED, uint64_t number)
{
    return number > 2 ? HOST_FAULT_ERROR : HOST_FAULT_NONE;
}

TEST(vmbus_post_full_for_ever)
{
    boot();
    struct host *h = start();
    echo_add(h, false);
    hv_host.fault = always_full;
    host_set_fault(h, HOST_FAULT_POST_MESSAGE, 0, HOST_FAULT_NONE);
    CHECK_EQ(vmbus_connect(), 0);                      /* contact and request got through, the device did not */
    CHECK_EQ(echo_open_rc, -E_TIMEOUT);
    CHECK(fake_log_contains("insufficient buffers"));
    CHECK(hv_counters.post_retries > 10);
    vmbus_disconnect(false);
    stop();
}

TEST(vmbus_quick_disconnect)
{
    boot();
    struct host *h = start();
    struct host_chan *ch = echo_add(h, false);
    CHECK_EQ(vmbus_connect(), 0);
    CHECK(ch->open);
    arch_irq_disable();
    vmbus_disconnect(true);
    CHECK(bus.unloaded);
    CHECK(!ch->open);
}

TEST(vmbus_late_driver)
{
    fake_arch_boot(RAM_BYTES);
    host_config_default(&cfg);
    struct host *h = start();
    echo_add(h, false);
    CHECK_EQ(vmbus_connect(), 0);
    CHECK(echo_device == NULL);
    vmbus_register_driver(&echo_driver);
    task_sleep_us(1000);
    CHECK(echo_device != NULL);
    CHECK_EQ(echo_round(echo_device, 64, 1), 0);
    vmbus_disconnect(false);
    CHECK_EQ(echo_removes, 1);
    stop();
}

/* A driver that does not stop is still waiting for the host when the connection ends; only then the host answers, first
 * with a rescind, so that the driver has something to say, and then with the end. */
static int stubborn_rc;
static void nothing(void *arg UNUSED) {}
static unsigned stubborn_tries;

static enum host_fault_kind drop_all(enum host_fault_point point UNUSED, uint64_t number UNUSED)
{
    return HOST_FAULT_DROP;
}

static int stubborn_probe(struct vmbus_channel *ch)
{
    struct shmem memory;
    uint32_t id;

    stubborn_rc = vmbus_open(ch, 8192, 8192, NULL, 0, nothing, nothing, NULL);
    if (stubborn_rc)
        return stubborn_rc;
    hv_host.fault = drop_all;
    host_set_fault(hv_host.host, HOST_FAULT_VMBUS_REPLY, 0, HOST_FAULT_NONE);
    do {
        stubborn_tries++;
        if (shmem_alloc(&memory, 3, SHMEM_LINEAR, 0))
            return -E_NOMEM;
        stubborn_rc = vmbus_gpadl_create(ch, &memory, &id);
        shmem_free(&memory);
    } while (stubborn_rc == -E_TIMEOUT);
    vmbus_close(ch);
    return stubborn_rc;
}

static void late_end(void *arg)
{
    struct vmbus_msg_relid rescind = {.header.type = VMBUS_MSG_RESCIND_OFFER, .relid = ((struct host_chan *)arg)->relid};
    static const struct vmbus_msg_header unloaded = {.type = VMBUS_MSG_UNLOAD_RESPONSE};

    while (bus.state != BUS_UNLOADING)
        task_sleep_us(1000);
    tell(hv_host.host, &rescind, sizeof(rescind));
    tell(hv_host.host, &unloaded, sizeof(unloaded));
}

TEST(vmbus_connection_ends_while_a_gpadl_is_given_up)
{
    static struct vmbus_driver stubborn = {.name = "stubborn", .class_id = VMBUS_GUID_NETVSC, .probe = stubborn_probe};

    boot();
    vmbus_register_driver(&stubborn);
    struct host *h = start();
    CHECK_EQ(vmbus_connect(), 0);
    struct host_chan *ch = vchan_create(h, &echo_ops, NULL, &stubborn.class_id, NULL, 0, false);
    hv_host_run();
    task_sleep_us(1000);
    CHECK_EQ(bus.device_tasks, 1);
    task_spawn("late end", late_end, ch, 0);
    vmbus_disconnect(false);
    CHECK(bus.unloaded && bus.device_tasks == 0);
    CHECK_EQ(stubborn_rc, -E_REMOVED);
    CHECK(stubborn_tries > 2);
    CHECK_EQ(shmem_stats.pages_leaked, 3 * (stubborn_tries - 1));
    stop();
}

/* A hundred devices come up, work, and go: orderly, and one after another. */
TEST(vmbus_many_devices)
{
    enum { DEVICES = 100 };
    struct mm_stats s0, s1;

    boot();
    struct host *h = start();
    for (unsigned i = 0; i < DEVICES; i++)
        echo_add(h, false);
    for (unsigned round = 1; round <= 3; round++) {
        mm_get_stats(round == 2 ? &s0 : &s1);
        CHECK_EQ(vmbus_connect(), 0);
        CHECK_EQ(echo_probes, round * DEVICES);
        CHECK_EQ(bus.device_tasks, DEVICES);
        CHECK_EQ(echo_round(echo_device, 64, 1), 0);
        if (round == 3) {
            for (uint32_t relid = 1; relid <= DEVICES; relid++)
                rescind_later(h, relid, relid % 7 * 10);
            task_sleep_us(20000);
            for (uint32_t relid = 1; relid <= DEVICES; relid++)
                CHECK(relid_comes_back(h, relid));
        }
        vmbus_disconnect(false);
        CHECK_EQ(echo_removes, round * DEVICES);
        CHECK_EQ(shared_pages(), 0);
    }
    mm_get_stats(&s1);
    CHECK_EQ(s1.heap_bytes, s0.heap_bytes);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    stop();
}

TEST_MAIN()
