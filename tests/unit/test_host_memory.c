/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory that the guest never gave to the host is never touched by the model: every page is filled with a
 * pattern, traffic is random, and what no request named must be as it was, byte for byte. (All other hosted tests hold
 * the model to it too: its view of memory is closed but for what it has mapped, tests/fake_arch/guarded.h.)
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/wait.h>
#include "tests/host/storvsp.h"
#include "tests/unit/played_disk.h"

#define ROUNDS     300u
#define FIRST_PAGE 256u                 /* of the pages that requests are made of */

static uint32_t seed = 1;

static uint32_t dice(uint32_t sides)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % sides;
}

struct request {
    uint32_t offset, bytes, count;
    uint64_t page[65];
    bool write;
};

/* Distinct pages in any order, any offset in the first. */
static void make(struct request *r)
{
    bool used[RAM_PAGES] = {false};

    r->bytes = 512 * (1 + dice(256));
    r->offset = 8 * dice(512);
    r->count = (r->offset + r->bytes + 4095) / 4096;
    r->write = dice(2);
    for (uint32_t i = 0; i < r->count; i++) {
        do
            r->page[i] = FIRST_PAGE + dice(RAM_PAGES - FIRST_PAGE);
        while (used[r->page[i]]);
        used[r->page[i]] = true;
    }
}

static void issue(uint32_t relid, const struct request *r, uint64_t id, uint8_t op)
{
    uint64_t ranges[2 + 65] = {1ull << 32, r->bytes | (uint64_t)r->offset << 32};
    struct vstor_packet v = {
        .operation = VSTOR_OP_EXECUTE_SRB, .flags = 1,
        .srb = {.length = VSTOR_SRB_BYTES, .cdb_bytes = 16, .sense_bytes = VSTOR_SENSE_MAX, .data_bytes = r->bytes,
                .data_direction = r->write ? VSTOR_DATA_TO_DEVICE : VSTOR_DATA_FROM_DEVICE},
    };

    memcpy(ranges + 2, r->page, r->count * 8);
    v.srb.cdb[0] = op;
    scsi_put_be32(v.srb.cdb + 2, dice(1 << 18));
    scsi_put_be16(v.srb.cdb + 7, (uint16_t)(r->bytes / 512));
    send(relid, VMBUS_PACKET_GPA_DIRECT, 1, id, ranges, 16 + 8 * r->count, &v, sizeof(v));
}

static bool open_byte(const struct request *r, uint64_t page, uint32_t at)
{
    for (uint32_t i = 0, start = r->offset, left = r->bytes; i < r->count && !r->write; i++) {
        uint32_t part = 4096 - start < left ? 4096 - start : left;
        if (r->page[i] == page)
            return at >= start && at < start + part;
        left -= part;
        start = 0;
    }
    return false;
}

static bool shared_for_good(uint64_t page)
{
    return page == PAGE_SIMP || page == PAGE_SIEFP || page == PAGE_INPUT || page == PAGE_HYPERCALL ||
           (page >= PAGE_RING && page < PAGE_RING + RING_PAGES);
}

/* Compares all of memory with how it was; bytes that the request let the host write may differ. */
static unsigned strange_bytes(const uint8_t *before, const struct request *r)
{
    unsigned n = 0;

    for (uint64_t page = 0; page < RAM_PAGES; page++) {
        if (shared_for_good(page) || memcmp(ram + page * 4096, before + page * 4096, 4096) == 0)
            continue;
        for (uint32_t at = 0; at < 4096; at++)
            n += ram[page * 4096 + at] != before[page * 4096 + at] && !open_byte(r, page, at);
    }
    return n;
}

TEST(memory_never_given_is_never_touched)
{
    uint8_t *before = malloc(RAM_BYTES), packet[512];
    struct vmbus_packet_header head;
    struct blk_mem *disk;
    struct host_state idle, state;
    uint32_t relid;

    start();
    CHECK(disk_ready(&disk, &relid));
    host_get_state(host, &idle);
    CHECK_EQ(idle.pages_mapped, 2 + RING_PAGES);
    for (uint32_t i = 0; i < RAM_BYTES / 4; i++) {
        if (!shared_for_good(i / 1024))
            ((uint32_t *)(void *)ram)[i] = i * 2654435761u;
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct request r;
        make(&r);
        memcpy(before, ram, RAM_BYTES);
        issue(relid, &r, 100 + round, r.write ? SCSI_WRITE_10 : SCSI_READ_10);
        CHECK(receive(&head, packet) != 0);
        CHECK_EQ(head.transaction_id, 100 + round);
        CHECK_EQ(strange_bytes(before, &r), 0);
        host_get_state(host, &state);
        CHECK_EQ(state.pages_mapped, idle.pages_mapped);
    }
    CHECK_EQ(violations, 0);
    host_destroy(host);
    blk_mem_destroy(disk);
    free(before);
}

/* What a request names is the host's exactly as long as the request is in flight, and a rescind ends that. */
TEST(memory_of_a_request_is_the_guests_again)
{
    struct blk_mem *disk;
    struct host_state idle, state;
    struct request r = {.offset = 24, .bytes = 8192, .count = 3, .page = {900, 500, 700}};
    uint8_t packet[512], *before = malloc(RAM_BYTES);
    struct vmbus_packet_header head;
    uint32_t relid;

    start();
    CHECK(disk_ready(&disk, &relid));
    host_get_state(host, &idle);
    blk_mem_hold(disk, true, false);
    issue(relid, &r, 7, SCSI_READ_10);
    host_get_state(host, &state);
    CHECK_EQ(state.pages_mapped, idle.pages_mapped + 3);
    CHECK(storvsp_uses(host, 500, 1) && storvsp_uses(host, 600, 101) && !storvsp_uses(host, 501, 199));
    blk_mem_hold(disk, false, false);
    poll_all();
    CHECK(receive(&head, packet) != 0);
    host_get_state(host, &state);
    CHECK_EQ(state.pages_mapped, idle.pages_mapped);
    CHECK(!storvsp_uses(host, 500, 1));

    blk_mem_hold(disk, true, false);
    issue(relid, &r, 8, SCSI_READ_10);
    memset(ram + 500 * 4096, 0x5A, 4096);
    CHECK(host_rescind(host, relid));
    poll_all();
    host_get_state(host, &state);
    CHECK_EQ(state.pages_mapped, idle.pages_mapped);     /* the rings' GPADL stays until it is torn down */
    memcpy(before, ram, RAM_BYTES);
    blk_mem_hold(disk, false, false);
    poll_all();
    r.write = true;
    CHECK_EQ(strange_bytes(before, &r), 0);
    CHECK_EQ(violations, 0);
    host_destroy(host);
    blk_mem_destroy(disk);
    free(before);
}

/* Nothing is kept after an orderly goodbye. */
TEST(memory_is_all_given_back)
{
    struct vmbus_msg_header unload = {.type = VMBUS_MSG_UNLOAD}, done;
    struct blk_mem *disk;
    struct host_state state;
    uint32_t relid;

    start();
    CHECK(host_wrmsr(host, 0, HV_X64_MSR_REFERENCE_TSC, PAGE_TSC * 4096u | 1));
    CHECK(disk_ready(&disk, &relid));
    post(4, &unload, sizeof(unload));
    CHECK(take(VMBUS_MSG_UNLOAD_RESPONSE, &done, sizeof(done)));
    host_get_state(host, &state);
    CHECK_EQ(state.pages_mapped, 3);
    host_wrmsr(host, 0, HV_X64_MSR_SIMP, 0);
    host_wrmsr(host, 0, HV_X64_MSR_SIEFP, 0);
    host_wrmsr(host, 0, HV_X64_MSR_REFERENCE_TSC, 0);
    host_get_state(host, &state);
    CHECK_EQ(state.pages_mapped, 0);
    CHECK_EQ(guarded_pages(), 0);
    host_destroy(host);
    blk_mem_destroy(disk);
}

/* A reset of the machine gives back everything at once, whatever was going on. */
TEST(memory_is_given_back_by_reset)
{
    struct request r = {.offset = 24, .bytes = 8192, .count = 3, .page = {900, 500, 700}};
    struct blk_mem *disk;
    struct host_state state;
    uint32_t relid;

    start();
    CHECK(disk_ready(&disk, &relid));
    blk_mem_hold(disk, true, false);
    issue(relid, &r, 7, SCSI_READ_10);
    host_reset(host);
    host_get_state(host, &state);
    CHECK_EQ(state.pages_mapped, 0);
    CHECK_EQ(guarded_pages(), 0);
    blk_mem_hold(disk, false, false);
    poll_all();
    host_destroy(host);
    blk_mem_destroy(disk);
}

static void touch(void *p) { (*(volatile uint8_t *)p)++; }

/* The guard itself works: the model's view of a page that it has not mapped is closed. */
TEST(memory_guard_is_closed)
{
    pid_t child;
    int status = 0;
    void *p;

    start();
    p = guarded_open(40 * 4096, true);
    touch(p);
    guarded_close(40 * 4096, true);
    fflush(NULL);
    child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        touch(p);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    host_destroy(host);
}

TEST_MAIN()
