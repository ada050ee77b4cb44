/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt drivers fake_arch */
/*
 * storvsc against hosts that the model is too well-behaved to be: old ones, odd ones, busy ones, and one that answers
 * every command with random bytes. The bus is this file: it defines the functions of vmbus/vmbus.h that drivers call.
 */
#include "drivers/drivers.h"
#include "drivers/storvsc.h"
#include "mm/internal.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/child.h"
#include "tests/unit/test.h"

/* ---- the bus ---- */

struct vmbus_channel { int unused; };
struct queued { struct vmbus_packet p; uint8_t payload[VSTOR_PACKET_BYTES]; };

static struct vmbus_channel channel;
static struct vmbus_driver *driver;
static void *driver_data, *callback_arg;
static void (*readable)(void *arg), (*writable)(void *arg);
static struct queued answers[1024];
static unsigned answers_in, answers_out;
static bool rescinded, is_open;
static struct rt_event answer_event;
static uint32_t ring_left = UINT32_MAX;          /* packets that still fit */

static void host_answer(const struct vstor_packet *request, uint8_t *data, uint32_t bytes, struct vstor_packet *answer);
static void host_announce(uint32_t operation, bool answered);

static void deliver(void *arg)
{
    (void)arg;
    if (is_open && readable)
        readable(callback_arg);
}

void vmbus_register_driver(struct vmbus_driver *d) { driver = d; }
void *vmbus_driver_data(struct vmbus_channel *ch UNUSED) { return driver_data; }
void vmbus_set_driver_data(struct vmbus_channel *ch UNUSED, void *data) { driver_data = data; }
const char *vmbus_channel_name(const struct vmbus_channel *ch UNUSED) { return "scsi 1"; }
bool vmbus_channel_rescinded(const struct vmbus_channel *ch UNUSED) { return rescinded; }
void vmbus_dump_channel(const struct vmbus_channel *ch UNUSED) { }
void vmbus_kick(struct vmbus_channel *ch UNUSED) { event_raise(&answer_event); }

int vmbus_open(struct vmbus_channel *ch UNUSED, uint32_t send_bytes UNUSED, uint32_t recv_bytes UNUSED,
               const void *user_data UNUSED, uint32_t user_bytes UNUSED, void (*on_readable)(void *arg),
               void (*on_writable)(void *arg), void *arg)
{
    readable = on_readable;
    writable = on_writable;
    callback_arg = arg;
    answer_event = (struct rt_event)RT_EVENT_INIT(deliver, NULL);
    is_open = true;
    host_announce(0, false);
    return 0;
}

bool vmbus_close(struct vmbus_channel *ch UNUSED)
{
    is_open = false;
    event_cancel(&answer_event);
    return true;
}

static int packet(const void *payload, uint32_t bytes, uint8_t *data, uint32_t data_bytes, uint64_t id)
{
    struct vstor_packet request = {0}, answer;
    struct queued *q;

    if (ring_left == 0)
        return -E_AGAIN;
    ring_left -= ring_left != UINT32_MAX;
    memcpy(&request, payload, bytes);
    host_announce(request.operation, false);
    if (answers_in - answers_out == ARRAY_SIZE(answers))
        abort();
    q = &answers[answers_in % ARRAY_SIZE(answers)];
    answer = request;
    answer.operation = VSTOR_OP_COMPLETE_IO;
    answer.flags = 0;
    host_answer(&request, data, data_bytes, &answer);
    memcpy(q->payload, &answer, bytes);
    q->p = (struct vmbus_packet){.type = VMBUS_PACKET_COMPLETION, .transaction_id = id, .payload = q->payload,
                                 .payload_bytes = bytes};
    answers_in++;
    host_announce(request.operation, true);
    return 0;
}

int vmbus_send(struct vmbus_channel *ch UNUSED, const struct vmbus_piece *pieces, unsigned count, uint64_t id,
               bool completion)
{
    if (count != 1 || !completion)
        abort();
    return packet(pieces[0].data, pieces[0].bytes, NULL, 0, id);
}

/* All buffers here are one page or physically contiguous, so the first frame tells where the data is. */
int vmbus_send_gpa(struct vmbus_channel *ch UNUSED, const struct vmbus_gpa_range *ranges, unsigned count,
                   const void *payload, uint32_t bytes, uint64_t id)
{
    if (count != 1)
        abort();
    return packet(payload, bytes, (uint8_t *)fake_phys(ranges[0].frames[0] << PAGE_SHIFT) + ranges[0].offset,
                  ranges[0].bytes, id);
}

const struct vmbus_packet *vmbus_recv(struct vmbus_channel *ch UNUSED)
{
    return answers_out == answers_in ? NULL : &answers[answers_out++ % ARRAY_SIZE(answers)].p;
}

/* ---- the host ---- */

static struct {
    uint16_t version;
    uint32_t max_transfer;
    bool no_capacity_16, capacity_10_full, no_mode_6, no_mode, no_report_luns, no_vpd, short_inquiry;
    bool descriptor_sense, no_medium, refuse_unmap, refuse_write_same, random;
    uint8_t type, device_specific;
    uint32_t sector_bytes;
    uint64_t sectors;
    unsigned attentions, busies, becoming_ready, deferred;   /* how many more commands get that */
    uint8_t deferred_key;
    uint8_t busy_scsi, busy_srb;
    uint8_t luns[8];
    unsigned lun_count;
    uint8_t only_target;                                 /* 0xFF: all targets answer alike */
    uint16_t sense_code;                                 /* of transfers, with sense_key; 0: they succeed */
    uint8_t sense_key;
    unsigned short_by;                                   /* transfers move less than asked */
    /* The host says that units came or went: before or after its answer to that operation, 0: at once. */
    bool announces, announces_after;
    uint32_t announces_at, refuses;                      /* the operation that is answered with failure; 0: none */
} h;
static uint8_t disk[1 << 20];
static unsigned seen[256], commands;
static uint64_t random_state = 0xD1B54A32D192ED03ull;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void sense(struct vstor_srb *a, uint8_t key, uint16_t code)
{
    memset(a->sense, 0, sizeof(a->sense));
    if (h.descriptor_sense) {
        a->sense[0] = 0x72;
        a->sense[1] = key;
        a->sense[2] = (uint8_t)(code >> 8);
        a->sense[3] = (uint8_t)code;
    } else {
        a->sense[0] = 0x70;
        a->sense[2] = key;
        a->sense[7] = 10;
        a->sense[12] = (uint8_t)(code >> 8);
        a->sense[13] = (uint8_t)code;
    }
    a->srb_status = SRB_STATUS_ERROR | SRB_STATUS_AUTOSENSE_VALID;
    a->scsi_status = SCSI_STATUS_CHECK_CONDITION;
    a->sense_bytes = 18;
    a->data_bytes = 0;
}

static void reply(struct vstor_srb *a, uint8_t *data, uint32_t room, const void *from, uint32_t bytes)
{
    uint32_t n = MIN(room, bytes);

    memcpy(data, from, n);
    a->data_bytes = n;
    if (bytes < room)
        a->srb_status = SRB_STATUS_DATA_OVERRUN;         /* as hosts say of short answers */
}

static void inquiry(const struct vstor_srb *r, uint8_t *data, uint32_t room, struct vstor_srb *a)
{
    uint8_t d[96] = {h.type, 0, 5, 2, 91, 0, 0, 2};
    uint8_t limits[64] = {0, 0xB0, 0, 60}, provisioning[8] = {0, 0xB2, 0, 4, 0, 0xE4, 2};

    memcpy(d + 8, "Test    Disk            7   ", 28);
    if (!(r->cdb[1] & 1)) {
        if (h.short_inquiry && room > 36)
            sense(a, 5, 0x2400);
        else
            reply(a, data, room, d, MIN(room, 96u));
        return;
    }
    if (h.no_vpd) {
        sense(a, 5, 0x2400);
        return;
    }
    scsi_put_be32(limits + 20, 1000);
    scsi_put_be32(limits + 24, 1);
    scsi_put_be32(limits + 28, 8);
    scsi_put_be64(limits + 36, 500);
    switch (r->cdb[2]) {
    case 0x00: reply(a, data, room, (uint8_t[]){0, 0, 0, 4, 0, 0x83, 0xB0, 0xB2}, 8); break;
    case 0x83: reply(a, data, room, (uint8_t[]){0, 0x83, 0, 8, 1, 3, 0, 4, 0x60, 0x22, 0x48, 7}, 12); break;
    case 0xB0: reply(a, data, room, limits, 64); break;
    case 0xB2: reply(a, data, room, provisioning, 8); break;
    default: sense(a, 5, 0x2400);
    }
}

static void transfer(const struct vstor_srb *r, uint8_t *data, uint32_t bytes, struct vstor_srb *a)
{
    bool ten = r->cdb[0] < 0x80, write = (r->cdb[0] & 0x0F) == 0x0A;
    uint64_t lba = ten ? scsi_get_be32(r->cdb + 2) : scsi_get_be64(r->cdb + 2);
    uint8_t *at = disk + lba * h.sector_bytes % sizeof(disk);

    if (h.sense_key) {
        sense(a, h.sense_key, h.sense_code);
        return;
    }
    bytes -= h.short_by;
    memcpy(write ? at : data, write ? data : at, bytes);
    a->data_bytes = bytes;
    if (h.short_by)
        a->srb_status = SRB_STATUS_DATA_OVERRUN;
}

static bool transient(struct vstor_srb *a)
{
    if (h.attentions) {
        h.attentions--;
        sense(a, 6, 0x2900);
        return true;
    }
    if (h.busies) {
        h.busies--;
        a->scsi_status = h.busy_scsi;
        a->srb_status = h.busy_srb;
        a->data_bytes = 0;
        return true;
    }
    if (h.deferred) {
        h.deferred--;
        sense(a, h.deferred_key, 0x0C00);
        a->sense[0]++;
        return true;
    }
    if (h.becoming_ready) {
        h.becoming_ready--;
        sense(a, 2, 0x0401);
        return true;
    }
    return false;
}

static bool lun_is_there(const struct vstor_srb *r)
{
    for (unsigned i = 0; i < h.lun_count; i++)
        if (h.luns[i] == r->lun && (h.only_target == 0xFF || h.only_target == r->target_id))
            return true;
    return false;
}

static void report_luns(const struct vstor_srb *r, uint8_t *data, uint32_t bytes, struct vstor_srb *a)
{
    uint8_t d[8 + 64] = {0};
    unsigned n = h.only_target == 0xFF || h.only_target == r->target_id ? h.lun_count : 0;

    if (h.no_report_luns) {
        sense(a, 5, 0x2000);
        return;
    }
    d[3] = (uint8_t)(8 * n);
    for (unsigned i = 0; i < n; i++)
        d[8 + i * 8 + 1] = h.luns[i];
    reply(a, data, bytes, d, 8 + 8 * n);
}

static void command(const struct vstor_srb *r, uint8_t *data, uint32_t bytes, struct vstor_srb *a)
{
    uint8_t c16[32] = {0}, c10[8];

    commands++;
    seen[r->cdb[0]]++;
    a->srb_status = SRB_STATUS_SUCCESS;
    a->scsi_status = 0;
    a->data_bytes = bytes;
    a->sense_bytes = 0;
    if (r->cdb[0] == SCSI_REPORT_LUNS) {
        report_luns(r, data, bytes, a);
        return;
    }
    if (!lun_is_there(r)) {
        a->srb_status = SRB_STATUS_INVALID_LUN;
        if (r->cdb[0] == SCSI_INQUIRY && !(r->cdb[1] & 1)) {
            memset(data, 0, bytes);
            data[0] = SCSI_QUALIFIER_ABSENT;
            a->srb_status = SRB_STATUS_SUCCESS;
        }
        return;
    }
    if (r->cdb[0] == SCSI_INQUIRY) {
        inquiry(r, data, bytes, a);
        return;
    }
    if (transient(a))
        return;
    scsi_put_be64(c16, h.sectors - 1);
    scsi_put_be32(c16 + 8, h.sector_bytes);
    c16[13] = 3;
    c16[14] = 0xC0;
    scsi_put_be32(c10, h.capacity_10_full || h.sectors > UINT32_MAX ? UINT32_MAX : (uint32_t)h.sectors - 1);
    scsi_put_be32(c10 + 4, h.sector_bytes);
    switch (r->cdb[0]) {
    case SCSI_TEST_UNIT_READY:
        if (h.no_medium)
            sense(a, 2, 0x3A01);
        break;
    case SCSI_SERVICE_ACTION_IN_16:
        if (h.no_capacity_16)
            sense(a, 5, 0x2000);
        else
            reply(a, data, bytes, c16, 32);
        break;
    case SCSI_READ_CAPACITY_10: reply(a, data, bytes, c10, 8); break;
    case SCSI_MODE_SENSE_6:
        if (h.no_mode_6 || h.no_mode)
            sense(a, 5, 0x2000);
        else
            reply(a, data, bytes, (uint8_t[]){3, 0, h.device_specific, 0}, 4);
        break;
    case SCSI_MODE_SENSE_10:
        if (h.no_mode)
            sense(a, 5, 0x2000);
        else
            reply(a, data, bytes, (uint8_t[]){0, 6, 0, h.device_specific, 0, 0, 0, 0}, 8);
        break;
    case SCSI_READ_10: case SCSI_READ_16: case SCSI_WRITE_10: case SCSI_WRITE_16: transfer(r, data, bytes, a); break;
    case SCSI_UNMAP:
        if (h.refuse_unmap)
            sense(a, 5, 0x2000);
        break;
    case SCSI_WRITE_SAME_16:
        if (h.refuse_write_same)
            sense(a, 5, 0x2400);
        else
            for (uint32_t i = 0; i < scsi_get_be32(r->cdb + 10); i++)
                memcpy(disk + (scsi_get_be64(r->cdb + 2) + i) * h.sector_bytes, data, h.sector_bytes);
        break;
    case SCSI_SYNCHRONIZE_CACHE_10: break;
    default: sense(a, 5, 0x2000);
    }
}

static void host_answer(const struct vstor_packet *request, uint8_t *data, uint32_t bytes, struct vstor_packet *answer)
{
    answer->status = h.refuses && request->operation == h.refuses ? NTSTATUS_FAILURE : NTSTATUS_SUCCESS;
    switch (request->operation) {
    case VSTOR_OP_QUERY_PROTOCOL_VERSION:
        if (request->version.version > h.version)
            answer->status = NTSTATUS_REVISION_MISMATCH;
        break;
    case VSTOR_OP_QUERY_PROPERTIES: answer->properties.max_transfer_bytes = h.max_transfer; break;
    case VSTOR_OP_EXECUTE_SRB:
        command(&request->srb, data, bytes, &answer->srb);
        if (!h.random)
            break;
        for (uint32_t i = 0; i < bytes; i++)
            data[i] = next_random() & 3 ? (uint8_t)(next_random() >> 40) : data[i];
        if (next_random() % 4 == 0)
            for (unsigned i = 0; i < sizeof(answer->srb); i++)
                ((uint8_t *)&answer->srb)[i] = (uint8_t)(next_random() >> 30);
        break;
    default: break;
    }
}

static void host_announce(uint32_t operation, bool answered)
{
    struct queued *q = &answers[answers_in % ARRAY_SIZE(answers)];
    struct vstor_packet told = {.operation = VSTOR_OP_ENUMERATE_BUS};

    if (!h.announces || operation != h.announces_at || answered != h.announces_after)
        return;
    memcpy(q->payload, &told, sizeof(told));
    q->p = (struct vmbus_packet){.type = VMBUS_PACKET_INBAND, .payload = q->payload, .payload_bytes = sizeof(told)};
    answers_in++;
    event_raise(&answer_event);
}

/* ---- tests ---- */

static struct blk_device *d;
static uint8_t *page;

static void prepare(void)
{
    fake_arch_boot(64 << 20);
    h.version = VSTOR_VERSION_WIN10;
    h.max_transfer = 262144;
    h.sector_bytes = 512;
    h.sectors = 2048;
    h.lun_count = 1;
    for (unsigned i = 0; i < sizeof(disk); i++)
        disk[i] = (uint8_t)(i * 3 + i / 777);
    page = arch_phys_to_virt(page_alloc(0));
}

static void probe(void)
{
    storvsc_register();
    int e = driver->probe(&channel);
    if (e)
        test_fail(__FILE__, __LINE__, "probe: %s", error_name(e));
    d = blk_get_index(0);
}

static void finish(void)
{
    if (d)
        blk_put(d);
    driver->remove(&channel);
    CHECK(!blk_get_index(0));
}

static void reads_and_writes(void)
{
    CHECK(d);
    unsigned n = 4096 / d->sector_bytes;
    CHECK_EQ(blk_read(d, 1, n, page), 0);
    CHECK(!memcmp(page, disk + d->sector_bytes, 4096));
    memset(page, 0x3C, 4096);
    CHECK_EQ(blk_write(d, 2, n, page, 0), 0);
    CHECK_EQ(disk[2 * d->sector_bytes + 4095], 0x3C);
    CHECK_EQ(blk_flush(d), 0);
}

TEST(a_plain_host)
{
    prepare();
    probe();
    reads_and_writes();
    CHECK(!strcmp(d->description, "Test Disk 7 scsi 1 0:0:0"));
    CHECK_EQ(d->physical_sector_bytes, 4096);
    CHECK(d->has_discard && d->max_discard_sectors == 1000 && d->discard_granularity_sectors == 8);
    CHECK(d->has_write_zeroes && d->max_write_zeroes_sectors == 500);
    finish();
}

/* Units are looked for when the handshake has ended well, whatever the host says before: a look at a controller that is
 * then given up would leave its disks behind. */
struct announcement { uint32_t at, refuses; bool after; };

static void announced(void *arg)
{
    const struct announcement *a = arg;
    struct mm_stats before, now;

    prepare();
    storvsc_register();
    heap_trim();
    mm_get_stats(&before);
    h.announces = true;
    h.announces_at = a->at;
    h.announces_after = a->after;
    h.refuses = a->refuses;
    int e = driver->probe(&channel);
    CHECK_EQ(e == 0, a->refuses == 0);
    task_sleep_us(3000000);
    d = blk_get_index(0);
    CHECK_EQ(d != NULL, e == 0);
    CHECK_EQ(commands > 0, e == 0);
    if (e == 0) {
        CHECK(!blk_get_index(1));
        reads_and_writes();
        finish();
    } else {
        heap_trim();
        mm_get_stats(&now);
        CHECK_EQ(now.heap_bytes, before.heap_bytes);
    }
    if (test_failures_here)
        fprintf(stderr, "  announced %s operation %u, %u refused\n", a->after ? "after" : "before", a->at, a->refuses);
}

TEST(units_that_come_during_the_handshake)
{
    static const uint32_t steps[] = {
        0, VSTOR_OP_BEGIN_INITIALIZATION, VSTOR_OP_QUERY_PROTOCOL_VERSION, VSTOR_OP_QUERY_PROPERTIES,
        VSTOR_OP_END_INITIALIZATION,
    };

    for (unsigned at = 0; at < ARRAY_SIZE(steps); at++)
        for (unsigned refused = 0; refused < ARRAY_SIZE(steps); refused++)
            for (unsigned after = 0; after < 2; after++) {
                struct announcement a = {steps[at], steps[refused], after};
                CHECK_EQ(in_child(announced, &a), FAKE_RETURNED);
            }
}

TEST(old_hosts_without_the_newer_commands)
{
    prepare();
    h.no_capacity_16 = h.no_vpd = h.no_mode_6 = h.short_inquiry = true;
    h.version = VSTOR_VERSION_WIN7;
    h.device_specific = SCSI_MODE_DPOFUA;
    probe();
    CHECK(d && d->sectors == 2048 && d->has_fua && !d->has_discard && !d->has_write_zeroes);
    CHECK_EQ(seen[SCSI_READ_CAPACITY_10], 1);
    CHECK_EQ(seen[SCSI_MODE_SENSE_10], 1);
    reads_and_writes();
    finish();
}

TEST(no_mode_sense_means_writable)
{
    prepare();
    h.no_mode = true;
    probe();
    CHECK(d && !d->read_only && !d->has_fua);
    finish();
}

TEST(write_protected)
{
    prepare();
    h.device_specific = SCSI_MODE_WRITE_PROTECT;
    probe();
    CHECK(d && d->read_only);
    finish();
}

TEST(larger_than_the_old_command_can_say)
{
    prepare();
    h.no_capacity_16 = h.capacity_10_full = true;
    probe();
    CHECK(!d);
    CHECK(fake_log_contains("larger than READ CAPACITY(10) can say"));
    finish();
}

TEST(sectors_that_are_not_served)
{
    prepare();
    h.sector_bytes = 2048;
    probe();
    CHECK(!d);
    CHECK(fake_log_contains("only 512 and 4096 are served"));
    finish();
}

TEST(not_a_disk)
{
    prepare();
    h.type = SCSI_TYPE_CDROM;
    probe();
    CHECK(!d);
    CHECK(fake_log_contains("not a disk, left alone"));
    finish();
}

TEST(no_medium_and_then_one)
{
    prepare();
    h.no_medium = true;
    probe();
    CHECK(!d);
    CHECK(fake_log_contains("not ready: not ready: no medium, tray closed (2/3A/01)"));
    h.no_medium = false;
    storvsc_rescan(driver_data);
    task_sleep_us(1000000);
    d = blk_get_index(0);
    reads_and_writes();
    /* Taken out again: the next request finds out. */
    h.sense_key = 2;
    h.sense_code = 0x3A02;
    h.no_medium = true;
    CHECK_EQ(blk_read(d, 0, 1, page), -E_REMOVED);
    task_sleep_us(1000000);
    CHECK(d->removed);
    finish();
}

TEST(a_host_that_cannot_list)
{
    prepare();
    h.no_report_luns = true;
    h.lun_count = 2;
    h.luns[1] = 63;
    probe();
    reads_and_writes();
    struct blk_device *other = blk_get_index(1);
    CHECK(other);
    blk_put(other);
    CHECK(!blk_get_index(2));
    finish();
}

TEST(attention_busy_and_becoming_ready_are_waited_out)
{
    prepare();
    h.attentions = 3;
    h.busies = 2;
    h.busy_scsi = SCSI_STATUS_BUSY;
    h.busy_srb = SRB_STATUS_SUCCESS;
    h.becoming_ready = 2;
    probe();
    reads_and_writes();
    h.attentions = 3;
    CHECK_EQ(blk_read(d, 1, 1, page), 0);
    CHECK(fake_log_contains("unit attention: power on or reset (6/29/00)"));
    CHECK(fake_log_contains("tried again"));
    h.busies = 4;
    CHECK_EQ(blk_read(d, 1, 1, page), 0);
    h.busies = 4;
    h.busy_scsi = SCSI_STATUS_TASK_SET_FULL;
    h.busy_srb = SRB_STATUS_ERROR;
    CHECK_EQ(blk_read(d, 1, 1, page), 0);
    h.busies = 4;
    h.busy_scsi = SCSI_STATUS_GOOD;
    h.busy_srb = SRB_STATUS_BUSY;
    CHECK_EQ(blk_read(d, 1, 1, page), 0);
    h.becoming_ready = 4;
    CHECK_EQ(blk_read(d, 1, 1, page), 0);
    /* For ever busy is not for ever. */
    unsigned before = commands;
    h.busies = 1000;
    CHECK_EQ(blk_read(d, 1, 1, page), -E_IO);
    CHECK_EQ(commands - before, STORVSC_ATTEMPTS + 1);
    h.busies = 0;
    h.attentions = 1000;
    CHECK_EQ(blk_read(d, 1, 1, page), -E_IO);
    h.attentions = 0;
    reads_and_writes();
    finish();
}

TEST(errors_are_told_apart)
{
    static const struct { uint8_t key; uint16_t code; int error; const char *text; } cases[] = {
        {3, 0x1100, -E_IO, "medium error: unrecovered read error (3/11/00)"},
        {4, 0x4400, -E_IO, "hardware error: internal failure (4/44/00)"},
        {5, 0x2100, -E_RANGE, "illegal request: block number out of range (5/21/00)"},
        {5, 0x2000, -E_NOTSUP, "illegal request: invalid command (5/20/00)"},
        {7, 0x2700, -E_ROFS, "data protect: write protected (7/27/00)"},
        {7, 0x2707, -E_NOSPC, "data protect: space allocation failed (7/27/07)"},
        {0xE, 0x1D00, -E_IO, "miscompare"},
    };

    prepare();
    probe();
    for (unsigned i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
        unsigned k = i / 2;
        h.descriptor_sense = i & 1;
        h.sense_key = cases[k].key;
        h.sense_code = cases[k].code;
        CHECK_EQ(blk_write(d, 1, 1, page, 0), cases[k].error);
        CHECK(fake_log_contains(cases[k].text));
    }
    h.sense_key = 1;                             /* recovered: the data is good when the count says so */
    CHECK_EQ(blk_read(d, 1, 1, page), -E_IO);
    h.sense_key = 0;
    h.short_by = 8;
    CHECK_EQ(blk_read(d, 1, 8, page), -E_IO);
    h.short_by = 0;
    reads_and_writes();
    finish();
}

/* Sense of an earlier command: the one that collects it was not executed, so no success may be made of it. */
TEST(deferred_errors)
{
    prepare();
    probe();
    for (unsigned i = 0; i < 4; i++) {
        unsigned before = seen[SCSI_SYNCHRONIZE_CACHE_10];
        h.descriptor_sense = i & 1;
        h.deferred_key = i < 2 ? 1 : 3;
        h.deferred = 1;
        CHECK_EQ(blk_flush(d), i < 2 ? 0 : -E_IO);
        CHECK_EQ(seen[SCSI_SYNCHRONIZE_CACHE_10] - before, i < 2 ? 2 : 1);
    }
    reads_and_writes();
    finish();
}

TEST(discard_and_zeroes_that_are_refused_after_all)
{
    prepare();
    probe();
    CHECK_EQ(blk_discard(d, 0, 1200), 0);
    CHECK_EQ(seen[SCSI_UNMAP], 2);
    CHECK_EQ(blk_write_zeroes(d, 3, 600, 0), 0);
    CHECK_EQ(seen[SCSI_WRITE_SAME_16], 2);
    CHECK(disk[3 * 512] == 0 && disk[602 * 512 + 511] == 0 && disk[603 * 512 + 1] != 0);
    h.refuse_unmap = h.refuse_write_same = true;
    CHECK_EQ(blk_discard(d, 0, 8), -E_NOTSUP);
    CHECK_EQ(blk_write_zeroes(d, 1000, 600, 0), 0);
    CHECK(!d->has_write_zeroes);
    CHECK(disk[1000 * 512] == 0 && disk[1599 * 512 + 511] == 0);
    finish();
}

static unsigned done;
static void count_done(struct blk_request *r UNUSED) { done++; }

TEST(a_full_ring_holds_requests_back)
{
    static struct blk_request r[20];
    static struct blk_span span;

    prepare();
    probe();
    span = (struct blk_span){page, 512};
    ring_left = 5;
    for (unsigned i = 0; i < 20; i++) {
        r[i] = (struct blk_request){.op = BLK_READ, .sector = i, .sectors = 1, .spans = &span, .span_count = 1,
                                    .done = count_done};
        CHECK_EQ(blk_submit(d, &r[i]), 0);
    }
    task_sleep_us(1000);
    CHECK_EQ(done, 5);
    ring_left = 7;
    writable(callback_arg);
    task_sleep_us(1000);
    CHECK_EQ(done, 12);
    ring_left = UINT32_MAX;
    task_sleep_us(10000000);                     /* the tick looks, too */
    CHECK_EQ(done, 20);
    finish();
}

TEST(random_data_in_every_answer)
{
    prepare();
    storvsc_register();
    h.random = true;
    h.lun_count = 3;
    h.luns[1] = 1;
    h.luns[2] = 7;
    for (unsigned i = 0; i < 150; i++) {
        CHECK_EQ(driver->probe(&channel), 0);
        d = blk_get_index(0);
        if (d && d->sectors > 8 && d->max_transfer_bytes >= 4096)
            blk_read(d, 0, 1, page);
        storvsc_rescan(driver_data);
        task_sleep_us(100000);
        if (d)
            blk_put(d);
        d = NULL;
        rescinded = i & 1;
        driver->remove(&channel);
        rescinded = false;
        CHECK(!blk_get_index(0));
    }
}

TEST_MAIN()
