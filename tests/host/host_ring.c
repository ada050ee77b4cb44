/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host_ring.c: one ring buffer, seen from the host.
 *
 * The host owns the read index and the interrupt mask of the incoming ring, the write index and the pending
 * send size of the outgoing one; it keeps its own copy of each and never believes the shared word. The guest
 * owns the other four. Indices are read with acquire and published with release; the partner is the guest's
 * ring code.
 *
 * The pages need not be neighbours in the host's view, so copies go page by page.
 */
#include "tests/host/host_internal.h"

static uint32_t load(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void full_barrier(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void vring_attach(struct host_ring *r, uint8_t **page, uint32_t pages)
{
    memset(r, 0, sizeof(*r));
    r->ctl = (struct vmbus_ring_control *)(void *)page[0];
    r->page = page + 1;
    r->bytes = (pages - 1) * HV_PAGE_SIZE;
}

bool vring_check_fresh(struct host *h, const struct host_ring *r, const char *name, uint32_t relid)
{
    if (r->ctl->write_index == 0 && r->ctl->read_index == 0 && r->ctl->pending_send_bytes == 0)
        return true;
    host_violation(h, r->ctl, 16, "channel %u: the %s ring is not empty at open", relid, name);
    return false;
}

uint32_t vring_free_bytes(const struct host_ring *r, uint32_t read, uint32_t write)
{
    return write >= read ? r->bytes - (write - read) : read - write;
}

static uint32_t distance(const struct host_ring *r, uint32_t from, uint32_t to)
{
    return to >= from ? to - from : r->bytes - (from - to);
}

static bool sane_index(const struct host_ring *r, uint32_t index)
{
    return index < r->bytes && index % VMBUS_PACKET_ALIGN == 0;
}

/* Copies between a buffer and the ring, wherever pages and the wrap cut it. */
static uint32_t copy(const struct host_ring *r, uint32_t index, void *buffer, uint32_t bytes, bool to_ring)
{
    uint8_t *p = buffer;

    while (bytes > 0) {
        uint32_t at = index % HV_PAGE_SIZE;
        uint32_t part = HV_PAGE_SIZE - at < bytes ? HV_PAGE_SIZE - at : bytes;
        uint8_t *ring = r->page[index / HV_PAGE_SIZE] + at;
        if (to_ring)
            memcpy(ring, p, part);
        else
            memcpy(p, ring, part);
        p += part;
        bytes -= part;
        index += part;
        if (index == r->bytes)
            index = 0;
    }
    return index;
}

/* ---- incoming --------------------------------------------------------------------------------------- */

/* The guest's index. What malice wrote over it is not believed by the model itself, or it would take up again what lay
 * in the ring long ago, and write to memory that is the guest's. */
static uint32_t theirs(struct host_ring *r, const uint32_t *at)
{
    uint32_t v = load(at);

    if (!r->lied)
        return v;
    r->lied = v == r->lie;
    return r->lied ? r->truth : v;
}

bool vring_misled(const struct host_chan *ch)
{
    return malice_misled(ch, HOST_MALICE_RING);
}

bool vring_readable(struct host *h, struct host_chan *ch, uint32_t *bytes)
{
    struct host_ring *r = &ch->in;
    uint32_t write = theirs(r, &r->ctl->write_index);

    *bytes = 0;
    if (!sane_index(r, write)) {
        if (!vring_misled(ch))
            host_violation(h, r->ctl, 16, "channel %u: write index %#x of a ring of %#x bytes", ch->relid, write,
                           r->bytes);
        return false;
    }
    if (r->ctl->read_index != r->shown || r->ctl->interrupt_mask != r->mask) {
        host_violation(h, r->ctl, 16, "channel %u: the guest wrote the host's words of its send ring",
                       ch->relid);
        return false;
    }
    if (distance(r, r->index, write) < distance(r, r->index, r->theirs)) {
        if (!vring_misled(ch))
            host_violation(h, r->ctl, 16, "channel %u: write index went back from %#x to %#x", ch->relid, r->theirs,
                           write);
        return false;
    }
    r->theirs = write;
    *bytes = r->bytes - vring_free_bytes(r, r->index, write);
    return true;
}

void vring_peek(const struct host_ring *r, uint32_t index, void *to, uint32_t bytes)
{
    copy(r, index % r->bytes, to, bytes, false);
}

void vring_set_mask(struct host_ring *r, uint32_t mask)
{
    if (r->mask == mask)
        return;
    r->mask = mask;
    __atomic_store_n(&r->ctl->interrupt_mask, mask, __ATOMIC_RELEASE);
    full_barrier();                              /* then look at the write index again */
}

bool vring_publish_read(struct host_ring *r)
{
    uint32_t taken, pending, free_now;

    if (r->index == r->published)
        return false;
    taken = r->index >= r->published ? r->index - r->published : r->bytes - (r->published - r->index);
    r->published = r->shown = r->index;
    __atomic_store_n(&r->ctl->read_index, r->index, __ATOMIC_RELEASE);
    full_barrier();                              /* the guest writes its pending size, then reads our index */
    if (!(r->ctl->feature_bits & VMBUS_RING_FEATURE_PENDING_SEND))
        return false;
    pending = load(&r->ctl->pending_send_bytes);
    if (pending == 0)
        return false;
    free_now = vring_free_bytes(r, r->index, load(&r->ctl->write_index) % r->bytes);
    return free_now > pending && free_now - taken <= pending;
}

/* ---- outgoing --------------------------------------------------------------------------------------- */

bool vring_writable(struct host *h, struct host_chan *ch, uint32_t *free_bytes)
{
    struct host_ring *r = &ch->out;
    uint32_t read = theirs(r, &r->ctl->read_index);

    *free_bytes = 0;
    if (!sane_index(r, read)) {
        if (!vring_misled(ch))
            host_violation(h, r->ctl, 16, "channel %u: read index %#x of a ring of %#x bytes", ch->relid, read,
                           r->bytes);
        return false;
    }
    if (r->ctl->write_index != r->shown) {
        host_violation(h, r->ctl, 16, "channel %u: the guest wrote the write index of its receive ring",
                       ch->relid);
        return false;
    }
    if (distance(r, read, r->index) > distance(r, r->theirs, r->index)) {
        if (!vring_misled(ch))
            host_violation(h, r->ctl, 16, "channel %u: read index %#x passes the write index %#x", ch->relid, read,
                           r->index);
        return false;
    }
    r->theirs = read;
    *free_bytes = vring_free_bytes(r, read, r->index);
    return true;
}

void vring_put(struct host_ring *r, const void *from, uint32_t bytes)
{
    r->index = copy(r, r->index, (void *)(uintptr_t)from, bytes, true);
}

bool vring_publish_write(struct host_ring *r)
{
    uint32_t before = r->published;

    if (r->index == before)
        return false;
    r->published = r->shown = r->index;
    __atomic_store_n(&r->ctl->write_index, r->index, __ATOMIC_RELEASE);
    full_barrier();                              /* the guest unmasks, then reads our index */
    if (load(&r->ctl->interrupt_mask) != 0)
        return false;
    return load(&r->ctl->read_index) == before;
}

void vring_want_space(struct host_ring *r, uint32_t bytes)
{
    __atomic_store_n(&r->ctl->pending_send_bytes, bytes, __ATOMIC_RELEASE);
    full_barrier();
}
