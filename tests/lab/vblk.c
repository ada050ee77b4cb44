/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtio disk as the back end of a SCSI unit.
 *
 * Zero copy: descriptors name the guest's own pages. A request of the model becomes one or more virtio requests
 * (slots), because a virtio request has a limit on segments; a slot is descriptor n of the ring, which points at an
 * indirect table of its own. Requests that find no free slot wait in order.
 *
 * FUA is a write followed by a flush, as virtio has none. What is discarded must read as zeroes, which virtio's DISCARD does
 * not promise (with some formats of disk files QEMU does nothing): it is WRITE_ZEROES that may unmap. Sectors of virtio
 * are always 512 bytes.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/glue.h"
#include "tests/lab/virtio.h"

#define F_SEG_MAX      (1ull << 2)
#define F_RO           (1ull << 5)
#define F_BLK_SIZE     (1ull << 6)
#define F_FLUSH        (1ull << 9)
#define F_TOPOLOGY     (1ull << 10)
#define F_DISCARD      (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

#define CFG_CAPACITY   0
#define CFG_SEG_MAX    12
#define CFG_BLK_SIZE   20
#define CFG_PHYS_EXP   24
#define CFG_MAX_ZEROES 48

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_WRITE_ZEROES = 13 };
#define ZEROES_UNMAP   1u
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2, S_PENDING = 0xFF };

#define MAX_SLOTS      256u
#define TABLE_ENTRIES  120u            /* header, data, status: a slot stays within 2 KiB */
#define MAX_SEGS       (TABLE_ENTRIES - 2)
#define ID_BYTES       20
#define ID_SPINS       50000000u

struct vblk_header { uint32_t type, reserved; uint64_t sector; };
struct vblk_range { uint64_t sector; uint32_t sectors, flags; };

struct slot {
    struct virtq_desc table[TABLE_ENTRIES];
    struct vblk_header header;
    struct vblk_range range;
    struct host_blk_req *request;      /* NULL: free */
    uint8_t status;
};
_Static_assert(sizeof(struct slot) <= 2048, "two slots in a page");

struct vblk {
    struct virtio dev;
    struct virtq queue;
    struct slot *slots[MAX_SLOTS];
    uint16_t free[MAX_SLOTS];
    unsigned free_count, seg_max, sector_shift;
    uint64_t max_zeroes;               /* 512-byte sectors; 0: it can't */
    bool unmaps;
    struct host_blk_req *first, *last; /* waiting; only the first may be partly given to the device: */
    uint64_t sectors_given;            /* of first, in its own sectors */
    uint32_t seg, seg_offset;
};

static struct vblk *disks[LAB_MAX_DISKS];
static unsigned disk_count;

/* The back end's two words in a request: the next in the waiting list, and its progress. */
#define NEXT(r) (*(struct host_blk_req **)&(r)->backend[0])
union progress { void *word; struct { uint16_t outstanding; uint8_t status; bool given, flushing; } p; };
_Static_assert(sizeof(union progress) == sizeof(void *), "fits the word");

static union progress *progress_of(struct host_blk_req *r) { return (union progress *)(void *)&r->backend[1]; }

static struct slot *slot_take(struct vblk *d, struct host_blk_req *r, unsigned *number)
{
    *number = d->free[--d->free_count];
    struct slot *s = d->slots[*number];
    s->request = r;
    s->status = S_PENDING;
    progress_of(r)->p.outstanding++;
    return s;
}

/* segments: entries 1 to segs of the table are filled. */
static void slot_give(struct vblk *d, struct slot *s, unsigned number, uint32_t type, uint64_t sector512, unsigned segs)
{
    uint64_t base = dma_address(s);
    s->header = (struct vblk_header){.type = type, .sector = sector512};
    s->table[0] = (struct virtq_desc){base + offsetof(struct slot, header), sizeof(s->header), VIRTQ_NEXT, 1};
    for (unsigned i = 1; i <= segs; i++) {
        s->table[i].flags = VIRTQ_NEXT | (type == T_IN || type == T_GET_ID ? VIRTQ_WRITE : 0);
        s->table[i].next = (uint16_t)(i + 1);
    }
    s->table[segs + 1] = (struct virtq_desc){base + offsetof(struct slot, status), 1, VIRTQ_WRITE, 0};
    uint32_t table_bytes = (segs + 2) * (uint32_t)sizeof(struct virtq_desc);
    d->queue.desc[number] = (struct virtq_desc){base, table_bytes, VIRTQ_INDIRECT, 0};
    virtq_publish(&d->queue, number);
    lab_count(CNT_BLOCK_REQUESTS);
}

/* As many of the request's sectors as one virtio request can carry; true when that was all. */
static bool give_data(struct vblk *d, struct host_blk_req *r)
{
    unsigned number, segs = 0;
    uint64_t bytes = 0, sector_bytes = 512ull << d->sector_shift;
    uint64_t wanted = (r->sectors - d->sectors_given) * sector_bytes;
    struct slot *s = slot_take(d, r, &number);
    while (bytes < wanted && d->seg < r->seg_count) {
        const struct host_seg *h = &r->segs[d->seg];
        uint64_t left = MIN((uint64_t)(h->bytes - d->seg_offset), wanted - bytes);
        uint64_t address = left ? dma_address(h->data + d->seg_offset) : 0;
        struct virtq_desc *before = &s->table[segs];
        if (left && segs > 0 && before->address + before->bytes == address)
            before->bytes += (uint32_t)left;
        else if (left && segs == d->seg_max)
            break;
        else if (left)
            s->table[++segs] = (struct virtq_desc){.address = address, .bytes = (uint32_t)left};
        bytes += left;
        d->seg_offset += (uint32_t)left;
        if (d->seg_offset == h->bytes) {
            d->seg++;
            d->seg_offset = 0;
        }
    }
    /* A piece must end with a sector: give back what is over. */
    for (uint64_t over = bytes % sector_bytes; over > 0;) {
        uint32_t cut = (uint32_t)MIN(over, (uint64_t)s->table[segs].bytes);
        s->table[segs].bytes -= cut;
        if (s->table[segs].bytes == 0)
            segs--;
        over -= cut;
        bytes -= cut;
        while (cut > 0) {
            if (d->seg_offset == 0)
                d->seg_offset = r->segs[--d->seg].bytes;
            uint32_t step = MIN(cut, d->seg_offset);
            d->seg_offset -= step;
            cut -= step;
        }
    }
    if (bytes == 0)
        panic("a disk request of %llu sectors has no data behind it", (unsigned long long)r->sectors);
    uint64_t sector = (r->sector + d->sectors_given) << d->sector_shift;
    slot_give(d, s, number, r->op == HOST_BLK_READ ? T_IN : T_OUT, sector, segs);
    lab_count_add(CNT_BLOCK_BYTES, bytes);
    d->sectors_given += bytes / sector_bytes;
    return d->sectors_given == r->sectors;
}

static bool give_range(struct vblk *d, struct host_blk_req *r)
{
    unsigned number;
    uint64_t n = MIN(r->sectors - d->sectors_given, d->max_zeroes >> d->sector_shift);
    struct slot *s = slot_take(d, r, &number);
    uint64_t sector = (r->sector + d->sectors_given) << d->sector_shift;
    s->range = (struct vblk_range){.sector = sector, .sectors = (uint32_t)(n << d->sector_shift),
                                   .flags = r->op == HOST_BLK_DISCARD ? ZEROES_UNMAP : 0};
    s->table[1] = (struct virtq_desc){.address = dma_address(s) + offsetof(struct slot, range),
                                      .bytes = sizeof(s->range)};
    slot_give(d, s, number, T_WRITE_ZEROES, 0, 1);
    d->sectors_given += n;
    return d->sectors_given == r->sectors;
}

static void give_flush(struct vblk *d, struct host_blk_req *r)
{
    unsigned number;
    struct slot *s = slot_take(d, r, &number);
    slot_give(d, s, number, T_FLUSH, 0, 0);
}

static bool supported(const struct vblk *d, enum host_blk_op op)
{
    switch (op) {
    case HOST_BLK_FLUSH:
        return (d->dev.features & F_FLUSH) != 0;
    case HOST_BLK_DISCARD:
        return d->unmaps;
    case HOST_BLK_WRITE_ZEROES:
        return d->max_zeroes != 0;
    case HOST_BLK_WRITE:
        return !(d->dev.features & F_RO);
    case HOST_BLK_READ:
        break;
    }
    return true;
}

/* Gives waiting requests to the device while there are slots. */
static void pump(struct vblk *d)
{
    while (d->first && d->free_count > 0) {
        struct host_blk_req *r = d->first;
        bool all = true;
        if (r->op == HOST_BLK_FLUSH)
            give_flush(d, r);
        else if (r->op == HOST_BLK_READ || r->op == HOST_BLK_WRITE)
            all = give_data(d, r);
        else
            all = give_range(d, r);
        if (!all)
            continue;
        progress_of(r)->p.given = true;
        d->first = NEXT(r);
        d->sectors_given = 0;
        d->seg = d->seg_offset = 0;
    }
}

static void vblk_submit(void *backend, struct host_blk_req *r)
{
    struct vblk *d = backend;
    report_once(EVENT_FIRST_BLOCK, "first-block-request");
    if (!supported(d, r->op)) {
        host_blk_complete(r, r->op == HOST_BLK_FLUSH ? HOST_BLK_OK : HOST_BLK_UNSUPPORTED);
        return;
    }
    if (r->op != HOST_BLK_FLUSH && r->sectors == 0) {
        host_blk_complete(r, HOST_BLK_OK);
        return;
    }
    NEXT(r) = NULL;
    progress_of(r)->word = NULL;
    if (d->first)
        NEXT(d->last) = r;
    else
        d->first = r;
    d->last = r;
    pump(d);
}

static const struct host_blk_ops vblk_ops = {.submit = vblk_submit};

static void finish(struct vblk *d, unsigned number)
{
    struct slot *s = d->slots[number];
    struct host_blk_req *r = s->request;
    if (!r)
        panic("virtio disk: slot %u finished twice", number);
    s->request = NULL;
    d->free[d->free_count++] = (uint16_t)number;
    union progress *p = progress_of(r);
    if (s->status != S_OK && p->p.status == S_OK)
        p->p.status = s->status;
    if (--p->p.outstanding > 0 || !p->p.given)
        return;
    if (r->fua && p->p.status == S_OK && !p->p.flushing && (d->dev.features & F_FLUSH) &&
        (r->op == HOST_BLK_WRITE || r->op == HOST_BLK_WRITE_ZEROES)) {
        p->p.flushing = true;
        give_flush(d, r);                       /* in the slot just freed */
        return;
    }
    host_blk_complete(r, p->p.status == S_OK ? HOST_BLK_OK
                         : p->p.status == S_UNSUPP ? HOST_BLK_UNSUPPORTED : HOST_BLK_MEDIUM_ERROR);
}

bool vblk_poll(void)
{
    bool any = false;
    for (unsigned i = 0; i < disk_count; i++) {
        unsigned slot;
        uint32_t bytes;
        bool here = false;
        while (virtq_pop(&disks[i]->queue, &slot, &bytes)) {
            finish(disks[i], slot);
            here = true;
        }
        if (here)
            pump(disks[i]);
        any |= here;
    }
    return any;
}

void vblk_kick(void)
{
    for (unsigned i = 0; i < disk_count; i++)
        if (virtq_kick(&disks[i]->queue))
            lab_count(CNT_BLOCK_NOTIFIES);
}

/* The serial number given to QEMU (serial=...), else the number of the disk. Waits: before the guest runs. */
static void read_id(struct vblk *d, struct host_blk_info *info)
{
    struct host_blk_req none = {.op = HOST_BLK_READ};
    unsigned number, done;
    uint32_t bytes;
    char *text = (char *)d->slots[0] + offsetof(struct slot, table) + 64 * sizeof(struct virtq_desc);
    struct slot *s = slot_take(d, &none, &number);
    s->table[1] = (struct virtq_desc){.address = dma_address(text), .bytes = ID_BYTES};
    memset(text, 0, ID_BYTES);
    slot_give(d, s, number, T_GET_ID, 0, 1);
    virtq_kick(&d->queue);
    bool came = false;
    for (unsigned spin = 0; spin < ID_SPINS && !came; spin++)
        came = virtq_pop(&d->queue, &done, &bytes);
    if (!came)
        panic("virtio disk: the first request was never answered");
    s->request = NULL;
    d->free[d->free_count++] = (uint16_t)number;
    memset(info->id, 0, sizeof(info->id));
    if (s->status == S_OK && text[0])
        memcpy(info->id, text, strnlen(text, sizeof(info->id)));
    else
        ksnprintf((char *)info->id, sizeof(info->id), "LAB-DISK-%04u", lab_disk_count);
}

void vblk_attach(const struct virtio *found)
{
    struct vblk *d = kzalloc(sizeof(*d));
    if (!d || disk_count == LAB_MAX_DISKS || lab_disk_count == LAB_MAX_DISKS) {
        log_err("%s: no room for another disk", found->place);
        return;
    }
    d->dev = *found;
    if (virtio_open(&d->dev, F_SEG_MAX | F_RO | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_DISCARD | F_WRITE_ZEROES |
                    VIRTIO_F_INDIRECT) || virtio_queue(&d->dev, &d->queue, 0, MAX_SLOTS))
        return;
    if (!(d->dev.features & VIRTIO_F_INDIRECT)) {
        log_err("%s: the disk has no indirect descriptors", found->place);
        return;
    }
    for (unsigned i = 0; i < d->queue.size; i += 2) {
        paddr_t page = page_alloc_zeroed(0);
        if (pa_is_none(page))
            panic("no memory for the slots of a disk");
        d->slots[i] = arch_phys_to_virt(page);
        d->slots[i + 1] = (struct slot *)(void *)((char *)d->slots[i] + 2048);
    }
    for (unsigned i = d->queue.size; i > 0; i--)
        d->free[d->free_count++] = (uint16_t)(i - 1);
    virtio_start(&d->dev);

    uint64_t features = d->dev.features;
    d->seg_max = features & F_SEG_MAX ? MIN(cfg32(&d->dev, CFG_SEG_MAX), MAX_SEGS) : 1;
    uint32_t sector_bytes = features & F_BLK_SIZE ? cfg32(&d->dev, CFG_BLK_SIZE) : 512;
    while (512u << d->sector_shift < sector_bytes)
        d->sector_shift++;
    d->max_zeroes = features & F_WRITE_ZEROES ? cfg32(&d->dev, CFG_MAX_ZEROES) : 0;
    d->unmaps = d->max_zeroes != 0 && (features & F_DISCARD);
    uint64_t capacity = cfg32(&d->dev, CFG_CAPACITY) | (uint64_t)cfg32(&d->dev, CFG_CAPACITY + 4) << 32;

    struct lab_disk *l = &lab_disks[lab_disk_count];
    l->ops = &vblk_ops;
    l->backend = d;
    l->info = (struct host_blk_info){
        .sector_bytes = sector_bytes, .physical_exponent = features & F_TOPOLOGY ? cfg8(&d->dev, CFG_PHYS_EXP) : 0,
        .sectors = capacity >> d->sector_shift, .read_only = (features & F_RO) != 0,
        .supports_unmap = d->unmaps, .write_cache = (features & F_FLUSH) != 0, .supports_fua = true};
    read_id(d, &l->info);
    disks[disk_count++] = d;
    log_info("disk %u: %s, %llu sectors of %u bytes%s, id \"%.16s\"", lab_disk_count, found->place,
             (unsigned long long)l->info.sectors, sector_bytes, l->info.read_only ? ", read-only" : "",
             (const char *)l->info.id);
    lab_disk_count++;
}
