/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RNDIS: what the host writes into the receive buffer, answers to questions and frames with their per-packet information,
 * while the packets that point there are good ones; or any bytes with any ranges.
 *
 * Must hold: a frame handed up lies in the receive buffer whole (the stack looks at every byte) or in a private copy of
 * it; each packet is completed once, when its last frame came back; an answer is taken only by the question it belongs
 * to and never beyond its own length; the NIC goes and leaves nothing behind.
 */
#include <string.h>
#include "tests/fuzz/nic.h"

static uint32_t body_bytes;
static struct netvsc *guest_nic(void) { return nic ? nic->driver : NULL; }

/* The message that the packet's first range points at, as the guest sees it. */
static bool look(struct lie_packet *p)
{
    struct vmbus_transfer_range range;
    static struct vmbus_channel *ch;
    struct netvsc *n;

    if (p->type != VMBUS_PACKET_TRANSFER_PAGES || p->header_bytes < 16)
        return false;
    ch = channel_find(p->channel->relid);
    n = guest_nic();
    if (!n && ch)
        n = vmbus_driver_data(ch);
    if (!n && ch)
        n = ch->arg;                           /* in probe */
    memcpy(&range, p->header + 8, sizeof(range));
    if (!n || range.byte_offset > n->receive.pages * PAGE_BYTES)
        return false;
    p->body = (uint8_t *)n->receive.virt + range.byte_offset;
    p->body_room = (uint32_t)(n->receive.pages * PAGE_BYTES - range.byte_offset);
    body_bytes = MIN(range.byte_count, p->body_room);      /* raw() writes any number there */
    p->body_bytes = &body_bytes;
    return true;
}

/* Any bytes at a section, and a packet that says they are so many messages. */
static void raw(struct input *in, uint8_t what)
{
    struct netvsc *n = guest_nic();
    struct host_chan *ch = vchan_find(machine_host, host_nic_relid(host_nic));
    struct {
        uint16_t set_id;
        uint8_t owner, reserved;
        uint32_t count;
        struct vmbus_transfer_range ranges[8];
    } header = {.set_id = NVSP_RECEIVE_BUFFER_ID, .count = 1 + what / 8 % 4};
    uint32_t section = in_u8(in) % MIN(n->sub_count, 16u), bytes = in_u16(in), at = section * n->sub_bytes;
    struct nvsp_message m = {.type = NVSP_SEND_RNDIS_PACKET};
    struct host_piece h = {&header, 8}, payload = {&m, NVSP_MESSAGE_BYTES};
    const uint8_t *from;

    bytes = (uint32_t)in_take(in, &from, MIN(bytes, n->sub_bytes));
    memcpy((uint8_t *)n->receive.virt + at, from, bytes);
    for (unsigned i = 0; i < header.count; i++) {
        header.ranges[i] = (struct vmbus_transfer_range){bytes, at};
        if (what & 64)
            header.ranges[i].byte_offset += in_u16(in);
        if (what & 128)
            header.ranges[i].byte_count = in_u16(in);
        h.bytes += (uint32_t)sizeof(header.ranges[0]);
    }
    if (ch && ch->open) {
        vchan_send(ch, VMBUS_PACKET_TRANSFER_PAGES, VMBUS_PACKET_FLAG_COMPLETION, 1000 + section, &h, &payload);
        vchan_queue(ch);
    }
    hv_host_run();
}

static void run(struct input *in)
{
    uint8_t first = in_u8(in);

    hold_frames = first & 2;
    lies_look = look;
    if (first & 1) {                           /* from the first question on */
        nic_leave();
        nic_config.rx_length_is_sub_allocation = first & 4;
        lies_begin(LIES_PACKETS, in);
        nic_add();
        machine_run_us(3000);
        RUN_UNTIL(nic || !lies_left(), 40);
    }
    for (unsigned n = 0; n < 40 && in->left && nic; n++) {
        uint8_t what = in_u8(in);
        if (what % 4 == 0) {
            lies_begin(LIES_PACKETS, in);
            nic_receive_frame(40 + what * 6u);
            lies_end();
        } else if (what % 4 == 1) {
            nic_send_frame(n, what * 40u, what & 8 ? NIC_TX_LSO | NIC_TX_CSUM_TCP : 0);
        } else {
            raw(in, what);
        }
        machine_run_us(100);
        if (what & 4)
            give_back();
    }
    lies_end();
    if (nic)
        give_back();
    machine_run_us(1000);
    if (first & 128 || !fuzz_thorough)         /* it stays */
        return;
    nic_remove();
    FUZZ_CHECK(RUN_UNTIL(!nic && nothing_sent(), 400));
    FUZZ_CHECK(machine_same_within(first & 1 ? &nic_before : &nic_none, 400));
    if (first & 64)
        nic_serve();
}

const struct fuzz_target fuzz_target = {.setup = nic_setup, .run = run, .limit_s = 2000};
