/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two buffers that the host and we share for the NIC's life: how large, what the host makes of them, how they are
 * given back. What is wanted is halved until memory and host agree.
 */
#define LOG_ROOM "netvsc"
#include "drivers/netvsc.h"

/* Parts of RAM. Receiving gets more: there the host drops what has no place, here a sender waits. */
#define RECEIVE_SHARE   8
#define SEND_SHARE      64

/* Memory and GPADL of a buffer; halves what is wanted until it is to be had. */
static int share_buffer(struct netvsc *n, struct shmem *memory, uint32_t *gpadl, uint32_t wanted, uint32_t least,
                        const char *what)
{
    int e = -E_NOMEM;

    for (uint32_t bytes = wanted; bytes >= least; bytes = ALIGN_DOWN(bytes / 2, (uint32_t)PAGE_BYTES)) {
        e = shmem_alloc(memory, bytes / PAGE_BYTES, SHMEM_LINEAR_UNCLEARED, 0);
        if (e == 0) {
            e = vmbus_gpadl_create(n->channel, memory, gpadl);
            if (e == 0)
                return 0;
            shmem_free(memory);
        }
        memory->pages = 0;
        *gpadl = 0;
        if (e != -E_NOMEM && e != -E_REFUSED)
            break;
        log_info_some("%s: no %s buffer of %u KiB (%s), trying less", n->name, what, bytes / 1024, error_name(e));
    }
    log_err_some("%s: no %s buffer: %s", n->name, what, error_name(e));
    return e;
}

void netvsc_unshare(struct netvsc *n, struct shmem *memory, uint32_t *gpadl)
{
    if (*gpadl)
        vmbus_gpadl_teardown(n->channel, *gpadl);
    *gpadl = 0;
    if (memory->pages)
        shmem_free(memory);
    memory->pages = 0;
}

/* What the configuration says, bounded by a share of the memory there is: 1/share of RAM. */
static uint32_t buffer_bytes(const char *key, uint32_t fallback, uint32_t least, uint32_t most, unsigned share)
{
    struct mm_stats stats;
    uint64_t bytes = config_number(key, fallback, least, NETVSC_RECEIVE_MOST);
    uint64_t bound;

    mm_get_stats(&stats);
    bound = MAX(stats.ram_pages * PAGE_BYTES / share, (uint64_t)least);
    bytes = MIN(bytes, bound);
    bytes = MIN(bytes, (uint64_t)most);
    return (uint32_t)ALIGN_DOWN(bytes, PAGE_BYTES);
}

int netvsc_receive_buffer(struct netvsc *n)
{
    uint32_t most = n->version <= NVSP_VERSION_2 ? NETVSC_RECEIVE_MOST_OLD : NETVSC_RECEIVE_MOST;
    uint32_t wanted = buffer_bytes("net.recv_buffer", NETVSC_RECEIVE_DEFAULT, NETVSC_RECEIVE_LEAST, most,
                                   RECEIVE_SHARE);
    struct nvsp_message m = {.type = NVSP_SEND_RECEIVE_BUFFER};
    const struct nvsp_receive_buffer_complete *c = &n->answer.receive_buffer_complete;
    const struct nvsp_receive_section *section = &c->sections[0];
    int e;

    for (;;) {
        e = share_buffer(n, &n->receive, &n->receive_gpadl, wanted, NETVSC_RECEIVE_LEAST, "receive");
        if (e)
            return e;
        m.buffer = (struct nvsp_send_buffer){n->receive_gpadl, NVSP_RECEIVE_BUFFER_ID};
        e = netvsc_nvsp(n, &m, NVSP_SEND_RECEIVE_BUFFER_COMPLETE, sizeof(uint32_t) + sizeof(*c));
        if (e)
            return e;
        if (c->status == NVSP_STATUS_SUCCESS)
            break;
        log_warn_some("%s: the host refuses a receive buffer of %zu KiB, status %u", n->name, n->receive.pages * 4,
                      c->status);
        wanted = (uint32_t)(n->receive.pages / 2 * PAGE_BYTES);
        netvsc_unshare(n, &n->receive, &n->receive_gpadl);
        if (wanted < NETVSC_RECEIVE_LEAST)
            return -E_REFUSED;
    }
    n->receive_told = true;
    if (c->section_count != 1 || section->offset != 0 || section->sub_allocation_bytes < NETVSC_SECTION_LEAST ||
        section->sub_allocation_count == 0 ||
        (uint64_t)section->sub_allocation_bytes * section->sub_allocation_count > n->receive.pages * PAGE_BYTES) {
        log_err_some("%s: the host cuts the receive buffer into %u sections, the first at %u, %u of %u bytes: nonsense",
                     n->name, c->section_count, section->offset, section->sub_allocation_count,
                     section->sub_allocation_bytes);
        return -E_PROTO;
    }
    n->sub_bytes = section->sub_allocation_bytes;
    n->sub_count = section->sub_allocation_count;
    return netvsc_rx_init(n);
}

int netvsc_send_buffer(struct netvsc *n)
{
    uint32_t wanted = buffer_bytes("net.send_buffer", NETVSC_SEND_DEFAULT, NETVSC_SEND_LEAST, NETVSC_RECEIVE_MOST_OLD,
                                   SEND_SHARE);
    struct nvsp_message m = {.type = NVSP_SEND_SEND_BUFFER};
    const struct nvsp_send_buffer_complete *c = &n->answer.send_buffer_complete;
    int e;

    e = share_buffer(n, &n->send, &n->send_gpadl, wanted, NETVSC_SEND_LEAST, "send");
    if (e == -E_NOMEM || e == -E_REFUSED)
        return 0;
    if (e)
        return e;
    m.buffer = (struct nvsp_send_buffer){n->send_gpadl, NVSP_SEND_BUFFER_ID};
    e = netvsc_nvsp(n, &m, NVSP_SEND_SEND_BUFFER_COMPLETE, sizeof(uint32_t) + sizeof(*c));
    if (e)
        return e;
    if (c->status != NVSP_STATUS_SUCCESS) {
        log_warn_some("%s: the host refuses the send buffer, status %u: all frames go by page frames", n->name,
                      c->status);
        netvsc_unshare(n, &n->send, &n->send_gpadl);
        return 0;
    }
    n->send_told = true;
    if (c->section_bytes < NETVSC_SECTION_LEAST || c->section_bytes > n->send.pages * PAGE_BYTES) {
        log_err_some("%s: the host cuts the send buffer into sections of %u bytes: nonsense", n->name,
                     c->section_bytes);
        return -E_PROTO;
    }
    n->section_bytes = c->section_bytes;
    return netvsc_tx_sections(n);
}
