/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt drivers fake_arch */
/*
 * netvsc against hosts that say absurd things in well-formed answers. The bus is this file: it defines the functions of
 * vmbus/vmbus.h that drivers call, and answers at once.
 */
#include "drivers/drivers.h"
#include "drivers/netvsc.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/test.h"

/* ---- the bus ---- */

struct vmbus_channel { int unused; };
struct queued { struct vmbus_packet p; uint8_t header[32], payload[64]; };

static struct vmbus_channel channel;
static struct vmbus_driver *driver;
static void *driver_data, *callback_arg;
static void (*readable)(void *arg), (*writable)(void *arg);
static struct queued queue[256];
static unsigned queue_in, queue_out;
static bool rescinded, is_open;
static struct rt_event event;
static const struct shmem *shared[3];            /* by GPADL */
static unsigned shared_count, torn_down, completions;
static uint32_t ring_left = UINT32_MAX;

static void host_message(const struct nvsp_message *m, uint32_t bytes, const uint8_t *data, uint64_t id,
                         bool completion);

static void deliver(void *arg)
{
    (void)arg;
    if (is_open && readable)
        readable(callback_arg);
}

void vmbus_register_driver(struct vmbus_driver *d) { driver = d; }
void *vmbus_driver_data(struct vmbus_channel *ch UNUSED) { return driver_data; }
void vmbus_set_driver_data(struct vmbus_channel *ch UNUSED, void *data) { driver_data = data; }
const char *vmbus_channel_name(const struct vmbus_channel *ch UNUSED) { return "net 1"; }
bool vmbus_channel_rescinded(const struct vmbus_channel *ch UNUSED) { return rescinded; }
void vmbus_dump_channel(const struct vmbus_channel *ch UNUSED) { }
void vmbus_kick(struct vmbus_channel *ch UNUSED) { event_raise(&event); }
uint32_t vmbus_version(void) { return VMBUS_VERSION_WIN10_5_3; }
bool vmbus_newest_only(void) { return false; }

int vmbus_open(struct vmbus_channel *ch UNUSED, uint32_t send_bytes UNUSED, uint32_t recv_bytes UNUSED,
               const void *user_data UNUSED, uint32_t user_bytes UNUSED, void (*on_readable)(void *arg),
               void (*on_writable)(void *arg), void *arg)
{
    readable = on_readable;
    writable = on_writable;
    callback_arg = arg;
    event = (struct rt_event)RT_EVENT_INIT(deliver, NULL);
    is_open = true;
    return 0;
}

bool vmbus_close(struct vmbus_channel *ch UNUSED)
{
    is_open = false;
    event_cancel(&event);
    return true;
}

int vmbus_gpadl_create(struct vmbus_channel *ch UNUSED, const struct shmem *memory, uint32_t *gpadl)
{
    *gpadl = ++shared_count;
    if (shared_count < ARRAY_SIZE(shared))
        shared[shared_count] = memory;
    return 0;
}

bool vmbus_gpadl_teardown(struct vmbus_channel *ch UNUSED, uint32_t gpadl UNUSED)
{
    torn_down++;
    return true;
}


int vmbus_send(struct vmbus_channel *ch UNUSED, const struct vmbus_piece *pieces, unsigned count, uint64_t id,
               bool completion)
{
    struct nvsp_message m = {0};

    if (count != 1)
        abort();
    if (ring_left == 0)
        return -E_AGAIN;
    ring_left -= ring_left != UINT32_MAX;
    memcpy(&m, pieces[0].data, pieces[0].bytes);
    host_message(&m, pieces[0].bytes, NULL, id, completion);
    return 0;
}

int vmbus_send_gpa(struct vmbus_channel *ch UNUSED, const struct vmbus_gpa_range *ranges, unsigned count UNUSED,
                   const void *payload, uint32_t bytes, uint64_t id)
{
    struct nvsp_message m = {0};

    if (ring_left == 0)
        return -E_AGAIN;
    ring_left -= ring_left != UINT32_MAX;
    memcpy(&m, payload, bytes);
    host_message(&m, bytes, (uint8_t *)fake_phys(ranges[0].frames[0] << PAGE_SHIFT) + ranges[0].offset, id, true);
    return 0;
}

int vmbus_send_completion(struct vmbus_channel *ch UNUSED, const void *payload UNUSED, uint32_t bytes UNUSED,
                          uint64_t id UNUSED)
{
    if (ring_left == 0)
        return -E_AGAIN;
    ring_left -= ring_left != UINT32_MAX;
    completions++;
    return 0;
}

const struct vmbus_packet *vmbus_recv(struct vmbus_channel *ch UNUSED)
{
    return queue_out == queue_in ? NULL : &queue[queue_out++ % ARRAY_SIZE(queue)].p;
}

/* ---- the host ---- */

static struct {
    uint32_t version, max_packets, alignment, mtu, sections, offset, sub_bytes, sub_count, section_bytes;
    uint32_t refuse_receive_above;               /* bytes; 0: never */
    bool refuse_send, refuse_rndis, refuse_offloads, refuse_filter, short_mac, silent_rndis, odd_completion;
    uint8_t mac[6];
} h;
static uint32_t receive_sizes[16];
static unsigned receive_tries;

static struct queued *enqueue(uint16_t type, uint64_t id, const void *payload, uint32_t bytes)
{
    struct queued *q = &queue[queue_in++ % ARRAY_SIZE(queue)];

    memcpy(q->payload, payload, bytes);
    q->p = (struct vmbus_packet){.type = type, .transaction_id = id, .payload = q->payload, .payload_bytes = bytes,
                                 .header = q->header};
    return q;
}

/* An RNDIS message by the receive buffer. */
static void send_rndis(const void *message, uint32_t bytes)
{
    struct nvsp_message m = {.type = NVSP_SEND_RNDIS_PACKET, .rndis = {NVSP_CHANNEL_CONTROL, NVSP_SECTION_NONE, 0}};
    struct { uint16_t set; uint8_t owner, zero; uint32_t count, length, offset; } head = {
        NVSP_RECEIVE_BUFFER_ID, 0, 0, 1, bytes, 4096,
    };
    struct queued *q = enqueue(VMBUS_PACKET_TRANSFER_PAGES, 7, &m, sizeof(m));

    memcpy((uint8_t *)shared[1]->virt + 4096, message, bytes);
    memcpy(q->header, &head, sizeof(head));
    q->p.header_bytes = sizeof(head);
    q->p.completion_requested = true;
}

static void answer_query(const struct rndis_request *r)
{
    struct { struct rndis_query_complete c; uint8_t info[256]; } a = {
        .c = {{RNDIS_QUERY | RNDIS_COMPLETE, sizeof(a.c)}, r->request_id, RNDIS_STATUS_SUCCESS, 4, 16},
    };
    struct ndis_offload offer = {.header = {NDIS_OBJECT_OFFLOAD, 3, sizeof(offer)}};
    uint32_t word = 0;

    offer.checksum.ipv4_tx = offer.checksum.ipv4_rx = 0x155;
    switch (r->oid) {
    case OID_802_3_PERMANENT_ADDRESS:
        a.c.info_length = h.short_mac ? 5 : 6;
        memcpy(a.info, h.mac, 6);
        break;
    case OID_GEN_MAXIMUM_FRAME_SIZE:
        memcpy(a.info, &h.mtu, 4);
        break;
    case OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES:
        a.c.info_length = sizeof(offer);
        memcpy(a.info, &offer, sizeof(offer));
        break;
    default:
        memcpy(a.info, &word, 4);
    }
    a.c.header.length += a.c.info_length;
    send_rndis(&a, a.c.header.length);
}

static void rndis(const uint8_t *data)
{
    struct rndis_request r;

    memcpy(&r, data, sizeof(r));
    if (h.silent_rndis)
        return;
    if (r.header.type == RNDIS_INITIALIZE) {
        struct rndis_initialize_complete c = {
            .header = {RNDIS_INITIALIZE | RNDIS_COMPLETE, sizeof(c)}, .request_id = r.request_id,
            .status = h.refuse_rndis ? RNDIS_STATUS_FAILURE : 0, .major = 1, .max_packets_per_message = h.max_packets,
            .alignment_factor = h.alignment,
        };
        send_rndis(&c, sizeof(c));
    } else if (r.header.type == RNDIS_QUERY) {
        answer_query(&r);
    } else if (r.header.type == RNDIS_SET) {
        bool no = (r.oid == OID_TCP_OFFLOAD_PARAMETERS && h.refuse_offloads) ||
                  (r.oid == OID_GEN_CURRENT_PACKET_FILTER && h.refuse_filter);
        struct rndis_set_complete c = {{RNDIS_SET | RNDIS_COMPLETE, sizeof(c)}, r.request_id,
                                       no ? RNDIS_STATUS_INVALID_DATA : 0};
        send_rndis(&c, sizeof(c));
    }
}

static void host_message(const struct nvsp_message *m, uint32_t bytes, const uint8_t *data, uint64_t id,
                         bool completion)
{
    struct nvsp_message a = {0};

    if (!completion)
        return;
    switch (m->type) {
    case NVSP_INIT:
        a.type = NVSP_INIT_COMPLETE;
        a.init_complete = (struct nvsp_init_complete){0, 34, m->init.max_version <= h.version};
        break;
    case NVSP_SEND_RECEIVE_BUFFER: {
        uint32_t size = (uint32_t)(shared[1]->pages * PAGE_BYTES);
        receive_sizes[receive_tries++ % ARRAY_SIZE(receive_sizes)] = size;
        a.type = NVSP_SEND_RECEIVE_BUFFER_COMPLETE;
        a.receive_buffer_complete.status = NVSP_STATUS_SUCCESS;
        if (h.refuse_receive_above && size > h.refuse_receive_above) {
            a.receive_buffer_complete.status = NVSP_STATUS_FAILURE;
            shared_count = 0;
        }
        a.receive_buffer_complete.section_count = h.sections;
        a.receive_buffer_complete.sections[0] = (struct nvsp_receive_section){
            h.offset, h.sub_bytes, h.sub_count ? h.sub_count : size / h.sub_bytes, 0,
        };
        break;
    }
    case NVSP_SEND_SEND_BUFFER:
        a.type = NVSP_SEND_SEND_BUFFER_COMPLETE;
        a.send_buffer_complete = (struct nvsp_send_buffer_complete){
            h.refuse_send ? NVSP_STATUS_FAILURE : NVSP_STATUS_SUCCESS, h.section_bytes,
        };
        break;
    default:
        a.type = h.odd_completion ? NVSP_INIT : NVSP_SEND_RNDIS_PACKET_COMPLETE;
        a.rndis_complete.status = NVSP_STATUS_SUCCESS;
    }
    enqueue(VMBUS_PACKET_COMPLETION, id, &a, bytes);
    if (m->type == NVSP_SEND_RNDIS_PACKET && m->rndis.channel_type == NVSP_CHANNEL_CONTROL)
        rndis(data);
}

/* ---- tests ---- */

static void prepare(void)
{
    fake_arch_boot(64 << 20);
    h.version = NVSP_VERSION_6_1;
    h.max_packets = 8;
    h.alignment = 3;
    h.mtu = 1500;
    h.sections = 1;
    h.sub_bytes = 1806;
    h.section_bytes = 6144;
    memcpy(h.mac, (uint8_t[]){0, 0x15, 0x5D, 1, 2, 3}, 6);
    netvsc_register();
}

static struct nic *come_up(void)
{
    int e = driver->probe(&channel);

    if (e)
        test_fail(__FILE__, __LINE__, "probe: %s", error_name(e));
    return nic_get_index(0);
}

static void go_down(void)
{
    driver->remove(&channel);
    CHECK(!nic_get_index(0));
    CHECK_EQ(torn_down, shared_count);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
}

/* A host of which nothing can be made: one line says why, nothing is left behind. */
#define CHECK_USELESS(error, line)                                                          \
    do {                                                                                    \
        struct mm_stats before_, after_;                                                    \
        mm_get_stats(&before_);                                                             \
        CHECK_EQ(driver->probe(&channel), -(error));                                        \
        CHECK(fake_log_contains(line));                                                     \
        mm_get_stats(&after_);                                                              \
        CHECK_EQ(after_.heap_bytes, before_.heap_bytes);                                    \
        CHECK_EQ(after_.vmap_bytes, before_.vmap_bytes);                                    \
        CHECK(!nic_get_index(0) && !is_open);                                               \
    } while (0)

TEST(a_plain_host)
{
    prepare();
    struct nic *n = come_up();
    CHECK(n && n->mtu == 1500 && n->link_up && (n->tx_offloads & NIC_TX_CSUM_TCP));
    go_down();
}

TEST(nonsense_about_the_receive_buffer)
{
    prepare();
    h.sections = 2;
    CHECK_USELESS(E_PROTO, "nonsense");
    shared_count = 0;
    h.sections = 1;
    h.offset = 1;
    CHECK_USELESS(E_PROTO, "nonsense");
    shared_count = 0;
    h.offset = 0;
    h.sub_bytes = 67;
    CHECK_USELESS(E_PROTO, "nonsense");
    shared_count = 0;
    h.sub_bytes = 0x80000000;
    h.sub_count = 2;                             /* the product does not fit 32 bits */
    CHECK_USELESS(E_PROTO, "nonsense");
}

TEST(a_host_that_wants_a_smaller_buffer)
{
    prepare();
    h.refuse_receive_above = 1 << 20;
    struct nic *n = come_up();
    CHECK(n);
    CHECK_EQ(receive_tries, 4);
    CHECK_EQ(receive_sizes[0], 8 << 20);
    CHECK_EQ(receive_sizes[3], 1 << 20);
    driver->remove(&channel);
    h.refuse_receive_above = 4096;
    shared_count = 0;
    CHECK_USELESS(E_REFUSED, "refuses a receive buffer");
}

static unsigned frames_done;
static void count_frame(struct nic_tx *tx UNUSED) { frames_done++; }

TEST(no_send_buffer_means_page_frames)
{
    static struct nic_tx tx;

    prepare();
    h.refuse_send = true;
    struct nic *n = come_up();
    CHECK(n);
    tx = (struct nic_tx){.piece_count = 1, .total_bytes = 60, .done = count_frame};
    tx.pieces[0] = (struct nic_piece){kzalloc(60), 60};
    CHECK_EQ(n->ops->send(n, &tx), 0);
    CHECK_EQ(frames_done, 0);
    n->ops->kick(n);
    task_sleep_us(1000);
    CHECK_EQ(frames_done, 1);
    CHECK_EQ(n->stats.tx_referenced, 1);
    driver->remove(&channel);
}

TEST(nonsense_about_the_send_buffer)
{
    prepare();
    h.section_bytes = 67;
    CHECK_USELESS(E_PROTO, "nonsense");
    shared_count = 0;
    h.section_bytes = UINT32_MAX;
    CHECK_USELESS(E_PROTO, "nonsense");
}

TEST(addresses_that_are_none)
{
    prepare();
    h.mac[0] = 1;
    CHECK_USELESS(E_PROTO, "no usable MAC address");
    shared_count = 0;
    h.mac[0] = 0;
    h.short_mac = true;
    CHECK_USELESS(E_PROTO, "no usable MAC address");
}

TEST(limits_that_are_none)
{
    prepare();
    h.max_packets = 0;
    h.alignment = 31;
    h.mtu = 3;
    struct nic *n = come_up();
    struct netvsc *v = n->driver;
    CHECK_EQ(v->max_packets, 1);
    CHECK(v->alignment >= 4 && v->alignment <= 4096);
    CHECK_EQ(n->mtu, 1500);
    go_down();
}

TEST(refusals)
{
    prepare();
    h.refuse_offloads = true;
    struct nic *n = come_up();
    CHECK(n && n->tx_offloads == 0 && n->rx_offloads == 0);
    CHECK(fake_log_contains("offloads offered and then refused"));
    driver->remove(&channel);
    shared_count = 0;
    h.refuse_filter = true;
    CHECK_USELESS(E_REFUSED, "won't let frames through");
    shared_count = 0;
    h.refuse_rndis = true;
    CHECK_USELESS(E_REFUSED, "RNDIS initialise refused");
    shared_count = 0;
    h.version = 1;
    CHECK_USELESS(E_NOTSUP, "no version in common");
}

TEST(silence_ends)
{
    prepare();
    h.silent_rndis = true;
    uint64_t t = rt_now_100ns();
    CHECK_USELESS(E_TIMEOUT, "no answer (RNDIS answer) within 30 s");
    CHECK((rt_now_100ns() - t) / S_100NS(1) <= 65);
    shared_count = 0;
    h.silent_rndis = false;
    h.odd_completion = true;
    CHECK_USELESS(E_PROTO, "is completed by type 1");
}

TEST(completions_wait_for_room)
{
    struct rndis_set_complete stray = {{RNDIS_SET | RNDIS_COMPLETE, sizeof(stray)}, 9999, 0};

    prepare();
    struct nic *n = come_up();
    struct netvsc *v = n->driver;
    unsigned before = completions;
    ring_left = 0;
    for (unsigned i = 0; i < 50; i++)
        send_rndis(&stray, sizeof(stray));       /* answers to nothing: refused, and given back */
    event_raise(&event);
    task_sleep_us(1000);
    CHECK_EQ(completions, before);
    CHECK_EQ(v->counters.lies, 50);
    CHECK_EQ(v->counters.rx_completions_delayed, 50);
    ring_left = 20;
    writable(callback_arg);
    CHECK_EQ(completions, before + 20);
    ring_left = UINT32_MAX;
    writable(callback_arg);
    CHECK_EQ(completions, before + 50);
    go_down();
}

TEST_MAIN()
