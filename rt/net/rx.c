/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Received frames on their way from a NIC to lwIP, without a copy: each is wrapped in a custom pbuf that points into the
 * driver's receive buffer, and the driver's token goes back when lwIP drops the last reference.
 *
 * A frame may be kept for long (out-of-order TCP segments, an application that does not read), and a driver's receive
 * buffer is small. So descriptors are limited: when fewer than a quarter are left, frames are copied into the heap and
 * their tokens released at once, and when the heap has nothing left either, the frame is dropped and counted.
 *
 * What is received together is handled together where TCP allows it: an acknowledgement that the next one includes is
 * left out (a peer that gets ten segments by one large send answers with as many), and segments in sequence become one.
 *
 * Promises: a token is released exactly once; when the NIC goes (net_rx_detach), what lwIP still holds has been moved to
 * the heap before its memory disappears.
 */
#define LOG_ROOM "net"
#include "rt/net/port.h"
#include <string.h>
#include "rt/net/rx_frame.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "netif/ethernet.h"

#define JOIN_MAX       32u
#define JOIN_BYTES_MAX 60000u           /* an IP packet's length has 16 bits */

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
static uint64_t skipped, joined;
static bool joined_now;                 /* what lwIP is looking at stands for several segments */
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
uint64_t net_rx_joined(void *unused) { (void)unused; return joined; }
bool net_rx_is_joined(void) { return joined_now; }
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

/* The protocols' turn. */
static void feed(struct netif *netif, struct pbuf *p, uint32_t rx_flags)
{
    set_checks(netif, rx_flags);
    if (ethernet_input(p, netif) != ERR_OK)
        pbuf_free(p);
}

/*
 * Segments of one connection that follow each other without a gap become one long segment, a chain of their pbufs: the
 * protocols then run once for all of them. Returns how many frames were taken, at least one.
 */
static unsigned feed_segments(struct netif *netif, struct nic *nic, const struct nic_rx *frames, unsigned count,
                              struct rx_segment *first)
{
    struct pbuf *p = wrap(nic, &frames[0]);
    struct rx_segment last = *first, next;
    uint32_t data_bytes = first->data_bytes, end = net_rx_end(first);
    unsigned n = 1;
    pbuf_realloc(p, (u16_t)(first->head_bytes + first->data_bytes));    /* without the frame's padding */
    while (n < MIN(count, JOIN_MAX) && free_count > reserve && net_rx_is_segment(&frames[n], &next) &&
           data_bytes + next.data_bytes <= JOIN_BYTES_MAX && net_rx_continues(&last, end, &next)) {
        struct pbuf *q = wrap(nic, &frames[n]);
        pbuf_realloc(q, (u16_t)(next.head_bytes + next.data_bytes));
        pbuf_remove_header(q, next.head_bytes);
        pbuf_cat(p, q);
        data_bytes += next.data_bytes;
        end += next.data_bytes;
        last = next;
        n++;
    }
    if (n > 1) {
        net_rx_join(first, &last, data_bytes);
        joined += n - 1;
    }
    joined_now = n > 1;
    feed(netif, p, frames[0].flags);
    joined_now = false;
    return n;
}

void net_rx_input(struct netif *netif, struct nic *nic, struct nic_rx *frames, unsigned count)
{
    for (unsigned i = 0, taken; i < count; i += taken) {
        const struct nic_rx *rx = &frames[i];
        struct rx_segment here, next;
        struct pbuf *p = NULL;
        taken = 1;
        if (net_rx_is_segment(rx, &here) && !(rx->flags & NIC_RX_CSUM_BAD)) {
            if (here.data_bytes && free_count > reserve) {
                taken = feed_segments(netif, nic, rx, count - i, &here);
                continue;
            }
            if (!here.data_bytes && i + 1 < count && net_rx_is_segment(rx + 1, &next) && net_rx_is_superseded(&here, &next)) {
                skipped++;
                nic->ops->rx_release(nic, rx->token);
                continue;
            }
        }
        if (net_rx_is_sound(rx))
            p = free_count > reserve ? wrap(nic, rx) : copy(nic, rx);
        else
            nic->ops->rx_release(nic, rx->token);
        if (p)
            feed(netif, p, rx->flags);
        else
            nic->stats.rx_dropped++;
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
