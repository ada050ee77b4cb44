/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blk_mem.c: a sparse disk in memory, for hosted tests: big disks cost nothing until they are written.
 *
 * Two levels: a directory of leaves, a leaf of chunks. A missing chunk reads as zeroes; discarding a whole
 * chunk frees it. Requests are done at once, unless the test holds them: then they wait and are completed in
 * the order the test wants.
 */
#include "tests/host/host_internal.h"

#define CHUNK_BYTES 16384u
#define LEAF_CHUNKS 4096u
#define LEAF_BYTES  ((uint64_t)CHUNK_BYTES * LEAF_CHUNKS)

struct leaf {
    uint8_t *chunk[LEAF_CHUNKS];
};

struct blk_mem {
    struct host_ops ops;
    void *ctx;
    uint32_t sector_bytes;
    uint64_t sectors, bytes;
    uint64_t leaves;
    struct leaf **leaf;
    uint64_t pages, flushes;
    bool held, newest_first;
    struct host_blk_req *first, **tail;
    enum host_blk_status fail;
};

static void *get(struct blk_mem *m, size_t bytes)
{
    return m->ops.alloc(m->ctx, bytes);
}

static void put(struct blk_mem *m, void *p, size_t bytes)
{
    if (p != NULL && m->ops.free != NULL)
        m->ops.free(m->ctx, p, bytes);
}

struct blk_mem *blk_mem_create(const struct host_ops *ops, void *ctx, uint32_t sector_bytes, uint64_t sectors)
{
    struct blk_mem *m = ops->alloc(ctx, sizeof(*m));

    if (m == NULL)
        return NULL;
    m->ops = *ops;
    m->ctx = ctx;
    m->sector_bytes = sector_bytes;
    m->sectors = sectors;
    m->bytes = sectors * sector_bytes;
    m->leaves = (m->bytes + LEAF_BYTES - 1) / LEAF_BYTES;
    m->leaf = get(m, m->leaves * sizeof(*m->leaf));
    m->tail = &m->first;
    if (m->leaf == NULL) {
        put(m, m, sizeof(*m));
        return NULL;
    }
    return m;
}

void blk_mem_destroy(struct blk_mem *m)
{
    if (m == NULL)
        return;
    for (uint64_t i = 0; i < m->leaves; i++) {
        for (uint32_t c = 0; m->leaf[i] != NULL && c < LEAF_CHUNKS; c++)
            put(m, m->leaf[i]->chunk[c], CHUNK_BYTES);
        put(m, m->leaf[i], sizeof(struct leaf));
    }
    put(m, m->leaf, m->leaves * sizeof(*m->leaf));
    put(m, m, sizeof(*m));
}

void blk_mem_info(const struct blk_mem *m, struct host_blk_info *info)
{
    static const uint8_t id[16] = "candela-blk-mem";

    memset(info, 0, sizeof(*info));
    info->sector_bytes = m->sector_bytes;
    info->physical_exponent = m->sector_bytes == 512 ? 3 : 0;
    info->sectors = m->sectors;
    info->supports_unmap = true;
    info->write_cache = true;
    info->supports_fua = true;
    memcpy(info->id, id, sizeof(info->id));
}

/* Where a byte lives: NULL when nothing was written there (or no memory is left for it). */
static uint8_t *chunk_of(struct blk_mem *m, uint64_t at, bool create)
{
    struct leaf **leaf = &m->leaf[at / LEAF_BYTES];
    uint8_t **chunk;

    if (*leaf == NULL && create)
        *leaf = get(m, sizeof(struct leaf));
    if (*leaf == NULL)
        return NULL;
    chunk = &(*leaf)->chunk[at % LEAF_BYTES / CHUNK_BYTES];
    if (*chunk == NULL && create) {
        *chunk = get(m, CHUNK_BYTES);
        m->pages += *chunk != NULL ? CHUNK_BYTES / 4096 : 0;
    }
    return *chunk;
}

/* data NULL with write: zeroes. */
static bool transfer(struct blk_mem *m, uint64_t at, uint8_t *data, uint64_t bytes, bool write)
{
    while (bytes > 0) {
        uint32_t offset = (uint32_t)(at % CHUNK_BYTES);
        uint32_t part = CHUNK_BYTES - offset < bytes ? CHUNK_BYTES - offset : (uint32_t)bytes;
        uint8_t *chunk = chunk_of(m, at, write && data != NULL);
        if (write && data == NULL) {
            if (chunk != NULL && part == CHUNK_BYTES) {
                m->leaf[at / LEAF_BYTES]->chunk[at % LEAF_BYTES / CHUNK_BYTES] = NULL;
                put(m, chunk, CHUNK_BYTES);
                m->pages -= CHUNK_BYTES / 4096;
            } else if (chunk != NULL) {
                memset(chunk + offset, 0, part);
            }
        } else if (write) {
            if (chunk == NULL)
                return false;
            memcpy(chunk + offset, data, part);
        } else if (chunk != NULL) {
            memcpy(data, chunk + offset, part);
        } else {
            memset(data, 0, part);
        }
        if (data != NULL)
            data += part;
        at += part;
        bytes -= part;
    }
    return true;
}

static enum host_blk_status perform(struct blk_mem *m, const struct host_blk_req *req)
{
    uint64_t at = req->sector * m->sector_bytes, bytes = req->sectors * m->sector_bytes;
    enum host_blk_status fail = m->fail;

    if (fail != HOST_BLK_OK) {
        m->fail = HOST_BLK_OK;
        return fail;
    }
    if (req->op == HOST_BLK_FLUSH) {
        m->flushes++;
        return HOST_BLK_OK;
    }
    if (req->sector > m->sectors || req->sectors > m->sectors - req->sector)
        return HOST_BLK_MEDIUM_ERROR;
    if (req->op == HOST_BLK_DISCARD || req->op == HOST_BLK_WRITE_ZEROES) {
        transfer(m, at, NULL, bytes, true);
        return HOST_BLK_OK;
    }
    for (uint32_t i = 0; i < req->seg_count; i++) {
        if (!transfer(m, at, req->segs[i].data, req->segs[i].bytes, req->op == HOST_BLK_WRITE))
            return HOST_BLK_MEDIUM_ERROR;
        at += req->segs[i].bytes;
    }
    return HOST_BLK_OK;
}

static void submit(void *backend, struct host_blk_req *req)
{
    struct blk_mem *m = backend;

    if (!m->held) {
        host_blk_complete(req, perform(m, req));
        return;
    }
    req->backend[0] = NULL;
    if (m->newest_first) {
        req->backend[0] = m->first;
        m->first = req;
        return;
    }
    *m->tail = req;
    m->tail = (struct host_blk_req **)&req->backend[0];
}

const struct host_blk_ops blk_mem_ops = {.submit = submit};

void blk_mem_hold(struct blk_mem *m, bool hold, bool newest_first)
{
    struct host_blk_req *req = m->first;

    m->held = hold;
    m->newest_first = newest_first;
    if (hold)
        return;
    m->first = NULL;
    m->tail = &m->first;
    while (req != NULL) {
        struct host_blk_req *next = req->backend[0];
        host_blk_complete(req, perform(m, req));
        req = next;
    }
}

bool blk_mem_access(struct blk_mem *m, uint64_t sector, void *data, uint32_t sectors, bool write)
{
    if (sector > m->sectors || sectors > m->sectors - sector)
        return false;
    return transfer(m, sector * m->sector_bytes, data, (uint64_t)sectors * m->sector_bytes, write);
}

uint64_t blk_mem_pages(const struct blk_mem *m)
{
    return m->pages;
}

uint64_t blk_mem_flushes(const struct blk_mem *m)
{
    return m->flushes;
}

void blk_mem_fail_next(struct blk_mem *m, enum host_blk_status status)
{
    m->fail = status;
}
