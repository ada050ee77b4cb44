/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between the files of vmbus/ only: the connection, the channel, and who calls whom.
 *
 *   connection.c   negotiation, posting messages, unload          gpadl.c    GPADLs and the host's claims on memory
 *   message.c      decoding and dispatch of the host's messages   ring.c     rings, without any of this
 *   offer.c        offers, drivers, the task of each device       monitor.c  monitored notifications
 *   channel.c      a channel's life                              packet.c   what goes through its rings
 *
 * Contexts: messages and ring interrupts are handled in event functions and never block; everything that posts a
 * message runs in a task (vmbus_post_message may wait for the host's queue). All of it is one CPU's data: no locks.
 */
#pragma once
#include "rt/rt.h"
#include "vmbus/ring.h"
#include "vmbus/vmbus.h"

/* ---- limits of waits, in microseconds ---- */
#define POST_LIMIT_US         5000000u     /* the host's message queue stays full */
#define CONTACT_LIMIT_US      10000000u    /* VERSION_RESPONSE */
#define OFFERS_LIMIT_US       10000000u    /* ALL_OFFERS_DELIVERED */
#define PROBE_LIMIT_US        600000000u   /* all probes of the first offers; each driver's own limits are shorter */
#define OPEN_LIMIT_US         10000000u    /* OPEN_RESULT */
#define GPADL_LIMIT_US        10000000u    /* GPADL_CREATED, GPADL_TORNDOWN */
#define REMOVE_LIMIT_US       60000000u    /* the drivers' remove functions at disconnect */
#define UNLOAD_LIMIT_US       100000000u   /* UNLOAD_RESPONSE: hosts flush disk caches first */
#define UNLOAD_QUICK_LIMIT_US 5000000u     /* the same in a panic */

/* A signal that the hypervisor refused is sent again, after twice as long each time, as long as the channel lives. */
#define SIGNAL_FIRST_DELAY_US 1000u
#define SIGNAL_LAST_DELAY_US  256000u

/* A packet that does not fit stops the channel; the longest that Hyper-V's servers send are a fraction of it. */
#define VMBUS_RECEIVE_BUFFER_MAX 65536u
/* Packets per run of on_readable, so that a host that never stops sending does not own the event loop. */
#define VMBUS_RECEIVE_BUDGET  512u

/* ---- connection ---- */
enum connection_state {
    BUS_DISCONNECTED,
    BUS_CONTACTING,            /* INITIATE_CONTACT sent */
    BUS_CONNECTED,
    BUS_DISCONNECTING,         /* devices go; offers are no longer taken */
    BUS_UNLOADING,             /* UNLOAD sent */
};

struct bus {
    enum connection_state state;
    uint32_t version;
    uint32_t message_connection;
    unsigned ended;                        /* connections there were */
    struct wait_queue waiters;             /* everything waited for below wakes this */

    bool contact_answered;
    struct vmbus_msg_version_response contact;
    bool offers_delivered;
    bool unloaded;

    struct shmem monitor_pages;            /* two pages, or none */
    struct shmem interrupt_page;           /* for versions before 5.0 */

    struct vmbus_channel *channels[VMBUS_RELID_MAX + 1];   /* by relid */
    unsigned channel_count;
    uint32_t relid_end;                    /* no channel has this relid or a higher one */
    unsigned device_tasks;                 /* running chan_task */
    unsigned probing;                      /* of these, in probe */
    struct list released;                  /* rescinded offers without a task: to be answered by the bus task */
    struct task *worker;
    bool worker_stop;
};
extern struct bus bus;

static inline void bus_wake(void) { wait_queue_wake_all(&bus.waiters); }
/* Waits on the bus's queue; the condition is also re-evaluated by whatever else wakes it. */
#define BUS_WAIT(cond, limit_us, what) WAIT_UNTIL(&bus.waiters, cond, limit_us, what)

/*
 * Posts one channel message, waiting while the host's queue is full. 0; -E_REFUSED: refused for good; -E_TIMEOUT: the
 * queue stayed full; -E_NOTSUP: connection id unknown to the host (INITIATE_CONTACT only). Tasks only.
 */
int vmbus_post_message(const void *message, uint32_t bytes);
int vmbus_post_message_on(uint32_t connection, const void *message, uint32_t bytes);

/* Host messages decoded by message.c, in event context. */
void bus_version_response(const struct vmbus_msg_version_response *m, uint32_t bytes);
void bus_offers_delivered(void);
void bus_unloaded(void);

/* ---- message.c ---- */
void vmbus_message(const struct hv_message *message);
/*
 * One line for a refused message or packet of the host, and a count. A host that goes on sending rubbish gets the
 * first few of each kind into the log, no more.
 */
struct refusal { unsigned count; };
bool refusal_speaks(struct refusal *r);
#define vmbus_refuse(...)                          \
    do {                                           \
        static struct refusal refusal_;            \
        vmbus_counters.messages_dropped++;         \
        if (refusal_speaks(&refusal_))             \
            log_warn(__VA_ARGS__);                 \
    } while (0)

/* ---- channel ---- */
enum channel_state {
    CHANNEL_CLOSED,
    CHANNEL_GPADL,             /* in vmbus_open: the host is learning the ring's pages */
    CHANNEL_OPENING,           /* in vmbus_open: OPEN_CHANNEL sent */
    CHANNEL_OPEN,
    CHANNEL_CLOSING,           /* in close_rings: CLOSE_CHANNEL sent, the ring's pages still belong to the host */
};

struct vmbus_channel {
    /* hot: touched by every packet */
    bool usable;               /* OPEN and neither rescinded nor broken */
    struct ring out, in;
    struct vmbus_packet packet;
    uint8_t *receive_buffer;
    uint32_t receive_capacity;
    uint32_t budget;
    struct vmbus_channel_stats stats;
    struct { uint32_t *pending; uint32_t bit; } monitor;   /* pending NULL: signal by hypercall */
    uint32_t signal_delay_us;  /* 0, or: a signal was refused; how long signal_timer waits after its next try */
    struct rt_timer signal_timer;
    struct rt_event event;
    void (*on_readable)(void *arg);
    void (*on_writable)(void *arg);
    void *arg;

    enum channel_state state;
    bool rescinded;            /* by the host */
    bool broken;               /* the ring was corrupt: the device is removed, the offer stays */
    bool abort_open;           /* vmbus_close came while vmbus_open waits */
    struct shmem memory;
    uint32_t ring_gpadl;
    uint32_t open_id;
    bool open_answered;
    uint32_t open_status;

    /* offer.c */
    struct vmbus_msg_offer_channel offer;
    char name[40];
    bool served;                           /* may be; an isolated machine passes over most classes */
    struct vmbus_driver *driver;           /* NULL: nobody serves it */
    void *driver_data;
    bool probing;
    bool stop;                             /* the bus goes down */
    struct task *task;
    struct wait_queue removal;             /* the device's task waits here for the end of the device */
    struct list node;                      /* bus.released */
};

static inline uint32_t channel_relid(const struct vmbus_channel *ch) { return ch->offer.relid; }
/* Of this connection: the next one gives its relid to another channel, while a driver may not be done with this one. */
static inline bool channel_current(const struct vmbus_channel *ch) { return bus.channels[channel_relid(ch)] == ch; }
static inline bool channel_gone(const struct vmbus_channel *ch) { return ch->rescinded || ch->broken || ch->stop; }

/* channel.c */
void channel_init(struct vmbus_channel *ch);
void channel_rescind(struct vmbus_channel *ch);            /* edge "rescind": any state */
void channel_open_result(struct vmbus_channel *ch, const struct vmbus_msg_open_result *m);
void channel_break(struct vmbus_channel *ch, const char *ring);   /* the host wrote nonsense; ring: "send", "receive" */
void channel_stop(struct vmbus_channel *ch);               /* the bus goes down */
void channel_silence(struct vmbus_channel *ch);            /* no callback runs after this */
const char *channel_state_name(const struct vmbus_channel *ch);

/* packet.c */
void channel_signal_again(void *channel);                  /* of signal_timer */

/* offer.c */
void offer_received(const struct vmbus_msg_offer_channel *m);
void offer_rescinded(uint32_t relid);
void offers_drain_released(void);                          /* the bus task */
void offers_stop_devices(void);                            /* blocks; limit */
void offers_outlived(void);                                /* the connection is over: drivers that are late see it */
void offers_free(void);                                    /* after unload: the channels are history */
struct vmbus_channel *channel_find(uint32_t relid);

/* gpadl.c */
void gpadl_created(const struct vmbus_msg_gpadl_created *m);
void gpadl_torndown(uint32_t id);
void gpadl_channel_gone(struct vmbus_channel *ch);         /* released: what it left behind is forgotten */
void gpadl_connection_gone(bool let_go);                   /* let_go: the host said so */
void gpadl_keep(uint32_t id);                              /* never asked back: the pages are the host's for good */
int gpadl_create(struct vmbus_channel *ch, const struct shmem *memory, uint32_t *id);

/* monitor.c */
int monitor_alloc(void);
void monitor_free(void);
void monitor_bind(struct vmbus_channel *ch);               /* looks at the offer */
