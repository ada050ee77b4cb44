/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus host fake_arch */
/*
 * The bus against the model of the host: versions, traffic, GPADLs. What goes wrong is in test_vmbus_faults.c.
 */
#include "tests/unit/test.h"
#include "tests/unit/vmbus_echo.h"

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

TEST_MAIN()
