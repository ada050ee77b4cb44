/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host model, against a guest played by hand: negotiation, one disk read, one frame each way, and that
 * the violations the model is there for are really found. The guest's own rooms meet the model in the other
 * tests.
 */
#include "tests/unit/test.h"

#include "drivers/netvsc_wire.h"
#include "drivers/rndis_wire.h"
#include "drivers/scsi_wire.h"
#include "drivers/storvsc_wire.h"
#include "hv/hv_wire.h"
#include "tests/host/host.h"
#include "vmbus/vmbus_wire.h"

#define RAM_PAGES 2048u
#define VECTOR    0xF3u

enum {                                  /* page numbers of the played guest */
    PAGE_SIMP = 1, PAGE_SIEFP, PAGE_INPUT, PAGE_HYPERCALL, PAGE_TSC,
    PAGE_RING = 16, PAGE_DATA = 64, PAGE_RECV = 256, PAGE_SEND = 1024,
    RING_PAGES = 16,
};

static uint8_t ram[RAM_PAGES * 4096u] __attribute__((aligned(4096)));
static struct host *host;
static uint64_t now;
static unsigned violations, interrupts;
static char last_violation[2048];
static uint64_t deadline;

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

static void *op_map(void *ctx, uint64_t gpa, size_t len, bool write)
{
    (void)ctx;
    (void)write;
    return gpa < sizeof(ram) && len <= sizeof(ram) - gpa ? ram + gpa : NULL;
}

static void op_raise(void *ctx, uint32_t vp, uint32_t vector, bool auto_eoi)
{
    (void)ctx;
    (void)vp;
    (void)vector;
    (void)auto_eoi;
    interrupts++;
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
}

static void op_log(void *ctx, enum host_log_level level, const char *text)
{
    (void)ctx;
    (void)level;
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
    if (getenv("TEST_VERBOSE"))
        printf("violation: %s\n", text);
}

static uint64_t op_tsc(void *ctx)
{
    (void)ctx;
    return now * 200;
}

static const struct host_ops ops = {
    .alloc = op_alloc, .free = op_free, .gpa_map = op_map, .raise = op_raise, .now_100ns = op_now,
    .set_timer = op_timer, .log = op_log, .violation = op_violation, .guest_tsc = op_tsc, .trace = op_trace,
};

static void poll_all(void)
{
    while (host_poll(host))
        ;
}

/* ---- the played guest: registers, messages ---------------------------------------------------------- */

static void start_with(const struct host_config *cfg)
{
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

static bool open_channel(uint32_t relid)
{
    struct vmbus_msg_open_channel msg = {
        .header = {.type = VMBUS_MSG_OPEN_CHANNEL}, .relid = relid, .open_id = 77, .ring_gpadl = 5,
        .downstream_page_offset = RING_PAGES / 2,
    };
    struct vmbus_msg_open_result result = {.status = 1};

    memset(ram + PAGE_RING * 4096u, 0, RING_PAGES * 4096u);
    if (!make_gpadl(relid, 5, PAGE_RING, RING_PAGES))
        return false;
    post(4, &msg, sizeof(msg));
    return take(VMBUS_MSG_OPEN_RESULT, &result, sizeof(result)) && result.status == 0 && result.open_id == 77;
}

/* ---- the played guest: rings ------------------------------------------------------------------------ */

static struct vmbus_ring_control *control_page(unsigned ring)
{
    return (void *)(ram + (PAGE_RING + ring * RING_PAGES / 2) * 4096u);
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

/* ---- storvsp ---------------------------------------------------------------------------------------- */

static bool vstor(uint32_t relid, struct vstor_packet *v)
{
    struct vmbus_packet_header head;
    uint8_t packet[512];

    v->flags = VSTOR_FLAG_REQUEST_COMPLETION;
    send(relid, VMBUS_PACKET_INBAND, 1, 9, NULL, 0, v, sizeof(*v));
    if (receive(&head, packet) != sizeof(*v) || head.type != VMBUS_PACKET_COMPLETION ||
        head.transaction_id != 9)
        return false;
    memcpy(v, packet + head.data_offset8 * 8u, sizeof(*v));
    return v->operation == VSTOR_OP_COMPLETE_IO;
}

static bool storvsp_handshake(uint32_t relid)
{
    struct vstor_packet v = {.operation = VSTOR_OP_BEGIN_INITIALIZATION};

    if (!vstor(relid, &v) || v.status != 0)
        return false;
    v = (struct vstor_packet){.operation = VSTOR_OP_QUERY_PROTOCOL_VERSION,
                              .version = {VSTOR_VERSION_WIN10, 0}};
    if (!vstor(relid, &v) || v.status != 0)
        return false;
    v = (struct vstor_packet){.operation = VSTOR_OP_QUERY_PROPERTIES};
    if (!vstor(relid, &v) || v.status != 0 || v.properties.max_transfer_bytes != 256 * 1024)
        return false;
    v = (struct vstor_packet){.operation = VSTOR_OP_END_INITIALIZATION};
    return vstor(relid, &v) && v.status == 0;
}

/* One command with data in PAGE_DATA; the completion is left in *v. */
static bool scsi(uint32_t relid, const uint8_t cdb[16], uint32_t bytes, uint8_t direction,
                 struct vstor_packet *v)
{
    struct vmbus_packet_header head;
    uint8_t packet[512];
    uint64_t ranges[2 + 64] = {1ull << 32, bytes | (uint64_t)0x10 << 32};   /* offset 16 in the first page */
    uint32_t pages = bytes == 0 ? 0 : (16 + bytes + 4095) / 4096;

    *v = (struct vstor_packet){
        .operation = VSTOR_OP_EXECUTE_SRB, .flags = 1,
        .srb = {.length = VSTOR_SRB_BYTES, .cdb_bytes = 16, .sense_bytes = VSTOR_SENSE_MAX,
                .data_direction = direction, .data_bytes = bytes},
    };
    memcpy(v->srb.cdb, cdb, 16);
    for (uint32_t i = 0; i < pages; i++)
        ranges[2 + i] = PAGE_DATA + i * 2;                                   /* not neighbours */
    if (bytes != 0)
        send(relid, VMBUS_PACKET_GPA_DIRECT, 1, 11, ranges, 16 + 8 * pages, v, sizeof(*v));
    else
        send(relid, VMBUS_PACKET_INBAND, 1, 11, NULL, 0, v, sizeof(*v));
    if (receive(&head, packet) != sizeof(*v) || head.transaction_id != 11)
        return false;
    memcpy(v, packet + head.data_offset8 * 8u, sizeof(*v));
    return true;
}

static bool disk_ready(struct blk_mem **disk, uint32_t *relid)
{
    struct host_scsi_config cfg;
    struct host_blk_info info;
    struct vmbus_msg_offer_channel offer;
    struct host_scsi *s;

    host_scsi_config_default(&cfg);
    s = host_add_scsi(host, &cfg);
    *disk = blk_mem_create(&ops, NULL, 512, 1 << 20);
    blk_mem_info(*disk, &info);
    if (!host_add_lun(host, s, 0, &info, &blk_mem_ops, *disk) || !connect(VMBUS_VERSION_WIN10_5_3) ||
        !first_offer(&offer))
        return false;
    *relid = offer.relid;
    return open_channel(*relid) && storvsp_handshake(*relid);
}

TEST(host_negotiates)
{
    start();
    CHECK(!connect(VMBUS_VERSION_COPPER));
    CHECK(connect(VMBUS_VERSION_WIN10_5_3));
    CHECK(connect(VMBUS_VERSION_WIN8));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(host_disk_reads_and_writes)
{
    static const uint8_t read10[16] = {SCSI_READ_10, 0, 0, 0, 0, 8, 0, 0, 16};
    static const uint8_t write10[16] = {SCSI_WRITE_10, 0, 0, 0, 0, 8, 0, 0, 16};
    static const uint8_t inquiry[16] = {SCSI_INQUIRY, 0, 0, 0, 36};
    static const uint8_t flush[16] = {SCSI_SYNCHRONIZE_CACHE_10};
    static const uint8_t beyond[16] = {SCSI_READ_10, 0, 0xFF, 0, 0, 0, 0, 0, 16};
    struct vstor_packet v;
    struct blk_mem *disk;
    uint32_t relid;
    uint8_t sector[512];

    start();
    CHECK(disk_ready(&disk, &relid));
    CHECK(scsi(relid, inquiry, 36, VSTOR_DATA_FROM_DEVICE, &v));
    CHECK_EQ(v.srb.srb_status, SRB_STATUS_SUCCESS);
    CHECK(memcmp(ram + PAGE_DATA * 4096u + 16 + 8, "Msft    Virtual Disk    ", 24) == 0);
    memset(ram + PAGE_DATA * 4096u + 16, 0x5A, 4080);
    CHECK(scsi(relid, write10, 8192, VSTOR_DATA_TO_DEVICE, &v));
    CHECK_EQ(v.srb.srb_status, SRB_STATUS_SUCCESS);
    CHECK_EQ(v.srb.data_bytes, 8192);
    CHECK(blk_mem_access(disk, 8, sector, 1, false));
    CHECK_EQ(sector[0], 0x5A);
    memset(ram + PAGE_DATA * 4096u, 0, 4096);
    CHECK(scsi(relid, read10, 8192, VSTOR_DATA_FROM_DEVICE, &v));
    CHECK_EQ(ram[PAGE_DATA * 4096u + 16], 0x5A);
    CHECK_EQ(ram[PAGE_DATA * 4096u + 15], 0);
    CHECK(scsi(relid, flush, 0, VSTOR_DATA_NONE, &v));
    CHECK_EQ(blk_mem_flushes(disk), 1);
    CHECK(scsi(relid, beyond, 8192, VSTOR_DATA_FROM_DEVICE, &v));
    CHECK_EQ(v.srb.scsi_status, SCSI_STATUS_CHECK_CONDITION);
    CHECK_EQ(violations, 0);
    CHECK_EQ(host_counters(host)->signals_unneeded, 0);
    host_destroy(host);
    blk_mem_destroy(disk);
}

TEST(host_finds_violations)
{
    struct vmbus_msg_header again = {.type = VMBUS_MSG_REQUEST_OFFERS};
    struct vmbus_msg_gpadl_body stray = {.header = {.type = VMBUS_MSG_GPADL_BODY}, .gpadl = 99};
    struct blk_mem *disk;
    uint8_t body[24] = {0};
    uint32_t relid;

    start();
    CHECK(disk_ready(&disk, &relid));
    CHECK_EQ(violations, 0);
    post(4, &again, sizeof(again));
    CHECK_EQ(violations, 1);
    memcpy(body, &stray, sizeof(stray));
    post(4, body, sizeof(body));
    CHECK_EQ(violations, 2);
    call(HVCALL_POST_MESSAGE, PAGE_INPUT * 4096u + 4, 0);
    CHECK_EQ(violations, 3);
    control_page(0)->interrupt_mask = 1;
    call(HVCALL_SIGNAL_EVENT | HV_CONTROL_FAST, 0x2000u + relid, 0);
    CHECK_EQ(violations, 4);
    CHECK(strstr(last_violation, "host's words") != NULL);
    host_destroy(host);
    blk_mem_destroy(disk);
}

/* ---- timers ----------------------------------------------------------------------------------------- */

TEST(host_timers_and_tsc)
{
    const struct hv_reference_tsc_page *tsc = (const void *)(ram + PAGE_TSC * 4096u);
    uint64_t told;

    start();
    now = 1000;
    CHECK(host_wrmsr(host, 0, HV_X64_MSR_REFERENCE_TSC, PAGE_TSC * 4096u | 1));
    CHECK(tsc->sequence != 0);
    now = 123456789;
    told = (uint64_t)(((unsigned __int128)(now * 200) * tsc->scale) >> 64) + (uint64_t)tsc->offset;
    CHECK(told - now + 1 < 3);
    CHECK(host_wrmsr(host, 0, HV_X64_MSR_STIMER_CONFIG(0), HV_STIMER_ENABLE | HV_STIMER_AUTO_ENABLE |
                     HV_STIMER_DIRECT | 0xEDu << HV_STIMER_VECTOR_SHIFT));
    CHECK(host_wrmsr(host, 0, HV_X64_MSR_STIMER_COUNT(0), now + 500));
    CHECK_EQ(deadline, now + 500);
    interrupts = 0;
    host_timer_fired(host, 0);
    CHECK_EQ(interrupts, 0);
    now += 500;
    host_timer_fired(host, 0);
    CHECK_EQ(interrupts, 1);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* ---- netvsp ----------------------------------------------------------------------------------------- */

static uint8_t sent[4][2048];
static unsigned sent_count, sent_bytes[4];

static bool net_tx(void *backend, const struct host_frame *frame)
{
    unsigned at = 0;

    (void)backend;
    for (uint32_t i = 0; i < frame->seg_count; i++) {
        memcpy(sent[sent_count % 4] + at, frame->segs[i].data, frame->segs[i].bytes);
        at += frame->segs[i].bytes;
    }
    sent_bytes[sent_count++ % 4] = at;
    return true;
}

static const struct host_net_ops net_ops = {.tx = net_tx};

static bool nvsp(uint32_t relid, struct nvsp_message *m, bool completion)
{
    struct vmbus_packet_header head;
    uint8_t packet[512];

    send(relid, VMBUS_PACKET_INBAND, completion, 21, NULL, 0, m, sizeof(*m));
    if (!completion)
        return true;
    if (receive(&head, packet) < 28 || head.transaction_id != 21)
        return false;
    memset(m, 0, sizeof(*m));
    memcpy(m, packet + head.data_offset8 * 8u, (head.length8 - head.data_offset8) * 8u);
    return true;
}

/* A message in send section 0; the answer, if one is wanted, is copied out of the receive buffer and
 * returned. */
static bool rndis(uint32_t relid, uint32_t channel, const void *message, uint32_t bytes, void *answer,
                  uint32_t room)
{
    struct nvsp_message m = {.type = NVSP_SEND_RNDIS_PACKET, .rndis = {channel, 0, bytes}};
    struct vmbus_packet_header head;
    uint8_t packet[4096];
    uint32_t range[2], done[2] = {NVSP_SEND_RNDIS_PACKET_COMPLETE, NVSP_STATUS_SUCCESS};

    memcpy(ram + PAGE_SEND * 4096u, message, bytes);
    if (!nvsp(relid, &m, true) || m.type != NVSP_SEND_RNDIS_PACKET_COMPLETE || m.rndis_complete.status != 1)
        return false;
    if (room == 0)
        return true;
    if (receive(&head, packet) == 0 || head.type != VMBUS_PACKET_TRANSFER_PAGES)
        return false;
    memcpy(range, packet + 24, 8);
    memcpy(answer, ram + PAGE_RECV * 4096u + range[1], range[0] < room ? range[0] : room);
    send(relid, VMBUS_PACKET_COMPLETION, 0, head.transaction_id, NULL, 0, done, sizeof(done));
    return true;
}

static bool nic_ready(struct host_nic **nic, uint32_t *relid)
{
    struct rndis_initialize init = {{RNDIS_INITIALIZE, sizeof(init)}, 1, 1, 0, 0x4000};
    struct rndis_initialize_complete up = {.status = 1};
    struct {
        struct rndis_request head;
        uint32_t filter;
    } filter = {{{RNDIS_SET, sizeof(filter)}, 2, OID_GEN_CURRENT_PACKET_FILTER, 4, 20, 0},
                NDIS_FILTER_DIRECTED | NDIS_FILTER_BROADCAST};
    struct rndis_set_complete set = {.status = 1};
    struct host_nic_config cfg;
    struct vmbus_msg_offer_channel offer;
    struct nvsp_message m;

    host_nic_config_default(&cfg);
    *nic = host_add_nic(host, &cfg, &net_ops, NULL);
    if (!connect(VMBUS_VERSION_WIN10_5_3) || !first_offer(&offer) || !open_channel(offer.relid))
        return false;
    *relid = offer.relid;
    m = (struct nvsp_message){.type = NVSP_INIT, .init = {NVSP_VERSION_6_1, NVSP_VERSION_6_1}};
    if (!nvsp(*relid, &m, true) || m.init_complete.status != NVSP_STATUS_SUCCESS)
        return false;
    m = (struct nvsp_message){.type = NVSP_SEND_NDIS_CONFIG, .ndis_config = {1514, 0, NVSP_NDIS_CAP_8021Q}};
    nvsp(*relid, &m, false);
    m = (struct nvsp_message){.type = NVSP_SEND_NDIS_VERSION, .ndis_version = {6, 30}};
    nvsp(*relid, &m, false);
    if (!make_gpadl(*relid, 6, PAGE_RECV, 512) || !make_gpadl(*relid, 7, PAGE_SEND, 256))
        return false;
    m = (struct nvsp_message){.type = NVSP_SEND_RECEIVE_BUFFER, .buffer = {6, 0xCAFE}};
    if (!nvsp(*relid, &m, true) || m.receive_buffer_complete.status != 1)
        return false;
    m = (struct nvsp_message){.type = NVSP_SEND_SEND_BUFFER, .buffer = {7, 0}};
    if (!nvsp(*relid, &m, true) || m.send_buffer_complete.section_bytes != 6144)
        return false;
    return rndis(*relid, NVSP_CHANNEL_CONTROL, &init, sizeof(init), &up, sizeof(up)) && up.status == 0 &&
           rndis(*relid, NVSP_CHANNEL_CONTROL, &filter, sizeof(filter), &set, sizeof(set)) && set.status == 0;
}

TEST(host_network_both_ways)
{
    struct {
        struct rndis_packet head;
        uint8_t frame[64];
    } out = {{{RNDIS_PACKET, sizeof(out)}, 36, 64, 0, 0, 0, 0, 0, 0, 0},
             {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1}};
    uint8_t wire[100], message[2048];
    struct host_seg seg = {wire, sizeof(wire)};
    struct host_frame frame = {&seg, 1, sizeof(wire), false, 0};
    struct rndis_packet in;
    struct host_nic_config cfg;
    struct host_nic *nic;
    struct vmbus_packet_header head;
    uint32_t relid, range[2], done[2] = {NVSP_SEND_RNDIS_PACKET_COMPLETE, NVSP_STATUS_SUCCESS};
    struct host_state state;

    start();
    CHECK(nic_ready(&nic, &relid));
    CHECK(rndis(relid, NVSP_CHANNEL_DATA, &out, sizeof(out), NULL, 0));
    CHECK_EQ(sent_count, 1);
    CHECK_EQ(sent_bytes[0], 64);
    CHECK_EQ(sent[0][6], 1);

    host_nic_config_default(&cfg);
    memset(wire, 0x33, sizeof(wire));
    memcpy(wire, cfg.mac, 6);
    CHECK(host_net_rx(nic, &frame, false));
    poll_all();
    CHECK(receive(&head, message) != 0);
    CHECK_EQ(head.type, VMBUS_PACKET_TRANSFER_PAGES);
    memcpy(range, message + 24, 8);
    memcpy(&in, ram + PAGE_RECV * 4096u + range[1], sizeof(in));
    CHECK_EQ(in.data_length, 100);
    CHECK(memcmp(ram + PAGE_RECV * 4096u + range[1] + 8 + in.data_offset, wire, 100) == 0);
    host_get_state(host, &state);
    CHECK_EQ(state.rx_sections_held, 1);
    send(relid, VMBUS_PACKET_COMPLETION, 0, head.transaction_id, NULL, 0, done, sizeof(done));
    host_get_state(host, &state);
    CHECK_EQ(state.rx_sections_held, 0);
    CHECK_EQ(violations, 0);
    send(relid, VMBUS_PACKET_COMPLETION, 0, head.transaction_id, NULL, 0, done, sizeof(done));
    CHECK_EQ(violations, 1);
    host_destroy(host);
}

TEST(host_segments_and_sums)
{
    struct {
        struct rndis_packet head;
        struct rndis_ppi_word lso;
        uint8_t frame[14 + 20 + 20 + 2000];
    } out;
    struct {
        struct rndis_request head;
        struct ndis_offload_parameters p;
    } on = {{{RNDIS_SET, sizeof(on)}, 3, OID_TCP_OFFLOAD_PARAMETERS, sizeof(on.p), 20, 0},
            {.header = {NDIS_OBJECT_DEFAULT, 3, sizeof(on.p)}, .ipv4_checksum = NDIS_OFFLOAD_TX_RX,
             .tcp_ipv4_checksum = NDIS_OFFLOAD_TX_RX, .lso_v2_ipv4 = NDIS_OFFLOAD_LSO_ON}};
    struct rndis_set_complete set = {.status = 1};
    struct host_nic *nic;
    uint32_t relid, sum;
    uint8_t *ip = out.frame + 14, *tcp = out.frame + 34;

    start();
    CHECK(nic_ready(&nic, &relid));
    CHECK(rndis(relid, NVSP_CHANNEL_CONTROL, &on, sizeof(on), &set, sizeof(set)));
    CHECK_EQ(set.status, 0);
    memset(&out, 0, sizeof(out));
    out.head = (struct rndis_packet){{RNDIS_PACKET, sizeof(out)}, 52, sizeof(out.frame), 0, 0, 0, 36, 16, 0,
                                     0};
    out.lso = (struct rndis_ppi_word){{16, RNDIS_PPI_LSO, 12}, 1000 | 34u << 20 | RNDIS_LSO_TYPE_V2};
    out.frame[12] = 8;
    ip[0] = 0x45;
    ip[8] = 64;
    ip[9] = 6;
    ip[12] = 10; ip[15] = 1;
    ip[16] = 10; ip[19] = 2;
    tcp[12] = 0x50;
    tcp[13] = 0x18;
    sum = 0x0A00 + 1 + 0x0A00 + 2 + 6;              /* the pseudo header with length 0 */
    tcp[16] = (uint8_t)(sum >> 8);
    tcp[17] = (uint8_t)sum;
    memset(tcp + 20, 0xAB, 2000);
    CHECK(rndis(relid, NVSP_CHANNEL_DATA, &out, sizeof(out), NULL, 0));
    CHECK_EQ(violations, 0);
    CHECK_EQ(sent_count, 2);
    CHECK_EQ(sent_bytes[0], 1054);
    CHECK_EQ(sent_bytes[1], 1054);
    CHECK_EQ(sent[0][34 + 13], 0x10);                /* PSH only in the last */
    CHECK_EQ(sent[1][34 + 13], 0x18);
    CHECK_EQ(sent[1][34 + 6] << 8 | sent[1][34 + 7], 1000);
    for (unsigned n = 0; n < 2; n++) {
        const uint8_t *f = sent[n];
        sum = 0;
        for (unsigned i = 14; i < 34; i += 2)
            sum += (uint32_t)f[i] << 8 | f[i + 1];
        CHECK_EQ((sum & 0xFFFF) + (sum >> 16), 0xFFFF);
        sum = 6 + 1020;
        for (unsigned i = 26; i < 1054; i += 2)
            sum += (uint32_t)f[i] << 8 | f[i + 1];
        while (sum >> 16)
            sum = (sum & 0xFFFF) + (sum >> 16);
        CHECK_EQ(sum, 0xFFFF);
    }
    host_destroy(host);
}

TEST_MAIN()
