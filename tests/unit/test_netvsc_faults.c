/* SPDX-License-Identifier: BSD-2-Clause */
/* netvsc: NICs that go and come back, machines with little memory, and every reply and allocation going wrong in turn. */
#include "tests/unit/netvsc_machine.h"

/* ---- going ---- */

TEST(removal_under_load_and_back_again)
{
    struct mm_stats before = {0}, after;

    start();
    for (unsigned round = 0; round < 4; round++) {
        static struct out *o[300];
        unsigned sent = 0;
        got_count = 0;
        keep_tokens = true;
        for (unsigned i = 0; i < 50; i++)
            CHECK(to_guest(300, i));
        hv_host_run();
        CHECK(RUN_UNTIL(got_count == 50, 2));
        wire_blocked = true;
        for (; sent < 300; sent++) {
            o[sent] = make_out(sent & 1 ? 1400 : 100, 2, sent);
            if (nic->ops->send(nic, &o[sent]->tx))
                break;
        }
        nic->ops->kick(nic);
        task_sleep_us(1000);
        wire_blocked = false;
        host_remove_nic(host, host_nic);
        hv_host_run();
        CHECK(RUN_UNTIL(removed == round + 1, 5));
        task_sleep_us(100000);
        for (unsigned i = 0; i < sent; i++)
            CHECK(o[i]->done);
        for (unsigned i = 0; i <= MIN(sent, 299u); i++)
            free_out(o[i]);
        CHECK(!nic);
        CHECK(!nic_get_index(0));
        mm_get_stats(&after);
        if (round == 1)
            before = after;
        if (round > 1) {
            CHECK_EQ(after.heap_bytes, before.heap_bytes);
            CHECK_EQ(after.vmap_bytes, before.vmap_bytes);
        }
        keep_tokens = false;
        host_nic = host_add_nic(host, &nic_config, &wire_ops, NULL);
        CHECK(RUN_UNTIL(nic, 5));
        CHECK(!strcmp(nic->name, "nic0"));
        frames_of_all_sizes();
    }
}

TEST(orderly_end_says_goodbye)
{
    struct host_state state;

    start();
    struct out *o = make_out(1400, 2, 1);
    CHECK_EQ(nic->ops->send(nic, &o->tx), 0);
    vmbus_disconnect(false);
    CHECK(o->done);
    CHECK_EQ(removed, 1);
    host_get_state(host, &state);
    CHECK_EQ(state.gpadls, 0);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    CHECK(!fake_log_contains("no answer"));
}

TEST(two_nics)
{
    defaults();
    host_up();
    nic_config.mac[5] = 9;
    host_add_nic(host, &nic_config, &wire_ops, NULL);
    CHECK_EQ(guest_up(), 0);
    CHECK_EQ(added, 2);
    CHECK(nic_get_index(0) && nic_get_index(1) && !nic_get_index(2));
    CHECK(!strcmp(nic_get_index(1)->name, "nic1"));
}

TEST(small_memory_gets_small_buffers)
{
    fake_arch_boot(12 << 20);
    host_config_default(&host_cfg);
    host_nic_config_default(&nic_config);
    nic_config.mac[5] = 1;
    host_up();
    CHECK_EQ(guest_up(), 0);
    CHECK(nic);
    frames_of_all_sizes();
}

/* ---- faults ---- */

struct fault { uint32_t points; uint64_t number; enum host_fault_kind kind; };

static void live_with_fault(void *arg)
{
    const struct fault *f = arg;
    struct host_state state;

    defaults();
    host_up();
    hv_host.violations_expected = true;          /* after a wrong answer the two sides are of different minds */
    host_set_fault(host, f->points, f->number, f->kind);
    CHECK_EQ(guest_up(), 0);
    for (unsigned i = 0; nic && i < 20; i++) {
        struct out *o = make_out(i & 1 ? 1400 : 200, 2, i);
        if (nic->ops->send(nic, &o->tx) == 0)
            nic->ops->kick(nic);
        task_sleep_us(1000);
    }
    for (unsigned i = 0; nic && i < 5; i++)
        to_guest(200, i);
    hv_host_run();
    task_sleep_us(1000000);
    uint64_t counted = host_fault_count(host);
    vmbus_disconnect(false);
    CHECK(!nic);
    host_get_state(host, &state);
    CHECK_EQ(state.channels_open, 0);
    CHECK_EQ(state.gpadls, 0);
    /* A host that says no and keeps the buffer all the same: then its pages are lost knowingly. */
    if (f->points != HOST_FAULT_NETVSP_REPLY || f->kind != HOST_FAULT_ERROR)
        CHECK_EQ(shmem_stats.pages_leaked, 0);
    if (counted < f->number)
        nothing_left();
}

static void every_fault(uint32_t points, unsigned most)
{
    static const enum host_fault_kind kinds[] = {
        HOST_FAULT_DROP, HOST_FAULT_ERROR, HOST_FAULT_SHORT, HOST_FAULT_WRONG_ID, HOST_FAULT_TWICE, HOST_FAULT_GARBAGE,
    };

    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (unsigned n = 1; n <= most; n++) {
            struct fault f = {points, n, kinds[k]};
            int end = in_child(live_with_fault, &f);
            if (end == NOTHING_LEFT)
                break;
            if (end != FAKE_RETURNED)
                test_fail(__FILE__, __LINE__, "point 0x%x reply %u kind %d ends with %d", points, n, (int)kinds[k],
                          end);
            if (test_failures_here > 5)
                return;
        }
    }
}

TEST(each_handshake_reply_goes_wrong) { every_fault(HOST_FAULT_NETVSP_REPLY, 16); }
TEST(each_rndis_reply_goes_wrong) { every_fault(HOST_FAULT_RNDIS_REPLY, 16); }
TEST(each_completion_goes_wrong) { every_fault(HOST_FAULT_NETVSP_TX, 16); }

static void live_without(void *arg)
{
    uint64_t n = (uint64_t)(uintptr_t)arg, counted;

    defaults();
    host_up();
    if (!hv_init())
        _exit(1);
    hv_clock_init();
    if (hv_synic_init())
        _exit(1);
    nic_set_user(&stack);
    CHECK_EQ(vmbus_connect(), 0);
    counted = mm_alloc_count();
    mm_fail_nth(n);
    netvsc_register();
    task_sleep_us(3000000);
    mm_fail_nth(0);
    counted = mm_alloc_count() - counted;
    if (nic)
        frames_of_all_sizes();
    vmbus_disconnect(false);
    CHECK(!nic);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    if (counted < n)
        nothing_left();
}

TEST(each_allocation_fails_once)
{
    each_allocation(live_without);
}

TEST_MAIN()
