/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every rule about registers, hypercalls, the bus, rings and storage that hosts insist on, broken once: see rules.h.
 * The numbers are those of what strict hosts check: VMBus control, rings, storage.
 */
#include "tests/unit/played_disk.h"
#include "tests/unit/rules.h"

static struct blk_mem *disk;
static struct host_scsi *controller;

static bool with_disk(void)
{
    start();
    return disk_ready(&disk, &relid);
}

static bool offered(void)
{
    struct vmbus_msg_offer_channel offer;
    struct host_scsi_config cfg;

    start();
    host_scsi_config_default(&cfg);
    controller = host_add_scsi(host, &cfg);
    if (!connect(VMBUS_VERSION_WIN10_5_3) || !first_offer(&offer))
        return false;
    relid = offer.relid;
    return true;
}

static bool opened(void) { return offered() && open_channel(relid); }

/* ---- registers --------------------------------------------------------------------------------------- */

static void wrmsr(uint32_t msr, uint64_t value) { host_wrmsr(host, 0, msr, value); }

static void rdmsr(uint32_t msr)
{
    uint64_t value;

    host_rdmsr(host, 0, msr, &value);
}

RULE(msr_unknown_read, at_start, "rdmsr", { rdmsr(0x400001F0); })
RULE(msr_unknown_written, at_start, "no such register", { wrmsr(0x400001F0, 1); })
RULE(msr_without_privilege, at_start, "no such register or no privilege", { wrmsr(HV_X64_MSR_RESET, 1); })
RULE(msr_read_only, at_start, "read-only", { wrmsr(HV_X64_MSR_VP_INDEX, 1); })
RULE(page_register_outside, at_start, "outside of memory", { wrmsr(HV_X64_MSR_SIMP, RAM_BYTES | 1); })
RULE(page_register_reserved_bits, at_start, "reserved bits", { wrmsr(HV_X64_MSR_SIEFP, 3 * 4096u | 0x11); })
RULE(page_register_moved, at_start, "moved while enabled", { wrmsr(HV_X64_MSR_SIMP, 7 * 4096u | 1); })
RULE(sint_vector, at_start, "vector below 16", { wrmsr(HV_X64_MSR_SINT(2), 15); })
RULE(sint_auto_eoi, at_start, "AutoEOI", { wrmsr(HV_X64_MSR_SINT(2), VECTOR | HV_SINT_AUTO_EOI); })
RULE(timer_reserved_bits, at_start, "reserved configuration bits", { wrmsr(HV_X64_MSR_STIMER_CONFIG(0), 1ull << 40); })
RULE(timer_direct_vector, at_start, "vector below 16",
     { wrmsr(HV_X64_MSR_STIMER_CONFIG(0), HV_STIMER_DIRECT | 3u << HV_STIMER_VECTOR_SHIFT); })
RULE(hypercall_page_without_os_id, at_start, "before GUEST_OS_ID", {
    wrmsr(HV_X64_MSR_GUEST_OS_ID, 0);
    wrmsr(HV_X64_MSR_HYPERCALL, PAGE_HYPERCALL * 4096u | 1);
})
RULE(crash_text_crosses_a_page, at_start, "crash: the message", {
    wrmsr(HV_X64_MSR_CRASH_P0 + 3, 4096 + 4000);
    wrmsr(HV_X64_MSR_CRASH_P0 + 4, 200);
    wrmsr(HV_X64_MSR_CRASH_CTL, HV_CRASH_CTL_NOTIFY | HV_CRASH_CTL_MESSAGE);
})

/* ---- hypercalls -------------------------------------------------------------------------------------- */

#define IN  (PAGE_INPUT * 4096u)
#define OUT (PAGE_DATA * 4096u)

RULE(hypercall_before_os_id, at_start, "before GUEST_OS_ID", {
    wrmsr(HV_X64_MSR_GUEST_OS_ID, 0);
    call(HVCALL_SIGNAL_EVENT | HV_CONTROL_FAST, 0x2001, 0);
})
RULE(hypercall_without_page, at_start, "without a hypercall page", {
    wrmsr(HV_X64_MSR_HYPERCALL, 0);
    call(HVCALL_POST_MESSAGE, IN, 0);
})
RULE(hypercall_unknown, at_start, "is unknown", { call(0x7777, 0, 0); })
RULE(hypercall_without_privilege, at_start, "no privilege", { call(HVCALL_GET_PARTITION_ID, 0, OUT); })
RULE(control_reserved, at_start, "reserved bits in the control word",
     { call(HVCALL_POST_MESSAGE | 1ull << 27, IN, 0); })
RULE(control_nested, at_start, "reserved bits in the control word",
     { call(HVCALL_POST_MESSAGE | HV_CONTROL_NESTED, IN, 0); })
RULE(control_varhead, at_start, "takes no variable header", { call(hv_control(HVCALL_POST_MESSAGE, 1, 0, 0), IN, 0); })
RULE(control_rep_of_simple, at_start, "a simple call with repetitions",
     { call(hv_control(HVCALL_POST_MESSAGE, 0, 1, 0), IN, 0); })
RULE(control_rep_none, at_start, "repetition 0 of 0", { call(HVCALL_GET_VP_REGISTERS, IN, OUT); })
RULE(control_rep_start, at_start, "repetition 2 of 2", { call(hv_control(HVCALL_GET_VP_REGISTERS, 0, 2, 2), IN, OUT); })
RULE(input_unaligned, at_start, "not aligned to 8", { call(HVCALL_POST_MESSAGE, IN + 4, 0); })
RULE(input_crosses_a_page, at_start, "crosses a page", { call(HVCALL_POST_MESSAGE, IN + 4096 - 128, 0); })
RULE(input_outside, at_start, "input outside of memory", { call(HVCALL_POST_MESSAGE, RAM_BYTES, 0); })
RULE(output_unaligned, at_start, "output is not aligned",
     { call(hv_control(HVCALL_GET_VP_REGISTERS, 0, 1, 0), IN, OUT + 4); })
RULE(output_overlaps, at_start, "overlap", { call(hv_control(HVCALL_GET_VP_REGISTERS, 0, 1, 0), IN, IN); })
RULE(output_outside, at_start, "output outside of memory", {
    struct hv_vp_registers *in = (void *)(ram + IN);
    *in = (struct hv_vp_registers){.partition_id = HV_PARTITION_ID_SELF, .vp_index = HV_VP_INDEX_SELF};
    memcpy(in + 1, &(uint32_t){HV_REGISTER_VP_INDEX}, 4);
    call(hv_control(HVCALL_GET_VP_REGISTERS, 0, 1, 0), IN, RAM_BYTES);
})
RULE(fast_call_too_big, at_start, "cannot be a fast call", { call(HVCALL_POST_MESSAGE | HV_CONTROL_FAST, 0, 0); })
RULE(fast_output_unannounced, at_start, "is not announced",
     { call(hv_control(HVCALL_GET_VP_REGISTERS, 0, 1, 0) | HV_CONTROL_FAST, 0, 0); })
RULE(flush_unannounced, at_start, "although it is not recommended", { call(HVCALL_FLUSH_ADDRESS_SPACE, IN, 0); })
RULE(ipi_unannounced, at_start, "although it is not recommended", { call(HVCALL_SEND_CLUSTER_IPI, IN, 0); })

/* ---- posted messages and signals --------------------------------------------------------------------- */

static void post_raw(struct hv_post_message head)
{
    memcpy(ram + IN, &head, sizeof(head));
    call(HVCALL_POST_MESSAGE, IN, 0);
}

RULE(post_too_long, connected, "bad type or size",
     { post_raw((struct hv_post_message){.connection_id = 4, .message_type = 1, .payload_size = 241}); })
RULE(post_type_zero, connected, "bad type or size", { post_raw((struct hv_post_message){.connection_id = 4}); })
RULE(post_reserved, connected, "reserved field",
     { post_raw((struct hv_post_message){.connection_id = 4, .reserved = 1, .message_type = 1, .payload_size = 8}); })
RULE(post_other_type, connected, "message of type 2",
     { post_raw((struct hv_post_message){.connection_id = 4, .message_type = 2, .payload_size = 8}); })
RULE(post_too_short, connected, "message of type 1, 4 bytes",
     { post_raw((struct hv_post_message){.connection_id = 4, .message_type = 1, .payload_size = 4}); })
RULE(signal_nobody, connected, "does not exist", { call(HVCALL_SIGNAL_EVENT | HV_CONTROL_FAST, 0x2055, 0); })
RULE(signal_flag, opened, "flag 1", { call(HVCALL_SIGNAL_EVENT | HV_CONTROL_FAST, (0x2000u + relid) | 1ull << 32, 0); })
RULE(signal_reserved, opened, "reserved field",
     { call(HVCALL_SIGNAL_EVENT | HV_CONTROL_FAST, (0x2000u + relid) | 1ull << 48, 0); })
RULE(signal_closed_channel, offered, "is not open",
     { call(HVCALL_SIGNAL_EVENT | HV_CONTROL_FAST, 0x2000u + relid, 0); })

/* ---- bus control: 2 to 9 ----------------------------------------------------------------------------- */

static void contact(uint32_t connection, struct vmbus_msg_initiate_contact msg)
{
    msg.header.type = VMBUS_MSG_INITIATE_CONTACT;
    post(connection, &msg, sizeof(msg));
}

static void message(uint32_t type, uint32_t word)
{
    uint32_t msg[16] = {type, 0, word};

    post(4, msg, sizeof(msg));
}

RULE(contact_on_the_other_connection, at_start, "on message connection 1",
     { contact(1, (struct vmbus_msg_initiate_contact){.version = VMBUS_VERSION_WIN10_5_3, .target = {.sint = 2}}); })
RULE(contact_sint, at_start, "target SINT",
     { contact(4, (struct vmbus_msg_initiate_contact){.version = VMBUS_VERSION_WIN10_5_0, .target = {.sint = 3}}); })
RULE(contact_vtl, at_start, "target SINT, VTL",
     { contact(4, (struct vmbus_msg_initiate_contact){.version = VMBUS_VERSION_WIN10_5_1, .target = {2, 1, 0, 0}}); })
RULE(contact_vp, at_start, "target VP 9", {
    contact(4, (struct vmbus_msg_initiate_contact){
        .version = VMBUS_VERSION_WIN10_5_3, .target_vp = 9, .target = {.sint = 2}});
})
RULE(contact_with_sint_masked, at_start, "not ready for the answer", {
    wrmsr(HV_X64_MSR_SINT(2), HV_SINT_MASKED);
    connect(VMBUS_VERSION_WIN10_5_3);
})
RULE(contact_one_monitor_page, at_start, "monitor pages", {
    contact(1, (struct vmbus_msg_initiate_contact){.version = VMBUS_VERSION_WIN10, .monitor_page1 = 8 * 4096u});
})
RULE(contact_monitor_outside, at_start, "monitor pages", {
    contact(1, (struct vmbus_msg_initiate_contact){
        .version = VMBUS_VERSION_WIN10, .monitor_page1 = 8 * 4096u, .monitor_page2 = RAM_BYTES});
})
RULE(message_unknown, connected, "unknown, too short or too early", { message(99, 0); })
RULE(message_too_short, connected, "unknown, too short or too early", {
    struct vmbus_msg_header open = {.type = VMBUS_MSG_OPEN_CHANNEL};
    post(4, &open, sizeof(open));
})
RULE(message_header_reserved, connected, "header's reserved field", {
    struct vmbus_msg_header msg = {VMBUS_MSG_REQUEST_OFFERS, 1};
    post(4, &msg, sizeof(msg));
})
static bool connected_4_0(void)
{
    start();
    return connect(VMBUS_VERSION_WIN10);
}
RULE(message_too_early, connected_4_0, "unknown, too short or too early", {
    struct vmbus_msg_modify_channel msg = {{VMBUS_MSG_MODIFY_CHANNEL, 0}, 1, 0};
    post(1, &msg, sizeof(msg));
})
RULE(message_without_connection, at_start, "without a connection", { message(VMBUS_MSG_REQUEST_OFFERS, 0); })
RULE(message_on_the_other_connection, connected, "on connection 1, not 4", {
    struct vmbus_msg_header msg = {VMBUS_MSG_REQUEST_OFFERS, 0};
    post(1, &msg, sizeof(msg));
})
RULE(offers_twice, offered, "offers requested twice", { message(VMBUS_MSG_REQUEST_OFFERS, 0); })

static void gpadl(uint32_t channel, uint32_t id, uint16_t buffer_bytes, uint16_t count, uint32_t byte_count,
                  uint32_t offset, uint64_t pfn)
{
    struct {
        struct vmbus_msg_gpadl_header head;
        uint32_t byte_count, byte_offset;
        uint64_t pfn;
    } __attribute__((packed)) msg = {
        {.header = {.type = VMBUS_MSG_GPADL_HEADER}, .relid = channel, .gpadl = id,
         .range_buffer_bytes = buffer_bytes, .range_count = count}, byte_count, offset, pfn,
    };

    post(4, &msg, sizeof(msg));
}

RULE(gpadl_of_unknown_channel, offered, "channel 55 unknown", { gpadl(55, 1, 16, 1, 4096, 0, 20); })
RULE(gpadl_id_twice, opened, "in use", { gpadl(relid, 5, 16, 1, 4096, 0, 20); })
RULE(gpadl_no_ranges, offered, "0 ranges", { gpadl(relid, 1, 16, 0, 4096, 0, 20); })
RULE(gpadl_odd_buffer, offered, "GPADL header", { gpadl(relid, 1, 20, 1, 4096, 0, 20); })
RULE(gpadl_no_bytes, offered, "do not fill the range buffer", { gpadl(relid, 1, 16, 1, 0, 0, 20); })
RULE(gpadl_offset, offered, "do not fill the range buffer", { gpadl(relid, 1, 16, 1, 16, 4096, 20); })
RULE(gpadl_more_pages_than_listed, offered, "do not fill the range buffer", { gpadl(relid, 1, 16, 1, 8192, 0, 20); })
RULE(gpadl_unaligned, offered, "not one range of whole pages", { gpadl(relid, 1, 16, 1, 100, 8, 20); })
RULE(gpadl_outside, offered, "is not visible memory", { gpadl(relid, 1, 16, 1, 4096, 0, RAM_PAGES); })
RULE(gpadl_wraps_around, offered, "is not visible memory", { gpadl(relid, 1, 16, 1, 4096, 0, 1ull << 52 | 20); })
RULE(gpadl_stray_body, offered, "is not being built", {
    uint64_t msg[4] = {VMBUS_MSG_GPADL_BODY, 99ull << 32, 20, 21};
    post(4, msg, sizeof(msg));
})
RULE(gpadl_body_after_the_end, opened, "is not being built", {
    uint64_t msg[4] = {VMBUS_MSG_GPADL_BODY, 5ull << 32, 20, 21};
    post(4, msg, sizeof(msg));
})
static void teardown(uint32_t channel, uint32_t id)
{
    struct vmbus_msg_gpadl_teardown msg = {{VMBUS_MSG_GPADL_TEARDOWN, 0}, channel, id};
    post(4, &msg, sizeof(msg));
}
RULE(teardown_of_an_open_ring, opened, "which is open", { teardown(relid, 5); })
RULE(teardown_twice, opened, "GPADL teardown: no", {
    message(VMBUS_MSG_CLOSE_CHANNEL, relid);
    teardown(relid, 5);
    teardown(relid, 5);
})
RULE(teardown_wrong_channel, opened, "GPADL teardown: no", { teardown(relid + 1, 5); })

static void open_message(uint32_t channel, uint32_t id, uint32_t vp, uint32_t offset)
{
    struct vmbus_msg_open_channel msg = {
        .header = {.type = VMBUS_MSG_OPEN_CHANNEL}, .relid = channel, .open_id = 1, .ring_gpadl = id, .target_vp = vp,
        .downstream_page_offset = offset,
    };
    post(4, &msg, sizeof(msg));
}

static bool with_rings(void)
{
    return offered() && make_gpadl(relid, 5, PAGE_RING, RING_PAGES);
}

RULE(open_of_unknown_channel, with_rings, "not offered, or open already", { open_message(99, 5, 0, 8); })
RULE(open_twice, opened, "not offered, or open already", { open_message(relid, 5, 0, 8); })
RULE(open_without_rings, with_rings, "ring GPADL", { open_message(relid, 6, 0, 8); })
RULE(open_target_vp, with_rings, "target VP", { open_message(relid, 5, 7, 8); })
RULE(open_downstream_zero, with_rings, "downstream page offset", { open_message(relid, 5, 0, 0); })
RULE(open_downstream_end, with_rings, "downstream page offset", { open_message(relid, 5, 0, RING_PAGES); })
RULE(open_used_ring, with_rings, "is not empty at open", {
    control_page(1)->read_index = 8;
    open_message(relid, 5, 0, 8);
})
RULE(close_twice, opened, "is not open", {
    message(VMBUS_MSG_CLOSE_CHANNEL, relid);
    message(VMBUS_MSG_CLOSE_CHANNEL, relid);
})
RULE(modify_target_vp, opened, "modify: channel", {
    struct vmbus_msg_modify_channel msg = {{VMBUS_MSG_MODIFY_CHANNEL, 0}, relid, 9};
    post(4, &msg, sizeof(msg));
})
RULE(release_of_an_open_channel, opened, "was not rescinded", { message(VMBUS_MSG_RELID_RELEASED, relid); })
RULE(message_for_a_released_relid, offered, "was not rescinded", {
    host_rescind(host, relid);
    poll_all();
    message(VMBUS_MSG_RELID_RELEASED, relid);
    message(VMBUS_MSG_RELID_RELEASED, relid);
})

/* ---- what only time shows ---------------------------------------------------------------------------- */

static void a_while(void)
{
    now++;                                /* 0 is no time */
    host_audit(host);
    now += 20000000;
    host_audit(host);
}

RULE(eom_forgotten, connected, "EOM forgotten", {
    struct vmbus_msg_header msg = {.type = VMBUS_MSG_REQUEST_OFFERS};
    struct hv_message *slot = &((struct hv_message_page *)(void *)(ram + PAGE_SIMP * 4096u))->sint[2];
    struct host_scsi_config cfg;
    host_scsi_config_default(&cfg);
    host_add_scsi(host, &cfg);
    post(4, &msg, sizeof(msg));          /* an offer and the end of offers: the second waits */
    slot->message_type = HV_MESSAGE_NONE;
    a_while();
})
RULE(signal_forgotten, opened, "the signal was forgotten", {
    poll_all();
    control_page(0)->write_index = 64;
    a_while();
})
RULE(room_signal_forgotten, with_disk, "the signal for it was forgotten", {
    struct host_blk_info info;
    for (unsigned i = 0; i < 1000; i++) { /* events of the bus until the ring is full */
        blk_mem_info(disk, &info);
        host_add_lun(host, controller_of_disk, 1, &info, &blk_mem_ops, disk);
        host_remove_lun(host, controller_of_disk, 1);
        poll_all();
    }
    control_page(1)->read_index = control_page(1)->write_index;
    a_while();
})

static void kick(void) { call(HVCALL_SIGNAL_EVENT | HV_CONTROL_FAST, 0x2000u + relid, 0); }

/* A liar refuses signals. The guest sends them again, within the second that it has for any signal; or it does not. Nor
 * is a refusal forgotten when the host lies about other things next: what it led to is the guest's to put right. */
static void refused_signals(unsigned seconds, bool again)
{
    struct host_malice refuse = {.classes = HOST_MALICE_REFUSE, .seed = 1, .rate = 1};
    struct host_malice other = {.classes = HOST_MALICE_STATUS, .seed = 1, .rate = 1};

    CHECK(opened());
    poll_all();
    control_page(0)->write_index = 64;
    for (unsigned s = 0; s < seconds; s++) {
        host_set_malice(host, &refuse);
        if (s == 0 || again)
            kick();
        host_set_malice(host, &other);
        now += 9000000;
        host_audit(host);
    }
    CHECK_EQ(violations > 0, !again);
    CHECK_EQ(strstr(all_violations, "the signal was forgotten") != NULL, !again);
    host_destroy(host);
}
TEST(refused_signal_sent_again) { refused_signals(9, true); }
TEST(refused_signal_not_sent_again) { refused_signals(5, false); }

/* ---- rings: 11 to 14 --------------------------------------------------------------------------------- */

static void raw_packet(struct vmbus_packet_header head, uint64_t first, uint64_t second, uint32_t bytes)
{
    uint64_t words[4] = {first, second};

    ring_bytes(0, 0, &head, sizeof(head), true);
    ring_bytes(0, 16, words, sizeof(words), true);
    control_page(0)->write_index = bytes;
    kick();
}

RULE(ring_index_beyond, opened, "write index", { control_page(0)->write_index = RING_BYTES; kick(); })
RULE(ring_index_unaligned, opened, "write index", { control_page(0)->write_index = 12; kick(); })
RULE(ring_read_index_beyond, with_disk, "read index", {
    struct vstor_packet v = {.operation = VSTOR_OP_RESET_BUS};
    control_page(1)->read_index = RING_BYTES + 8;
    vstor(relid, &v);
})
RULE(ring_read_index_ahead, with_disk, "passes the write index", {
    struct vstor_packet v = {.operation = VSTOR_OP_RESET_BUS};
    control_page(1)->read_index += 64;
    vstor(relid, &v);
})
RULE(ring_host_read_index_written, opened, "the host's words", { control_page(0)->read_index = 8; kick(); })
RULE(ring_host_mask_written, opened, "the host's words", { control_page(0)->interrupt_mask = 1; kick(); })
RULE(ring_host_write_index_written, with_disk, "wrote the write index", {
    struct vstor_packet v = {.operation = VSTOR_OP_RESET_BUS};
    control_page(1)->write_index += 8;
    vstor(relid, &v);
})
RULE(packet_stub, opened, "cannot be a packet", { control_page(0)->write_index = 16; kick(); })
RULE(packet_header_too_short, opened, "packet of",
     { raw_packet((struct vmbus_packet_header){6, 1, 4, 0, 1}, 0, 0, 40); })
RULE(packet_header_longer_than_packet, opened, "packet of",
     { raw_packet((struct vmbus_packet_header){6, 5, 4, 0, 1}, 0, 0, 40); })
RULE(packet_longer_than_written, opened, "packet of",
     { raw_packet((struct vmbus_packet_header){6, 2, 400, 0, 1}, 0, 0, 40); })
RULE(packet_flags, opened, "flags 0x2", { raw_packet((struct vmbus_packet_header){6, 2, 4, 2, 1}, 0, 0, 40); })
RULE(packet_type, opened, "packet type 8", { raw_packet((struct vmbus_packet_header){8, 2, 4, 0, 1}, 0, 0, 40); })
RULE(packet_trailer, opened, "packet trailer", { raw_packet((struct vmbus_packet_header){6, 2, 3, 0, 1}, 0, 7, 32); })
RULE(packet_no_ranges, opened, "page ranges", { raw_packet((struct vmbus_packet_header){9, 3, 4, 1, 1}, 0, 0, 40); })
RULE(packet_ranges_cut, opened, "page ranges",
     { raw_packet((struct vmbus_packet_header){9, 4, 5, 1, 1}, 1ull << 32, 4096, 48); })
RULE(packet_range_offset, opened, "page ranges",
     { raw_packet((struct vmbus_packet_header){9, 5, 5, 1, 1}, 1ull << 32, 16 | 4096ull << 32, 48); })
RULE(packet_ranges_reserved, opened, "reserved word",
     { raw_packet((struct vmbus_packet_header){9, 5, 5, 1, 1}, 1ull << 32 | 1, 16, 48); })

/* ---- storage: 15 to 20 ------------------------------------------------------------------------------- */

static void vstor_raw(uint16_t type, uint16_t flags, uint32_t bytes, struct vstor_packet v)
{
    send(relid, type, flags, 9, NULL, 0, &v, bytes);
}

static void vstor_op(uint32_t operation)
{
    struct vstor_packet v = {.operation = operation};
    vstor(relid, &v);
}

RULE(storvsp_no_completion, opened, "storvsp: packet type",
     { vstor_raw(VMBUS_PACKET_INBAND, 0, 64, (struct vstor_packet){.operation = VSTOR_OP_BEGIN_INITIALIZATION}); })
RULE(storvsp_completion, opened, "storvsp: packet type",
     { vstor_raw(VMBUS_PACKET_COMPLETION, 0, 64, (struct vstor_packet){.operation = VSTOR_OP_COMPLETE_IO}); })
RULE(storvsp_short, opened, "storvsp: packet type",
     { vstor_raw(VMBUS_PACKET_INBAND, 1, 8, (struct vstor_packet){.operation = 7}); })
RULE(storvsp_flags, opened, "vstor flags", {
    vstor_raw(VMBUS_PACKET_INBAND, 1, 64, (struct vstor_packet){.operation = VSTOR_OP_BEGIN_INITIALIZATION});
})
RULE(storvsp_unknown_operation, with_disk, "storvsp: operation 99", { vstor_op(99); })
RULE(storvsp_out_of_order, opened, "in state", { vstor_op(VSTOR_OP_QUERY_PROPERTIES); })
RULE(storvsp_begin_twice, opened, "in state", {
    vstor_op(VSTOR_OP_BEGIN_INITIALIZATION);
    vstor_op(VSTOR_OP_BEGIN_INITIALIZATION);
})
RULE(storvsp_request_too_early, opened, "before END_INITIALIZATION", { vstor_op(VSTOR_OP_EXECUTE_SRB); })
RULE(storvsp_short_handshake, opened, "handshake packet of", {
    vstor_raw(VMBUS_PACKET_INBAND, 1, 16,
              (struct vstor_packet){.operation = VSTOR_OP_BEGIN_INITIALIZATION, .flags = 1});
})
RULE(storvsp_sub_channels, with_disk, "sub-channels", {
    struct vstor_packet v = {.operation = VSTOR_OP_CREATE_SUB_CHANNELS, .sub_channel_count = 3};
    vstor(relid, &v);
})

/* One request with `ranges` as it stands. */
static void request(uint64_t id, const uint64_t *ranges, uint32_t range_bytes, struct vstor_srb srb)
{
    struct vstor_packet v = {.operation = VSTOR_OP_EXECUTE_SRB, .flags = 1, .srb = srb};

    send(relid, range_bytes ? VMBUS_PACKET_GPA_DIRECT : VMBUS_PACKET_INBAND, 1, id, ranges, range_bytes, &v, sizeof(v));
}

static struct vstor_srb read_one(uint32_t bytes)
{
    return (struct vstor_srb){
        .length = VSTOR_SRB_BYTES, .cdb_bytes = 16, .data_bytes = bytes, .data_direction = VSTOR_DATA_FROM_DEVICE,
        .sense_bytes = VSTOR_SENSE_MAX, .cdb = {SCSI_READ_10, [8] = 1},
    };
}

/* A read, with changes. */
#define SRB(bytes, ...) ({ struct vstor_srb s = read_one(bytes); __VA_ARGS__; s; })

static const uint64_t one_page[] = {1ull << 32, 512, PAGE_DATA};
static const uint64_t two_ranges[] = {2ull << 32, 512, PAGE_DATA, 512, PAGE_DATA + 1};
static const uint64_t not_memory[] = {1ull << 32, 512, RAM_PAGES};
static const uint64_t wrapped_page[] = {1ull << 32, 512, 1ull << 52 | PAGE_DATA};

RULE(srb_two_ranges, with_disk, "more than one page range", { request(3, two_ranges, 40, read_one(1024)); })
RULE(srb_range_too_short, with_disk, "shorter than the data", { request(3, one_page, 24, read_one(1024)); })
RULE(srb_page_outside, with_disk, "is not visible memory", { request(3, not_memory, 24, read_one(512)); })
RULE(srb_page_wraps, with_disk, "is not visible memory", { request(3, wrapped_page, 24, read_one(512)); })
RULE(srb_cdb_length, with_disk, "CDB longer", { request(3, one_page, 24, SRB(512, s.cdb_bytes = 17)); })
RULE(srb_length, with_disk, "length field", { request(3, one_page, 24, SRB(512, s.length = 10)); })
RULE(srb_sense_length, with_disk, "sense length", { request(3, one_page, 24, SRB(512, s.sense_bytes = 21)); })
RULE(srb_direction, with_disk, "data direction", { request(3, one_page, 24, SRB(512, s.data_direction = 3)); })
RULE(srb_direction_of_read, with_disk, "data direction of command",
     { request(3, one_page, 24, SRB(512, s.data_direction = VSTOR_DATA_TO_DEVICE)); })
RULE(srb_id_zero, with_disk, "belongs to the host", { request(0, one_page, 24, read_one(512)); })
RULE(srb_id_in_flight, with_disk, "in flight already", {
    blk_mem_hold(disk, true, false);
    request(3, one_page, 24, read_one(512));
    request(3, one_page, 24, read_one(512));
})
RULE(srb_beyond_the_limit, with_disk, "maximum transfer", {
    static uint64_t ranges[2 + 65] = {1ull << 32, 65 * 4096};
    for (unsigned i = 0; i < 65; i++)
        ranges[2 + i] = PAGE_DATA + i;
    request(3, ranges, sizeof(ranges), read_one(65 * 4096));
})
RULE(srb_packet_length, with_disk, "packet length", {
    struct vstor_packet v = {.operation = VSTOR_OP_EXECUTE_SRB, .flags = 1, .srb = read_one(512)};
    send(relid, VMBUS_PACKET_GPA_DIRECT, 1, 3, one_page, 24, &v, 40);
})
RULE(inquiry_buffer, with_disk, "more than its buffer holds",
     { request(3, one_page, 24, SRB(512, s.cdb[0] = SCSI_INQUIRY, s.cdb[8] = 0, s.cdb[3] = 4)); })
static void unmap_bytes(struct vstor_srb *s, uint16_t bytes)
{
    memset(s->cdb, 0, sizeof(s->cdb));
    s->cdb[0] = SCSI_UNMAP;
    scsi_put_be16(s->cdb + 7, bytes);
    s->data_direction = VSTOR_DATA_TO_DEVICE;
}

RULE(unmap_list_length, with_disk, "UNMAP list of",
     { request(3, one_page, 24, SRB(512, unmap_bytes(&s, 9 << 8))); })
RULE(unmap_list_inside, with_disk, "UNMAP list lengths", {
    ram[PAGE_DATA * 4096u + 3] = 7;
    request(3, one_page, 24, SRB(512, unmap_bytes(&s, 24)));
})

TEST_MAIN()
