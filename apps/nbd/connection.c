/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * NBD sessions on TCP, with lwIP's callback interface: it sends memory by reference, which sockets do not.
 *
 * Out: replies are written to TCP in order, as much as its send buffer takes, and remembered with their position in the
 * stream; when the client has acknowledged that position and the NIC has let go of every frame that may point there,
 * their memory goes back. In: received pbufs wait in a ring until the session takes their bytes, and only taken bytes
 * reopen the window.
 *
 * A connection is closed and freed only from its own event, never inside a callback of lwIP or of the session, so
 * nobody finds it gone under his feet. After its TCP is gone the struct lives until the disk has let go of its last
 * request.
 */
#define LOG_ROOM "nbd"
#include "apps/nbd/connection.h"
#include "lwip/tcp.h"

#define RX_RING               256           /* received chains that wait; a power of two */
#define NEGOTIATION_LIMIT_S   30
#define STALL_LIMIT_S         120           /* a client that neither reads nor writes what it must */
#define KEEP_IDLE_MS          60000
#define KEEP_INTERVAL_MS      10000
#define KEEP_COUNT            6

struct conn {
    struct nbd_session session;
    struct list node;
    struct tcp_pcb *pcb;                    /* NULL: gone */
    struct pbuf *rx[RX_RING];
    unsigned rx_head, rx_used;
    bool taking;                            /* inside take_input */
    bool eof, eof_told, close_wanted, abort_wanted;
    struct list to_write, to_ack;           /* replies */
    uint64_t written, acked;                /* positions in the stream */
    struct rt_event event;
    uint64_t since_100ns, input_100ns, acked_100ns;
};

static struct list conns = LIST_INIT(conns);
static struct wait_queue all_gone = WAIT_QUEUE_INIT(all_gone);
static struct nbd_totals totals;             /* of connections that are gone */
static unsigned count;
static uint64_t dropped;

static struct conn *conn_of(struct nbd_session *s) { return container_of(s, struct conn, session); }

/* ---- out ---- */
static void release_now(struct net_release *release)
{
    struct nbd_reply *r = container_of(release, struct nbd_reply, release);
    r->sent(r);
}

static void give_back(struct nbd_reply *r)
{
    list_remove(&r->node);
    r->release.fn = release_now;
    net_release_after_tx(&r->release);
}

static void send_reply(struct nbd_session *s, struct nbd_reply *r)
{
    struct conn *c = conn_of(s);
    r->written = 0;
    list_push_back(&c->to_write, &r->node);
    if (list_empty(&c->to_ack))
        c->acked_100ns = rt_now_100ns();    /* the stall clock starts with the first that waits */
    event_raise(&c->event);
}

/* As much of one reply as TCP takes; true when all of it was taken. */
static bool write_reply(struct conn *c, struct nbd_reply *r)
{
    uint32_t total = r->header_bytes + r->data_bytes;
    while (r->written < total) {
        bool in_header = r->written < r->header_bytes;
        const uint8_t *from = in_header ? r->header + r->written
                                        : (const uint8_t *)r->data + (r->written - r->header_bytes);
        uint32_t left = in_header ? r->header_bytes - r->written : total - r->written;
        uint32_t n = MIN(left, (uint32_t)tcp_sndbuf(c->pcb));
        n = MIN(n, 0xffffu);
        bool more = r->written + n < total || r->node.next != &c->to_write;
        if (n == 0 || tcp_write(c->pcb, from, (u16_t)n, more ? TCP_WRITE_FLAG_MORE : 0) != ERR_OK)
            return false;
        r->written += n;
    }
    c->written += total;
    r->end = c->written;
    return true;
}

static void write_replies(struct conn *c)
{
    while (!list_empty(&c->to_write)) {
        struct nbd_reply *r = list_entry(c->to_write.next, struct nbd_reply, node);
        if (!write_reply(c, r))
            break;
        list_remove(&r->node);
        list_push_back(&c->to_ack, &r->node);
    }
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t bytes)
{
    struct conn *c = arg;
    (void)pcb;
    c->acked += bytes;
    c->acked_100ns = rt_now_100ns();
    while (!list_empty(&c->to_ack)) {
        struct nbd_reply *r = list_entry(c->to_ack.next, struct nbd_reply, node);
        if (r->end > c->acked)
            break;
        give_back(r);
    }
    /* lwIP sends what is written here when this callback has returned. */
    write_replies(c);
    if (c->close_wanted)
        event_raise(&c->event);
    return ERR_OK;
}

/* ---- in ---- */
static void reopen_window(struct conn *c, size_t bytes)
{
    while (bytes > 0 && c->pcb) {
        u16_t n = (u16_t)MIN(bytes, (size_t)0xffff);
        tcp_recved(c->pcb, n);
        bytes -= n;
    }
}

/* Frees what was taken of the first piece of a chain; an empty piece goes, too. */
static struct pbuf *advance(struct pbuf *p, size_t n)
{
    if (n < p->len) {
        pbuf_remove_header(p, n);
        p->tot_len = p->next ? (u16_t)(p->len + p->next->tot_len) : p->len;
        return p;
    }
    struct pbuf *next = p->next;
    if (next)
        pbuf_ref(next);
    pbuf_free(p);
    return next;
}

static void take_input(struct conn *c)
{
    size_t taken = 0;
    if (c->taking)
        return;
    c->taking = true;
    nbd_session_input(&c->session, NULL, 0);
    while (c->rx_used) {
        struct pbuf *p = c->rx[c->rx_head];
        size_t n = nbd_session_input(&c->session, p->payload, p->len);
        bool all = n == p->len;
        taken += n;
        p = advance(p, n);
        c->rx[c->rx_head] = p;
        if (!p) {
            c->rx_head = (c->rx_head + 1) % RX_RING;
            c->rx_used--;
        }
        if (!all)
            break;
    }
    c->taking = false;
    if (taken) {
        c->input_100ns = rt_now_100ns();
        reopen_window(c, taken);
    }
    if (c->eof && c->rx_used == 0 && !c->eof_told) {
        c->eof_told = true;
        nbd_session_eof(&c->session);
    }
}

static err_t on_received(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    struct conn *c = arg;
    (void)pcb;
    (void)err;
    if (!p) {
        c->eof = true;
    } else {
        if (c->rx_used == RX_RING)
            return ERR_MEM;                 /* lwIP keeps it and asks again */
        c->rx[(c->rx_head + c->rx_used++) % RX_RING] = p;
    }
    take_input(c);
    return ERR_OK;
}

static void resume(struct nbd_session *s)
{
    struct conn *c = conn_of(s);
    if (c->pcb)
        take_input(c);
}

/* ---- the end ---- */
static void close_after_replies(struct nbd_session *s)
{
    struct conn *c = conn_of(s);
    c->close_wanted = true;
    event_raise(&c->event);
}

static void add_up(struct nbd_totals *t, const struct nbd_session *s)
{
    t->reads += s->stats.reads;
    t->writes += s->stats.writes;
    t->flushes += s->stats.flushes;
    t->trims += s->stats.trims;
    t->zeroes += s->stats.zeroes;
    t->errors += s->stats.errors;
    t->read_bytes += s->stats.read_bytes;
    t->write_bytes += s->stats.write_bytes;
}

static void released(struct nbd_session *s)
{
    struct conn *c = conn_of(s);
    KASSERT(!c->pcb && list_empty(&c->to_write) && list_empty(&c->to_ack));
    event_cancel(&c->event);
    kfree(c);
}

/* TCP is gone or no longer ours. c may be gone afterwards. */
static void forget(struct conn *c)
{
    c->pcb = NULL;
    list_remove(&c->node);
    count--;
    add_up(&totals, &c->session);
    if (count == 0)
        wait_queue_wake_all(&all_gone);
    while (c->rx_used) {
        pbuf_free(c->rx[c->rx_head]);
        c->rx_head = (c->rx_head + 1) % RX_RING;
        c->rx_used--;
    }
    /* Their memory still refers to the session, which so outlives this. */
    while (!list_empty(&c->to_write))
        give_back(list_entry(c->to_write.next, struct nbd_reply, node));
    while (!list_empty(&c->to_ack))
        give_back(list_entry(c->to_ack.next, struct nbd_reply, node));
    nbd_session_end(&c->session);
}

static void detach(struct tcp_pcb *pcb)
{
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_sent(pcb, NULL);
    tcp_err(pcb, NULL);
    tcp_poll(pcb, NULL, 0);
}

static void run_event(void *arg)
{
    struct conn *c = arg;
    struct tcp_pcb *pcb = c->pcb;
    if (!pcb)
        return;
    if (c->abort_wanted) {
        dropped++;
        detach(pcb);
        tcp_abort(pcb);
        forget(c);
        return;
    }
    write_replies(c);
    if (c->close_wanted && list_empty(&c->to_write) && list_empty(&c->to_ack)) {
        detach(pcb);
        if (tcp_close(pcb) != ERR_OK)
            tcp_abort(pcb);
        log_info_some("%s: closed", c->session.peer);
        forget(c);
        return;
    }
    tcp_output(pcb);
}

static void on_error(void *arg, err_t err)
{
    struct conn *c = arg;
    log_info_some("%s: connection %s", c->session.peer, err == ERR_RST ? "reset" : "lost");
    forget(c);
}

static void drop(struct conn *c, const char *why)
{
    log_warn_some("%s: %s, dropped", c->session.peer, why);
    c->abort_wanted = true;
    event_raise(&c->event);
}

/* Once a second. */
static err_t on_poll(void *arg, struct tcp_pcb *pcb)
{
    struct conn *c = arg;
    struct nbd_session *s = &c->session;
    uint64_t now = rt_now_100ns();
    (void)pcb;
    if (c->abort_wanted)
        return ERR_OK;
    bool half_sent = s->have > 0 || s->state == NBD_PAYLOAD || s->state == NBD_PAYLOAD_SKIP;
    bool replies_wait = !list_empty(&c->to_write) || !list_empty(&c->to_ack);
    if (s->state < NBD_REQUEST && now - c->since_100ns > S_100NS(NEGOTIATION_LIMIT_S))
        drop(c, "did not finish the negotiation");
    else if (replies_wait && now - c->acked_100ns > S_100NS(STALL_LIMIT_S))
        drop(c, "does not read its replies");
    else if (half_sent && c->rx_used == 0 && now - c->input_100ns > S_100NS(STALL_LIMIT_S))
        drop(c, "stopped in the middle of a request");
    nbd_session_tick(s);
    event_raise(&c->event);
    return ERR_OK;
}

/* ---- the beginning ---- */
static const struct nbd_transport transport = {send_reply, resume, close_after_replies, released};

bool nbd_connection_start(struct tcp_pcb *pcb, const struct nbd_policy *policy)
{
    struct conn *c = kzalloc(sizeof(*c));
    if (!c)
        return false;
    c->pcb = pcb;
    c->event = (struct rt_event)RT_EVENT_INIT(run_event, c);
    c->since_100ns = c->input_100ns = c->acked_100ns = rt_now_100ns();
    list_init(&c->to_write);
    list_init(&c->to_ack);
    list_push_back(&conns, &c->node);
    count++;
    nbd_session_init(&c->session, &transport, policy);
    ksnprintf(c->session.peer, sizeof(c->session.peer), "%s:%u", ipaddr_ntoa(&pcb->remote_ip), pcb->remote_port);
    tcp_arg(pcb, c);
    tcp_recv(pcb, on_received);
    tcp_sent(pcb, on_sent);
    tcp_err(pcb, on_error);
    tcp_poll(pcb, on_poll, 2);              /* in units of 500 ms */
    tcp_nagle_disable(pcb);
    ip_set_option(pcb, SOF_KEEPALIVE);
    pcb->keep_idle = KEEP_IDLE_MS;
    pcb->keep_intvl = KEEP_INTERVAL_MS;
    pcb->keep_cnt = KEEP_COUNT;
    nbd_session_start(&c->session);
    return true;
}

/* ---- the end of them all ---- */
void nbd_connections_finish(uint64_t limit_us)
{
    list_for_each_safe(node, &conns)
        nbd_session_finish(&list_entry(node, struct conn, node)->session);
    if (WAIT_UNTIL(&all_gone, count == 0, limit_us, "clients to be served"))
        return;
    list_for_each_safe(node, &conns)
        drop(list_entry(node, struct conn, node), "not served within the limit of the shutdown");
    WAIT_UNTIL(&all_gone, count == 0, limit_us, "connections to be dropped");
}

/* ---- for the status page ---- */
unsigned nbd_connection_count(void) { return count; }

void nbd_connection_totals(struct nbd_totals *t)
{
    *t = totals;
    t->dropped = dropped;
    list_for_each(node, &conns)
        add_up(t, &list_entry(node, struct conn, node)->session);
}

const struct nbd_session *nbd_connection_session(unsigned n)
{
    list_for_each(node, &conns)
        if (n-- == 0)
            return &list_entry(node, struct conn, node)->session;
    return NULL;
}
