/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The end of the machine: asked for by the host, by the application, or by app_main's return.
 *
 *   shutdown_request   remembers what is wanted and wakes whoever waits for it; never blocks
 *   machine_attend     the boot task's last act: waits for a request, gives the application its time, ends the machine
 *   machine_shutdown   hooks, newest first, so whoever came up last goes down first; then off, or restart
 *
 * Flushing of disks and unloading of the bus are hooks too (boot/main.c): below the application's own. Hooks may block
 * and have their own limits; should one hang all the same, SHUTDOWN_LIMIT_US ends the machine without the rest.
 */
#define LOG_ROOM "rt"
#include "rt/candela.h"

#define SHUTDOWN_GRACE_US 10000000ull    /* for an application that asks after requests to return from app_main, */
#define FORCED_GRACE_US   3000000ull     /* and when the request does not want to wait for applications */
#define SHUTDOWN_LIMIT_US 300000000ull   /* from the first hook to the end; one disk request may take 240 s */
#define FLUSH_LIMIT_US    60000000ull

static struct shutdown_hook *hooks;
static struct wait_queue waiters = WAIT_QUEUE_INIT(waiters);
static enum shutdown_kind requested;
static bool forced, begun, application_looks;

enum shutdown_kind shutdown_requested(void)
{
    application_looks = true;
    return requested;
}

bool shutdown_wait(uint64_t limit_us)
{
    application_looks = true;
    return WAIT_UNTIL(&waiters, requested != SHUTDOWN_NONE, limit_us, "a request to shut down");
}

int shutdown_request(enum shutdown_kind kind, bool force)
{
    KASSERT(kind == SHUTDOWN_POWER_OFF || kind == SHUTDOWN_RESTART);
    if (requested != SHUTDOWN_NONE && requested != kind)
        return -E_BUSY;
    requested = kind;
    forced = forced || force;
    wait_queue_wake_all(&waiters);
    return 0;
}

void shutdown_add_hook(struct shutdown_hook *h)
{
    h->next = hooks;
    hooks = h;
}

/* ---- the way down ---- */

static void NORETURN stop(void)
{
    if (requested == SHUTDOWN_RESTART)
        arch_reboot();
    arch_power_off();
}

static void limit_passed(void *arg UNUSED)
{
    log_err("the shutdown took more than %llu s, ending without the rest of it; tasks:",
            (unsigned long long)(SHUTDOWN_LIMIT_US / 1000000));
    task_dump();
    stop();
}

void machine_shutdown(int code)
{
    static struct rt_timer limit;
    KASSERT(task_can_block());      /* hooks wait for disks and for the host */
    if (begun) {
        /* A second caller, while the first is in a hook: it only has to stop. */
        struct wait_queue never = WAIT_QUEUE_INIT(never);
        for (;;)
            wait_queue_sleep(&never, RT_FOREVER, "the end of the shutdown");
    }
    begun = true;
    wait_queue_wake_all(&waiters);
    if (requested == SHUTDOWN_NONE)
        shutdown_request(SHUTDOWN_POWER_OFF, false);
    log_info("%s, code %d", requested == SHUTDOWN_RESTART ? "restarting" : "shutting down", code);
    timer_init(&limit, limit_passed, NULL);
    timer_arm_100ns(&limit, rt_now_100ns() + US_100NS(SHUTDOWN_LIMIT_US));
    for (struct shutdown_hook *h; (h = hooks) != NULL;) {
        hooks = h->next;            /* taken off first: a hook that fails isn't run again */
        h->fn(h->arg);
    }
    stop();
}

void machine_restart(int code)
{
    if (shutdown_request(SHUTDOWN_RESTART, false) != 0)
        log_warn("no restart: a power-off was asked for before");
    machine_shutdown(code);
}

/* An application that never asked isn't waited for: it has no end to come to. */
static void wait_for_application(void)
{
    if (!application_looks || WAIT_UNTIL(&waiters, begun, FORCED_GRACE_US, "the application's end"))
        return;
    if (forced || !WAIT_UNTIL(&waiters, begun || forced, SHUTDOWN_GRACE_US - FORCED_GRACE_US, "the application's end"))
        log_warn("the application has not ended, going on without it");
}

void machine_attend(void)
{
    WAIT_UNTIL(&waiters, requested != SHUTDOWN_NONE, RT_FOREVER, "a request to shut down");
    wait_for_application();
    machine_shutdown(0);
}

/* ---- disks ---- */

struct flush { struct blk_request request; struct wait_queue done_wait; bool done; };

static void flush_done(struct blk_request *r)
{
    struct flush *f = r->arg;
    f->done = true;
    wait_queue_wake_all(&f->done_wait);
}

/* False: the request is still with the disk, which must stay, too. */
static bool flush_disk(struct blk_device *d)
{
    struct flush *f = kzalloc(sizeof(*f));
    int error = f ? 0 : -E_NOMEM;
    if (f) {
        wait_queue_init(&f->done_wait);
        f->request = (struct blk_request){.op = BLK_FLUSH, .done = flush_done, .arg = f};
        error = blk_submit(d, &f->request);
    }
    if (error == 0) {
        blk_kick(d);
        /* An answer that comes later still finds f, which is why it isn't freed then. */
        error = WAIT_UNTIL(&f->done_wait, f->done, FLUSH_LIMIT_US, "the last flush of a disk") ? f->request.status
                                                                                               : -E_TIMEOUT;
    }
    if (error != 0 && error != -E_NOTSUP && error != -E_REMOVED)
        log_err("%s: the last flush failed: %s", d->name, error_name(error));
    if (error == -E_TIMEOUT)
        return false;
    kfree(f);
    return true;
}

/* The first disk with that number or a higher one, referenced. */
static struct blk_device *disk_from(unsigned number)
{
    struct blk_device *d;
    for (unsigned n = 0; (d = blk_get_index(n)) != NULL && d->number < number; n++)
        blk_put(d);
    return d;
}

/* By number: while one is waited for, another may go, and those behind it move up. */
void shutdown_flush_disks(void *arg UNUSED)
{
    struct blk_device *d;
    for (unsigned number = 0; (d = disk_from(number)) != NULL;) {
        number = d->number + 1;
        if (d->read_only || !d->has_flush || d->removed || flush_disk(d))
            blk_put(d);
    }
}
