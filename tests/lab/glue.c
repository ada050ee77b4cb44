/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The model of the host inside the lab: its callbacks, its devices, and the poll between two runs of the guest.
 *
 * Duty from host.h: after every call into the model host_poll must run before the guest may sleep. The guest can sleep
 * without an exit, so it runs before the guest does.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/glue.h"
#include "tests/lab/ics.h"
#include "tests/lab/isolation.h"
#include "tests/lab/liar.h"
#include "tests/lab/nested_cost.h"
#include "tests/lab/machine.h"
#include "tests/lab/settings.h"
#include "tests/lab/virtio.h"
#include "hv/hv_wire.h"

#define AUDIT_100NS     10000000ull   /* host_audit once a second */
#define DRAIN_LIMIT_US  10000000u

struct host *lab_host;
bool glue_xmm_hypercalls;
struct lab_disk lab_disks[LAB_MAX_DISKS];
unsigned lab_disk_count;
struct lab_nic lab_nics[LAB_MAX_NICS];
unsigned lab_nic_count;

static struct lab_settings settings;
static struct host_scsi *controller, *liar;     /* the second one has the disks of malice.luns= */
static bool poll_due = true;
/* Deadlines of the vcpus' timers, the model's own behind them. */
static uint64_t deadlines[LAB_MAX_VCPUS + 1];

void glue_model_called(void) { poll_due = true; }

/* ---- callbacks ---- */
static void *op_alloc(void *ctx, size_t bytes)
{
    (void)ctx;
    return kzalloc(bytes);
}

static void op_free(void *ctx, void *p, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    kfree(p);
}

static void *op_gpa_map(void *ctx, uint64_t gpa, size_t len, bool write)
{
    (void)ctx;
    (void)write;
    return balloon_gone(gpa) ? NULL : guest_ptr(gpa, len);
}

static void op_raise(void *ctx, uint32_t vp, uint32_t vector, bool auto_eoi)
{
    (void)ctx;
    lab_count(CNT_INTERRUPTS);
    vcpu_raise(vcpu_at(vp), vector, auto_eoi);
}

/* What the guest's processors are asked to forget they forget altogether. */
static void op_flush(void *ctx, const uint64_t *vps, const uint64_t *ranges, uint32_t count)
{
    (void)ctx;
    (void)ranges;
    (void)count;
    machine_flush_guest(vps[0]);
}

static uint64_t op_now(void *ctx)
{
    (void)ctx;
    return clock_now_100ns();
}

static void op_set_timer(void *ctx, uint32_t vp, uint64_t deadline)
{
    (void)ctx;
    deadlines[vp == HOST_NO_VP ? LAB_MAX_VCPUS : vp] = deadline;
    uint64_t next = HOST_NEVER;
    for (unsigned i = 0; i < ARRAY_SIZE(deadlines); i++)
        next = MIN(next, deadlines[i]);
    clock_set_deadline(next);
}

static void op_log(void *ctx, enum host_log_level level, const char *text)
{
    (void)ctx;
    log_line(level == HOST_LOG_ERROR ? LOG_ERR : level == HOST_LOG_WARN ? LOG_WARN : LOG_INFO, "host", "%s", text);
}

static void op_violation(void *ctx, const char *text)
{
    (void)ctx;
    report_violation(text);
}

static uint64_t op_guest_tsc(void *ctx)
{
    (void)ctx;
    return arch_counter();
}

static void op_crash(void *ctx, const uint64_t p[5], const char *text)
{
    (void)ctx;
    log_err("the guest crashed: P0 %#llx P1 %#llx P2 %#llx P3 %#llx P4 %#llx", (unsigned long long)p[0],
            (unsigned long long)p[1], (unsigned long long)p[2], (unsigned long long)p[3], (unsigned long long)p[4]);
    if (text) {
        kprintf("lab-crash: ");
        log_raw(text, strlen(text));         /* may be longer than a formatted line */
        kprintf("\n");
    }
    lab_end(LAB_END_CRASH, "the guest reported a crash");
}

static void op_power(void *ctx, enum host_power kind)
{
    (void)ctx;
    if (kind == HOST_POWER_OFF)
        lab_end(LAB_END_POWER_OFF, "the guest powered off");
    lab_end(LAB_END_REBOOT, "the guest reset the machine");
}

static void op_trace(void *ctx, enum host_trace category, const char *text)
{
    (void)ctx;
    (void)category;
    kprintf("[%12llu] %s\n", (unsigned long long)clock_now_us(), text);
}

static const struct host_ops ops = {
    .alloc = op_alloc, .free = op_free, .gpa_map = op_gpa_map, .raise = op_raise, .now_100ns = op_now,
    .set_timer = op_set_timer, .log = op_log, .violation = op_violation, .guest_tsc = op_guest_tsc, .crash = op_crash,
    .power = op_power, .trace = op_trace, .pages = balloon_pages, .flush = op_flush,
    .visibility = isolation_visibility,
};

/* ---- devices ---- */
static struct host_scsi *controller_of(unsigned n) { return settings.liar.luns >> n & 1 ? liar : controller; }

static bool add_lun(unsigned n)
{
    struct lab_disk *d = &lab_disks[n];
    struct host_scsi *c = controller_of(n);
    if (d->attached || !c || !host_add_lun(lab_host, c, n, &d->info, d->ops, d->backend))
        return false;
    d->attached = true;
    return true;
}

static bool add_nic(unsigned n)
{
    struct lab_nic *l = &lab_nics[n];
    struct host_nic_config cfg = settings.nic;
    if (l->host)
        return false;
    for (unsigned i = 0; i < sizeof(cfg.mac); i++)
        cfg.mac[i] = l->mac[i];
    if (l->mtu)
        cfg.mtu = cfg.max_mtu = l->mtu;
    cfg.link_up = l->link;
    l->host = host_add_nic(lab_host, &cfg, l->ops, l->backend);
    return l->host != NULL;
}

/* Whoever is not the liar is honest; where nobody was named, nobody is. */
static void lie(const struct host_malice *m)
{
    const void *honest[1 + LAB_MAX_NICS];
    unsigned count = 0;
    if (settings.liar.luns | settings.liar.nics) {
        honest[count++] = controller;
        for (unsigned i = 0; i < lab_nic_count; i++)
            if (!(settings.liar.nics >> i & 1) && lab_nics[i].host)
                honest[count++] = lab_nics[i].host;
    }
    liar_start(m, honest, count);
}

int glue_init(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(deadlines); i++)
        deadlines[i] = HOST_NEVER;
    settings_defaults(&settings);
    settings.host.vps = lab_vcpu_count;
    settings.host.tsc_hz = clock_counter_hz();
    machine_host_config(&settings.host);
    settings.scsi.max_sub_channels = (uint16_t)(lab_vcpu_count - 1);
    settings.nic.max_queues = (uint16_t)lab_vcpu_count;
    settings_parse(&settings, lab_options.host_words, lab_options.trace);
    glue_xmm_hypercalls = (settings.host.features & (HV_FEATURE_XMM_INPUT | HV_FEATURE_XMM_OUTPUT)) != 0;

    isolation_start(&settings.isolation, &settings.host);
    lab_host = host_create(&settings.host, &ops, NULL);
    if (!lab_host)
        return -E_NOMEM;
    if (settings.fault.kind != HOST_FAULT_NONE)
        host_set_fault(lab_host, settings.fault.points, settings.fault.number, settings.fault.kind);
    if (lab_options.ramdisk_bytes)
        ramdisk_create(lab_options.ramdisk_bytes);
    virtio_scan();
    if (settings.scsi_present) {
        controller = host_add_scsi(lab_host, &settings.scsi);
        if (!controller)
            return -E_NOMEM;
    }
    if (settings.liar.luns && !(liar = host_add_scsi(lab_host, &settings.scsi)))
        return -E_NOMEM;
    for (unsigned i = 0; i < lab_disk_count; i++)
        if (controller_of(i) && !(settings.absent_luns >> i & 1) && !add_lun(i))
            log_err("disk %u could not be attached", i);
    for (unsigned i = 0; i < lab_nic_count; i++)
        if (!(settings.absent_nics >> i & 1) && !add_nic(i))
            log_err("nic %u could not be attached", i);
    lie(&settings.liar.malice);
    if (!ics_start(&settings.ic) || !balloon_start(&settings.balloon))
        return -E_NOMEM;
    lab_counters[CNT_BLOCK_REQUESTS] = 0;           /* the lab's own identification of the disks */
    return 0;
}

/* ---- commands ---- */
static bool parse_index(const char *text, unsigned *n)
{
    *n = 0;
    if (*text < '0' || *text > '9')
        return false;
    for (; *text >= '0' && *text <= '9'; text++)
        *n = *n * 10 + (unsigned)(*text - '0');
    return *text == '\0';
}

/*
 * A rescind gives the guest its memory back at once, also the buffers whose addresses the virtio devices have: those
 * requests end first. Nothing new is taken meanwhile, since the model is not polled.
 */
static void drain(void)
{
    struct host_state state;
    uint64_t limit = clock_now_us() + DRAIN_LIMIT_US;
    for (;;) {
        host_get_state(lab_host, &state);
        if (state.blk_in_flight == 0)
            return;
        if (clock_now_us() > limit)
            lab_end(LAB_END_FAULT, "a disk did not finish its requests");
        vblk_kick();
        vblk_poll();
        ramdisk_poll();
    }
}

static bool rescind(uint32_t relid)
{
    drain();
    return host_rescind(lab_host, relid);
}

/* The liar's devices go, and new ones come. */
static bool renew(void)
{
    drain();
    if (liar) {
        host_remove_scsi(lab_host, liar);
        liar = host_add_scsi(lab_host, &settings.scsi);
    }
    for (unsigned i = 0; i < lab_disk_count; i++) {
        if (!(settings.liar.luns >> i & 1))
            continue;
        lab_disks[i].attached = false;
        if (!add_lun(i))
            return false;
    }
    for (unsigned i = 0; i < lab_nic_count; i++) {
        struct host_nic *gone = lab_nics[i].host;
        if (!(settings.liar.nics >> i & 1) || !gone)
            continue;
        lab_nics[i].host = NULL;
        host_remove_nic(lab_host, gone);
        if (!add_nic(i))
            return false;
    }
    return true;
}

static bool malice(const char *what)
{
    struct host_malice m;
    if (!strcmp(what, "renew"))
        return renew();
    if (*what == '\0') {
        liar_report();
        return true;
    }
    if (!liar_parse(&m, what))
        return false;
    lie(&m);
    return true;
}

static bool command(const char *verb, const char *what, const char *more)
{
    struct lab_fault fault;
    unsigned n = 0;
    bool number = parse_index(what, &n), done;
    if (ics_command(verb, what, more, &done) || balloon_command(verb, what, more, &done))
        return done;
    if (!strcmp(verb, "counters"))
        report_counters();
    else if (!strcmp(verb, "isolation"))
        isolation_report();
    else if (!strcmp(verb, "mark"))
        report_mark(*what ? what : "mark");
    else if (!strcmp(verb, "quit"))
        lab_end(LAB_END_QUIT, "the operator said so");
    else if (!strcmp(verb, "malice"))
        return malice(what);
    else if (!strcmp(verb, "fault")) {
        if (!settings_fault(&fault, what, more))
            return false;
        host_set_fault(lab_host, fault.points, fault.number, fault.kind);
    } else if (!number)
        return false;
    else if (!strcmp(verb, "lun-add"))
        return n < lab_disk_count && add_lun(n);
    else if (!strcmp(verb, "lun-remove")) {
        if (n >= lab_disk_count || !lab_disks[n].attached)
            return false;
        lab_disks[n].attached = false;
        host_remove_lun(lab_host, controller_of(n), n);
    } else if (!strcmp(verb, "nic-add"))
        return n < lab_nic_count && add_nic(n);
    else if (!strcmp(verb, "nic-remove")) {
        if (n >= lab_nic_count || !lab_nics[n].host)
            return false;
        struct host_nic *gone = lab_nics[n].host;
        lab_nics[n].host = NULL;
        host_remove_nic(lab_host, gone);
    } else if (!strcmp(verb, "rescind"))
        return rescind(n);
    else if (!strcmp(verb, "nested-cost"))
        return nested_cost(n);
    else if (!strcmp(verb, "link")) {
        if (n >= lab_nic_count || !lab_nics[n].host || (strcmp(more, "up") && strcmp(more, "down")))
            return false;
        lab_nics[n].link = !strcmp(more, "up");
        host_net_link(lab_nics[n].host, lab_nics[n].link);
    } else
        return false;
    return true;
}

void glue_command(char *line)
{
    char *word[3] = {line, line + strlen(line), line + strlen(line)};
    for (unsigned i = 1; i < ARRAY_SIZE(word); i++) {
        char *space = strchr(word[i - 1], ' ');
        if (!space)
            break;
        *space = '\0';
        word[i] = space + 1;
    }
    bool done = command(word[0], word[1], word[2]);
    kprintf("lab-command: %s %s %s: %s\n", word[0], word[1], word[2], done ? "done" : "refused");
    poll_due = true;
}

/* ---- the poll ---- */

/* Marks at what messages bring about: connection and channels. */
static void mark_progress(void)
{
    static uint64_t messages;
    static bool connected;
    static uint32_t channels;
    struct host_state state;
    if (host_counters(lab_host)->messages_in == messages)
        return;
    messages = host_counters(lab_host)->messages_in;
    host_get_state(lab_host, &state);
    if (state.vmbus_version && !connected)
        report_mark("vmbus-connected");
    connected = state.vmbus_version != 0;
    if (state.channels_open > channels) {
        char name[32];
        ksnprintf(name, sizeof(name), "channel-open-%u", state.channels_open);
        report_mark(name);
    }
    channels = state.channels_open;
}

void glue_poll(void)
{
    static uint64_t next_audit;
    if (clock_due()) {
        uint64_t now = clock_now_100ns();
        for (unsigned i = 0; i < ARRAY_SIZE(deadlines); i++)
            if (deadlines[i] <= now) {
                op_set_timer(NULL, i == LAB_MAX_VCPUS ? HOST_NO_VP : i, HOST_NEVER);
                host_timer_fired(lab_host, i == LAB_MAX_VCPUS ? HOST_NO_VP : i);
            }
        poll_due = true;
    }
    if (clock_tick_due()) {
        char line[128];
        while (serial_poll_line(line, sizeof(line)))
            glue_command(line);
        if (clock_now_100ns() >= next_audit) {
            next_audit = clock_now_100ns() + AUDIT_100NS;
            host_audit(lab_host);
            poll_due = true;
        }
    }
    poll_due |= vblk_poll();
    poll_due |= ramdisk_poll();
    poll_due |= vnet_poll();
    if (poll_due) {
        while (host_poll(lab_host))
            ;
        poll_due = false;
        ics_poll();
        mark_progress();
    }
    vblk_kick();
    vnet_kick();
    clock_set_device_deadline(ramdisk_deadline_100ns());
    clock_arm();
}
