/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Received frames on their way from a NIC to lwIP, without a copy: each is wrapped in a custom pbuf that points into
 * the driver's receive buffer, and the driver's token goes back when lwIP drops the last reference.
 *
 * A frame may be kept for long (out-of-order TCP segments, an application that does not read), and a driver's receive
 * buffer is small; worse, a host gets a packet's part of it back only when all frames of that packet are released,
 * and there may be hundreds. So nothing is held for long: small frames are copied into the heap at once, which costs no
 * more than the descriptor; what is still held after HOLD_US is moved there; when fewer than a quarter of the
 * descriptors are left, everything is copied. When the heap has nothing left either, the frame is dropped and counted.
 *
 * What is received together is handled together where TCP allows it: an acknowledgement that the next one includes is
 * left out (a peer that gets ten segments by one large send answers with as many), and segments in sequence become one.
 *
 * Promises: a token is released exactly once; when the NIC goes (net_rx_detach), what lwIP still holds has been moved
 * to the heap before its memory disappears.
 */
#define LOG_ROOM "net"
#include "rt/net/port.h"
#include <string.h>
#include "rt/net/rx_frame.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/priv/tcp_priv.h"
#include "netif/ethernet.h"

#define SMALL_BYTES    320u
#define HOLD_US        200000ull
#define JOIN_MAX       32u
#define JOIN_BYTES_MAX 60000u           /* an IP packet's length has 16 bits */

struct rx_frame {
    struct pbuf_custom custom;
    struct list node;                   /* in free_frames or in held */
    struct nic *nic;                    /* NULL: the frame was moved to the heap */
    void *token;
    uint8_t *frame;
    uint32_t bytes;
    uint32_t period;                    /* of HOLD_US, in which it came */
};

static struct list free_frames = LIST_INIT(free_frames), held = LIST_INIT(held);    /* held: oldest first */
static struct rt_timer hold_timer;
static uint32_t period;

static void move_old(void *arg);
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
    timer_init(&hold_timer, move_old, NULL);
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

/* Of the frame, `bytes` from `at` on are what lwIP is to see. */
static struct pbuf *wrap(struct nic *nic, const struct nic_rx *rx, uint32_t at, uint32_t bytes)
{
    struct rx_frame *f = list_entry(list_pop_front(&free_frames), struct rx_frame, node);
    free_count--;
    f->nic = nic;
    f->token = rx->token;
    f->frame = rx->frame;
    f->bytes = rx->bytes;
    f->period = period;
    if (!hold_timer.armed)
        timer_arm_100ns(&hold_timer, rt_now_100ns() + US_100NS(HOLD_US));
    f->custom.custom_free_function = frame_done;
    list_push_back(&held, &f->node);
    return pbuf_alloced_custom(PBUF_RAW, (u16_t)bytes, PBUF_REF, &f->custom, f->frame + at, (u16_t)bytes);
}

/* A function of its own, so that the way without a copy need not save registers. */
static __attribute__((noinline)) struct pbuf *copy(struct nic *nic, const struct nic_rx *rx, uint32_t at,
                                                   uint32_t bytes)
{
    struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)bytes, PBUF_RAM);
    if (p)
        memcpy(p->payload, (const uint8_t *)rx->frame + at, bytes);
    else
        nic->stats.rx_dropped++;
    nic->ops->rx_release(nic, rx->token);
    return p;
}

/* NULL: dropped. by_reference: when there are descriptors enough. */
static struct pbuf *take(struct nic *nic, const struct nic_rx *rx, uint32_t at, uint32_t bytes, bool by_reference)
{
    return by_reference && free_count > reserve ? wrap(nic, rx, at, bytes) : copy(nic, rx, at, bytes);
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

/* The segment's headers are now where the pbuf has them. */
static void relocate(struct rx_segment *s, const void *frame, const struct pbuf *p)
{
    ptrdiff_t by = (const char *)p->payload - (const char *)frame;
    s->ip += by;
    s->tcp += by;
}

/* Of a chain, from its pieces' lengths. */
static void count_chain(struct pbuf *p, uint32_t bytes)
{
    for (; p; bytes -= p->len, p = p->next)
        p->tot_len = (u16_t)bytes;
}

/*
 * Segments of one connection that follow each other without a gap become one long segment, a chain of their pbufs: the
 * protocols then run once for all of them. Returns how many frames were taken, at least one.
 */
static unsigned feed_segments(struct netif *netif, struct nic *nic, const struct nic_rx *frames, unsigned count,
                              struct rx_segment *s)
{
    /* Without the frame's padding. */
    struct pbuf *p = take(nic, &frames[0], 0, s->head_bytes + s->data_bytes, frames[0].bytes > SMALL_BYTES), *last = p;
    struct rx_segment next;
    unsigned n = 1;
    if (!p)
        return 1;
    relocate(s, frames[0].frame, p);
    while (n < MIN(count, JOIN_MAX) && net_rx_is_segment(&frames[n], &next) &&
           s->data_bytes + next.data_bytes <= JOIN_BYTES_MAX && net_rx_continues(s, &next)) {
        const struct nic_rx *rx = &frames[n++];
        struct pbuf *q = take(nic, rx, next.head_bytes, next.data_bytes, rx->bytes > SMALL_BYTES);
        if (!q)
            break;
        last->next = q;
        last = q;
        net_rx_join(s, &next);
        joined++;
    }
    if (last != p) {
        count_chain(p, s->head_bytes + s->data_bytes);
        net_rx_write_joined(s);
        joined_now = true;
    }
    feed(netif, p, frames[0].flags);
    joined_now = false;
    return n;
}

void net_rx_input(struct netif *netif, struct nic *nic, struct nic_rx *frames, unsigned count)
{
    for (unsigned i = 0, taken; i < count; i += taken) {
        const struct nic_rx *rx = &frames[i];
        struct rx_segment here, next;
        struct pbuf *p;
        bool by_reference = true;       /* an acknowledgement is gone at once */
        taken = 1;
        if (net_rx_is_segment(rx, &here)) {
            if (here.data_bytes) {
                taken = feed_segments(netif, nic, rx, count - i, &here);
                continue;
            }
            if (i + 1 < count && net_rx_is_segment(rx + 1, &next) && net_rx_is_superseded(&here, &next)) {
                skipped++;
                nic->ops->rx_release(nic, rx->token);
                continue;
            }
        } else if (!net_rx_is_sound(rx)) {
            nic->stats.rx_dropped++;
            nic->ops->rx_release(nic, rx->token);
            continue;
        } else {
            by_reference = rx->bytes > SMALL_BYTES && !net_rx_is_fragment(rx);
        }
        p = take(nic, rx, 0, rx->bytes, by_reference);
        if (p)
            feed(netif, p, rx->flags);
    }
}

/* Segments that came out of order wait with a pointer to their header. */
static void move_headers(const struct rx_frame *f, uint8_t *to)
{
    for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = pcb->next)
        for (struct tcp_seg *seg = pcb->ooseq; seg; seg = seg->next) {
            size_t at = (size_t)((uint8_t *)seg->tcphdr - f->frame);
            if (at < f->bytes)
                seg->tcphdr = (struct tcp_hdr *)(void *)(to + at);
        }
}

/*
 * Whoever holds the frame finds it elsewhere; the driver has its memory back. This is known of lwIP: between packets it
 * points into a frame from the pbuf and from segments out of order, and otherwise only from IP fragments, which were
 * never wrapped.
 */
static void move(struct rx_frame *f, uint8_t *to)
{
    struct pbuf *p = &f->custom.pbuf;
    struct nic *nic = f->nic;
    move_headers(f, to);
    p->payload = to + ((uint8_t *)p->payload - f->frame);
    f->frame = to;
    f->nic = NULL;
    nic->ops->rx_release(nic, f->token);
}

static bool move_to_heap(struct rx_frame *f)
{
    uint8_t *to = kmalloc(f->bytes);
    if (!to)
        return false;
    memcpy(to, f->frame, f->bytes);
    move(f, to);
    return true;
}

/* Once per period: what came before the last one. */
static void move_old(void *arg)
{
    bool any = false;
    (void)arg;
    list_for_each(node, &held) {
        struct rx_frame *f = list_entry(node, struct rx_frame, node);
        if (!f->nic)
            continue;
        any = true;
        if (f->period == period || !move_to_heap(f))
            break;                      /* the others are newer, or there is no memory now */
    }
    period++;
    if (any)
        timer_arm_100ns(&hold_timer, rt_now_100ns() + US_100NS(HOLD_US));
}

void net_rx_detach(struct nic *nic)
{
    unsigned lost = 0;
    list_for_each(node, &held) {
        struct rx_frame *f = list_entry(node, struct rx_frame, node);
        if (f->nic != nic || move_to_heap(f))
            continue;
        /* Its content is lost; what must not happen is that lwIP reads memory that is no longer ours. */
        if (!last_resort)
            last_resort = kzalloc(LAST_RESORT_BYTES);
        KASSERT(last_resort);
        move(f, last_resort);
        lost++;
    }
    if (lost)
        log_err("%u received frames were lost with %s: out of memory", lost, nic->name);
}
