/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The functions of lwIP's api/tcpip.c that its other parts call, without that file's thread.
 *
 * With no pre-emption there is no need to send work to a thread that owns the core: callers run it where they are
 * (sys_arch.c states the invariant). Two jobs remain. "Later, outside the caller's stack" is an event of the loop
 * (the loopback interface asks for it), and lwIP's timers run from one timer of the runtime.
 */
#include "rt/net/port.h"
#include "lwip/opt.h"
#include "lwip/ip.h"
#include "lwip/priv/api_msg.h"
#include "lwip/priv/tcpip_priv.h"
#include "lwip/sys.h"
#include "lwip/tcpip.h"
#include "lwip/timeouts.h"
#include "netif/ethernet.h"

sys_mutex_t lock_tcpip_core;            /* named by lwIP's headers; LOCK_TCPIP_CORE does not touch it */

/* ---- deferred calls ---- */
#define CALLS_MAX 64                    /* waiting ones; more are refused, which callers of "try" expect */
static struct { tcpip_callback_fn fn; void *arg; } calls[CALLS_MAX];
static unsigned calls_head, calls_used;

static void run_calls(void *arg)
{
    (void)arg;
    /* Only those that were there at the start: a call that defers itself must not keep the loop here. */
    for (unsigned n = calls_used; n > 0; n--) {
        tcpip_callback_fn fn = calls[calls_head].fn;
        void *fn_arg = calls[calls_head].arg;
        calls_head = (calls_head + 1) % CALLS_MAX;
        calls_used--;
        fn(fn_arg);
    }
    if (calls_used) {
        static struct rt_event again = RT_EVENT_INIT(run_calls, NULL);
        event_raise(&again);
    }
}
static struct rt_event calls_event = RT_EVENT_INIT(run_calls, NULL);

err_t tcpip_try_callback(tcpip_callback_fn fn, void *arg)
{
    if (calls_used == CALLS_MAX)
        return ERR_MEM;
    unsigned slot = (calls_head + calls_used++) % CALLS_MAX;
    calls[slot].fn = fn;
    calls[slot].arg = arg;
    event_raise(&calls_event);
    return ERR_OK;
}

err_t tcpip_callback(tcpip_callback_fn fn, void *arg)
{
    err_t err;
    while ((err = tcpip_try_callback(fn, arg)) != ERR_OK && task_can_block())
        task_yield();
    return err;
}

/* ---- calls made at once ---- */
err_t tcpip_callback_wait(tcpip_callback_fn fn, void *arg)
{
    fn(arg);
    return ERR_OK;
}

/*
 * A task that does nothing but send datagrams is never made to wait by the protocol. It is here: by the NIC when too
 * many are on their way, and now and then for a turn of the loop, so that frames are received meanwhile.
 */
#define DATAGRAMS_PER_TURN 16
static void before_datagram(void)
{
    static unsigned burst;
    if (!task_can_block())
        return;
    if (++burst >= DATAGRAMS_PER_TURN) {
        burst = 0;
        task_yield();
    }
    net_tx_wait_room();
}

err_t tcpip_send_msg_wait_sem(tcpip_callback_fn fn, void *msg, sys_sem_t *sem)
{
    (void)sem;
    if (fn == lwip_netconn_do_send)
        before_datagram();
    fn(msg);
    return ERR_OK;
}

err_t tcpip_api_call(tcpip_api_call_fn fn, struct tcpip_api_call_data *call) { return fn(call); }
err_t tcpip_inpkt(struct pbuf *p, struct netif *netif, netif_input_fn input) { return input(p, netif); }

err_t tcpip_input(struct pbuf *p, struct netif *netif)
{
    return netif->flags & (NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET) ? ethernet_input(p, netif) : ip_input(p, netif);
}

/* ---- lwIP's timers ---- */
static struct rt_timer timer;

static void run_timers(void *arg)
{
    (void)arg;
    sys_check_timeouts();
    net_timers_rearm();
}

/*
 * Several of lwIP's own timers are cyclic and never stop (the shortest runs every 100 ms), so there is always a next
 * one, and a timer that a socket call starts meanwhile is noticed no later than that.
 */
void net_timers_rearm(void)
{
    u32_t sleep_ms = sys_timeouts_sleeptime();
    if (sleep_ms == SYS_TIMEOUTS_SLEEPTIME_INFINITE)
        sleep_ms = 100;
    timer_arm_100ns(&timer, rt_now_100ns() + MS_100NS(sleep_ms ? sleep_ms : 1));
}

void net_timers_start(void)
{
    timer_init(&timer, run_timers, NULL);
    net_timers_rearm();
}
