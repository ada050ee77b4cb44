/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A small HTTP server for two pages: one request per connection, the answer written when the request is complete, sent
 * by reference, then the connection closed.
 *
 * lwIP's own httpd was looked at and not taken: it answers files, knows neither HEAD nor 405, and wants the whole page
 * before the first header.
 *
 * Bounds: HTTP_REQUEST_MAX bytes of request, CONNECTIONS_MAX clients, TIME_LIMIT_S seconds per client from the first
 * packet to the last acknowledgement.
 */
#define LOG_ROOM "http"
#include "apps/nbd/http.h"
#include <string.h>
#include "apps/nbd/http_parse.h"
#include "rt/net/net.h"
#include "lwip/tcp.h"

#define CONNECTIONS_MAX 16
#define TIME_LIMIT_S    15

struct http_conn {
    struct tcp_pcb *pcb;                /* NULL: gone */
    uint64_t since_100ns;
    char request[HTTP_REQUEST_MAX];
    size_t request_bytes;
    bool answered;
    char head[256];
    size_t head_bytes, written, acked, total;
    struct text body;
    struct rt_event event;              /* writes and closes, outside lwIP's callbacks */
    struct net_release release;
};

static unsigned connections;

/* ---- the end ---- */
static void free_conn(struct net_release *release)
{
    struct http_conn *c = container_of(release, struct http_conn, release);
    text_free(&c->body);
    kfree(c);
}

static void forget(struct http_conn *c)
{
    c->pcb = NULL;
    event_cancel(&c->event);
    connections--;
    c->release.fn = free_conn;
    net_release_after_tx(&c->release);
}

static void finish(struct http_conn *c, bool abort)
{
    struct tcp_pcb *pcb = c->pcb;
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_sent(pcb, NULL);
    tcp_err(pcb, NULL);
    tcp_poll(pcb, NULL, 0);
    if (abort || tcp_close(pcb) != ERR_OK)
        tcp_abort(pcb);
    forget(c);
}

/* ---- the answer ---- */
static void write_page(struct http_conn *c, int status, const struct http_request *request)
{
    const char *type = "text/html; charset=utf-8";
    if (status == 200 && strcmp(request->path, "/") == 0) {
        status_write(&c->body);
    } else if (status == 200 && strcmp(request->path, "/metrics") == 0) {
        type = "text/plain; version=0.0.4; charset=utf-8";
        metrics_write(&c->body);
    } else if (status == 200) {
        status = 404;
    }
    if (c->body.failed) {
        text_free(&c->body);
        status = 500;
    }
    if (status != 200) {
        type = "text/plain; charset=utf-8";
        text_add(&c->body, "%d %s\n", status, http_reason(status));
    }
    c->head_bytes = (size_t)ksnprintf(c->head, sizeof(c->head),
                                      "HTTP/1.1 %d %s\r\nServer: Candela\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                                      "Cache-Control: no-store\r\n%sConnection: close\r\n\r\n",
                                      status, http_reason(status), type, c->body.bytes,
                                      status == 405 ? "Allow: GET, HEAD\r\n" : "");
    KASSERT(c->head_bytes < sizeof(c->head));
    c->total = c->head_bytes + (request->head ? 0 : c->body.bytes);
    c->answered = true;
}

static void run_event(void *arg)
{
    struct http_conn *c = arg;
    while (c->written < c->total) {
        bool in_head = c->written < c->head_bytes;
        const char *from = in_head ? c->head + c->written : c->body.p + (c->written - c->head_bytes);
        size_t n = (in_head ? c->head_bytes : c->total) - c->written;
        n = MIN(n, (size_t)tcp_sndbuf(c->pcb));
        n = MIN(n, (size_t)0xffff);
        if (n == 0 || tcp_write(c->pcb, from, (u16_t)n, c->written + n < c->total ? TCP_WRITE_FLAG_MORE : 0) != ERR_OK)
            break;
        c->written += n;
    }
    if (c->answered && c->acked == c->total)
        finish(c, false);
    else if (rt_now_100ns() - c->since_100ns > S_100NS(TIME_LIMIT_S))
        finish(c, true);
    else
        tcp_output(c->pcb);
}

/* ---- lwIP's callbacks ---- */
static err_t on_received(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    struct http_conn *c = arg;
    struct http_request request = {0};
    (void)err;
    if (!p) {
        /* A client may close its side after the request; one that closes before is not waited for. */
        if (!c->answered)
            c->answered = true;
        event_raise(&c->event);
        return ERR_OK;
    }
    if (!c->answered)
        c->request_bytes += pbuf_copy_partial(p, c->request + c->request_bytes,
                                              (u16_t)(sizeof(c->request) - c->request_bytes), 0);
    tcp_recved(pcb, p->tot_len);
    pbuf_free(p);
    if (c->answered)
        return ERR_OK;
    int status = http_parse(c->request, c->request_bytes, &request);
    if (status) {
        write_page(c, status, &request);
        event_raise(&c->event);
    }
    return ERR_OK;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t bytes)
{
    struct http_conn *c = arg;
    (void)pcb;
    c->acked += bytes;
    event_raise(&c->event);
    return ERR_OK;
}

static err_t on_poll(void *arg, struct tcp_pcb *pcb)
{
    struct http_conn *c = arg;
    (void)pcb;
    event_raise(&c->event);
    return ERR_OK;
}

static void on_error(void *arg, err_t err)
{
    (void)err;
    forget(arg);
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
    (void)arg;
    if (err != ERR_OK || !pcb)
        return ERR_VAL;
    struct http_conn *c = connections < CONNECTIONS_MAX ? kzalloc(sizeof(*c)) : NULL;
    if (!c) {
        tcp_abort(pcb);
        return ERR_ABRT;
    }
    connections++;
    c->pcb = pcb;
    c->since_100ns = rt_now_100ns();
    c->event = (struct rt_event)RT_EVENT_INIT(run_event, c);
    tcp_arg(pcb, c);
    tcp_recv(pcb, on_received);
    tcp_sent(pcb, on_sent);
    tcp_err(pcb, on_error);
    tcp_poll(pcb, on_poll, 2);          /* in units of 500 ms */
    return ERR_OK;
}

int http_server_start(uint16_t port)
{
    struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
    struct tcp_pcb *listener = NULL;
    if (pcb && tcp_bind(pcb, IP_ANY_TYPE, port) == ERR_OK)
        listener = tcp_listen(pcb);
    if (!listener) {
        if (pcb)
            tcp_abort(pcb);
        log_err("the status page can't use port %u", port);
        return -E_BUSY;
    }
    tcp_accept(listener, on_accept);
    return 0;
}
