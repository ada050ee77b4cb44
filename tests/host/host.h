/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The model of a Hyper-V host in portable C: TLFS registers, hypercalls, SynIC, VMBus, storvsp, netvsp,
 * integration components.
 *
 * What it is for. The guest's drivers are tested against it, hosted in an ordinary program or below a real
 * machine in the lab; stock Linux must run on it too. It answers as a host answers, and in strict mode it
 * calls everything that a real host merely survives, ignores or dies of a *violation*: those must fail the
 * run.
 *
 * What a transport does (the transport is whoever links the model):
 *   1. host_config_default(&cfg), change what the test is about, host_create(&cfg, &ops, ctx);
 *   2. host_add_scsi / host_add_lun / host_add_nic for the machine's devices;
 *   3. forward the guest's CPUID, MSR accesses and hypercalls to host_cpuid, host_rdmsr, host_wrmsr and
 *      host_hypercall;
 *   4. after *every* call into the model, and when the guest goes idle: host_poll(), again while it returns
 *      true, before the guest may sleep. Rings are read, answers written and interrupts raised only there.
 *   5. when the time told by ops.set_timer has come: host_timer_fired(), then host_poll().
 *   6. now and then (a second): host_audit(), which finds what a guest forgot (an EOM, a signal).
 *
 * What it assumes. Calls are serialised by the transport (one lock is enough); virtual processors may run
 * meanwhile, shared memory is accessed with atomics. Callbacks run inside a call and must not call back into
 * the model, except host_blk_complete from submit, host_net_rx and host_net_tx_ready from tx. No libc beyond
 * memcpy, memmove, memset, memcmp, strlen; text is made by lib/printf.c; memory comes from ops.alloc alone.
 *
 * What it promises. It touches only guest memory that the guest named for that purpose, and only between
 * ops.gpa_map and ops.gpa_unmap; whatever the guest wrote is copied out before it is checked. Hosted
 * transports keep everything else inaccessible, so that a broken promise is a fault at the very access.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOST_MAX_VPS        512u
#define HOST_MAX_CHANNELS   64u               /* of one device, the primary included */
#define HOST_NO_VP          0xFFFFFFFFu       /* set_timer, host_timer_fired: the model's own timer */
#define HOST_NEVER          UINT64_MAX
#define HOST_TICKS_PER_MS   10000ull          /* time is in 100 ns */
#define HOST_HCALL_REGS     16u               /* arm64's block of 128 bytes; x86_64 uses 14 of them */

struct host;
struct host_scsi;                             /* a SCSI controller */
struct host_nic;                              /* a network adapter */

/* ---- faults: the n-th reply goes wrong -------------------------------------------------------------- */

enum host_fault_point {
    /* result of HVCALL_POST_MESSAGE (error: insufficient buffers) */
    HOST_FAULT_POST_MESSAGE = 1 << 0,
    HOST_FAULT_VMBUS_REPLY = 1 << 1,          /* any answer of the VMBus server */
    HOST_FAULT_STORVSP_REPLY = 1 << 2,        /* handshake completions */
    HOST_FAULT_STORVSP_IO = 1 << 3,           /* SRB completions */
    HOST_FAULT_NETVSP_REPLY = 1 << 4,         /* handshake completions */
    HOST_FAULT_NETVSP_TX = 1 << 5,            /* completions of data packets */
    HOST_FAULT_RNDIS_REPLY = 1 << 6,          /* RNDIS control answers */
    HOST_FAULT_REGISTER_WRITE = 1 << 7,       /* MSR writes (error: #GP) and SET_VP_REGISTERS */
    HOST_FAULT_IC = 1 << 8,                   /* messages of the integration components */
    /* Each page of HVCALL_MODIFY_HOST_VISIBILITY. Error: refused there; drop: changed, and called refused all the
     * same; short: success that ends before it; others: refused, with a count of more pages than there are. */
    HOST_FAULT_VISIBILITY = 1 << 9,
    HOST_FAULT_BALLOON = 1 << 10,             /* messages of the dynamic memory device */
    HOST_FAULT_ALL = 0x7FF,
};

enum host_fault_kind {
    HOST_FAULT_NONE = 0,
    HOST_FAULT_DROP,                          /* no answer at all */
    HOST_FAULT_ERROR,                         /* an error status of the reply's own kind */
    HOST_FAULT_SHORT,                         /* the payload is cut to half (messages: to the header) */
    HOST_FAULT_WRONG_ID,                      /* transaction id, relid or GPADL id that nobody asked for */
    HOST_FAULT_TWICE,                         /* sent two times */
    HOST_FAULT_GARBAGE,                       /* the payload's bytes are all 0xEE */
};

/* ---- configuration ---------------------------------------------------------------------------------- */

enum host_trace {
    HOST_TRACE_TLFS = 1 << 0,
    HOST_TRACE_VMBUS = 1 << 1,
    HOST_TRACE_STORVSP = 1 << 2,
    HOST_TRACE_NETVSP = 1 << 3,
    HOST_TRACE_RING = 1 << 4,
    HOST_TRACE_IC = 1 << 5,
    HOST_TRACE_BALLOON = 1 << 6,
    HOST_TRACE_BYTES = 1 << 7,      /* what is told to the guest: messages, packets, RNDIS, and short data of disks */
};

struct host_config {
    uint32_t vps;                   /* virtual processors, 1 to HOST_MAX_VPS */
    bool arm64;                     /* no MSRs: registers by hypercall only, SINT vectors are INTIDs */
    bool strict;                    /* what a real host tolerates silently is a violation too */

    /* CPUID words of leaves 3 and 4 (HV_ACCESS_*, HV_PRIV_*, HV_FEATURE_*, HV_RECOMMEND_*): a facility is
     * absent when its bit is clear. */
    uint32_t access;                /* leaf 3 EAX */
    uint32_t privileges;            /* leaf 3 EBX */
    uint32_t features;              /* leaf 3 EDX */
    uint32_t recommendations;       /* leaf 4 EAX */
    bool enforce_privileges;        /* false: post, signal and, on arm64, SynIC work without their bits */
    uint32_t version_words[4];      /* leaf 2 */
    uint64_t tsc_hz;                /* of the guest's TSC */
    uint64_t apic_hz;
    bool intel;                     /* hypercall page: vmcall instead of vmmcall */
    uint16_t rep_batch;             /* 0, or: rep hypercalls stop after so many elements and are continued */

    /* Isolation: HV_ISOLATION_*; 0 none. Guest memory starts private. */
    uint8_t isolation_type;
    bool paravisor;
    uint8_t boundary_bit;           /* shared GPA boundary = 1 << boundary_bit */
    uint64_t ram_pages;             /* highest guest page + 1; needed only with isolation */
    bool scramble_on_change;        /* a page's content is lost when its visibility changes */
    uint16_t visibility_batch;      /* 0, or: visibility calls stop after so many pages and are continued */

    /* VMBus */
    uint32_t vmbus_min, vmbus_max;  /* VMBUS_VERSION_*: known versions between them are accepted */
    bool multi_client;              /* message connection 4 exists */
    uint32_t message_connection;    /* returned by 5.0 and later: id that the guest must use from then on */
    uint8_t version_response_bytes; /* 16, or 12 (an old host); 6.0 has its own */
    /* devices that want one get a monitor id, when the guest gave its pages */
    bool monitor_pages;
    uint16_t monitor_latency;       /* 100 ns */
    uint32_t first_relid;           /* relids are given out upwards from here and reused last */

    uint32_t trace;                 /* enum host_trace: what ops.trace gets */
};
/* Everything a current host has: versions 2.4 to 5.3, reference TSC, stimers, crash registers, no
 * auto-EOI; one VP. */
void host_config_default(struct host_config *cfg);

/* ---- what the transport supplies -------------------------------------------------------------------- */

enum host_log_level { HOST_LOG_ERROR, HOST_LOG_WARN, HOST_LOG_INFO };
/* What happens to guest pages: the host takes them (balloon) or gives them back; it adds some (hot add) or takes
 * back at once what the guest did not want of them. */
enum host_pages { HOST_PAGES_TAKEN, HOST_PAGES_RETURNED, HOST_PAGES_ADDED, HOST_PAGES_REMOVED };
enum host_power { HOST_POWER_OFF, HOST_POWER_RESET };

struct host_ops {
    /* Zeroed memory aligned to 16, or NULL. free may be NULL: the model then keeps and re-uses what it
     * got. */
    void *(*alloc)(void *ctx, size_t bytes);
    void (*free)(void *ctx, void *p, size_t bytes);
    /* Guest memory [gpa, gpa + len), inside one 4 KiB page. NULL: not guest RAM. Stays valid until gpa_unmap
     * with the same numbers; write: the model will write there, else it only reads. */
    void *(*gpa_map)(void *ctx, uint64_t gpa, size_t len, bool write);
    /* An edge interrupt for a VP. auto_eoi: the guest will send no EOI. */
    void (*raise)(void *ctx, uint32_t vp, uint32_t vector, bool auto_eoi);
    /* Reference time, never backwards. */
    uint64_t (*now_100ns)(void *ctx);
    /* host_timer_fired(vp) is due at that time; replaces the earlier request for this VP; HOST_NEVER
     * cancels. */
    void (*set_timer)(void *ctx, uint32_t vp, uint64_t deadline_100ns);
    void (*log)(void *ctx, enum host_log_level level, const char *text);
    /* The guest broke a rule. The text has the bytes. Must end in a failed test. */
    void (*violation)(void *ctx, const char *text);

    /* Optional from here: NULL means "cannot". */
    /* The guest's memory is the guest's again: a transport can see to it that nothing is touched outside of
     * what is mapped now. */
    void (*gpa_unmap)(void *ctx, uint64_t gpa, size_t len, bool write);
    /* what the guest's RDTSC returns now; NULL: no reference TSC page */
    uint64_t (*guest_tsc)(void *ctx);
    void (*crash)(void *ctx, const uint64_t params[5], const char *text);  /* text NULL: none was given */
    void (*power)(void *ctx, enum host_power kind);
    void (*trace)(void *ctx, enum host_trace category, const char *text);
    /* TLB flush asked by hypercall, done when this returns: vps has one bit per VP; count 0: everything. Ranges
     * are GVA | (pages - 1). NULL: flushing by hypercall is not recommended. */
    void (*flush)(void *ctx, const uint64_t *vps, const uint64_t *ranges, uint32_t count);
    /* LAPIC access by MSR (EOI, ICR, TPR) */
    bool (*apic_msr)(void *ctx, uint32_t vp, uint32_t msr, bool write, uint64_t *value);
    /* HVCALL_START_VP: context is the 224-byte (arm64 72-byte) initial state. */
    bool (*start_vp)(void *ctx, uint32_t vp, const void *context);
    uint32_t (*vp_of_apic_id)(void *ctx, uint64_t apic_id);   /* NULL: equal numbers */
    /* GUEST_IDLE was read: sleep until an interrupt. */
    void (*idle)(void *ctx, uint32_t vp);
    /* A page of an isolated guest changed hands (enum hv_visibility); the model keeps its own book. */
    void (*visibility)(void *ctx, uint64_t gpn, uint32_t visibility);
    /* Pages of the guest's memory that come or go. TAKEN: false when some of it is not the guest's memory, or is mapped
     * by gpa_map now. ADDED: false when the transport has no memory there. Others can't fail. */
    bool (*pages)(void *ctx, uint64_t gpn, uint64_t count, enum host_pages what);
    /* Asked for every reply whose point is chosen by host_set_fault with number 0: the test decides
     * itself. */
    enum host_fault_kind (*fault)(void *ctx, enum host_fault_point point, uint64_t number);
};

/* ---- life ------------------------------------------------------------------------------------------- */

/* NULL: no memory */
struct host *host_create(const struct host_config *cfg, const struct host_ops *ops, void *ctx);
/* Only after the backends have completed every request. Frees everything when ops.free exists. */
void host_destroy(struct host *h);
/* The machine was reset: registers, SynIC, VMBus connection go back to the start; devices and their offers
 * stay. */
void host_reset(struct host *h);
/* See the page of prose above. True: call again. */
bool host_poll(struct host *h);
/* Finds waiting messages without EOM and ring data without a signal, both older than a second of reference
 * time. */
void host_audit(struct host *h);

/* ---- entries: what the guest executes --------------------------------------------------------------- */

/* regs: EAX, EBX, ECX, EDX as the hardware answers; changed where the hypervisor answers. */
void host_cpuid(struct host *h, uint32_t vp, uint32_t leaf, uint32_t subleaf, uint32_t regs[4]);
/* false: inject #GP. Everything in 0x40000000..0x400001FF belongs here. */
bool host_rdmsr(struct host *h, uint32_t vp, uint32_t msr, uint64_t *value);
bool host_wrmsr(struct host *h, uint32_t vp, uint32_t msr, uint64_t value);
/*
 * regs[0], regs[1]: RDX, R8 (arm64: X2, X3 of the SMCCC form); regs[2..13]: XMM0 to XMM5 as pairs of words,
 * low first (arm64: X4 to X17 are regs[2..15]). Fast output is written to regs. Returns the result word for RAX (arm64: X0).
 * When *control has changed (RCX, X1) the instruction must be executed again with it: the call is being
 * continued.
 */
uint64_t host_hypercall(struct host *h, uint32_t vp, uint64_t *control, uint64_t regs[HOST_HCALL_REGS]);
void host_timer_fired(struct host *h, uint32_t vp);
/* A hint, not needed: the VP acknowledged this vector. */
void host_eoi(struct host *h, uint32_t vp, uint32_t vector);
/* The guest's TSC was changed, stopped or moved: gives the reference TSC page a new sequence. */
void host_tsc_changed(struct host *h);

/* ---- disks ------------------------------------------------------------------------------------------ */

struct host_seg {
    uint8_t *data;
    uint32_t bytes;
};

/* What DISCARD took reads as zeroes, as the disks promise their guests (LBPRZ); it may take memory away, WRITE_ZEROES
 * need not. */
enum host_blk_op { HOST_BLK_READ, HOST_BLK_WRITE, HOST_BLK_FLUSH, HOST_BLK_DISCARD, HOST_BLK_WRITE_ZEROES };
enum host_blk_status { HOST_BLK_OK, HOST_BLK_MEDIUM_ERROR, HOST_BLK_REMOVED, HOST_BLK_UNSUPPORTED };

/* Belongs to the model; lent to the backend from submit until host_blk_complete. */
struct host_blk_req {
    enum host_blk_op op;
    bool fua;                       /* WRITE, WRITE_ZEROES: on stable storage before completion */
    uint64_t sector;                /* in units of sector_bytes */
    uint64_t sectors;
    const struct host_seg *segs;    /* READ, WRITE: together sectors * sector_bytes; guest memory itself */
    uint32_t seg_count;             /* becomes 0 when the controller is rescinded: touch nothing any more */
    void *backend[2];               /* the backend's own */
};

struct host_blk_ops {
    /* Starts the request. host_blk_complete may be called before this returns. */
    void (*submit)(void *backend, struct host_blk_req *req);
};

struct host_blk_info {
    uint32_t sector_bytes;          /* 512 or 4096 */
    uint8_t physical_exponent;      /* log2(physical block / sector_bytes) */
    uint64_t sectors;
    bool read_only;
    bool supports_unmap;
    bool write_cache;               /* told in MODE SENSE; writes are stable after FLUSH */
    bool supports_fua;
    uint8_t id[16];                 /* identifies the disk: VPD 0x80 and 0x83 */
};

void host_blk_complete(struct host_blk_req *req, enum host_blk_status status);

struct host_scsi_config {
    uint16_t min_version, max_version;    /* VSTOR_VERSION_* */
    uint32_t max_transfer_bytes;          /* multiple of 4096, at most 8 MiB */
    uint16_t max_sub_channels;
    bool monitor;                         /* wants a monitor id */
};
void host_scsi_config_default(struct host_scsi_config *cfg);      /* 2.0 to 6.2, 256 KiB, no sub-channels */
/* Before the guest started or while it runs. NULL: no memory or no relid. */
struct host_scsi *host_add_scsi(struct host *h, const struct host_scsi_config *cfg);
/* Rescinds the offer; the LUNs go with it. A backend that gave addresses to hardware must be idle first. */
void host_remove_scsi(struct host *h, struct host_scsi *s);
/* lun 0 to 63 (path 0, target 0). The guest is told by ENUMERATE_BUS. false: taken or out of range. */
bool host_add_lun(struct host *h, struct host_scsi *s, uint32_t lun, const struct host_blk_info *info,
                  const struct host_blk_ops *ops, void *backend);
/* Requests already given to the backend must still be completed. */
void host_remove_lun(struct host *h, struct host_scsi *s, uint32_t lun);
/* The next command on the LUN reports "capacity data has changed". */
void host_resize_lun(struct host *h, struct host_scsi *s, uint32_t lun, uint64_t sectors);

/* A sparse disk in memory (blk_mem.c): pages appear when written. For hosted tests. */
struct blk_mem;
struct blk_mem *blk_mem_create(const struct host_ops *ops, void *ctx, uint32_t sector_bytes,
                               uint64_t sectors);
void blk_mem_destroy(struct blk_mem *m);
extern const struct host_blk_ops blk_mem_ops;
void blk_mem_info(const struct blk_mem *m, struct host_blk_info *info);
/* the test's own */
bool blk_mem_access(struct blk_mem *m, uint64_t sector, void *data, uint32_t sectors, bool write);
uint64_t blk_mem_pages(const struct blk_mem *m);                  /* pages that hold data */
uint64_t blk_mem_flushes(const struct blk_mem *m);
/* While held, requests wait; letting go completes them, oldest or newest first. */
void blk_mem_hold(struct blk_mem *m, bool hold, bool newest_first);
void blk_mem_fail_next(struct blk_mem *m, enum host_blk_status status);   /* one request */

/* ---- network ---------------------------------------------------------------------------------------- */

struct host_frame {
    const struct host_seg *segs;    /* Ethernet without FCS */
    uint32_t seg_count;
    uint32_t bytes;
    bool has_vlan;                  /* the tag travels beside the frame */
    uint16_t vlan_tci;              /* as on the wire: priority, CFI, id */
};

struct host_net_ops {
    /* A frame from the guest, complete (checksums filled, segmented). The pieces are valid during the call.
     * false: no room; it comes again after host_net_tx_ready. */
    bool (*tx)(void *backend, const struct host_frame *frame);
};

struct host_nic_config {
    uint8_t mac[6];
    uint32_t max_nvsp;              /* NVSP_VERSION_* */
    /* without the Ethernet header; the guest may ask for less or more up to max_mtu */
    uint32_t mtu;
    uint32_t max_mtu;
    bool link_up;
    uint32_t link_speed;            /* 100 bit/s */
    uint32_t sub_allocation_bytes;  /* 0: 256 + frame + 36 */
    uint32_t send_section_bytes;
    uint32_t max_packets_per_message;
    uint32_t alignment_factor;
    uint16_t rx_batch;              /* most ranges in one transfer-page packet, 1 to 375 */
    uint16_t rx_data_offset;        /* of the frame inside its sub-allocation */
    bool rx_length_is_sub_allocation; /* as current hosts: MessageLength claims the whole sub-allocation */
    uint32_t tx_checksum;           /* capabilities, NDIS_CHECKSUM_* for IPv4; IPv6 gets what applies */
    uint32_t rx_checksum;
    uint32_t lso_max_bytes;         /* 0: no LSOv2 */
    uint16_t max_queues;            /* 1: no sub-channels, no RSS */
    bool monitor;
};
/* 6.1, 1500, link up 10 Gbit/s, all offloads, 1 queue */
void host_nic_config_default(struct host_nic_config *cfg);
struct host_nic *host_add_nic(struct host *h, const struct host_nic_config *cfg,
                              const struct host_net_ops *ops, void *backend);
void host_remove_nic(struct host *h, struct host_nic *n);         /* rescinds the offer */
/*
 * A frame for the guest; copied at once. false: no receive section is free now, nothing was taken;
 * host_net_rx_room says when to try again. A guest that does not listen (closed, filter 0, frame too long)
 * makes it true and dropped. checked: checksums are known to be good (it came from memory, not from a wire):
 * marked ok without looking.
 */
bool host_net_rx(struct host_nic *n, const struct host_frame *frame, bool checked);
bool host_net_rx_room(const struct host_nic *n);
void host_net_tx_ready(struct host_nic *n);
void host_net_link(struct host_nic *n, bool up);

/* ---- integration components ------------------------------------------------------------------------- */

enum host_ic_kind {
    HOST_IC_SHUTDOWN,
    HOST_IC_HEARTBEAT,
    HOST_IC_TIMESYNC,
    HOST_IC_KVP,
    HOST_IC_VSS,
    HOST_ICS
};

#define HOST_IC_VERSIONS 8u
struct host_version {
    uint16_t major, minor;
};
struct host_versions {
    uint32_t count;                 /* at most HOST_IC_VERSIONS; 0: the host knows none */
    struct host_version list[HOST_IC_VERSIONS];
};

struct host_ic_config {
    uint32_t present;               /* a bit per enum host_ic_kind */
    struct host_versions framework, messages[HOST_ICS];   /* what the host lists */
    /* Transactions are numbered from 1; false: all are 0, as with OpenVMM. */
    bool numbered;
    /* Samples of time are requests that want an answer; false: they have no flags, as with OpenVMM. */
    bool timesync_answered;
    uint32_t heartbeat_ms, timesync_ms;
    uint32_t negotiate_limit_ms, answer_limit_ms, vss_limit_ms;   /* then an answer counts as missing */
    uint64_t time_100ns;            /* of day, since 1601 UTC, at host_add_ics */
};
/* All but VSS; framework 1.0 and 3.0, every message version; 2 s, 5 s; limits longer than Linux's own. */
void host_ic_config_default(struct host_ic_config *cfg);
/* Offers the components of cfg->present that are not offered now; what runs is left alone. false: no memory
 * or no relid. */
bool host_add_ics(struct host *h, const struct host_ic_config *cfg);
void host_remove_ic(struct host *h, enum host_ic_kind which);     /* rescinds the offer */

/* From here on, false and 0: the component is not there, not negotiated, or has enough to do. */
bool host_ic_renegotiate(struct host *h, enum host_ic_kind which);
/* flags, reason: IC_SHUTDOWN_*; text: at most 2047 bytes. One at a time. */
bool host_ic_shutdown(struct host *h, uint32_t flags, uint32_t reason, uint32_t timeout_s, const char *text);
/* The host's time of day; it goes on with the reference time. A jump is told by host_ic_time_sync only. */
uint64_t host_ic_time(struct host *h);
void host_ic_set_time(struct host *h, uint64_t time_100ns);
bool host_ic_time_sync(struct host *h);                           /* a sample that says: set your clock now */
bool host_ic_vss(struct host *h, uint32_t operation);             /* enum ic_vss_operation */

/*
 * Key-value pairs. Each call starts a transaction and returns its number; transactions wait for each other.
 * What comes of it is read by host_kvp_result: for each item of an enumeration or each word about an adapter
 * one with last clear, and one with last set at the end. Text is UTF-8.
 */
uint32_t host_kvp_set(struct host *h, const char *key, const char *value);      /* in the external pool */
uint32_t host_kvp_delete(struct host *h, const char *key);
uint32_t host_kvp_get(struct host *h, uint32_t pool, const char *key);
uint32_t host_kvp_enumerate(struct host *h, uint32_t pool);       /* enum ic_kvp_pool */
/* adapter: MAC or instance GUID, as the guest likes it. Items are: family, dhcp, addresses, subnets, gateways,
 * dns. */
uint32_t host_kvp_get_ip(struct host *h, const char *adapter);

#define HOST_KVP_NO_ANSWER 0xFFFFFFFFu
struct host_kvp_result {
    uint32_t transaction;
    uint32_t operation, pool, index;
    uint32_t status;                /* IC_STATUS_*; HOST_KVP_NO_ANSWER: too late, or the channel was closed */
    uint32_t type;                  /* of an item: IC_KVP_TYPE_*; numbers are given in decimal */
    bool last;
    char key[3 * 256], value[3 * 1024];
};
/* Takes the oldest result; false: there is none. Of those nobody takes, the oldest are lost. */
bool host_kvp_result(struct host *h, struct host_kvp_result *result);

struct host_ic_state {
    bool offered, open;
    bool negotiated, refused;       /* refused: the guest found no version that it knows */
    uint32_t relid;                 /* 0: gone */
    struct host_version framework, message;
    uint64_t negotiations;          /* completed */
    uint64_t requests, answers;     /* negotiation apart */
    uint64_t missed;                /* no answer in time, negotiations too; answers that came later: */
    uint64_t late;
    bool waiting;                   /* for an answer now */
    uint32_t status;                /* IC_STATUS_* of the last answer */
    uint64_t last_answer_100ns;     /* reference time; 0: there was none */
    uint32_t word;                  /* of the last answer: heartbeat: application state; VSS: flags */
};
void host_ic_get_state(const struct host *h, enum host_ic_kind which, struct host_ic_state *state);
const char *host_ic_name(enum host_ic_kind which);                /* "shutdown", "heartbeat", ... */

/* ---- dynamic memory --------------------------------------------------------------------------------- */

struct host_balloon_config {
    uint32_t min_version, max_version;    /* DM_VERSION_*: known versions between them are accepted */
    bool no_reports;                /* from 2.0 on: the guest is told not to report its pressure */
    bool refuse_capabilities;
    uint64_t max_pages;             /* told to the guest from 1.0 on; 0: nothing is told */
    uint32_t ranges_per_message;    /* in what is given back; 0: as many as fit */
    uint32_t piece_pages;           /* 0, or: longest range in it */
};
void host_balloon_config_default(struct host_balloon_config *cfg);    /* 0.3 to 2.0, no limit */
/* One device a machine; after it was removed it can be added again, and knows what the guest gave. false: there is one,
 * or no memory or no relid. */
bool host_add_balloon(struct host *h, const struct host_balloon_config *cfg);
void host_remove_balloon(struct host *h);                         /* rescinds the offer */
void host_balloon_forget(struct host *h);                         /* what the guest gave: as if it never had */

/* Requests, one at a time. false: the device is not ready, busy, or the guest did not announce that it can. */
bool host_balloon(struct host *h, uint32_t pages);
bool host_unballoon(struct host *h, uint64_t pages);              /* pieces of what the guest gave, at random */
/* first: page number; with_region: the longer form of the message */
bool host_hot_add(struct host *h, uint64_t first, uint32_t pages, bool with_region);
/* Any bytes; answer_type: DM_*_RESPONSE that a guest must send all the same, 0 none; pages: most it may give. */
bool host_balloon_lie(struct host *h, const void *message, uint32_t bytes, uint16_t answer_type, uint64_t pages);
bool host_balloon_has(const struct host *h, uint64_t page);       /* the guest gave it */

struct host_balloon_state {
    uint32_t relid;                 /* 0: not offered */
    bool ready, busy;               /* the handshake is done; a request is not answered yet */
    uint32_t version;               /* DM_VERSION_*, of the last handshake */
    uint64_t capabilities;          /* DM_CAP_* */
    uint64_t reports;
    uint64_t available_pages, committed_pages, last_report_100ns;     /* of the last report */
    uint64_t ballooned_pages, hot_added_pages;
    uint32_t ballooned_ranges;
    uint64_t exchanges;             /* requests answered */
    uint64_t parts;                 /* messages with ranges, both ways */
    uint64_t result_pages;          /* of the last request: moved */
    uint32_t result;                /* of the last hot add */
};
void host_balloon_get_state(const struct host *h, struct host_balloon_state *state);

/* ---- events a test causes --------------------------------------------------------------------------- */

/* Rescind by relid (sub-channels too). */
bool host_rescind(struct host *h, uint32_t relid);
/* n-th reply at the points of the mask (counted from 1, from now on) gets the kind. number 0: ops.fault is
 * asked. */
void host_set_fault(struct host *h, uint32_t points, uint64_t number, enum host_fault_kind kind);
uint64_t host_fault_count(const struct host *h);                  /* replies counted since host_set_fault */
/* Nothing is sent on this channel until released: the guest sees a slow device. */
void host_hold_channel(struct host *h, uint32_t relid, bool hold);

/* ---- malice: a host that lies (malice.c) ------------------------------------------------------------ */

enum host_malice_class {
    HOST_MALICE_RING = 1 << 0,        /* indices out of range, unaligned or moving backwards; masks and sizes */
    HOST_MALICE_FRAME = 1 << 1,       /* lengths, offsets, types and flags of packets */
    HOST_MALICE_ID = 1 << 2,          /* completions of requests unknown, not made yet, or completed before */
    HOST_MALICE_SWAP = 1 << 3,        /* two requests, both done, completed with each other's id */
    HOST_MALICE_EARLY = 1 << 4,       /* SCSI requests completed with success and never executed */
    HOST_MALICE_LENGTH = 1 << 5,      /* SCSI: more or less data than asked for; payloads cut or too long */
    HOST_MALICE_STATUS = 1 << 6,      /* failure called at each step */
    HOST_MALICE_HANDSHAKE = 1 << 7,   /* absurd values in answers of a device's handshake, RNDIS's among them */
    HOST_MALICE_OFFER = 1 << 8,       /* offers absurd, repeated, and by the thousand */
    HOST_MALICE_RESCIND = 1 << 9,     /* the offer withdrawn at any step; the answer comes before, or never */
    HOST_MALICE_SILENCE = 1 << 10,    /* no answer at any step; rings that are not read any more */
    HOST_MALICE_MESSAGE = 1 << 11,    /* bus messages cut, of other types, spoilt, repeated, unasked for */
    HOST_MALICE_REFUSE = 1 << 12,     /* versions, openings, page lists, posted messages and signals refused */
    HOST_MALICE_RNDIS = 1 << 13,      /* received messages and the ranges that tell of them */
    HOST_MALICE_STORM = 1 << 14,      /* interrupts, events and messages that nothing asked for */
    HOST_MALICE_VISIBILITY = 1 << 15, /* visibility calls that half succeed */
    HOST_MALICE_CONNECT = 1 << 16,    /* the answer to a contact; offers and their end too early, too late, unasked for */
    HOST_MALICE_GPADL = 1 << 17,      /* page lists announced twice, with another's number, and gone when nobody asked */
    HOST_MALICE_WIRING = 1 << 18,     /* offers with another's connection or monitor id; scribbled monitor pages */
    HOST_MALICE_SERVICE = 1 << 19,    /* what integration components and dynamic memory ask and answer */
    HOST_MALICE_ALL = 0xFFFFF,
};
#define HOST_MALICE_HONEST 10u

struct host_malice {
    uint32_t classes;               /* enum host_malice_class */
    uint64_t seed;                  /* the same seed and the same guest: the same lies */
    uint32_t rate;                  /* of so many occasions, one is used; 0 as 1 */
    /* Lies are numbered from 1. Only those of these numbers are told (0, 0: all), so that a failing seed can be
     * narrowed down by halves. */
    uint64_t first, last;
    const void *honest[HOST_MALICE_HONEST];       /* struct host_scsi, struct host_nic: not lied about */
    bool idle_rescind;              /* no rescind while a disk request is out: hardware has the guest's addresses */
};
/* From now on; NULL: honest again, and offers that were made up are rescinded. Each lie is told to the log by its
 * number. What the guest does wrong stays a violation, but for what the lies that were told lead a correct guest to:
 * the place in the model that finds it names their classes, and whom they must have been about (malice_excuses).
 * Nothing is told to be released, completed or rescinded while the model still uses its memory: what guest and host
 * share is never the model's to spoil after the guest took it back. */
void host_set_malice(struct host *h, const struct host_malice *m);
const char *host_malice_name(unsigned bit);                       /* of 1 << bit: "ring"; NULL: there is none */

struct host_malice_counters {
    uint64_t occasions, lies, excused;    /* excused: what lies led the guest to, and would else be violations */
};
void host_get_malice(const struct host *h, struct host_malice_counters *counters);

/* ---- what can be observed --------------------------------------------------------------------------- */

struct host_counters {
    uint64_t hypercalls, messages_in, messages_out, messages_delayed, eoms, eoms_unneeded;
    uint64_t signals;               /* HVCALL_SIGNAL_EVENT */
    /* nothing was in the ring and nobody waited for space, or already signalled */
    uint64_t signals_unneeded;
    uint64_t monitor_signals;
    uint64_t interrupts;            /* raise() calls */
    uint64_t events;                /* event flags newly set */
    uint64_t events_lost;           /* SynIC off or SINT masked */
    uint64_t packets_in, packets_out, ring_full;
    uint64_t srbs, srb_bytes, tx_frames, tx_bytes, tx_packets, rx_frames, rx_bytes, rx_packets, rx_dropped;
    uint64_t tx_referenced;         /* data packets with GPA ranges (the others were copied by the guest) */
    uint64_t tlb_flushes, ipis, timer_messages, timer_interrupts;
    uint64_t violations;
};
const struct host_counters *host_counters(const struct host *h);

struct host_state {
    uint32_t vmbus_version;         /* 0: not connected */
    uint32_t channels_offered, channels_open, gpadls;
    uint64_t gpadl_pages;
    uint64_t guest_os_id;
    uint32_t blk_in_flight;
    uint32_t rx_sections_held;      /* receive sections that the guest has not given back, all NICs */
    uint64_t pages_visible;         /* isolated guests: pages shared with the host now */
    uint64_t pages_mapped;          /* of the guest's memory, by the model, now; a page counts once per use */
};
void host_get_state(const struct host *h, struct host_state *state);
/* Of an isolated guest: may the host look at the page? Of others: always. */
bool host_page_visible(const struct host *h, uint64_t gpn);
uint32_t host_scsi_relid(const struct host_scsi *s);              /* 0: gone */
uint32_t host_nic_relid(const struct host_nic *n);
/* The VMBus instance GUID as "{...}", small letters; "" when the offer is gone. */
#define HOST_GUID_TEXT 39u
void host_nic_instance(const struct host_nic *n, char text[HOST_GUID_TEXT]);
uint32_t host_nic_filter(const struct host_nic *n);

