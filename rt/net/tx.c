/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames on their way from lwIP to a NIC, by reference: each piece of a pbuf chain becomes a piece of the frame, and
 * the chain is held until the driver is done. lwIP knows that a segment whose chain is held elsewhere is still on its
 * way and does not touch it.
 *
 * Flow control: descriptors are limited. When the NIC says "no room", frames wait here in order; when descriptors run
 * out, lwIP is told ERR_MEM, remembers it in the connection (TF_NAGLEMEMERR), and is asked again here as soon as
 * descriptors come back, not at its next slow timer.
 *
 * One signal to the host serves all frames of one turn of the loop: the kick is an event.
 *
 * net_release_after_tx answers a question that only this file can: whether memory that was given to TCP by reference
 * may be reused. An acknowledgement is not enough: a retransmission of the same bytes, or a peer that acknowledges what
 * it has not seen, leaves frames in the NIC's queue that still point there.
 */
#define LOG_ROOM "net"
#include "rt/net/net.h"
#include "rt/net/port.h"
#include "rt/net/tx_offload.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/priv/tcp_priv.h"

#define ROOM_LIMIT_US 1000000           /* after it the frame is tried all the same, and refused */

struct tx_frame {
    struct nic_tx tx;
    struct list node;                   /* free_frames, waiting or in_flight */
    struct pbuf *p;
    uint64_t number;
};

static struct list free_frames = LIST_INIT(free_frames);
static struct list waiting = LIST_INIT(waiting);        /* for room in the NIC, in order */
static struct list in_flight = LIST_INIT(in_flight);    /* taken by the NIC; first is oldest */
static struct list releases = LIST_INIT(releases);
static uint64_t next_number = 1;
static struct nic *nic;
static unsigned free_count, reserve;                    /* datagrams leave the reserve to TCP */
static struct wait_queue room_waiters = WAIT_QUEUE_INIT(room_waiters);
static bool starved;                                    /* lwIP was told ERR_MEM since the last retry */

static void work(void *arg);
static struct rt_event work_event = RT_EVENT_INIT(work, NULL);

int net_tx_init(unsigned frames)
{
    struct tx_frame *all = kcalloc(frames, sizeof(*all));
    if (!all)
        return -E_NOMEM;
    for (unsigned i = 0; i < frames; i++)
        list_push_back(&free_frames, &all[i].node);
    free_count = frames;
    reserve = frames / 4;
    return 0;
}

static uint64_t oldest_number(void)
{
    struct list *first = !list_empty(&in_flight) ? in_flight.next : !list_empty(&waiting) ? waiting.next : NULL;
    return first ? list_entry(first, struct tx_frame, node)->number : next_number;
}

void net_release_after_tx(struct net_release *r)
{
    if (list_empty(&in_flight) && list_empty(&waiting)) {
        r->fn(r);
        return;
    }
    r->before = next_number;
    list_push_back(&releases, &r->node);
}

static void run_releases(void)
{
    uint64_t oldest = oldest_number();
    while (!list_empty(&releases)) {
        struct net_release *r = list_entry(releases.next, struct net_release, node);
        if (oldest < r->before)
            return;
        list_remove(&r->node);
        r->fn(r);
    }
}

static void frame_free(struct tx_frame *f)
{
    pbuf_free(f->p);
    f->p = NULL;
    list_remove(&f->node);
    list_push_front(&free_frames, &f->node);
    free_count++;
    if (starved || !list_empty(&room_waiters.waiters) || !list_empty(&releases))
        event_raise(&work_event);
}

/* The driver is done with the pieces. May run inside send(). */
static void frame_done(struct nic_tx *tx) { frame_free(container_of(tx, struct tx_frame, tx)); }

/* Fills the pieces; false when the chain has too many. */
static bool describe(struct nic_tx *tx, const struct pbuf *p)
{
    unsigned n = 0;
    for (const struct pbuf *q = p; q; q = q->next) {
        if (q->len == 0)
            continue;
        if (n == NIC_MAX_PIECES)
            return false;
        tx->pieces[n].addr = q->payload;
        tx->pieces[n++].bytes = q->len;
    }
    tx->piece_count = (uint16_t)n;
    tx->total_bytes = p->tot_len;
    return n > 0;
}

/* A driver may refuse a frame whose pieces lie in too many pages; one copy lies in few. */
static bool make_contiguous(struct tx_frame *f)
{
    struct pbuf *copy = f->tx.piece_count > 1 ? pbuf_clone(PBUF_RAW, PBUF_RAM, f->p) : NULL;
    if (!copy)
        return false;
    pbuf_free(f->p);
    f->p = copy;
    return describe(&f->tx, copy);
}

/* 0, or -E_AGAIN with the frame untouched, or another error with the frame freed. */
static int send(struct tx_frame *f)
{
    list_remove(&f->node);
    list_push_back(&in_flight, &f->node);
    int error = nic->ops->send(nic, &f->tx);
    if (error == -E_INVAL && make_contiguous(f))
        error = nic->ops->send(nic, &f->tx);
    if (error == -E_AGAIN) {
        list_remove(&f->node);
    } else if (error) {
        nic->stats.tx_errors++;
        frame_free(f);
    }
    return error;
}

static void send_waiting(void)
{
    while (nic && !list_empty(&waiting)) {
        struct tx_frame *f = list_entry(waiting.next, struct tx_frame, node);
        if (send(f) == -E_AGAIN) {
            list_push_front(&waiting, &f->node);
            return;
        }
    }
}

int8_t net_tx_output(struct netif *netif, struct pbuf *p)
{
    if (!nic || !netif_is_link_up(netif))
        return ERR_IF;
    if (list_empty(&free_frames)) {
        starved = true;
        return ERR_MEM;
    }
    struct tx_frame *f = list_entry(free_frames.next, struct tx_frame, node);
    struct nic_tx *tx = &f->tx;
    if (!describe(tx, p) || !net_tx_offload_fits(p)) {
        p = pbuf_clone(PBUF_RAW, PBUF_RAM, p);
        if (!p) {
            starved = true;
            return ERR_MEM;
        }
        describe(tx, p);
    } else {
        pbuf_ref(p);
    }
    if (!net_tx_offload(tx, p, netif, nic)) {
        pbuf_free(p);
        nic->stats.tx_errors++;
        return ERR_VAL;
    }
    free_count--;
    tx->done = frame_done;
    f->p = p;
    f->number = next_number++;
    if (!list_empty(&waiting)) {
        list_remove(&f->node);
        list_push_back(&waiting, &f->node);
        return ERR_OK;
    }
    int error = send(f);
    if (error == -E_AGAIN)
        list_push_back(&waiting, &f->node);
    else if (error)
        return ERR_IF;
    event_raise(&work_event);
    return ERR_OK;
}

/* Connections whose output met ERR_MEM. tcp_output neither frees a connection nor moves it in the list. */
static void retry_tcp(void)
{
    for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb && !list_empty(&free_frames); pcb = pcb->next)
        if (pcb->unsent && (pcb->flags & TF_NAGLEMEMERR))
            tcp_output(pcb);
}

static void work(void *arg)
{
    (void)arg;
    run_releases();
    if (free_count > reserve)
        wait_queue_wake_all(&room_waiters);
    if (starved && !list_empty(&free_frames)) {
        starved = false;
        retry_tcp();
    }
    net_tx_kick();
}

/* For tasks that send datagrams, which nothing else slows down. */
void net_tx_wait_room(void)
{
    if (free_count <= reserve && nic)
        WAIT_UNTIL(&room_waiters, free_count > reserve || !nic, ROOM_LIMIT_US, "room to send");
}

void net_tx_kick(void)
{
    if (nic)
        nic->ops->kick(nic);
}

void net_tx_ready(void)
{
    send_waiting();
    event_raise(&work_event);
}

void net_tx_attach(struct nic *new_nic)
{
    nic = new_nic;
    while (!list_empty(&waiting))
        frame_free(list_entry(waiting.next, struct tx_frame, node));
}
