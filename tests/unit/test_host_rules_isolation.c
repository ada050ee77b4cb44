/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib host fake_arch */
/*
 * The rules of an isolated machine, broken once each (rules.h), and what a guest that keeps them may count on: who may
 * name which page to the host, what must not change hands now, how far a call got.
 */
#include "tests/unit/played_disk.h"
#include "tests/unit/rules.h"

#define IN       (PAGE_INPUT * 4096u)
#define BOUNDARY (1ull << 40)

static struct blk_mem *disk;
static struct host_config cfg;

static void isolated(void)
{
    host_config_default(&cfg);
    cfg.isolation_type = HV_ISOLATION_VBS;
    cfg.boundary_bit = 40;
    cfg.ram_pages = RAM_PAGES;
    start_with(&cfg);
}

/* The status; *done of the pages changed. */
static uint16_t change(uint64_t first, unsigned count, uint32_t visibility, unsigned *done)
{
    struct hv_modify_visibility *in = (void *)(ram + IN);
    uint64_t *pages = (uint64_t *)(void *)(in + 1), result;

    *in = (struct hv_modify_visibility){HV_PARTITION_ID_SELF, visibility, 0};
    for (unsigned i = 0; i < count; i++)
        pages[i] = first + i;
    result = call(hv_control(HVCALL_MODIFY_HOST_VISIBILITY, 0, count, 0), IN, 0);
    if (done != NULL)
        *done = hv_result_reps(result);
    return hv_result_status(result);
}

static bool share(uint64_t first, unsigned count)
{
    return change(first, count, HV_VISIBILITY_READ_WRITE, NULL) == HV_STATUS_SUCCESS;
}

static uint64_t visible_pages(void)
{
    struct host_state state;

    host_get_state(host, &state);
    return state.pages_visible;
}

static bool at_isolated_start(void)
{
    isolated();
    return true;
}

static bool with_private_disk(void)
{
    isolated();
    return share(PAGE_RING, RING_PAGES) && disk_ready(&disk, &relid);
}

static bool with_shared_page(void) { return with_private_disk() && share(PAGE_DATA, 2); }

/* A read of one sector that the disk does not finish. */
static const uint64_t one_page[] = {1ull << 32, 512, PAGE_DATA};

static void begin_read(const uint64_t *ranges)
{
    struct vstor_packet v = {
        .operation = VSTOR_OP_EXECUTE_SRB, .flags = VSTOR_FLAG_REQUEST_COMPLETION,
        .srb = {.length = VSTOR_SRB_BYTES, .cdb_bytes = 16, .sense_bytes = VSTOR_SENSE_MAX,
                .data_direction = VSTOR_DATA_FROM_DEVICE, .data_bytes = 512},
    };

    v.srb.cdb[0] = SCSI_READ_10;
    v.srb.cdb[8] = 1;
    blk_mem_hold(disk, true, false);
    send(relid, VMBUS_PACKET_GPA_DIRECT, 1, 3, ranges, 24, &v, sizeof(v));
}

/* ---- the four places ---- */

RULE(private_ring, at_isolated_start, "page 0x10 is not visible memory", {
    struct host_scsi_config scsi_cfg;
    struct vmbus_msg_offer_channel offer;
    host_scsi_config_default(&scsi_cfg);
    CHECK(host_add_scsi(host, &scsi_cfg) != NULL && connect(VMBUS_VERSION_WIN10_5_3) && first_offer(&offer));
    CHECK(!make_gpadl(offer.relid, 5, PAGE_RING, RING_PAGES));
})
RULE(private_page_in_a_ring, at_isolated_start, "page 0x1f is not visible memory", {
    struct host_scsi_config scsi_cfg;
    struct vmbus_msg_offer_channel offer;
    host_scsi_config_default(&scsi_cfg);
    CHECK(share(PAGE_RING, RING_PAGES - 1));
    CHECK(host_add_scsi(host, &scsi_cfg) != NULL && connect(VMBUS_VERSION_WIN10_5_3) && first_offer(&offer));
    CHECK(!make_gpadl(offer.relid, 5, PAGE_RING, RING_PAGES));
})
RULE(private_data, with_private_disk, "page 0x40 is not visible memory", { begin_read(one_page); })
RULE(private_monitor_page, at_isolated_start, "monitor page", {
    struct vmbus_msg_initiate_contact msg = {
        .header = {.type = VMBUS_MSG_INITIATE_CONTACT}, .version = VMBUS_VERSION_WIN8,
        .monitor_page1 = BOUNDARY | PAGE_DATA * 4096u,
        .monitor_page2 = BOUNDARY | (PAGE_DATA + 1) * 4096u,
    };
    CHECK(share(PAGE_DATA, 1));
    post(1, &msg, sizeof(msg));
})

/* Either way to write the address of a page is understood. */
TEST(both_sides_of_a_page_number)
{
    static const uint64_t above[] = {1ull << 32, 512, BOUNDARY >> 12 | PAGE_DATA};

    CHECK(with_shared_page());
    begin_read(one_page);
    blk_mem_hold(disk, false, false);
    poll_all();
    begin_read(above);
    blk_mem_hold(disk, false, false);
    poll_all();
    CHECK_EQ(host_counters(host)->srbs, 2);
    CHECK_EQ(violations, 0);
    host_destroy(host);
    blk_mem_destroy(disk);
}

/* ---- the two sides, as the hypervisor sees them ---- */

static void post_from(uint64_t gpa)
{
    memset(ram + (gpa & (BOUNDARY - 1)), 0, sizeof(struct hv_post_message));
    call(HVCALL_POST_MESSAGE, gpa, 0);
}

RULE(input_above_the_boundary, at_isolated_start, "input outside of memory", { post_from(BOUNDARY | IN); })
RULE(input_below_the_boundary, at_isolated_start, "input outside of memory", {
    CHECK(share(PAGE_DATA, 1));
    post_from(PAGE_DATA * 4096u);
})
RULE(input_where_it_is, at_isolated_start, "post message: bad type", {
    CHECK(share(PAGE_DATA, 1));
    post_from(BOUNDARY | PAGE_DATA * 4096u);
})
RULE(messages_above_the_boundary, at_isolated_start, "outside of memory", {
    host_wrmsr(host, 0, HV_X64_MSR_SIMP, 0);
    host_wrmsr(host, 0, HV_X64_MSR_SIMP, BOUNDARY | PAGE_SIMP * 4096u | 1);
})

/* ---- what must not become private ---- */

RULE(ring_made_private, with_private_disk, "page made private while a GPADL or the monitor uses it",
     { CHECK_EQ(change(PAGE_RING + 3, 1, HV_VISIBILITY_PRIVATE, NULL), HV_STATUS_OPERATION_DENIED); })
RULE(data_made_private, with_shared_page, "page made private while a packet uses it", {
    begin_read(one_page);
    CHECK_EQ(change(PAGE_DATA, 1, HV_VISIBILITY_PRIVATE, NULL), HV_STATUS_OPERATION_DENIED);
})

TEST(data_becomes_private_when_the_request_is_done)
{
    unsigned done;

    CHECK(with_shared_page());
    begin_read(one_page);
    CHECK_EQ(change(PAGE_DATA + 1, 1, HV_VISIBILITY_PRIVATE, NULL), HV_STATUS_SUCCESS);     /* its neighbour */
    blk_mem_hold(disk, false, false);
    poll_all();
    CHECK_EQ(change(PAGE_DATA, 1, HV_VISIBILITY_PRIVATE, &done), HV_STATUS_SUCCESS);
    CHECK_EQ(done, 1);
    CHECK_EQ(visible_pages(), RING_PAGES);
    CHECK_EQ(violations, 0);
    host_destroy(host);
    blk_mem_destroy(disk);
}

/* A call stops at the page that is in use, and says how far it got. */
TEST(a_call_tells_where_it_stopped)
{
    static const uint64_t second_page[] = {1ull << 32, 512, PAGE_DATA + 2};
    unsigned done;

    CHECK(with_private_disk() && share(PAGE_DATA, 4));
    begin_read(second_page);
    CHECK_EQ(change(PAGE_DATA, 4, HV_VISIBILITY_PRIVATE, &done), HV_STATUS_OPERATION_DENIED);
    CHECK_EQ(done, 2);
    CHECK_EQ(visible_pages(), RING_PAGES + 2);
    host_destroy(host);
    blk_mem_destroy(disk);
}

/* ---- what must not become visible ---- */

RULE(hypercall_page_visible, at_isolated_start, "made visible that is the hypercall page",
     { CHECK_EQ(change(PAGE_HYPERCALL, 1, HV_VISIBILITY_READ_WRITE, NULL), HV_STATUS_OPERATION_DENIED); })
RULE(messages_visible, at_isolated_start, "made visible that is a SynIC page", { share(PAGE_SIMP, 1); })
RULE(events_visible, at_isolated_start, "made visible that is a SynIC page", { share(PAGE_SIEFP, 1); })
RULE(clock_visible, at_isolated_start, "made visible that is the reference TSC page", {
    host_wrmsr(host, 0, HV_X64_MSR_REFERENCE_TSC, PAGE_TSC * 4096u | 1);
    share(PAGE_TSC, 1);
})

/* ---- the call itself ---- */

RULE(page_outside, at_isolated_start, "page outside of memory", { share(RAM_PAGES, 1); })
RULE(page_far_outside, at_isolated_start, "page outside of memory", { share(1ull << 39, 1); })
RULE(page_above_the_boundary, at_isolated_start, "carries the boundary bit", { share(BOUNDARY >> 12 | 5, 1); })
RULE(visibility_for_reading, at_isolated_start, "visibility: 0x1", { change(PAGE_DATA, 1, 1, NULL); })

TEST(calls_are_continued)
{
    struct hv_modify_visibility *in = (void *)(ram + IN);
    uint64_t *pages = (uint64_t *)(void *)(in + 1), control, regs[HOST_HCALL_REGS] = {IN}, result;
    unsigned runs = 0;

    isolated();
    host_destroy(host);
    cfg.visibility_batch = 7;
    start_with(&cfg);
    *in = (struct hv_modify_visibility){HV_PARTITION_ID_SELF, HV_VISIBILITY_READ_WRITE, 0};
    for (unsigned i = 0; i < 100; i++)
        pages[i] = PAGE_DATA + i;
    for (uint64_t next = hv_control(HVCALL_MODIFY_HOST_VISIBILITY, 0, 100, 0); ; runs++) {
        control = next;
        result = host_hypercall(host, 0, &next, regs);
        CHECK_EQ(hv_result_status(result), HV_STATUS_SUCCESS);
        if (next == control)
            break;
        CHECK_EQ(visible_pages(), 7 * (runs + 1));
    }
    CHECK_EQ(runs, 14);
    CHECK_EQ(hv_result_reps(result), 100);
    CHECK_EQ(visible_pages(), 100);
    host_reset(host);
    CHECK_EQ(visible_pages(), 0);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST_MAIN()
