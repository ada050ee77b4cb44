/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus host fake_arch */
/*
 * The bus against the model of the host: versions, offers, open and close, GPADLs, traffic, and what goes wrong.
 */
#include "tests/unit/test.h"
#include "tests/unit/vmbus_echo.h"

#define RAM_BYTES (128ull << 20)

static struct host_config cfg;

static void boot(void)
{
    fake_arch_boot(RAM_BYTES);
    host_config_default(&cfg);
    vmbus_register_driver(&echo_driver);
}

static struct host *start(void)
{
    struct host *h = echo_machine(&cfg);
    KASSERT(hv_synic_init() == 0);
    return h;
}

static void stop(void)
{
    hv_shutdown();
    rt_set_clock(&fake_clock);
    hv_host_stop();
}

/* ---- versions ---- */

static const uint32_t all_versions[] = {
    VMBUS_VERSION_WIN8, VMBUS_VERSION_WIN8_1, VMBUS_VERSION_WIN10, VMBUS_VERSION_WIN10_4_1, VMBUS_VERSION_WIN10_5_0,
    VMBUS_VERSION_WIN10_5_1, VMBUS_VERSION_WIN10_5_2, VMBUS_VERSION_WIN10_5_3,
};

TEST(vmbus_every_version)
{
    boot();
    for (size_t i = 0; i < ARRAY_SIZE(all_versions); i++) {
        cfg.vmbus_min = cfg.vmbus_max = all_versions[i];
        struct host *h = start();
        struct host_state state;
        echo_add(h, false);
        CHECK_EQ(vmbus_connect(), 0);
        CHECK_EQ(vmbus_version(), all_versions[i]);
        CHECK(echo_device != NULL);
        for (uint32_t n = 0; n < 50; n++)
            CHECK_EQ(echo_round(echo_device, 8 + n * 37, n + 1), 0);
        vmbus_disconnect(false);
        CHECK_EQ(vmbus_version(), 0);
        host_get_state(h, &state);
        CHECK_EQ(state.channels_open, 0);
        CHECK_EQ(state.gpadls, 0);
        stop();
    }
}

TEST(vmbus_connection_4_refused)
{
    boot();
    cfg.multi_client = false;
    start();
    CHECK_EQ(vmbus_connect(), 0);
    CHECK_EQ(vmbus_version(), VMBUS_VERSION_WIN10_4_1);
    CHECK_EQ(bus.message_connection, VMBUS_CONNECTION_MESSAGE);
    vmbus_disconnect(false);
    stop();
}

/* As QEMU: 4.0 at most, connection 1 only, a short answer, nothing to offer. */
TEST(vmbus_qemu_bridge)
{
    boot();
    cfg.multi_client = false;
    cfg.vmbus_max = VMBUS_VERSION_WIN10;
    cfg.version_response_bytes = VMBUS_VERSION_RESPONSE_MIN;
    start();
    CHECK_EQ(vmbus_connect(), 0);
    CHECK_EQ(vmbus_version(), VMBUS_VERSION_WIN10);
    CHECK(fake_log_contains("0 offers"));
    vmbus_disconnect(false);
    stop();
}

/* As OpenVMM on KVM: no privileges for messages, no TSC page, no direct timers, version 0, answers on connection 1. */
TEST(vmbus_openvmm_kvm)
{
    boot();
    cfg.access = 0x87F & ~HV_ACCESS_INTR_CTRL;
    cfg.privileges = 0;
    cfg.enforce_privileges = false;
    cfg.features = HV_FEATURE_FREQUENCY_MSRS;
    cfg.recommendations = HV_RECOMMEND_NO_AUTO_EOI;
    memset(cfg.version_words, 0, sizeof(cfg.version_words));
    cfg.message_connection = VMBUS_CONNECTION_MESSAGE;
    struct host *h = start();
    echo_add(h, false);
    CHECK_EQ(vmbus_connect(), 0);
    CHECK_EQ(vmbus_version(), VMBUS_VERSION_WIN10_5_3);
    CHECK_EQ(bus.message_connection, 1);
    CHECK_EQ(echo_round(echo_device, 100, 1), 0);
    vmbus_disconnect(false);
    stop();
}

TEST(vmbus_no_common_version)
{
    boot();
    cfg.vmbus_min = cfg.vmbus_max = VMBUS_VERSION_COPPER;
    start();
    CHECK_EQ(vmbus_connect(), -E_NOTSUP);
    CHECK(fake_log_contains("no VMBus version in common"));
    stop();
}

TEST(vmbus_version_by_configuration)
{
    boot();
    config_parse("vmbus.version=3.0");
    start();
    CHECK_EQ(vmbus_connect(), 0);
    CHECK_EQ(vmbus_version(), VMBUS_VERSION_WIN8_1);
    vmbus_disconnect(false);
    stop();
}

TEST(vmbus_version_nonsense_is_reported)
{
    boot();
    config_parse("vmbus.version=banana");
    start();
    CHECK_EQ(vmbus_connect(), 0);
    CHECK_EQ(vmbus_version(), VMBUS_VERSION_WIN10_5_3);
    CHECK(fake_log_contains("vmbus.version=banana"));
    vmbus_disconnect(false);
    stop();
}

/* ---- traffic ---- */

static struct host_chan *chan_of(struct host *h) { return vchan_find(h, channel_relid(echo_device->ch)); }

TEST(vmbus_batches_are_signalled_once)
{
    struct vmbus_channel_stats s0, s1;

    boot();
    struct host *h = start();
    echo_add(h, false);
    CHECK_EQ(vmbus_connect(), 0);
    struct echo *e = echo_device;
    for (unsigned round = 0; round < 20; round++) {
        uint64_t done = e->completions;
        vmbus_channel_get_stats(e->ch, &s0);
        for (unsigned i = 0; i < 32; i++) {
            struct vmbus_piece piece = {&i, 4};
            CHECK_EQ(vmbus_send(e->ch, &piece, 1, i + 1, true), 0);
        }
        vmbus_kick(e->ch);
        vmbus_kick(e->ch);
        CHECK(WAIT_UNTIL(&e->waiters, e->completions == done + 32, 1000000, "batch"));
        vmbus_channel_get_stats(e->ch, &s1);
        CHECK_EQ(s1.signals - s0.signals, 1);
        CHECK(s1.interrupts - s0.interrupts <= 2);
    }
    CHECK_EQ(host_counters(h)->signals_unneeded, 0);
    vmbus_disconnect(false);
    stop();
}

/* The host stalls, our ring fills; when it goes on it must wake us, once there is room. */
TEST(vmbus_blocked_send)
{
    boot();
    struct host *h = start();
    echo_add(h, false);
    CHECK_EQ(vmbus_connect(), 0);
    struct echo *e = echo_device;
    uint8_t data[1000] = {0};
    struct vmbus_piece piece = {data, sizeof(data)};
    unsigned sent = 0;
    int rc;

    echo_stall = true;
    while ((rc = vmbus_send(e->ch, &piece, 1, 1, false)) == 0)
        sent++;
    vmbus_kick(e->ch);
    CHECK_EQ(rc, -E_AGAIN);
    CHECK(sent >= 11);
    CHECK(!e->writable);
    CHECK(vmbus_send_space(e->ch) < 1024);
    echo_stall = false;
    chan_of(h)->signalled = true;
    vchan_queue(chan_of(h));
    hv_host_run();
    CHECK(WAIT_UNTIL(&e->waiters, e->writable, 1000000, "room"));
    CHECK_EQ(echo_packets, sent);
    CHECK_EQ(echo_round(e, 500, 9), 0);
    vmbus_disconnect(false);
    stop();
}

/* The host has more to send than its ring holds: it blocks, we signal when room came free, nothing is lost. */
TEST(vmbus_flood_from_host)
{
    static const uint32_t sizes[] = {8, 64, 1500, 4000, 8192};

    boot();
    struct host *h = start();
    echo_add(h, false);
    CHECK_EQ(vmbus_connect(), 0);
    struct echo *e = echo_device;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct echo_flood flood = {ECHO_FLOOD, 3000, sizes[i]};
        struct vmbus_piece piece = {&flood, sizeof(flood)};
        uint64_t before = e->in_band;
        e->flood_next = 0;
        CHECK_EQ(vmbus_send(e->ch, &piece, 1, 0, false), 0);
        vmbus_kick(e->ch);
        CHECK(WAIT_UNTIL(&e->waiters, e->in_band == before + 3000, 100000000, "flood"));
        CHECK(!e->flood_wrong);
    }
    CHECK(e->per_event_max <= VMBUS_RECEIVE_BUDGET);
    CHECK_EQ(h->counters.signals_unneeded, 0);
    vmbus_disconnect(false);
    stop();
}

TEST(vmbus_gpa_direct)
{
    boot();
    struct host *h = start();
    echo_add(h, false);
    CHECK_EQ(vmbus_connect(), 0);
    struct echo *e = echo_device;
    paddr_t page = page_alloc_zeroed(3);
    uint64_t frames[8];
    uint8_t *bytes = arch_phys_to_virt(page);
    for (unsigned i = 0; i < 8; i++)
        frames[i] = (page.v >> PAGE_SHIFT) + 7 - i;        /* in reverse: the list counts, not the addresses */
    struct vmbus_gpa_range ranges[2] = {
        {.bytes = 2 * 4096 - 100 + 50, .offset = 100, .frames = frames, .frame_count = 3},
        {.bytes = 16, .offset = 0, .frames = frames + 5, .frame_count = 1},
    };
    CHECK_EQ(vmbus_send_gpa(e->ch, ranges, 2, "abc", 3, 77), 0);
    vmbus_kick(e->ch);
    CHECK(WAIT_UNTIL(&e->waiters, e->completions == 1, 1000000, "gpa"));
    CHECK_EQ(e->last_id, 77);
    CHECK_EQ(e->last_bytes, 8);
    CHECK(memcmp(e->last, "abc\0\0\0\0\0", 8) == 0);
    CHECK(bytes[7 * 4096 + 99] == 0 && bytes[7 * 4096 + 100] == 0xFF && bytes[8 * 4096 - 1] == 0xFF);
    CHECK(bytes[6 * 4096] == 0xFF && bytes[5 * 4096 + 49] == 0xFF && bytes[5 * 4096 + 50] == 0);
    CHECK(bytes[2 * 4096 + 15] == 0xFF && bytes[2 * 4096 + 16] == 0);
    page_free(page, 3);
    vmbus_disconnect(false);
    stop();
}

TEST(vmbus_monitored_notification)
{
    boot();
    cfg.monitor_pages = true;
    struct host *h = start();
    echo_add(h, true);
    CHECK_EQ(vmbus_connect(), 0);
    uint64_t signals = host_counters(h)->signals;
    for (unsigned i = 0; i < 20; i++)
        CHECK_EQ(echo_round(echo_device, 64, i + 1), 0);
    CHECK_EQ(host_counters(h)->signals, signals);
    CHECK(host_counters(h)->monitor_signals >= 20);
    vmbus_disconnect(false);
    stop();
}

/* ---- GPADLs ---- */

TEST(vmbus_gpadl_16_mib)
{
    struct shmem memory;
    uint32_t id;

    boot();
    struct host *h = start();
    echo_add(h, false);
    CHECK_EQ(vmbus_connect(), 0);
    CHECK_EQ(shmem_alloc(&memory, 4096, SHMEM_LINEAR, 0), 0);
    uint64_t messages = vmbus_counters.messages_sent;
    CHECK_EQ(vmbus_gpadl_create(echo_device->ch, &memory, &id), 0);
    CHECK_EQ(vmbus_counters.messages_sent - messages, 1 + (4096 - 26 + 27) / 28);
    struct host_gpadl *g = vgpadl_find(h, channel_relid(echo_device->ch), id);
    CHECK(g != NULL);
    for (unsigned i = 0; i < 4096; i++)
        ((uint32_t *)memory.virt)[i * 1024] = i;
    struct host_state state;
    host_get_state(h, &state);
    CHECK_EQ(state.gpadl_pages, 4096 + 8);
    for (unsigned i = 0; i < 4096; i++)
        CHECK_EQ(*(uint32_t *)fake_phys(memory.frames[i] << PAGE_SHIFT), i);
    vmbus_gpadl_teardown(echo_device->ch, id);
    host_get_state(h, &state);
    CHECK_EQ(state.gpadls, 1);
    shmem_free(&memory);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    vmbus_disconnect(false);
    stop();
}

TEST(vmbus_gpadl_too_long)
{
    struct shmem memory;
    uint32_t id;

    boot();
    struct host *h = start();
    echo_add(h, false);
    CHECK_EQ(vmbus_connect(), 0);
    CHECK_EQ(shmem_alloc(&memory, 8191, SHMEM_LINEAR_UNCLEARED, 0), 0);
    CHECK_EQ(vmbus_gpadl_create(echo_device->ch, &memory, &id), -E_INVAL);
    shmem_free(&memory);
    CHECK_EQ(shmem_alloc(&memory, 8190, SHMEM_LINEAR_UNCLEARED, 0), 0);
    CHECK_EQ(vmbus_gpadl_create(echo_device->ch, &memory, &id), 0);
    vmbus_gpadl_teardown(echo_device->ch, id);
    shmem_free(&memory);
    vmbus_disconnect(false);
    stop();
}

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
    CHECK_EQ(shmem_stats.pages_shared, bus.interrupt_page.pages + bus.monitor_pages.pages);
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
        CHECK_EQ(shmem_stats.pages_shared, 0);
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
        CHECK_EQ(shmem_stats.pages_shared, 0);
    }
    mm_get_stats(&s1);
    CHECK_EQ(s1.heap_bytes, s0.heap_bytes);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    stop();
}

TEST_MAIN()
