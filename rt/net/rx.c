/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Received frames on their way from a NIC to lwIP, without a copy: each is wrapped in a custom pbuf that points into the
 * driver's receive buffer, and the driver's token goes back when lwIP drops the last reference.
 *
 * A frame may be kept for long (out-of-order TCP segments, an application that does not read), and a driver's receive
 * buffer is small. So descriptors are limited: when fewer than a quarter are left, frames are copied into the heap and
 * their tokens released at once, and when the heap has nothing left either, the frame is dropped and counted.
 *
 * Promises: a token is released exactly once; when the NIC goes (net_rx_detach), what lwIP still holds has been moved to
 * the heap before its memory disappears.
 */
#define LOG_ROOM "net"
#include "rt/net/port.h"
#include <string.h>
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/prot/etharp.h"
#include "lwip/prot/ethernet.h"
#include "lwip/prot/ip4.h"
#include "lwip/prot/ip6.h"
#include "netif/ethernet.h"

struct rx_frame {
    struct pbuf_custom custom;
    struct list node;                   /* in free_frames or in held */
    struct nic *nic;                    /* NULL: the frame was moved to the heap */
    void *token;
    uint8_t *frame;
    uint32_t bytes;
};

static struct list free_frames = LIST_INIT(free_frames), held = LIST_INIT(held);
static unsigned free_count, total_count, reserve;
static uint64_t skipped;
static void *last_resort;               /* where content points when the NIC goes and the heap is empty */
#define LAST_RESORT_BYTES 65536

int net_rx_init(unsigned frames)
{
    struct rx_frame *all = kcalloc(frames, sizeof(*all));
    if (!all)
        return -E_NOMEM;
    for (unsigned i = 0; i < frames; i++)
        list_push_back(&free_frames, &all[i].node);
    free_count = total_count = frames;
    reserve = frames / 4;
    return 0;
}

uint64_t net_rx_skipped(void *unused) { (void)unused; return skipped; }
uint64_t net_rx_held(void *unused) { (void)unused; return total_count - free_count; }

/* lwIP dropped the last reference. */
static void frame_done(struct pbuf *p)
{
    struct rx_frame *f = container_of((struct pbuf_custom *)p, struct rx_frame, custom);
    if (f->nic)
        f->nic->ops->rx_release(f->nic, f->token);
    else if (f->frame != last_resort)
        kfree(f->frame);
    list_remove(&f->node);
    list_push_front(&free_frames, &f->node);
    free_count++;
}

static struct pbuf *wrap(struct nic *nic, const struct nic_rx *rx)
{
    struct rx_frame *f = list_entry(list_pop_front(&free_frames), struct rx_frame, node);
    free_count--;
    f->nic = nic;
    f->token = rx->token;
    f->frame = rx->frame;
    f->bytes = rx->bytes;
    f->custom.custom_free_function = frame_done;
    list_push_back(&held, &f->node);
    return pbuf_alloced_custom(PBUF_RAW, (u16_t)rx->bytes, PBUF_REF, &f->custom, rx->frame, (u16_t)rx->bytes);
}

static struct pbuf *copy(struct nic *nic, const struct nic_rx *rx)
{
    struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)rx->bytes, PBUF_RAM);
    if (p)
        memcpy(p->payload, rx->frame, rx->bytes);
    nic->ops->rx_release(nic, rx->token);
    return p;
}

/*
 * lwIP asks its interface whether checksums are to be verified, and a frame is handled to the end before the next one
 * is fed, so the interface's flags can speak for the frame: what the device has verified is not verified again.
 */
static void set_checks(struct netif *netif, uint32_t rx_flags)
{
    u16_t checks = NETIF_CHECKSUM_CHECK_ICMP | NETIF_CHECKSUM_CHECK_ICMP6;
    if (!(rx_flags & NIC_RX_CSUM_IP4_OK))
        checks |= NETIF_CHECKSUM_CHECK_IP;
    if (!(rx_flags & NIC_RX_CSUM_L4_OK))
        checks |= NETIF_CHECKSUM_CHECK_TCP | NETIF_CHECKSUM_CHECK_UDP;
    const u16_t all = NETIF_CHECKSUM_CHECK_IP | NETIF_CHECKSUM_CHECK_TCP | NETIF_CHECKSUM_CHECK_UDP |
                      NETIF_CHECKSUM_CHECK_ICMP | NETIF_CHECKSUM_CHECK_ICMP6;
    netif->chksum_flags = (netif->chksum_flags & ~all) | checks;
}

/*
 * IPv6 extension headers: each must lie in the frame with a word to spare, for lwIP reads a header's length, and an
 * option's, before it compares them with the frame's.
 */
static bool is_sound_ip6(const uint8_t *frame, uint32_t bytes)
{
    uint32_t at = SIZEOF_ETH_HDR + IP6_HLEN;
    uint8_t next = frame[SIZEOF_ETH_HDR + 6];
    while (next == IP6_NEXTH_HOPBYHOP || next == IP6_NEXTH_ROUTING || next == IP6_NEXTH_FRAGMENT || next == IP6_NEXTH_DESTOPTS) {
        if (bytes - at < 8)
            return false;
        uint32_t length = next == IP6_NEXTH_FRAGMENT ? 8 : 8u * (1 + frame[at + 1]);
        if (length > bytes - at || bytes - at - length < 4)
            return false;
        next = frame[at];
        at += length;
    }
    return true;
}

/* lwIP looks into ARP packets and IPv6 headers before it has asked for their length. */
static bool is_sound(const struct nic_rx *rx)
{
    const uint8_t *frame = rx->frame;
    if (rx->bytes > 0xffff || rx->bytes < SIZEOF_ETH_HDR || rx->vlan || (rx->flags & NIC_RX_CSUM_BAD))
        return false;
    switch (frame[12] << 8 | frame[13]) {
    case ETHTYPE_ARP:  return rx->bytes >= SIZEOF_ETH_HDR + SIZEOF_ETHARP_HDR;
    case ETHTYPE_IP:   return rx->bytes >= SIZEOF_ETH_HDR + IP_HLEN;
    case ETHTYPE_IPV6: return rx->bytes >= SIZEOF_ETH_HDR + IP6_HLEN && is_sound_ip6(frame, rx->bytes);
    default:           return true;
    }
}

/* The TCP header of a packet that does nothing but acknowledge, or NULL: no data, no options, no other flag. */
static const uint8_t *pure_ack(const struct nic_rx *rx, unsigned *ip_bytes)
{
    const uint8_t *frame = rx->frame, *ip = frame + SIZEOF_ETH_HDR, *tcp;
    if (rx->bytes < SIZEOF_ETH_HDR + 20 + 20 || !(rx->flags & NIC_RX_CSUM_L4_OK) || rx->vlan)
        return NULL;
    if (frame[12] == 0x08 && frame[13] == 0x00) {
        *ip_bytes = 20;
        if (ip[0] != 0x45 || ip[2] || ip[3] != 40 || (ip[6] & 0x3f) || ip[7] || ip[9] != 6)
            return NULL;
    } else if (frame[12] == 0x86 && frame[13] == 0xdd && rx->bytes >= SIZEOF_ETH_HDR + 40 + 20) {
        *ip_bytes = 40;
        if (ip[4] || ip[5] != 20 || ip[6] != 6)
            return NULL;
    } else {
        return NULL;
    }
    tcp = ip + *ip_bytes;
    return tcp[12] == 0x50 && tcp[13] == 0x10 ? tcp : NULL;
}

static uint32_t be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

/*
 * Acknowledgements are cumulative: when the next frame acknowledges more of the same connection and says nothing less,
 * this one need not be handled. A peer that gets ten segments by one large send answers with as many of them.
 * Repeated acknowledgements of one number mean loss and are all handled.
 */
static bool is_superseded(const struct nic_rx *rx, const struct nic_rx *next)
{
    unsigned ip_bytes, next_ip_bytes;
    const uint8_t *tcp = pure_ack(rx, &ip_bytes), *next_tcp = tcp ? pure_ack(next, &next_ip_bytes) : NULL;
    if (!next_tcp || ip_bytes != next_ip_bytes)
        return false;
    /* Addresses, ports and sequence number are the words up to the acknowledgement. */
    for (int at = ip_bytes == 20 ? -8 : -32; at < 8; at += 8) {
        uint64_t word, next_word;
        memcpy(&word, tcp + at, sizeof(word));
        memcpy(&next_word, next_tcp + at, sizeof(next_word));
        if (word != next_word)
            return false;
    }
    return (int32_t)(be32(next_tcp + 8) - be32(tcp + 8)) > 0;
}

void net_rx_input(struct netif *netif, struct nic *nic, struct nic_rx *frames, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct nic_rx *rx = &frames[i];
        struct pbuf *p = NULL;
        if (i + 1 < count && is_superseded(rx, rx + 1)) {
            skipped++;
            nic->ops->rx_release(nic, rx->token);
            continue;
        }
        if (!is_sound(rx))
            nic->ops->rx_release(nic, rx->token);
        else
            p = free_count > reserve ? wrap(nic, rx) : copy(nic, rx);
        if (!p) {
            nic->stats.rx_dropped++;
            continue;
        }
        set_checks(netif, rx->flags);
        if (ethernet_input(p, netif) != ERR_OK)
            pbuf_free(p);
    }
}

void net_rx_detach(struct nic *nic)
{
    unsigned lost = 0;
    list_for_each(node, &held) {
        struct rx_frame *f = list_entry(node, struct rx_frame, node);
        if (f->nic != nic)
            continue;
        uint8_t *moved = kmalloc(f->bytes);
        if (!moved) {
            /* Its content is lost; what must not happen is that lwIP reads memory that is no longer ours. */
            if (!last_resort)
                last_resort = kzalloc(LAST_RESORT_BYTES);
            KASSERT(last_resort);
            moved = last_resort;
            lost++;
        } else {
            memcpy(moved, f->frame, f->bytes);
        }
        struct pbuf *p = &f->custom.pbuf;
        p->payload = moved + ((uint8_t *)p->payload - f->frame);
        f->frame = moved;
        f->nic = NULL;
        nic->ops->rx_release(nic, f->token);
    }
    if (lost)
        log_err("%u received frames were lost with %s: out of memory", lost, nic->name);
}
