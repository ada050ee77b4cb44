/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the model's own files share. Each group names the file that defines it.
 *
 * Order of the rooms inside: report, memory and alarms (host.c) < SynIC < VMBus server < channel I/O < storvsp,
 * netvsp, integration components (ic.c). Work flows one way: entries record what happened, host_poll does everything that the guest can
 * see.
 */
#pragma once
#include <stdarg.h>
#include <string.h>

#include "hv/hv_wire.h"
#include "lib/list.h"
#include "tests/host/host.h"
#include "vmbus/vmbus_wire.h"

#define HOST_TEXT_BYTES     1024u
#define HOST_PACKET_MAX     65536u                /* longest packet taken from a ring */
#define HOST_TX_SEGS        160u                  /* pieces of one packet to the network */
#define HOST_POLL_BUDGET    64u                   /* packets per channel and host_poll */
#define HOST_RING_PAGES_MIN 2u                    /* control page and one data page */
#define HOST_CHANNEL_CONNECTION(relid) (0x2000u + (relid))
#define HOST_REFUSED        16u
#define HOST_AUDIT_LIMIT    10000000ull           /* one second in 100 ns */
#define HOST_COUNT(array)   (sizeof(array) / sizeof((array)[0]))

struct host_chan;

/* ---- SynIC state of one virtual processor ----------------------------------------------------------- */

struct host_timer {
    uint64_t config, count;
    uint64_t expires;               /* HOST_NEVER when idle */
    uint64_t message_due;           /* expiry whose message still waits for its slot, 0 none */
};

struct host_vp {
    uint64_t scontrol, siefp, simp, sint[HV_SYNIC_SINT_COUNT], vp_assist;
    struct hv_message_page *messages;             /* mapped SIMP, or NULL */
    struct hv_event_flags_page *flags;            /* mapped SIEFP, or NULL */
    uint64_t pending_since[HV_SYNIC_SINT_COUNT];  /* when the pending flag was set, 0 when it is not */
    bool eom;                                     /* the guest wrote EOM since the last poll */
    struct host_timer timers[HV_STIMER_COUNT];
    uint64_t deadline;                            /* told to the transport */
};

/* ---- VMBus ------------------------------------------------------------------------------------------ */

/* A list of guest pages under a number that the guest chose. */
struct host_gpadl {
    struct list node;
    uint32_t id, relid;
    uint32_t range_count;
    uint32_t bytes_wanted, bytes_here;            /* of the range buffer */
    uint64_t *ranges;                             /* the range buffer */
    uint32_t pages;
    uint8_t **page;                               /* host's view of each page, in order; set when complete */
    uint32_t byte_count, byte_offset;             /* of the first range */
    uint32_t users;                               /* open channels and devices that look into it */
    bool complete, teardown_wanted;
};

struct host_ring {
    struct vmbus_ring_control *ctl;
    uint8_t **page;                               /* data pages */
    uint32_t bytes;                               /* of data */
    uint32_t index;                               /* the index that the host owns, not yet published */
    uint32_t published;                           /* what the guest was told */
    uint32_t theirs;                              /* the guest's index when it was last looked at */
    uint32_t mask;                                /* incoming ring: interrupt mask as the host wrote it */
    uint32_t shown;                               /* the host's index as it stands in the ring: published, or a lie */
    bool lied;                                    /* malice wrote `lie` over the guest's index, which was `truth` */
    uint32_t lie, truth;
};

struct host_msg {                                 /* a channel message on its way to the guest */
    struct host_msg *next;
    uint32_t vp, bytes;
    uint8_t payload[HV_MESSAGE_PAYLOAD_MAX];
};

/* A packet that did not fit into the outgoing ring. */
struct host_owed {
    struct host_owed *next;
    uint32_t bytes;                               /* multiple of 8 */
    uint8_t data[];                               /* from struct vmbus_packet_header, no trailer */
};

/* A packet from the guest: a copy, its frame checked. */
struct host_packet {
    uint16_t type, flags;
    uint64_t id;
    const uint8_t *data;                          /* payload */
    uint32_t bytes;
    const uint8_t *ranges;                        /* GPA direct: validated list */
    uint32_t range_count;
    uint64_t range_bytes;
};

enum host_take {
    HOST_TAKEN,
    HOST_STALLED,                                 /* not now: stays in the ring */
    HOST_FATAL,                                   /* a real host would stop serving the channel; so do we */
};

/* What a device does for its channels. */
struct host_dev_ops {
    const char *name;
    const struct guid *instance;                  /* well known; NULL: one is made up */
    uint16_t offer_flags;                         /* VMBUS_OFFER_* */
    bool (*open)(struct host_chan *ch);
    void (*close)(struct host_chan *ch);
    enum host_take (*packet)(struct host_chan *ch, const struct host_packet *packet);
    void (*output)(struct host_chan *ch);         /* once per poll of the channel: queued data may be sent */
    uint32_t (*in_flight)(struct host_chan *ch);  /* requests that still use guest memory */
    void (*freed)(struct host_chan *ch);          /* the channel is about to vanish */
};

struct host_chan {
    struct host *h;
    const struct host_dev_ops *dev;
    void *device;                                 /* struct host_scsi, struct host_nic */
    struct host_chan *primary;                    /* of a sub-channel */
    uint16_t sub_index;
    uint32_t relid, connection_id;
    struct guid interface_type, instance;
    bool wants_monitor;
    uint8_t monitor_id;
    bool offered, open, rescinded, held, closing;
    bool deaf;                                    /* held by malice */
    bool dead;                                    /* the guest broke the ring: not served any more */
    bool stalled;                                 /* the device cannot take the next packet now */
    uint32_t open_id, target_vp;
    struct host_gpadl *ring_gpadl;
    struct host_ring in, out;                     /* guest to host, host to guest */
    struct host_owed *owed, **owed_tail;
    bool interrupt;                               /* the guest must be told at the end of this poll */
    bool queued;                                  /* in h->work */
    bool polling;                                 /* being served now */
    bool signalled;                               /* the guest signalled since the ring was last looked at */
    struct list work;
    uint64_t unread_since;                        /* audit: data waits in the ring without a signal */
    uint64_t space_since;                         /* audit: there is room for what is owed, no signal came */
    /* malice, for as long as the channel is there, whatever is lied about by then: */
    uint32_t lied;                                /* classes of lies about its device */
    uint32_t told_connection, told_monitor;       /* by the offer */
    bool wiped;                                   /* its bit was wiped off the monitor page, and no signal came since */
    uint32_t resume;                              /* netvsp: frames already sent of the packet that stalled */
    bool modifying;                               /* the answer to MODIFY_CHANNEL is on its way */
    uint32_t queue;                               /* netvsp, storvsp: index of the channel, 0 primary */
};

struct host_vmbus {
    uint32_t version;                             /* 0: not connected */
    uint32_t features;
    uint32_t target_vp;                           /* of messages */
    uint32_t connection;                          /* message connection the guest must use */
    bool offers_requested, unloading, reconnecting;
    bool resetting;                               /* the guest's memory is gone: nothing may wait for requests */
    struct vmbus_msg_initiate_contact waiting_contact; /* reconnecting: goes on when all is closed */
    struct vmbus_monitor_page *monitor;           /* guest to host */
    uint64_t monitor_gpa[2];
    struct host_msg *first, **tail;
    struct list gpadls;
    uint32_t refused[HOST_REFUSED], refused_count;    /* page lists of channels that are no more: their bodies still come */
    uint32_t next_relid, channels;
    struct host_chan *channel[VMBUS_RELID_MAX + 1];
    uint8_t monitor_used[VMBUS_MONITOR_COUNT];
};

/* A time at which one part of the model wants to be called; all share the timer HOST_NO_VP. */
struct host_alarm {
    struct list node;
    uint64_t due;                                 /* reference time; HOST_NEVER: not set */
    void (*fired)(struct host_alarm *alarm);      /* may set it again */
};

/* Why the model looks at a piece of guest memory, and until when. */
enum host_use {
    USE_HYPERCALL_PAGE,             /* while its code is written into it */
    USE_HYPERCALL_INPUT,            /* during the call */
    USE_HYPERCALL_OUTPUT,
    USE_SYNIC_PAGE,                 /* as long as SIMP or SIEFP names it */
    USE_TSC_PAGE,                   /* as long as REFERENCE_TSC names it */
    USE_CRASH_TEXT,                 /* while it is copied */
    USE_VISIBILITY,                 /* while a page of an isolated guest changes hands */
    USE_MONITOR_PAGE,               /* as long as the connection */
    USE_GPADL,                      /* until it is torn down */
    USE_PACKET_READ,                /* GPA-direct pages: until the request ends */
    USE_PACKET_WRITE,
    USES
};

#define MALICE_PACKET_MAX 16384u                  /* longest packet that is lied about */
#define MALICE_IDS        8u
#define MALICE_DEVICES    16u

struct malice {                                   /* malice.c */
    struct host_malice cfg;
    bool on;
    struct host_malice_counters counters;
    uint64_t numbered;                            /* lies, told or not */
    uint64_t bits;                                /* of the lie that is being made */
    uint32_t rescind;                             /* relid, at the next poll; 0: none */
    uint64_t past[MALICE_IDS];                    /* transaction ids of completions sent */
    uint32_t past_count;
    uint32_t held_relid, held_bytes;              /* a completion that waits for another; 0: none */
    uint8_t invented[VMBUS_RELID_MAX / 8 + 1];    /* relids of offers that no channel is behind */
    uint8_t once[VMBUS_RELID_MAX / 8 + 1];        /* that were among them since malice began */
    struct { const void *device; uint32_t classes; } told[MALICE_DEVICES];    /* lies about whom; NULL: the bus */
    uint32_t told_count;
    uint64_t full_until;                          /* no buffer for messages, for a while */
    uint32_t late_bytes;                          /* of a message that comes much later; 0: none */
    uint8_t late[HV_MESSAGE_PAYLOAD_MAX];
    struct host_alarm late_alarm;
    bool scribbled;                               /* the page of pending signals, since it was last looked at */
    uint32_t chances;                             /* for malice_deaf */
    uint8_t packet[MALICE_PACKET_MAX] __attribute__((aligned(8)));
    uint8_t held[MALICE_PACKET_MAX] __attribute__((aligned(8)));
};

struct host_mem {                                 /* header of every allocation */
    struct list node;
    size_t bytes;
};

struct host {
    struct host_config cfg;
    struct host_ops ops;
    void *ctx;
    struct list memory;
    struct host_mem *pool[32];                    /* freed blocks by power of two, when ops.free is NULL */

    uint64_t guest_os_id, hypercall_msr, reference_tsc, crash[HV_CRASH_PARAMETERS], tsc_invariant;
    uint64_t reenlightenment, tsc_emulation;
    struct hv_reference_tsc_page *tsc_page;
    uint32_t tsc_sequence;
    struct host_vp *vp;
    uint32_t mapped[USES];                        /* pieces of guest memory */
    uint32_t **book;                              /* isolated: host_isolation.c; NULL: all is visible */
    uint64_t visible_pages;

    struct host_vmbus vmbus;
    struct list work;                             /* channels with something to do */
    struct list scsi, nics;
    struct host_balloon *balloon;                 /* NULL: there never was one */
    struct host_ics *ics;                         /* NULL: no integration component was ever offered */

    uint32_t fault_points;
    uint64_t fault_number, fault_count;
    enum host_fault_kind fault_kind;

    struct malice malice;

    struct list alarms;                           /* that are set */
    uint64_t alarm_told;                          /* to the transport */
    struct host_alarm monitor_alarm;
    struct host_counters counters;
    char text[HOST_TEXT_BYTES];
    /* Scratch, since entries are serialised: too big for the small stacks below which the model may run. */
    struct host_seg tx_segs[HOST_TX_SEGS], frame_segs[HOST_TX_SEGS + 1];
    uint8_t hcall_in[HV_PAGE_SIZE] __attribute__((aligned(16)));
    uint8_t hcall_out[HV_PAGE_SIZE] __attribute__((aligned(16)));
    uint8_t packet[HOST_PACKET_MAX] __attribute__((aligned(16)));
};

/* ---- host.c: memory, guest memory, faults ----------------------------------------------------------- */

void *host_alloc(struct host *h, size_t bytes);              /* zeroed; NULL: none left */
void host_free(struct host *h, void *p);                     /* NULL is fine */
/* The only way to guest memory: [gpa, gpa + len) inside one page, for a purpose. NULL: it is not memory, or
 * not the guest's to give for that. Ends with host_unmap of the same numbers. */
void *host_map(struct host *h, enum host_use use, uint64_t gpa, size_t len);
void host_unmap(struct host *h, enum host_use use, uint64_t gpa, size_t len);
uint64_t host_now(struct host *h);
enum host_fault_kind host_fault(struct host *h, enum host_fault_point point);
void host_alarm_init(struct host_alarm *alarm, void (*fired)(struct host_alarm *alarm));
void host_alarm_set(struct host *h, struct host_alarm *alarm, uint64_t due);   /* HOST_NEVER: not any more */
void host_alarms_fired(struct host *h);           /* those that are due */

/* ---- host_isolation.c: the book of visible pages ---------------------------------------------------- */

bool host_book_create(struct host *h);            /* all private; false: no memory */
void host_book_clear(struct host *h);
/* The host begins to look at a page, so that it can't become private until host_page_leave. False: it is private. */
bool host_page_enter(struct host *h, uint64_t gpn);
void host_page_leave(struct host *h, uint64_t gpn);

/* ---- host_report.c ---------------------------------------------------------------------------------- */

#define HOST_PRINTF(f, a) __attribute__((format(printf, f, a)))
int ksnprintf(char *buf, size_t size, const char *fmt, ...) HOST_PRINTF(3, 4);
int kvsnprintf(char *buf, size_t size, const char *fmt, va_list ap) HOST_PRINTF(3, 0);

void host_log(struct host *h, enum host_log_level level, const char *fmt, ...) HOST_PRINTF(3, 4);
/* The guest broke a rule; the bytes (may be none) are printed with it. */
void host_violation(struct host *h, const void *bytes, size_t len, const char *fmt, ...) HOST_PRINTF(4, 5);
/* A real host would not mind or not tell: a violation in strict mode, else a warning. */
void host_strict(struct host *h, const void *bytes, size_t len, const char *fmt, ...) HOST_PRINTF(4, 5);
void host_trace_text(struct host *h, enum host_trace category, const char *fmt, ...) HOST_PRINTF(3, 4);
#define host_trace(h, category, ...)                         \
    do {                                                     \
        if ((h)->cfg.trace & (category))                     \
            host_trace_text((h), (category), __VA_ARGS__);   \
    } while (0)

/* HOST_TRACE_BYTES: a line "bytes: WHAT HEX"; what is longer goes on in lines "bytes: + HEX". */
void host_trace_bytes(struct host *h, const char *what, const void *bytes, uint32_t len);

/* ---- host_synic.c, host_stimer.c, tlfs_*.c ---------------------------------------------------------- */

enum synic_post { SYNIC_POSTED, SYNIC_BUSY, SYNIC_OFF };
/* more: others wait behind this one, so the pending flag is set at once. */
enum synic_post vsynic_post_message(struct host *h, uint32_t vp, uint32_t sint, uint32_t type,
                                    uint64_t sender,
                                   const void *payload, uint32_t bytes, bool more);
/* false: lost, because the guest switched something off. */
bool vsynic_signal_event(struct host *h, uint32_t vp, uint32_t sint, uint32_t flag);
void vsynic_unmap(struct host *h, uint32_t vp);               /* its two pages are the guest's again */
bool vsynic_ready(const struct host *h, uint32_t vp, uint32_t sint);
bool vsynic_read(struct host *h, uint32_t vp, uint32_t msr, uint64_t *value);
bool vsynic_write(struct host *h, uint32_t vp, uint32_t msr, uint64_t value);
void vsynic_audit(struct host *h);
bool vstimer_read(struct host *h, uint32_t vp, uint32_t msr, uint64_t *value);
bool vstimer_write(struct host *h, uint32_t vp, uint32_t msr, uint64_t value);
void vstimer_fired(struct host *h, uint32_t vp);
void vstimer_retry(struct host *h, uint32_t vp);
void vstimer_reset(struct host *h, uint32_t vp);

/* A register that names a page: false when it must be refused. */
bool host_page_register(struct host *h, uint64_t value, bool reserved_checked);
uint64_t host_get_vp_registers(struct host *h, uint32_t vp, const uint8_t *in, const uint32_t *names,
                               uint32_t start, uint32_t count, struct hv_register_value *out);
uint64_t host_set_vp_registers(struct host *h, uint32_t vp, const uint8_t *in,
                               const struct hv_register_assignment *list, uint32_t start, uint32_t count);
/* flush and IPI calls: input is a copy of the block; returns the result word */
uint64_t host_flush_call(struct host *h, uint32_t vp, uint64_t control, const uint8_t *in, uint32_t in_bytes,
                         uint32_t last);
uint64_t host_ipi_call(struct host *h, uint32_t vp, uint64_t control, const uint8_t *in, uint32_t in_bytes);
/* An isolated guest must not show the host what its memory held before: bytes of a message from `used` on are zero. */
void host_check_unused(struct host *h, const void *message, size_t bytes, size_t used, const char *what);
uint64_t host_visibility_call(struct host *h, uint64_t control, const uint8_t *in, uint32_t last);

/* ---- vmbus_server.c, vmbus_channel.c, vmbus_gpadl.c ------------------------------------------------- */

void vserver_init(struct host *h);
void vserver_reset(struct host *h);                            /* everything closed at once, nothing told */
uint16_t vserver_post(struct host *h, uint32_t connection, uint32_t type, const uint8_t *payload,
                    uint32_t bytes);
uint16_t vserver_signal(struct host *h, uint32_t connection, uint16_t flag);
bool vserver_poll(struct host *h);
void vserver_audit(struct host *h);
/* Queues a message for the guest. reply: counts as an answer for faults; bytes includes the header. After
 * HOST_FAULT_ERROR the guest believes that nothing was done, so the caller undoes it. */
enum host_fault_kind vserver_send(struct host *h, const void *msg, uint32_t bytes, bool reply);
struct host_chan *vserver_monitor_owner(struct host *h, uint32_t id);
void vserver_free_monitor(struct host_chan *ch);
bool vserver_all_idle(const struct host *h);

/* primary NULL, sub_index 0: of a new device. Offered at once when the guest has asked for offers. */
struct host_chan *vchan_create(struct host *h, const struct host_dev_ops *dev, void *device,
                              const struct guid *interface_type, struct host_chan *primary,
                              uint16_t sub_index, bool wants_monitor);
void vchan_offer(struct host_chan *ch);                       /* when the guest has asked for offers */
/* Sub-channels 1 to count of the same device, all or none; nobody is told before vchan_offer_subs. The device's
 * own calls, in_flight and freed included, come for each. */
bool vchan_create_subs(struct host_chan *primary, uint32_t count);
void vchan_offer_subs(struct host_chan *primary);
void vchan_rescind_subs(struct host_chan *primary);
void vchan_rescind(struct host_chan *ch);
void vchan_shut(struct host_chan *ch);                        /* the device stops; the ring is given up */
/* vchan_shut, now or when its requests are done */
void vchan_close(struct host_chan *ch);
void vchan_check_closed(struct host_chan *ch);
/* true: rescinded and released, nothing to serve */
bool vchan_reap(struct host_chan *ch);
void vchan_free(struct host_chan *ch);
struct host_chan *vchan_find(struct host *h, uint32_t relid);
void vchan_request_offers(struct host *h);
void vchan_msg_open(struct host *h, const struct vmbus_msg_open_channel *msg);
void vchan_msg_close(struct host *h, const struct vmbus_msg_relid *msg);
void vchan_msg_modify(struct host *h, const struct vmbus_msg_modify_channel *msg);
void vchan_modify_answered(struct host *h, uint32_t relid);   /* the guest has the answer in its slot */
void vchan_msg_released(struct host *h, const struct vmbus_msg_relid *msg);
void vchan_queue(struct host_chan *ch);                       /* let host_poll look at it */

struct host_gpadl *vgpadl_find(struct host *h, uint32_t relid, uint32_t id);
/* For a device: complete, one page-aligned range of this channel. Counts a user. */
struct host_gpadl *vgpadl_use(struct host *h, uint32_t relid, uint32_t id);
/* the user is done; a waiting teardown goes on */
void vgpadl_release(struct host *h, struct host_gpadl *g);
void vgpadl_free_all(struct host *h, uint32_t relid);         /* 0: of all channels */
uint32_t vgpadl_count(const struct host *h, uint32_t relid);
bool vgpadl_covers(const struct host *h, uint64_t gpn);       /* of a live one, or a monitor page? */
bool vgpadl_overlaps(const struct host *h, uint64_t gpn, uint64_t count);     /* one of so many pages? */
void vgpadl_msg_header(struct host *h, const uint8_t *payload, uint32_t bytes);
void vgpadl_msg_body(struct host *h, const uint8_t *payload, uint32_t bytes);
void vgpadl_msg_teardown(struct host *h, const struct vmbus_msg_gpadl_teardown *msg);

/* ---- host_ring.c: one ring -------------------------------------------------------------------------- */

/* The guest's ring area: pages [first, first + count) of the list, control page first. */
void vring_attach(struct host_ring *r, uint8_t **page, uint32_t pages);
bool vring_check_fresh(struct host *h, const struct host_ring *r, const char *name, uint32_t relid);
uint32_t vring_free_bytes(const struct host_ring *r, uint32_t read, uint32_t write);
/* By lies about indices, the guest's own among them: it writes others, and packets over such as were not read yet. */
bool vring_misled(const struct host_chan *ch);
/* Incoming. false: the guest wrote an impossible index. */
bool vring_readable(struct host *h, struct host_chan *ch, uint32_t *bytes);
void vring_peek(const struct host_ring *r, uint32_t index, void *to, uint32_t bytes);
void vring_set_mask(struct host_ring *r, uint32_t mask);
/* Publishes the read index; true: the guest waits for space and must be interrupted. */
bool vring_publish_read(struct host_ring *r);
/* Outgoing */
bool vring_writable(struct host *h, struct host_chan *ch, uint32_t *free_bytes);
void vring_put(struct host_ring *r, const void *from, uint32_t bytes);
/* Publishes the write index; true: the guest asked to be interrupted. */
bool vring_publish_write(struct host_ring *r);
void vring_want_space(struct host_ring *r, uint32_t bytes);

/* ---- host_channel_io.c: packets --------------------------------------------------------------------- */

struct host_piece {
    const void *data;
    uint32_t bytes;
};
/* Queues a packet; it never fails: what does not fit waits. type_header: what follows struct vmbus_packet. */
void vchan_send(struct host_chan *ch, uint16_t type, uint16_t flags, uint64_t id,
               const struct host_piece *type_header, const struct host_piece *payload);
/* Completion with fault injection: error_at is the offset of a 32-bit status that an error overwrites. */
/* Returns the fault: HOST_FAULT_ERROR tells the guest that nothing was done, so the caller undoes it. */
enum host_fault_kind vchan_complete(struct host_chan *ch, enum host_fault_point point, uint64_t id, void *payload,
                                    uint32_t bytes, uint32_t error_at, uint32_t error);
/* nothing owed, and a packet of that size fits now */
bool vchan_has_room(struct host_chan *ch, uint32_t bytes);
bool vchan_poll(struct host_chan *ch);                        /* true: more to do */
void vchan_drop_owed(struct host_chan *ch);
/* Pieces of guest memory named by a packet, neighbours joined. false: a page is not the guest's to give, and
 * nothing stays mapped. Else vchan_unmap_ranges follows, with the packet's ranges or a copy of them. */
bool vchan_map_ranges(struct host_chan *ch, const struct host_packet *packet, enum host_use use,
                     struct host_seg *segs, uint32_t max, uint32_t *count);
void vchan_unmap_ranges(struct host *h, enum host_use use, const uint8_t *ranges, uint32_t count);
/* Is one of the pages in the list? */
bool vchan_ranges_overlap(const uint8_t *ranges, uint32_t count, uint64_t first, uint64_t pages);
uint32_t vchan_ranges_bytes(const struct host_packet *packet);
uint32_t host_segs_copy_out(const struct host_seg *segs, uint32_t count, uint64_t offset, void *to,
                            uint32_t bytes);
uint32_t host_segs_copy_in(const struct host_seg *segs, uint32_t count, uint64_t offset, const void *from,
                           uint32_t bytes);

/* ---- malice.c, malice_bus.c, malice_setup.c, malice_packet.c -------------------------------------------------------- */
/* A word of a message in bytes, wherever it lies. */
static inline uint32_t malice_word(const uint8_t *msg, uint32_t at)
{
    uint32_t v;

    memcpy(&v, msg + at, 4);
    return v;
}
static inline void malice_set_word(uint8_t *msg, uint32_t at, uint32_t v)
{
    memcpy(msg + at, &v, 4);
}

/* An occasion for that class of lie about a device (NULL: about none). True: a lie is to be told; malice_pick then gives
 * numbers below n, and malice_told says what it was. */
bool malice_occasion(struct host *h, uint32_t classes, const void *device);
uint64_t malice_pick(struct host *h, uint64_t n);
uint32_t malice_value(struct host *h);                        /* one that programs stumble over */
void malice_told(struct host *h, const char *fmt, ...) HOST_PRINTF(2, 3);
/* The guest was told lies of these classes about that device (NULL: about the bus), which lead a correct guest to what
 * the caller has found. */
bool malice_excuses(struct host *h, uint32_t classes, const void *device);
/* The same for what lasts as long as the channel: what lies made of its rings, and where its guest signals. */
bool malice_misled(const struct host_chan *ch, uint32_t classes);
bool malice_invented(const struct host *h, uint32_t relid);   /* offered, and no channel was behind it */
/* A message on its way to the guest: it may be changed. How often it goes. *refused: it says now that nothing was done,
 * so the caller undoes it. */
unsigned malice_message(struct host *h, uint8_t msg[VMBUS_MESSAGE_MAX], uint32_t *bytes, bool reply, bool *refused);
void malice_bus_poll(struct host *h);
void malice_bus_honest(struct host *h);                       /* what was made up is withdrawn, what waits is sent */
/* What malice_message asks for what its names say; how often the message goes. */
unsigned malice_connect(struct host *h, uint8_t *msg, uint32_t *bytes, const void *device, bool *refused);
unsigned malice_gpadl(struct host *h, uint8_t *msg, uint32_t bytes, const void *device, bool *refused);
void malice_wire(struct host *h, struct vmbus_msg_offer_channel *msg, const void *device);
void malice_gpadl_begun(struct host *h, const struct host_gpadl *g);    /* its first message came */
void malice_scribble(struct host *h);
void malice_offered(struct host_chan *ch, const uint8_t *msg);          /* the message about it, as it is sent */
bool malice_miswired(const struct host *h, uint32_t connection);        /* somebody was told to signal there */
bool malice_monitored(const struct host *h, uint32_t id);     /* or with that bit */
void malice_setup_init(struct host *h);
void malice_setup_honest(struct host *h);
uint16_t malice_post(struct host *h);                         /* HV_STATUS_SUCCESS: it is taken */
bool malice_signal_fails(struct host *h, const struct host_chan *ch);
enum host_fault_kind malice_visibility(struct host *h);
/* A packet on its way to the guest. True: malice has sent what was to be sent. */
bool malice_send(struct host_chan *ch, const struct vmbus_packet_header *frame, const struct host_piece *type_header,
                 const struct host_piece *payload);
/* A completion. DROP: it is not sent; ERROR: it says now that nothing was done, so the caller undoes it. */
enum host_fault_kind malice_complete(struct host_chan *ch, enum host_fault_point point, uint8_t *payload, uint32_t bytes,
                                     uint32_t error_at);
void malice_memory(struct host *h);                           /* requests of dynamic memory that nobody made */
/* The answer to a version or to capabilities: its flags; or what becomes of it. */
enum host_fault_kind malice_memory_answer(struct host *h, const void *device, uint64_t *flags);
bool malice_early(struct host_chan *ch, const struct host_packet *packet);    /* true: taken, not executed */
bool malice_deaf(struct host_chan *ch);                       /* true: from now on nothing is read or sent */
void malice_ring(struct host_chan *ch);                       /* the words that both sides share */
/* As they are, in the ring or owed: bytes is the truth, whatever the packet says. */
void vchan_send_raw(struct host_chan *ch, const void *packet, uint32_t bytes);
void vserver_enqueue(struct host *h, const void *msg, uint32_t bytes);

/* ---- devices ---------------------------------------------------------------------------------------- */

void storvsp_reset(struct host *h);
void vballoon_reset(struct host *h);
void vballoon_audit(struct host *h);
void netvsp_reset(struct host *h);
uint32_t storvsp_in_flight(const struct host *h);
uint32_t netvsp_sections_held(const struct host *h);
