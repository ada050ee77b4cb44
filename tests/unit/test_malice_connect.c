/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers apps/nbd host fake_arch */
/*
 * A host that lies from the first contact on: about versions, message connections, offers and their end, monitor pages,
 * page lists; that refuses, or says nothing. Each life connects and says goodbye among lies, and then once more with a
 * host that has become honest, as if nothing had been.
 */
#ifdef MALICE_ISOLATED
#include "tests/unit/isolated.h"
#endif
#define MACHINE_SETTINGS "net.recv_buffer=256K net.send_buffer=64K"
#include "tests/unit/malice_machine.h"

#define VERSIONS        8u
/* The longest way: each version answered late, offers, probes; then the goodbye. See vmbus_internal.h. */
#define CONNECT_LIMIT_S (VERSIONS * (CONTACT_LIMIT_US + POST_LIMIT_US) / 1000000 + \
                         (POST_LIMIT_US + OFFERS_LIMIT_US + PROBE_LIMIT_US) / 1000000)
#define GOODBYE_LIMIT_S ((REMOVE_LIMIT_US + POST_LIMIT_US + UNLOAD_LIMIT_US + REMOVE_LIMIT_US) / 1000000)

/* What is there of the truthful host's devices is right. */
static void honest_bytes(unsigned round)
{
    const uint32_t bytes = 64 * 512;
    uint64_t sector = (round * 67) % (READ_SECTORS - 64);
    struct blk_device *d = disk_of(&honest);

    if (!d)
        return;
    if (blk_read(d, sector, 64, honest_buffer) == 0) {
        for (uint32_t i = 0; i < bytes; i++)
            CHECK_EQ(honest_buffer[i], content(sector * 512 + i, honest.which));
    }
    blk_put(d);
}

static uint64_t seconds_since(uint64_t begun) { return (rt_now_100ns() - begun) / S_100NS(1); }

static void goodbye(void)
{
    uint64_t begun = rt_now_100ns();

    if (honest_disk)
        blk_put(honest_disk);
    honest_disk = NULL;
    vmbus_disconnect(false);
    if (seconds_since(begun) > GOODBYE_LIMIT_S + 1)
        test_fail(__FILE__, __LINE__, "the goodbye took %llu s", (unsigned long long)seconds_since(begun));
    CHECK_EQ(bus.state, BUS_DISCONNECTED);
    CHECK(RUN_UNTIL(bus.device_tasks == 0, LIMIT_S));
}

static uint64_t spoken_at;

static void check_limits(int rc, uint64_t begun)
{
    if (seconds_since(begun) > CONNECT_LIMIT_S + 1)
        test_fail(__FILE__, __LINE__, "connecting (%d) took %llu s", rc, (unsigned long long)seconds_since(begun));
    /* Nothing is lost without a word; but there were many before, and each place says the first few in a while. */
    if (rc && !log_lines())
        CHECK(begun - spoken_at < S_100NS(5));
    if (log_lines())
        spoken_at = rt_now_100ns();
}

/* With a host that told the truth all the time. */
static struct books connected;

static void connect_life(const struct life *l)
{
    struct host_malice m = {.classes = l->classes, .seed = l->seed, .rate = l->rate, .honest = {honest.scsi, honest.nic}};
    struct host_malice_counters told;
    uint64_t begun;
    unsigned lines;
    int rc;

    if (l->classes && !connected.pages)
        connect_life(&(struct life){0});
    goodbye();
    fake_log_clear();
    host_set_malice(host, l->classes ? &m : NULL);
    liar.monitor = l->classes & HOST_MALICE_WIRING;
    add_disk(&liar);
    add_nic(&liar);
    begun = rt_now_100ns();
    rc = vmbus_connect();
    check_limits(rc, begun);
    if (rc == 0) {
        for (unsigned round = 0; round < 4 && !test_failures_here; round++) {
            honest_bytes(round);
            task_sleep_us(20000);
        }
    }
    if (l->seed & 1)
        host_set_malice(host, NULL);
    if (rc == 0)
        goodbye();
    host_set_malice(host, NULL);
    host_remove_scsi(host, liar.scsi);
    host_remove_nic(host, liar.nic);
    hv_host_run();
    lines = log_lines();
    host_get_malice(host, &told);
    lies_told += told.lies;
    if (lines > (l->classes & HOST_MALICE_OFFER ? LINES_OF_OFFERS : LINES))
        test_fail(__FILE__, __LINE__, "%u lines of log:\n%.3000s", lines, fake_log_text());

    CHECK_EQ(vmbus_connect(), 0);
    CHECK(RUN_UNTIL(honest.guest_nic && (honest_disk = disk_of(&honest)), 5));
    fill_caches();
    if (!l->classes)
        connected = books();
    if (!RUN_UNTIL(balanced(&connected), LIMIT_S)) {
        struct books now = books();
        test_fail(__FILE__, __LINE__, "books: pages %llu %llu heap %llu %llu vmap %llu %llu shared %llu %llu channels %u %u "
                  "tasks %u %u", (unsigned long long)connected.pages, (unsigned long long)now.pages,
                  (unsigned long long)connected.heap, (unsigned long long)now.heap, (unsigned long long)connected.vmap,
                  (unsigned long long)now.vmap, (unsigned long long)connected.shared, (unsigned long long)now.shared,
                  connected.channels, now.channels, connected.tasks, now.tasks);
    }
    honest_work(7);
    blk_mem_destroy(liar.backing);
}

static void connects(uint32_t classes, uint64_t count, uint32_t rate) { lives_of(connect_life, classes, count, rate); }

/*
 * A disk controller that says nothing is asked for longer than the goodbye waits: when the next connection has its
 * number, the driver of the last one must be out of the way.
 */
static void outlived(void *arg UNUSED)
{
    struct books before;

    begin_lives(&before);
    add_disk(&liar);
    host_hold_channel(host, host_scsi_relid(liar.scsi), true);
    hv_host_run();
    CHECK(RUN_UNTIL(bus.probing == 1, 1));
    goodbye();
    host_hold_channel(host, host_scsi_relid(liar.scsi), false);
    CHECK_EQ(vmbus_connect(), 0);
    CHECK(RUN_UNTIL(honest.guest_nic && (honest_disk = disk_of(&honest)), 5));
    CHECK_EQ(bus.device_tasks, 3);
    honest_work(1);
    task_sleep_us(STORVSC_HANDSHAKE_LIMIT_US);
    honest_work(2);
    CHECK_EQ(bus.device_tasks, 3);
    host_remove_scsi(host, liar.scsi);
    hv_host_run();
    CHECK(RUN_UNTIL(bus.device_tasks == 2 && bus.channel_count == 2, 5));
}

TEST(a_driver_that_is_late_stays_with_its_connection) { CHECK_EQ(in_child(outlived, NULL), FAKE_RETURNED); }

/*
 * From one answer on nothing is answered any more, and after a while the guest says goodbye: whatever a driver waits for
 * then, or when the goodbye itself gives up waiting, is gone for good.
 */
static void silent_from(void *arg)
{
    struct host_malice m = {.classes = HOST_MALICE_SILENCE, .first = (uintptr_t)arg, .last = UINT64_MAX};
    struct books before;

    begin_lives(&before);
    m.honest[0] = honest.scsi;
    m.honest[1] = honest.nic;
    for (unsigned wait_s = 0; wait_s < 200 && !test_failures_here; wait_s += 25) {
        host_set_malice(host, &m);
        add_disk(&liar);
        add_nic(&liar);
        hv_host_run();
        task_sleep_us(wait_s * 1000000ull);
        honest_work(wait_s);
        goodbye();
        host_set_malice(host, NULL);
        CHECK_EQ(vmbus_connect(), 0);
        CHECK(RUN_UNTIL(honest.guest_nic && (honest_disk = disk_of(&honest)), 5));
        honest_work(wait_s + 1);
        host_remove_scsi(host, liar.scsi);
        host_remove_nic(host, liar.nic);
        hv_host_run();
        CHECK(RUN_UNTIL(bus.device_tasks == 2 && bus.channel_count == 2, LIMIT_S));
        blk_mem_destroy(liar.backing);
    }
}

TEST(silence_from_any_answer_on)
{
    for (uintptr_t from = 1; from < 30 && !test_failures_here; from++)
        CHECK_EQ(in_child(silent_from, (void *)from), FAKE_RETURNED);
}

TEST(lies_about_versions_and_offers) { connects(HOST_MALICE_CONNECT, SEEDS, 2); }
TEST(lies_at_each_step_of_connecting) { connects(HOST_MALICE_CONNECT, SEEDS, 1); }
TEST(versions_and_all_else_refused) { connects(HOST_MALICE_REFUSE, SEEDS, 3); }
TEST(nothing_is_answered) { connects(HOST_MALICE_SILENCE, SEEDS, 4); }
TEST(messages_bent) { connects(HOST_MALICE_MESSAGE, SEEDS, 3); }
TEST(page_lists) { connects(HOST_MALICE_GPADL, SEEDS, 2); }
TEST(connection_ids_and_monitor_pages) { connects(HOST_MALICE_WIRING, SEEDS, 2); }
TEST(failure_at_each_step) { connects(HOST_MALICE_STATUS, SEEDS, 3); }
TEST(absurd_handshakes) { connects(HOST_MALICE_HANDSHAKE, SEEDS, 3); }
TEST(rescinds_at_each_edge) { connects(HOST_MALICE_RESCIND, SEEDS, 4); }
TEST(absurd_offers) { connects(HOST_MALICE_OFFER, 2, 6); }
TEST(storms) { connects(HOST_MALICE_STORM, SEEDS / 3, 4); }
TEST(half_visible) { connects(HOST_MALICE_VISIBILITY | HOST_MALICE_REFUSE, SEEDS, 30); }
TEST(everything_at_once) { connects(HOST_MALICE_ALL & ~HOST_MALICE_OFFER, SEEDS, 10); }

TEST_MAIN()
