/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The commands that tell what a unit is and can do. In tasks only.
 *
 * What the host answers is copied out of the data page before it is looked at.
 */
#define LOG_ROOM "storvsc"
#include <string.h>
#include "drivers/storvsc.h"

#define SCAN_DATA_BYTES   (8 + 8 * STORVSC_LUNS)   /* REPORT LUNS has the longest answer */
#define SCAN_PAUSE_MS     100

_Static_assert(SCAN_DATA_BYTES <= 4096, "an answer fits the data page");

/* ---- one command ---- */

static int outcome(const struct vstor_srb *srb, struct scsi_sense_info *sense)
{
    uint8_t status = srb->srb_status & SRB_STATUS_MASK;

    *sense = (struct scsi_sense_info){0};
    if (srb->scsi_status == SCSI_STATUS_CHECK_CONDITION && (srb->srb_status & SRB_STATUS_AUTOSENSE_VALID))
        *sense = scsi_sense_decode(srb->sense, MIN(srb->sense_bytes, VSTOR_SENSE_MAX));
    if (sense->valid) {
        if (sense->key == SCSI_KEY_UNIT_ATTENTION || sense->key == SCSI_KEY_ABORTED_COMMAND || sense->code == 0x0401)
            return -E_AGAIN;
        if ((sense->code >> 8) == (SCSI_ASC_NO_MEDIUM >> 8))
            return -E_BUSY;
        if (sense->code == SCSI_ASC_LUN_NOT_SUPPORTED)
            return -E_NOENT;
        if (sense->key == SCSI_KEY_ILLEGAL_REQUEST)
            return -E_NOTSUP;
        return sense->key <= SCSI_KEY_RECOVERED_ERROR ? 0 : -E_IO;
    }
    switch (status) {
    case SRB_STATUS_SUCCESS:
    case SRB_STATUS_DATA_OVERRUN:                  /* said for short transfers too: the count tells */
        break;
    case SRB_STATUS_INVALID_LUN:
    case SRB_STATUS_INVALID_TARGET_ID:
    case SRB_STATUS_INVALID_PATH_ID:
    case SRB_STATUS_NO_DEVICE:
        return -E_NOENT;
    case SRB_STATUS_BUSY:
    case SRB_STATUS_BUS_RESET:
    case SRB_STATUS_REQUEST_FLUSHED:
        return -E_AGAIN;
    case SRB_STATUS_INVALID_REQUEST:
    case SRB_STATUS_BAD_FUNCTION:
        return -E_NOTSUP;
    default:
        return -E_IO;
    }
    if (srb->scsi_status == SCSI_STATUS_BUSY || srb->scsi_status == SCSI_STATUS_TASK_SET_FULL)
        return -E_AGAIN;
    return srb->scsi_status == SCSI_STATUS_GOOD ? 0 : -E_IO;
}

/*
 * Runs one command that reads. data gets what the unit sent, the rest of its bytes zero; *got is how much that was.
 * Transient states are waited out. 0; -E_NOENT no such unit; -E_NOTSUP refused as unknown; -E_BUSY not ready (no
 * medium); -E_IO; -E_TIMEOUT, -E_REMOVED, -E_NOMEM: the controller is in trouble, give up the scan.
 */
static int run(struct storvsc *s, struct storvsc_place at, const uint8_t *cdb, unsigned cdb_bytes, void *data,
               uint32_t bytes, uint32_t *got, struct scsi_sense_info *sense)
{
    struct storvsc_command c;
    int e;

    for (unsigned attempt = 0;; attempt++) {
        struct vstor_srb *srb = &c.packet.srb;

        memset(&c, 0, sizeof(c));
        c.packet.operation = VSTOR_OP_EXECUTE_SRB;
        c.data_bytes = bytes;
        srb->length = s->srb_bytes;
        srb->path_id = at.path;
        srb->target_id = at.target;
        srb->lun = at.lun;
        srb->cdb_bytes = (uint8_t)cdb_bytes;
        srb->sense_bytes = s->sense_bytes;
        srb->data_direction = bytes ? VSTOR_DATA_FROM_DEVICE : VSTOR_DATA_NONE;
        srb->data_bytes = bytes;
        srb->srb_flags = SRB_FLAG_DISABLE_SYNCH_TRANSFER | (bytes ? SRB_FLAG_DATA_IN : 0);
        srb->timeout_s = STORVSC_COMMAND_LIMIT_US / 1000000;
        memcpy(srb->cdb, cdb, cdb_bytes);
        e = storvsc_exchange(s, &c, STORVSC_COMMAND_LIMIT_US);
        if (e)
            return e;
        e = outcome(srb, sense);
        if (e != -E_AGAIN || attempt == STORVSC_ATTEMPTS)
            break;
        if (sense->key != SCSI_KEY_UNIT_ATTENTION)
            task_sleep_us(SCAN_PAUSE_MS * 1000);
    }
    if (e == -E_AGAIN)
        e = -E_IO;
    *got = 0;
    if (bytes) {
        *got = MIN(c.packet.srb.data_bytes, bytes);
        memset(data, 0, bytes);
        memcpy(data, s->data_page, *got);
    }
    return e;
}

bool storvsc_scan_over(int e)
{
    return e == -E_TIMEOUT || e == -E_REMOVED || e == -E_NOMEM;
}

/* ---- what a unit is ---- */

/* 0: a disk. -E_NOENT: nothing there. -E_NOTSUP: something else. */
static int inquire(struct storvsc *s, struct storvsc_place at, struct storvsc_facts *f)
{
    /* 36 bytes and no more: some hosts answer nothing longer. */
    union { struct scsi_inquiry q; uint8_t bytes[SCSI_INQUIRY_MIN]; } answer;
    char vendor[9], product[17], revision[5];
    uint8_t cdb[SCSI_CDB_BYTES] = {0};
    struct scsi_sense_info sense;
    uint32_t got;
    int e = run(s, at, cdb, scsi_cdb_inquiry(cdb, false, 0, SCSI_INQUIRY_MIN), &answer, SCSI_INQUIRY_MIN, &got, &sense);

    if (e)
        return e == -E_NOTSUP || e == -E_BUSY ? -E_NOENT : e;
    /* The type too: some hosts give a wrong qualifier for what is absent. */
    if (got < 5 || (answer.q.peripheral >> 5) != 0 || (answer.q.peripheral & SCSI_TYPE_MASK) == SCSI_TYPE_NONE)
        return -E_NOENT;
    scsi_field_text(vendor, sizeof(vendor), answer.q.vendor, sizeof(answer.q.vendor));
    scsi_field_text(product, sizeof(product), answer.q.product, sizeof(answer.q.product));
    scsi_field_text(revision, sizeof(revision), answer.q.revision, sizeof(answer.q.revision));
    ksnprintf(f->description, sizeof(f->description), "%s %s %s %s %u:%u:%u", vendor, product, revision, s->name,
              at.path, at.target, at.lun);
    f->removable = answer.q.removable & 0x80;
    return (answer.q.peripheral & SCSI_TYPE_MASK) == SCSI_TYPE_DISK ? 0 : -E_NOTSUP;
}

/* A page of vital product data into page[room], zero filled. False when the unit does not have it. */
static int vital_page(struct storvsc *s, struct storvsc_place at, uint8_t number, void *page, uint32_t room)
{
    uint8_t cdb[SCSI_CDB_BYTES] = {0};
    struct scsi_sense_info sense;
    uint32_t got, length;
    struct scsi_vpd_header *header = page;
    int e = run(s, at, cdb, scsi_cdb_inquiry(cdb, true, number, (uint16_t)room), page, room, &got, &sense);

    if (e)
        return e;
    if (got < sizeof(*header) || header->page != number)
        return -E_NOTSUP;
    length = MIN((uint32_t)scsi_get_be16(header->length) + (uint32_t)sizeof(*header), got);
    memset((char *)page + length, 0, room - length);
    return 0;
}

static int read_identity(struct storvsc *s, struct storvsc_place at, struct storvsc_facts *f)
{
    uint8_t page[255];
    int e = vital_page(s, at, SCSI_VPD_IDENTIFICATION, page, sizeof(page));
    unsigned length, off = sizeof(struct scsi_vpd_header);
    uint8_t best = 0;

    if (e)
        return storvsc_scan_over(e) ? e : 0;
    length = MIN((unsigned)scsi_get_be16(page + 2) + off, (unsigned)sizeof(page));
    while (sizeof(struct scsi_designator) <= length - off) {
        const struct scsi_designator *d = (const struct scsi_designator *)(page + off);
        unsigned n = d->length;
        uint8_t type = d->type & 0x0F;

        off += sizeof(*d);
        if (n > length - off)
            break;
        /* The NAA name is the disk's own; T10's is the next best. */
        if (n > 0 && (type == SCSI_DESIGNATOR_NAA || (type == SCSI_DESIGNATOR_T10 && best != SCSI_DESIGNATOR_NAA))) {
            best = type;
            f->id_bytes = (uint8_t)MIN(n, (unsigned)sizeof(f->id));
            memcpy(f->id, d->data, f->id_bytes);
        }
        off += n;
    }
    return 0;
}

static int read_capacity(struct storvsc *s, struct storvsc_place at, struct storvsc_facts *f)
{
    struct scsi_capacity_16 c16;
    struct scsi_capacity_10 c10;
    uint8_t cdb[SCSI_CDB_BYTES] = {0};
    struct scsi_sense_info sense;
    uint64_t last;
    uint32_t got;
    int e = run(s, at, cdb, scsi_cdb_read_capacity_16(cdb, sizeof(c16)), &c16, sizeof(c16), &got, &sense);

    if (e == 0 && got >= 12) {
        uint16_t alignment = scsi_get_be16(c16.alignment);
        unsigned exponent = c16.exponent & 0x0F;
        last = scsi_get_be64(c16.last_lba);
        f->sector_bytes = scsi_get_be32(c16.block_bytes);
        f->physical_bytes = exponent < 12 ? f->sector_bytes << exponent : f->sector_bytes;
        f->thin = alignment & SCSI_CAPACITY_LBPME;
        f->unmapped_reads_zero = alignment & SCSI_CAPACITY_LBPRZ;
    } else {
        if (storvsc_scan_over(e) || e == -E_NOENT || e == -E_BUSY)
            return e;
        memset(cdb, 0, sizeof(cdb));
        e = run(s, at, cdb, scsi_cdb_read_capacity_10(cdb), &c10, sizeof(c10), &got, &sense);
        if (e)
            return e;
        if (got < sizeof(c10))
            return -E_PROTO;
        last = scsi_get_be32(c10.last_lba);
        f->sector_bytes = f->physical_bytes = scsi_get_be32(c10.block_bytes);
        if (last == UINT32_MAX) {
            log_warn_some("%s %u:%u:%u: larger than READ CAPACITY(10) can say, and (16) is refused", s->name, at.path,
                          at.target, at.lun);
            return -E_NOTSUP;
        }
    }
    if ((f->sector_bytes != 512 && f->sector_bytes != 4096) || last >= UINT64_MAX / f->sector_bytes) {
        log_warn_some("%s %u:%u:%u: %llu sectors of %u bytes: only 512 and 4096 are served", s->name, at.path,
                      at.target,
                      at.lun, (unsigned long long)last + 1, f->sector_bytes);
        return -E_NOTSUP;
    }
    f->sectors = last + 1;
    return 0;
}

/* Write protection and FUA. A unit that refuses the command is taken as writable and without FUA. */
static int read_mode(struct storvsc *s, struct storvsc_place at, struct storvsc_facts *f)
{
    uint8_t data[64];
    uint8_t cdb[SCSI_CDB_BYTES] = {0};
    struct scsi_sense_info sense;
    uint32_t got;
    uint8_t specific = 0;
    unsigned n = scsi_cdb_mode_sense_6(cdb, SCSI_MODE_PAGE_CACHING, sizeof(data));
    int e = run(s, at, cdb, n, data, sizeof(data), &got, &sense);

    if (e == 0 && got >= sizeof(struct scsi_mode_header_6)) {
        specific = ((const struct scsi_mode_header_6 *)data)->device_specific;
    } else if (!storvsc_scan_over(e)) {
        memset(cdb, 0, sizeof(cdb));
        n = scsi_cdb_mode_sense_10(cdb, SCSI_MODE_PAGE_CACHING, sizeof(data));
        e = run(s, at, cdb, n, data, sizeof(data), &got, &sense);
        if (e == 0 && got >= sizeof(struct scsi_mode_header_10))
            specific = ((const struct scsi_mode_header_10 *)data)->device_specific;
    }
    f->read_only = specific & SCSI_MODE_WRITE_PROTECT;
    f->fua = specific & SCSI_MODE_DPOFUA;
    return storvsc_scan_over(e) ? e : 0;
}

static int read_limits(struct storvsc *s, struct storvsc_place at, struct storvsc_facts *f)
{
    union { struct scsi_vpd_header header; uint8_t bytes[64]; } list;
    struct scsi_vpd_block_limits limits;
    struct scsi_vpd_provisioning provisioning;
    unsigned pages;
    int e = vital_page(s, at, SCSI_VPD_SUPPORTED, &list, sizeof(list));

    if (e)
        return storvsc_scan_over(e) ? e : 0;
    pages = MIN((unsigned)scsi_get_be16(list.header.length), (unsigned)(sizeof(list) - sizeof(list.header)));
    for (unsigned i = 0; i < pages && !storvsc_scan_over(e); i++) {
        uint8_t page = list.bytes[sizeof(list.header) + i];
        if (page == SCSI_VPD_IDENTIFICATION) {
            e = read_identity(s, at, f);
        } else if (page == SCSI_VPD_BLOCK_LIMITS) {
            e = vital_page(s, at, page, &limits, sizeof(limits));
            if (e)
                continue;
            f->max_transfer_blocks = scsi_get_be32(limits.max_transfer);
            if (scsi_get_be32(limits.max_unmap_descriptors) > 0)
                f->max_unmap_blocks = scsi_get_be32(limits.max_unmap_blocks);
            f->unmap_granularity = scsi_get_be32(limits.unmap_granularity);
            f->max_write_same_blocks = scsi_get_be64(limits.max_write_same);
        } else if (page == SCSI_VPD_PROVISIONING) {
            e = vital_page(s, at, page, &provisioning, sizeof(provisioning));
            if (e)
                continue;
            f->unmap = provisioning.flags & SCSI_PROVISIONING_UNMAP;
            f->write_same = provisioning.flags & SCSI_PROVISIONING_WRITE_SAME_16;
            f->unmapped_reads_zero |= (provisioning.flags & SCSI_PROVISIONING_READS_ZERO) != 0;
        }
    }
    return storvsc_scan_over(e) ? e : 0;
}

/* Everything the commands tell. 0, or as run() and -E_NOTSUP for what we don't serve. */
int storvsc_learn(struct storvsc *s, struct storvsc_place at, struct storvsc_facts *f)
{
    uint8_t cdb[SCSI_CDB_BYTES] = {SCSI_TEST_UNIT_READY};
    struct scsi_sense_info sense;
    uint32_t got;
    int e = inquire(s, at, f);

    if (e == -E_NOTSUP)
        log_info_some("%s: %s: not a disk, left alone", s->name, f->description);
    if (e)
        return e;
    e = run(s, at, cdb, sizeof(struct scsi_cdb_mode_sense_6), NULL, 0, &got, &sense);
    if (e == -E_BUSY) {
        char words[96];
        scsi_sense_text(&sense, words, sizeof(words));
        log_info_some("%s: %s: not ready: %s", s->name, f->description, words);
        return -E_BUSY;
    }
    if (e && e != -E_NOTSUP)
        return e;
    e = read_capacity(s, at, f);
    if (e == 0)
        e = read_mode(s, at, f);
    if (e == 0)
        e = read_limits(s, at, f);
    return e;
}

/* Sets a bit for each LUN of the target. -E_NOTSUP: the host can't list them. */
int storvsc_list_luns(struct storvsc *s, uint8_t target, uint64_t luns[STORVSC_LUNS / 64])
{
    union { struct scsi_lun_list list; uint8_t bytes[SCAN_DATA_BYTES]; } *answer = kmalloc(sizeof(*answer));
    uint8_t cdb[SCSI_CDB_BYTES] = {0};
    struct scsi_sense_info sense;
    uint32_t got, room, n, beyond = 0;
    int e;

    if (!answer)
        return -E_NOMEM;
    n = scsi_cdb_report_luns(cdb, sizeof(*answer));
    e = run(s, (struct storvsc_place){0, target, 0}, cdb, n, answer, sizeof(*answer), &got, &sense);
    room = got > sizeof(answer->list) ? got - (uint32_t)sizeof(answer->list) : 0;
    n = MIN(scsi_get_be32(answer->list.length), room) / 8;
    for (uint32_t i = 0; e == 0 && i < n; i++) {
        const uint8_t *entry = answer->list.entries[i];
        unsigned method = entry[0] >> 6, lun = ((entry[0] & 0x3Fu) << 8) | entry[1];
        /* SAM-4 4.6: peripheral (0) and flat (1) addressing; what the protocol's byte can't name is out of reach. */
        if (method <= 1 && lun < STORVSC_LUNS)
            luns[lun / 64] |= BIT(lun % 64);
        else if (beyond++ == 0)
            log_warn_some("%s: a unit at LUN %u (method %u) can't be addressed", s->name, lun, method);
    }
    if (beyond > 1)
        log_warn_some("%s: %u such units at target %u", s->name, beyond, target);
    kfree(answer);
    return e;
}
