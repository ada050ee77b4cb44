/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of a session: which half of the protocol gets the bytes, and how it ends. session.h tells the story. */
#define LOG_ROOM "nbd"
#include "apps/nbd/session.h"
#include <string.h>
#include "apps/nbd/internal.h"

#define REMOVED_TICKS 3                 /* so that requests sent meanwhile are answered, with an error, too */

void nbd_session_init(struct nbd_session *s, const struct nbd_transport *transport, const struct nbd_policy *policy)
{
    memset(s, 0, sizeof(*s));
    s->transport = transport;
    s->policy = policy;
    s->state = NBD_CLIENT_FLAGS;
    list_init(&s->ops);
    list_init(&s->waiting_node);
}

bool nbd_collect(struct nbd_session *s, unsigned want, const uint8_t **data, size_t *bytes)
{
    size_t n = MIN(*bytes, (size_t)(want - s->have));
    memcpy(s->header + s->have, *data, n);
    s->have += (unsigned)n;
    *data += n;
    *bytes -= n;
    if (s->have < want)
        return false;
    s->have = 0;
    return true;
}

/* The server ends, and nothing that was begun is left to receive or to issue. */
static bool has_finished(const struct nbd_session *s) { return s->finishing && s->state <= NBD_REQUEST; }

size_t nbd_session_input(struct nbd_session *s, const uint8_t *data, size_t bytes)
{
    size_t taken = 0;
    /* Each half returns when it can't go on or when it has handed over to the other. No bytes at all still let a
     * command that waited for buffers go on. */
    for (;;) {
        size_t n;
        if (has_finished(s))
            nbd_session_close(s);
        if (s->state == NBD_CLOSING)
            return bytes;
        n = s->state >= NBD_REQUEST ? nbd_transmit_input(s, data, bytes - taken)
                                    : nbd_negotiate_input(s, data, bytes - taken);
        taken += n;
        if (n > 0)                      /* data may be NULL */
            data += n;
        if ((n == 0 || taken == bytes) && s->state != NBD_CLOSING && !has_finished(s))
            break;
    }
    return taken;
}

void nbd_session_close(struct nbd_session *s)
{
    if (s->current)
        nbd_abandon_current(s);
    s->state = NBD_CLOSING;
    s->disconnecting = true;
    nbd_session_settle(s);
}

bool nbd_session_is_full(struct nbd_session *s)
{
    if (s->op_count < NBD_OPS_MAX && s->references < NBD_HELD_MAX)
        return false;
    nbd_buffers_wait(s);
    return true;
}

void nbd_session_eof(struct nbd_session *s)
{
    if (s->state == NBD_ISSUE)              /* it came whole */
        nbd_session_finish(s);
    else if (!s->disconnecting)
        nbd_session_close(s);
}

void nbd_session_finish(struct nbd_session *s)
{
    s->finishing = true;
    if (has_finished(s) && !s->disconnecting)
        nbd_session_close(s);
}

void nbd_session_settle(struct nbd_session *s)
{
    if (s->ended) {
        if (s->references)
            return;
        nbd_buffers_forget(s);
        kfree(s->option_data);
        s->option_data = NULL;
        if (s->disk)
            blk_put(s->disk);
        s->disk = NULL;
        s->transport->released(s);
    } else if (s->disconnecting && s->op_count == 0 && !s->close_told) {
        s->close_told = true;
        s->transport->close(s);
    }
}

void nbd_session_tick(struct nbd_session *s)
{
    nbd_buffers_wake();                 /* memory that others than sessions gave back */
    if (!s->disk || !s->disk->removed || s->disconnecting)
        return;
    if (++s->removed_ticks < REMOVED_TICKS || s->op_count)
        return;
    log_info_some("%s: %s was removed, closing", s->peer, s->disk->name);
    nbd_session_close(s);
}

void nbd_session_end(struct nbd_session *s)
{
    KASSERT(!s->ended);
    if (s->current)
        nbd_abandon_current(s);
    s->state = NBD_CLOSING;
    s->ended = true;
    nbd_buffers_forget(s);
    nbd_session_settle(s);
}
