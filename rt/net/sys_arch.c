/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lwIP's system layer over the runtime's cooperative tasks: semaphores, mutexes, mailboxes, threads, time.
 *
 * The invariant that the whole port stands on: lwIP's core never blocks, and nothing pre-empts. So whoever runs (a task
 * inside a socket call, the loop inside a NIC's or timer's function) holds "the core lock" by running, and that lock
 * costs nothing (LOCK_TCPIP_CORE is empty). A socket call runs the core directly, without a thread switch; when it must
 * wait it does so here, outside the core, and the task is parked. What the core calls from event functions is only the "try"
 * and "signal" half of this file, which KASSERTs that it need not block.
 */
#define LOG_ROOM "net"
#include "rt/rt.h"
#include "lwip/opt.h"
#include "lwip/sys.h"

struct net_semaphore { struct wait_queue waiters; unsigned count; };
struct net_mutex { struct wait_queue waiters; struct task *owner; };
/* A ring of messages; readers wait for one, writers for room. */
struct net_mailbox { struct wait_queue readers, writers; unsigned head, used, size; void *messages[]; };

int net_errno;

void sys_init(void) { }
u32_t sys_now(void) { return (u32_t)rt_now_ms(); }
u32_t sys_jiffies(void) { return (u32_t)rt_now_ms(); }

static uint64_t deadline_of(u32_t timeout_ms)
{
    return timeout_ms ? rt_now_100ns() + MS_100NS(timeout_ms) : RT_FOREVER;
}

/* ---- semaphores ---- */
err_t sys_sem_new(sys_sem_t *sem, u8_t count)
{
    *sem = kmalloc(sizeof(**sem));
    if (!*sem)
        return ERR_MEM;
    wait_queue_init(&(*sem)->waiters);
    (*sem)->count = count;
    return ERR_OK;
}

void sys_sem_free(sys_sem_t *sem)
{
    kfree(*sem);
    *sem = NULL;
}

void sys_sem_signal(sys_sem_t *sem)
{
    (*sem)->count++;
    wait_queue_wake_one(&(*sem)->waiters);
}

u32_t sys_arch_sem_wait(sys_sem_t *sem, u32_t timeout_ms)
{
    struct net_semaphore *s = *sem;
    uint64_t deadline = deadline_of(timeout_ms);
    while (s->count == 0)
        if (!wait_queue_sleep(&s->waiters, deadline, "lwIP semaphore") && s->count == 0)
            return SYS_ARCH_TIMEOUT;
    s->count--;
    return 0;
}

/* ---- mutexes ---- */
err_t sys_mutex_new(sys_mutex_t *mutex)
{
    *mutex = kmalloc(sizeof(**mutex));
    if (!*mutex)
        return ERR_MEM;
    wait_queue_init(&(*mutex)->waiters);
    (*mutex)->owner = NULL;
    return ERR_OK;
}

void sys_mutex_free(sys_mutex_t *mutex)
{
    kfree(*mutex);
    *mutex = NULL;
}

void sys_mutex_lock(sys_mutex_t *mutex)
{
    struct net_mutex *m = *mutex;
    KASSERT(m->owner != task_self());
    while (m->owner)
        wait_queue_sleep(&m->waiters, RT_FOREVER, "lwIP mutex");
    m->owner = task_self();
}

void sys_mutex_unlock(sys_mutex_t *mutex)
{
    KASSERT((*mutex)->owner == task_self());
    (*mutex)->owner = NULL;
    wait_queue_wake_one(&(*mutex)->waiters);
}

/* ---- mailboxes ---- */
err_t sys_mbox_new(sys_mbox_t *mbox, int size)
{
    unsigned n = size > 0 ? (unsigned)size : 16;
    struct net_mailbox *m = kmalloc(sizeof(*m) + n * sizeof(m->messages[0]));
    *mbox = m;
    if (!m)
        return ERR_MEM;
    wait_queue_init(&m->readers);
    wait_queue_init(&m->writers);
    m->head = m->used = 0;
    m->size = n;
    return ERR_OK;
}

void sys_mbox_free(sys_mbox_t *mbox)
{
    if ((*mbox)->used)
        log_warn("a mailbox is freed with %u messages in it", (*mbox)->used);
    kfree(*mbox);
    *mbox = NULL;
}

err_t sys_mbox_trypost(sys_mbox_t *mbox, void *message)
{
    struct net_mailbox *m = *mbox;
    if (m->used == m->size)
        return ERR_MEM;
    unsigned slot = m->head + m->used;
    m->messages[slot >= m->size ? slot - m->size : slot] = message;
    m->used++;
    wait_queue_wake_one(&m->readers);
    return ERR_OK;
}

err_t sys_mbox_trypost_fromisr(sys_mbox_t *mbox, void *message) { return sys_mbox_trypost(mbox, message); }

void sys_mbox_post(sys_mbox_t *mbox, void *message)
{
    struct net_mailbox *m = *mbox;
    while (sys_mbox_trypost(mbox, message) != ERR_OK) {
        KASSERT(task_can_block());
        wait_queue_sleep(&m->writers, RT_FOREVER, "room in an lwIP mailbox");
    }
}

u32_t sys_arch_mbox_tryfetch(sys_mbox_t *mbox, void **message)
{
    struct net_mailbox *m = *mbox;
    if (m->used == 0) {
        if (message)
            *message = NULL;
        return SYS_MBOX_EMPTY;
    }
    if (message)
        *message = m->messages[m->head];
    m->head = m->head + 1 == m->size ? 0 : m->head + 1;
    m->used--;
    wait_queue_wake_one(&m->writers);
    return 0;
}

u32_t sys_arch_mbox_fetch(sys_mbox_t *mbox, void **message, u32_t timeout_ms)
{
    struct net_mailbox *m = *mbox;
    uint64_t deadline = deadline_of(timeout_ms);
    while (sys_arch_mbox_tryfetch(mbox, message) == SYS_MBOX_EMPTY)
        if (!wait_queue_sleep(&m->readers, deadline, "lwIP mailbox") && m->used == 0)
            return SYS_ARCH_TIMEOUT;
    return 0;
}

/* ---- threads: used by lwIP's optional applications only ---- */
sys_thread_t sys_thread_new(const char *name, lwip_thread_fn thread, void *arg, int stack_bytes, int priority)
{
    (void)priority;
    struct task *t = task_spawn(name, thread, arg, stack_bytes > 0 ? (size_t)stack_bytes : 0);
    KASSERT(t);     /* lwIP has no way to report it */
    return t;
}
