/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which units a controller has. Runs in tasks: at probe, and again when the host says that units came or went, when a
 * unit's capacity changed, when a request met a unit that is gone.
 *
 * A disk is dropped only when the host said that it is not there, or that another is in its place. Commands that
 * failed for other reasons, and a scan that could not be finished (time-out, controller gone), drop nothing.
 */
#define LOG_ROOM "storvsc"
#include <string.h>
#include "drivers/storvsc.h"

#define WRITE_SAME_BYTES  (8u * 1024 * 1024)       /* when the disk tells no limit: what known hosts take */
#define PROBED_LUNS       UINT64_MAX               /* of a host that can't list them: its 64 positions */
#define SCAN_ATTEMPTS     3                        /* of a unit's questions, and of a scan that ran into a limit */

static void unit_released(struct blk_device *d)
{
    struct storvsc_unit *unit = d->driver;
    struct storvsc *s = unit->controller;

    kfree(unit);
    storvsc_release(s);
}

static void apply(struct storvsc *s, struct blk_device *d, const struct storvsc_facts *f)
{
    d->max_transfer_bytes = s->max_transfer_bytes;
    if (f->max_transfer_blocks && f->max_transfer_blocks < d->max_transfer_bytes / f->sector_bytes)
        d->max_transfer_bytes = f->max_transfer_blocks * f->sector_bytes;
    d->sector_bytes = f->sector_bytes;
    d->physical_sector_bytes = f->physical_bytes;
    d->sectors = f->sectors;
    d->removable = f->removable;
    d->read_only = f->read_only;
    d->has_fua = f->fua;
    d->has_flush = true;
    d->has_discard = f->thin && f->unmap && f->max_unmap_blocks && s->parameters;
    d->max_discard_sectors = d->has_discard ? f->max_unmap_blocks : 0;
    d->discard_granularity_sectors = d->has_discard ? MAX(f->unmap_granularity, 1u) : 0;
    /* Hosts before 6.2 have no WRITE SAME whatever their pages say. */
    d->has_write_zeroes = s->version >= VSTOR_VERSION_WIN10 && (f->max_write_same_blocks || f->write_same);
    if (d->has_write_zeroes)
        d->max_write_zeroes_sectors = f->max_write_same_blocks ? (uint32_t)MIN(f->max_write_same_blocks, UINT32_MAX)
                                                               : WRITE_SAME_BYTES / f->sector_bytes;
}

static int add_unit(struct storvsc *s, struct storvsc_place at, const struct storvsc_facts *f)
{
    struct storvsc_unit *unit = kzalloc(sizeof(*unit));
    int e;

    if (!unit)
        return -E_NOMEM;
    if (f->unmap && !s->parameters) {
        s->parameters = kmalloc(STORVSC_SLOTS * STORVSC_PARAMETER_BYTES);
        if (!s->parameters)
            log_warn_some("%s: no memory for UNMAP, done without", s->name);
    }
    unit->controller = s;
    unit->path = at.path;
    unit->target = at.target;
    unit->lun = at.lun;
    unit->seen = true;
    unit->write_same_unmaps = f->write_same && f->unmapped_reads_zero;
    unit->id_bytes = f->id_bytes;
    memcpy(unit->id, f->id, sizeof(unit->id));
    memcpy(unit->disk.description, f->description, sizeof(unit->disk.description));
    apply(s, &unit->disk, f);
    unit->disk.ops = &storvsc_blk_ops;
    unit->disk.driver = unit;
    list_push_back(&s->units, &unit->node);
    s->references++;
    e = blk_register(&unit->disk, unit_released);
    if (e) {
        list_remove(&unit->node);
        s->references--;
        kfree(unit);
    }
    return e;
}

static void drop_unit(struct storvsc *s, struct storvsc_unit *unit)
{
    /* Its requests end first or with it: what is queued now, what is at the host by the host's answer. */
    blk_ref(&unit->disk);
    list_remove(&unit->node);
    blk_unregister(&unit->disk);
    if (!s->closing)
        storvsc_fail_queued(s, unit, -E_REMOVED);
    blk_put(&unit->disk);
}

void storvsc_drop_units(struct storvsc *s)
{
    struct list *node;

    while ((node = s->units.next) != &s->units)
        drop_unit(s, list_entry(node, struct storvsc_unit, node));
}

static struct storvsc_unit *find_unit(struct storvsc *s, struct storvsc_place at)
{
    list_for_each(pos, &s->units) {
        struct storvsc_unit *unit = list_entry(pos, struct storvsc_unit, node);
        if (unit->path == at.path && unit->target == at.target && unit->lun == at.lun)
            return unit;
    }
    return NULL;
}

static bool same_disk(const struct storvsc_unit *unit, const struct storvsc_facts *f)
{
    if (unit->disk.sector_bytes != f->sector_bytes)
        return false;
    /* A name that could not be read this time says nothing. */
    return unit->id_bytes == 0 || f->id_bytes == 0 ||
           (unit->id_bytes == f->id_bytes && memcmp(unit->id, f->id, f->id_bytes) == 0);
}

/* The commands failed, which says nothing about what is there. */
static bool failed(int e)
{
    return e == -E_IO || e == -E_PROTO;
}

/* 0, or the controller's trouble. */
static int scan_unit(struct storvsc *s, struct storvsc_place at)
{
    struct storvsc_unit *unit = find_unit(s, at);
    struct storvsc_facts f;
    int e = -E_IO;

    for (unsigned attempt = 0; failed(e) && attempt < SCAN_ATTEMPTS; attempt++) {
        memset(&f, 0, sizeof(f));
        e = storvsc_learn(s, at, &f);
    }
    if (storvsc_scan_over(e) || s->closing)
        return e ? e : -E_REMOVED;
    if (failed(e)) {
        log_warn_some("%s: unit %u:%u:%u does not tell what it is: %s", s->name, at.path, at.target, at.lun,
                      error_name(e));
        if (unit)
            unit->seen = true;
        return 0;
    }
    if (e)
        return 0;                        /* a unit that was known stays unseen and goes */
    if (unit && !same_disk(unit, &f)) {
        log_info_some("%s: another disk is at %u:%u:%u now", s->name, at.path, at.target, at.lun);
        drop_unit(s, unit);
        unit = NULL;
    }
    if (unit) {
        unit->seen = true;
        unit->disk.read_only = f.read_only;
        blk_capacity_changed(&unit->disk, f.sectors);
        return 0;
    }
    e = add_unit(s, at, &f);
    if (e)
        log_err_some("%s: unit %u:%u:%u not added: %s", s->name, at.path, at.target, at.lun, error_name(e));
    return 0;
}

static void keep_units(struct storvsc *s, uint8_t target)
{
    list_for_each(pos, &s->units) {
        struct storvsc_unit *unit = list_entry(pos, struct storvsc_unit, node);
        unit->seen |= unit->target == target;
    }
}

static int scan_target(struct storvsc *s, uint8_t target)
{
    uint64_t luns[STORVSC_LUNS / 64] = {0};
    int e = -E_IO;

    for (unsigned attempt = 0; failed(e) && attempt < SCAN_ATTEMPTS; attempt++)
        e = storvsc_list_luns(s, target, luns);
    if (storvsc_scan_over(e))
        return e;
    if (failed(e)) {
        log_warn_some("%s: target %u does not list its units: %s", s->name, target, error_name(e));
        keep_units(s, target);
        return 0;
    }
    if (e == -E_NOTSUP && target == 0)
        luns[0] = PROBED_LUNS;
    else if (e)
        return 0;
    for (unsigned lun = 0; lun < STORVSC_LUNS; lun++) {
        if (!(luns[lun / 64] & BIT(lun % 64)))
            continue;
        e = scan_unit(s, (struct storvsc_place){0, target, (uint8_t)lun});
        if (e)
            return e;
    }
    return 0;
}

static int scan_once(struct storvsc *s)
{
    list_for_each(pos, &s->units)
        list_entry(pos, struct storvsc_unit, node)->seen = false;
    for (uint8_t target = 0; target < STORVSC_TARGETS; target++) {
        int e = scan_target(s, target);
        if (e)
            return e;
    }
    list_for_each_safe(pos, &s->units) {
        struct storvsc_unit *unit = list_entry(pos, struct storvsc_unit, node);
        if (!unit->seen)
            drop_unit(s, unit);
    }
    return 0;
}

/* The caller has set scanning. */
static void scan_all(struct storvsc *s)
{
    unsigned attempt = 1;

    do {
        s->rescan = false;
        int e = scan_once(s);
        if (e == -E_TIMEOUT && attempt++ < SCAN_ATTEMPTS)
            s->rescan = true;
        else if (e && e != -E_REMOVED)
            log_err_some("%s: scan for disks given up: %s", s->name, error_name(e));
    } while (s->rescan && !s->closing);
    s->scanning = false;
    wait_queue_wake_all(&s->wait);
}

void storvsc_scan(struct storvsc *s)
{
    s->scanning = true;
    scan_all(s);
}

static void scan_task(void *arg)
{
    struct storvsc *s = arg;

    scan_all(s);
    storvsc_release(s);
}

void storvsc_rescan(struct storvsc *s)
{
    s->rescan = true;
    if (s->scanning || s->closing)
        return;
    s->scanning = true;
    s->references++;
    if (!task_spawn("scsi scan", scan_task, s, 0)) {
        log_err_some("%s: no memory to look for disks that came or went", s->name);
        s->scanning = false;
        s->references--;
    }
}
