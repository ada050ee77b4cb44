/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk in the lab's own memory (ramdisk=SIZE), so that a benchmark under -icount depends on nothing outside. Each
 * 4 KiB block starts with its own number in every 8-byte word until written.
 *
 * Requests complete inside submit; with latency=MICROSECONDS each completes that much later, in the order of their
 * coming, so that the guest sleeps meanwhile as it does with a real disk.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/glue.h"

#define SECTOR 512u
#define BLOCK  4096u

static uint8_t **blocks;

/* A block that was never written has no memory of its own. */
static void read_block(uint64_t at, uint8_t *data, uint32_t bytes)
{
    uint64_t n = at / BLOCK;
    if (blocks[n])
        memcpy(data, blocks[n] + at % BLOCK, bytes);
    else
        for (uint32_t i = 0; i < bytes; i += sizeof(n))
            memcpy(data + i, &n, sizeof(n));
}

static bool write_block(uint64_t at, const uint8_t *data, uint32_t bytes)
{
    uint64_t n = at / BLOCK;
    if (!blocks[n]) {
        paddr_t page = page_alloc(0);
        if (pa_is_none(page))
            return false;
        uint8_t *block = arch_phys_to_virt(page);
        read_block(n * BLOCK, block, BLOCK);
        blocks[n] = block;
    }
    memcpy(blocks[n] + at % BLOCK, data, bytes);
    return true;
}

static enum host_blk_status move_data(const struct host_blk_req *r)
{
    uint64_t at = r->sector * SECTOR;
    if (r->op == HOST_BLK_FLUSH)
        return HOST_BLK_OK;
    if (r->op != HOST_BLK_READ && r->op != HOST_BLK_WRITE)
        return HOST_BLK_UNSUPPORTED;
    for (uint32_t i = 0; i < r->seg_count; i++) {
        uint8_t *data = r->segs[i].data;
        for (uint32_t left = r->segs[i].bytes; left > 0;) {
            uint32_t n = MIN(left, (uint32_t)(BLOCK - at % BLOCK));
            if (r->op == HOST_BLK_READ)
                read_block(at, data, n);
            else if (!write_block(at, data, n))
                return HOST_BLK_MEDIUM_ERROR;
            lab_count_add(CNT_BLOCK_BYTES, n);
            data += n;
            at += n;
            left -= n;
        }
    }
    return HOST_BLK_OK;
}

/* Requests that wait for their time: all take equally long, so the first to come is the first to go. */
enum { NEXT, DUE };                          /* in host_blk_req.backend */
static struct host_blk_req *first, *last;

static void ramdisk_submit(void *backend, struct host_blk_req *r)
{
    (void)backend;
    report_once(EVENT_FIRST_BLOCK, "first-block-request");
    lab_count(CNT_BLOCK_REQUESTS);
    if (!lab_options.latency_us) {
        host_blk_complete(r, move_data(r));
        return;
    }
    r->backend[NEXT] = NULL;
    r->backend[DUE] = (void *)(uintptr_t)(clock_now_100ns() + lab_options.latency_us * 10ull);
    if (first)
        last->backend[NEXT] = r;
    else
        first = r;
    last = r;
}

uint64_t ramdisk_deadline_100ns(void)
{
    return first ? (uint64_t)(uintptr_t)first->backend[DUE] : UINT64_MAX;
}

bool ramdisk_poll(void)
{
    uint64_t now = first ? clock_now_100ns() : 0;
    bool any = false;
    while (first && ramdisk_deadline_100ns() <= now) {
        struct host_blk_req *r = first;
        first = r->backend[NEXT];
        host_blk_complete(r, move_data(r));
        any = true;
    }
    return any;
}

static const struct host_blk_ops ramdisk_ops = {.submit = ramdisk_submit};

bool ramdisk_create(uint64_t bytes)
{
    bytes = ALIGN_DOWN(bytes, (uint64_t)BLOCK);
    blocks = kcalloc(bytes / BLOCK, sizeof(*blocks));
    if (!blocks || bytes == 0 || lab_disk_count == LAB_MAX_DISKS) {
        log_err("ramdisk of %llu bytes: no memory", (unsigned long long)bytes);
        return false;
    }
    struct lab_disk *l = &lab_disks[lab_disk_count++];
    l->ops = &ramdisk_ops;
    l->info = (struct host_blk_info){.sector_bytes = SECTOR, .physical_exponent = 3, .sectors = bytes / SECTOR,
                                     .write_cache = true, .supports_fua = true, .id = "LAB-RAMDISK"};
    log_info("disk %u: %llu bytes of the lab's memory", lab_disk_count - 1, (unsigned long long)bytes);
    return true;
}
