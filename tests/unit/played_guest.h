/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest played by hand, to test the host model itself: memory, transport callbacks, messages, rings. Each
 * test program includes it once and uses what it needs.
 */
#pragma once
#define _GNU_SOURCE
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-variable"
#include <sys/mman.h>
#include <unistd.h>
#include "tests/unit/test.h"

#include "drivers/netvsc_wire.h"
#include "drivers/rndis_wire.h"
#include "drivers/scsi_wire.h"
#include "drivers/storvsc_wire.h"
#include "hv/hv_wire.h"
#include "tests/fake_arch/guarded.h"
#include "tests/host/host.h"
#include "vmbus/vmbus_wire.h"

#define RAM_PAGES 2048u
#define VECTOR    0xF3u

enum {                                  /* page numbers of the played guest */
    PAGE_SIMP = 1, PAGE_SIEFP, PAGE_INPUT, PAGE_HYPERCALL, PAGE_TSC,
    PAGE_RING = 16, PAGE_DATA = 64, PAGE_RECV = 256, PAGE_SEND = 1024,
    RING_PAGES = 16,
};

#define RAM_BYTES (RAM_PAGES * 4096u)

static uint8_t *ram;                    /* the guest's view; the model has its own, guarded one */
static int ram_file;
static struct host *host;
static uint64_t now;
static unsigned violations, interrupts, warnings;
static char last_violation[2048], all_violations[16384];
static uint64_t deadline, own_deadline;     /* of VP 0, of the model itself */

static void *op_alloc(void *ctx, size_t bytes)
{
    (void)ctx;
    return calloc(1, bytes);
}

static void op_free(void *ctx, void *p, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    free(p);
}

__attribute__((constructor)) static void make_ram(void)
{
    ram_file = memfd_create("ram of the played guest", MFD_CLOEXEC);
    if (ram_file < 0 || ftruncate(ram_file, RAM_BYTES) != 0)
        abort();
    ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ram_file, 0);
    if (ram == MAP_FAILED)
        abort();
}

static void *op_map(void *ctx, uint64_t gpa, size_t len, bool write)
{
    (void)ctx;
    return gpa < RAM_BYTES && len <= RAM_BYTES - gpa ? guarded_open(gpa, write) : NULL;
}

static void op_unmap(void *ctx, uint64_t gpa, size_t len, bool write)
{
    (void)ctx;
    (void)len;
    guarded_close(gpa, write);
}

static unsigned raised[8];              /* interrupts of each VP */

static void op_raise(void *ctx, uint32_t vp, uint32_t vector, bool auto_eoi)
{
    (void)ctx;
    (void)vector;
    (void)auto_eoi;
    interrupts++;
    if (vp < sizeof(raised) / sizeof(raised[0]))
        raised[vp]++;
}

static uint64_t op_now(void *ctx)
{
    (void)ctx;
    return now;
}

static void op_timer(void *ctx, uint32_t vp, uint64_t when)
{
    (void)ctx;
    if (vp == 0)
        deadline = when;
    if (vp == HOST_NO_VP)
        own_deadline = when;
}

static void op_log(void *ctx, enum host_log_level level, const char *text)
{
    (void)ctx;
    warnings += level == HOST_LOG_WARN;
    if (getenv("TEST_VERBOSE"))
        printf("host: %s\n", text);
}

static void op_trace(void *ctx, enum host_trace category, const char *text)
{
    (void)ctx;
    (void)category;
    if (getenv("TEST_VERBOSE"))
        printf("trace: %s\n", text);
}

static void op_violation(void *ctx, const char *text)
{
    (void)ctx;
    violations++;
    snprintf(last_violation, sizeof(last_violation), "%s", text);
    snprintf(all_violations + strlen(all_violations), sizeof(all_violations) - strlen(all_violations), "%s\n", text);
    if (getenv("TEST_VERBOSE"))
        printf("violation: %s\n", text);
}

static uint64_t op_tsc(void *ctx)
{
    (void)ctx;
    return now * 200;
}

static bool op_pages(void *ctx, uint64_t gpn, uint64_t count, enum host_pages what)
{
    (void)ctx;
    return what != HOST_PAGES_TAKEN || (gpn < RAM_PAGES && count <= RAM_PAGES - gpn);
}

static const struct host_ops ops = {
    .alloc = op_alloc, .free = op_free, .gpa_map = op_map, .gpa_unmap = op_unmap, .raise = op_raise,
    .now_100ns = op_now,
    .set_timer = op_timer, .log = op_log, .violation = op_violation, .guest_tsc = op_tsc, .trace = op_trace,
    .pages = op_pages,
};

static void poll_all(void)
{
    while (host_poll(host))
        ;
}

/* ---- the played guest: registers, messages ---------------------------------------------------------- */

static void start_with(const struct host_config *cfg)
{
    memset(ram, 0, RAM_BYTES);              /* shared by the processes of all tests */
    own_deadline = HOST_NEVER;
    guarded_reset(ram_file, RAM_BYTES);
    host = host_create(cfg, &ops, NULL);
    host_wrmsr(host, 0, HV_X64_MSR_GUEST_OS_ID, hv_guest_os_id(0, 1, 1, 0));
    host_wrmsr(host, 0, HV_X64_MSR_HYPERCALL, PAGE_HYPERCALL * 4096u | 1);
    host_wrmsr(host, 0, HV_X64_MSR_SIMP, PAGE_SIMP * 4096u | 1);
    host_wrmsr(host, 0, HV_X64_MSR_SIEFP, PAGE_SIEFP * 4096u | 1);
    host_wrmsr(host, 0, HV_X64_MSR_SINT(2), VECTOR);
    host_wrmsr(host, 0, HV_X64_MSR_SCONTROL, 1);
}

static void start(void)
{
    struct host_config cfg;

    host_config_default(&cfg);
    cfg.trace = 0xFF;
    start_with(&cfg);
}

static uint64_t call(uint64_t control, uint64_t in, uint64_t out)
{
    uint64_t regs[HOST_HCALL_REGS] = {in, out};
    uint64_t result = host_hypercall(host, 0, &control, regs);

    poll_all();
    return result;
}

static uint64_t post(uint32_t connection, const void *msg, uint32_t bytes)
{
    struct hv_post_message *in = (void *)(ram + PAGE_INPUT * 4096u);

    *in = (struct hv_post_message){
        .connection_id = connection, .message_type = VMBUS_MESSAGE_TYPE, .payload_size = bytes,
    };
    memcpy(in->payload, msg, bytes);
    return call(HVCALL_POST_MESSAGE, PAGE_INPUT * 4096u, 0);
}

/* Takes the next message of the type; drops others (offers). */
static bool take(uint32_t type, void *to, uint32_t bytes)
{
    struct hv_message *slot = &((struct hv_message_page *)(void *)(ram + PAGE_SIMP * 4096u))->sint[2];

    for (unsigned n = 0; n < 64 && slot->message_type == HV_MESSAGE_VMBUS; n++) {
        struct hv_message copy = *slot;
        uint32_t got;
        slot->message_type = HV_MESSAGE_NONE;
        if (slot->message_flags & HV_MESSAGE_FLAG_PENDING) {
            host_wrmsr(host, 0, HV_X64_MSR_EOM, 0);
            poll_all();
        }
        memcpy(&got, copy.payload, 4);
        if (got != type)
            continue;
        memcpy(to, copy.payload, bytes < copy.payload_size ? bytes : copy.payload_size);
        return true;
    }
    return false;
}

static bool connect(uint32_t version)
{
    struct vmbus_msg_initiate_contact msg = {.header = {.type = VMBUS_MSG_INITIATE_CONTACT},
                                             .version = version};
    struct vmbus_msg_version_response answer = {.supported = 0};

    if (version >= VMBUS_VERSION_WIN10_5_0)
        msg.target.sint = 2;
    post(version >= VMBUS_VERSION_WIN10_5_0 ? 4 : 1, &msg, sizeof(msg));
    return take(VMBUS_MSG_VERSION_RESPONSE, &answer, sizeof(answer)) && answer.supported == 1;
}

static bool first_offer(struct vmbus_msg_offer_channel *offer)
{
    struct vmbus_msg_header msg = {.type = VMBUS_MSG_REQUEST_OFFERS};

    post(4, &msg, sizeof(msg));
    return take(VMBUS_MSG_OFFER_CHANNEL, offer, sizeof(*offer));
}

static bool make_gpadl(uint32_t relid, uint32_t id, uint32_t page, uint32_t pages)
{
    uint64_t list[1 + 8190];
    uint8_t msg[240];
    struct vmbus_msg_gpadl_header head = {
        .header = {.type = VMBUS_MSG_GPADL_HEADER}, .relid = relid, .gpadl = id,
        .range_buffer_bytes = (uint16_t)(8 + 8 * pages), .range_count = 1,
    };
    struct vmbus_msg_gpadl_body body = {.header = {.type = VMBUS_MSG_GPADL_BODY}, .gpadl = id};
    struct vmbus_msg_gpadl_created done = {.status = 1};
    uint32_t total = 8 + 8 * pages, at = 8 + 8 * VMBUS_GPADL_HEADER_PFNS_MAX;

    list[0] = pages * 4096u;
    for (uint32_t i = 0; i < pages; i++)
        list[1 + i] = page + i;
    if (at > total)
        at = total;
    memcpy(msg, &head, sizeof(head));
    memcpy(msg + sizeof(head), list, at);
    post(4, msg, (uint32_t)sizeof(head) + at);
    while (at < total) {
        uint32_t part = total - at < 8 * VMBUS_GPADL_BODY_PFNS_MAX ? total - at :
                        8 * VMBUS_GPADL_BODY_PFNS_MAX;
        memcpy(msg, &body, sizeof(body));
        memcpy(msg + sizeof(body), (uint8_t *)list + at, part);
        post(4, msg, (uint32_t)sizeof(body) + part);
        at += part;
    }
    return take(VMBUS_MSG_GPADL_CREATED, &done, sizeof(done)) && done.status == 0;
}

/* Which channel open_channel, send and receive speak of: its rings, their GPADL, the VP of its interrupts. */
static uint32_t ring_page = PAGE_RING, ring_gpadl = 5, ring_vp;

static bool open_channel(uint32_t relid)
{
    struct vmbus_msg_open_channel msg = {
        .header = {.type = VMBUS_MSG_OPEN_CHANNEL}, .relid = relid, .open_id = 77, .ring_gpadl = ring_gpadl,
        .target_vp = ring_vp, .downstream_page_offset = RING_PAGES / 2,
    };
    struct vmbus_msg_open_result result = {.status = 1};

    memset(ram + ring_page * 4096u, 0, RING_PAGES * 4096u);
    if (!make_gpadl(relid, ring_gpadl, ring_page, RING_PAGES))
        return false;
    post(4, &msg, sizeof(msg));
    return take(VMBUS_MSG_OPEN_RESULT, &result, sizeof(result)) && result.status == 0 && result.open_id == 77;
}

/* ---- the played guest: rings ------------------------------------------------------------------------ */

static struct vmbus_ring_control *control_page(unsigned ring)
{
    return (void *)(ram + (ring_page + ring * RING_PAGES / 2) * 4096u);
}

#define RING_BYTES ((RING_PAGES / 2 - 1) * 4096u)

static void ring_bytes(unsigned ring, uint32_t at, void *p, uint32_t bytes, bool write)
{
    uint8_t *data = (uint8_t *)control_page(ring) + 4096, *b = p;

    for (uint32_t i = 0; i < bytes; i++) {
        if (write)
            data[(at + i) % RING_BYTES] = b[i];
        else
            b[i] = data[(at + i) % RING_BYTES];
    }
}

static void send(uint32_t relid, uint16_t type, uint16_t flags, uint64_t id, const void *ranges,
                 uint32_t range_bytes, const void *payload, uint32_t bytes)
{
    struct vmbus_ring_control *c = control_page(0);
    uint32_t at = c->write_index, data_at = 16 + range_bytes, total = data_at + (bytes + 7) / 8 * 8;
    struct vmbus_packet_header head = {type, (uint16_t)(data_at / 8), (uint16_t)(total / 8), flags, id};
    uint64_t trailer = (uint64_t)at << 32;

    ring_bytes(0, at, &head, 16, true);
    ring_bytes(0, at + 16, (void *)(uintptr_t)ranges, range_bytes, true);
    ring_bytes(0, at + data_at, (void *)(uintptr_t)payload, bytes, true);
    ring_bytes(0, at + total, &trailer, 8, true);
    c->write_index = (at + total + 8) % RING_BYTES;
    call(HVCALL_SIGNAL_EVENT | HV_CONTROL_FAST, 0x2000u + relid, 0);
}

/* Takes the next packet; returns its payload's length, 0 when there is none. */
static uint32_t receive(struct vmbus_packet_header *head, uint8_t *packet)
{
    struct vmbus_ring_control *c = control_page(1);
    uint32_t at = c->read_index;

    if (c->write_index == at)
        return 0;
    ring_bytes(1, at, head, 16, false);
    ring_bytes(1, at, packet, head->length8 * 8u, false);
    c->read_index = (at + head->length8 * 8u + 8) % RING_BYTES;
    return head->length8 * 8u - head->data_offset8 * 8u;
}
