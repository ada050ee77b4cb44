/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host.c: the life of the model, its memory, its view of guest memory, alarms, faults and counters.
 */
#include "tests/host/host_internal.h"

#include "drivers/netvsc_wire.h"
#include "drivers/scsi_wire.h"
#include "drivers/storvsc_wire.h"

void host_config_default(struct host_config *cfg)
{
    memset(cfg, 0, sizeof(*cfg));
    cfg->vps = 1;
    cfg->strict = true;
    cfg->access = HV_ACCESS_VP_RUNTIME | HV_ACCESS_REFERENCE_COUNTER | HV_ACCESS_SYNIC | HV_ACCESS_STIMER |
                  HV_ACCESS_HYPERCALL | HV_ACCESS_VP_INDEX | HV_ACCESS_REFERENCE_TSC | HV_ACCESS_FREQUENCY;
    cfg->privileges = HV_PRIV_POST_MESSAGES | HV_PRIV_SIGNAL_EVENTS | HV_PRIV_ACCESS_VP_REGISTERS;
    cfg->features = HV_FEATURE_FREQUENCY_MSRS | HV_FEATURE_CRASH_MSRS | HV_FEATURE_STIMER_DIRECT;
    cfg->recommendations = HV_RECOMMEND_RELAXED_TIMING | HV_RECOMMEND_NO_AUTO_EOI;
    cfg->enforce_privileges = true;
    cfg->version_words[0] = 20348;
    cfg->version_words[1] = 10u << 16;
    cfg->tsc_hz = 2000000000;
    cfg->apic_hz = 200000000;
    cfg->vmbus_min = VMBUS_VERSION_WIN8;
    cfg->vmbus_max = VMBUS_VERSION_WIN10_5_3;
    cfg->multi_client = true;
    cfg->message_connection = VMBUS_CONNECTION_MESSAGE_MULTI;
    cfg->version_response_bytes = sizeof(struct vmbus_msg_version_response);
    cfg->monitor_latency = 1000;
    cfg->first_relid = 1;
}

/* ---- memory ----------------------------------------------------------------------------------------- */

static uint32_t pool_class(size_t bytes)
{
    uint32_t class = 6;

    while (class < 31 && ((size_t)1 << class) < bytes)
        class++;
    return class;
}

void *host_alloc(struct host *h, size_t bytes)
{
    size_t total = bytes + sizeof(struct host_mem);
    struct host_mem *m;

    if (h->ops.free == NULL) {
        uint32_t class = pool_class(total);
        total = (size_t)1 << class;
        m = h->pool[class];
        if (m != NULL) {
            h->pool[class] = (struct host_mem *)(void *)m->node.next;
            memset(m, 0, sizeof(*m) + bytes);
            m->bytes = total;
            list_init(&m->node);
            return m + 1;
        }
    }
    m = h->ops.alloc(h->ctx, total);
    if (m == NULL)
        return NULL;
    m->bytes = total;
    list_init(&m->node);
    if (h->ops.free != NULL)
        list_push_back(&h->memory, &m->node);
    return m + 1;
}

void host_free(struct host *h, void *p)
{
    struct host_mem *m = p;

    if (p == NULL)
        return;
    m--;
    if (h->ops.free != NULL) {
        list_remove(&m->node);
        h->ops.free(h->ctx, m, m->bytes);
        return;
    }
    m->node.next = (struct list *)(void *)h->pool[pool_class(m->bytes)];
    h->pool[pool_class(m->bytes)] = m;
}

/* ---- guest memory ----------------------------------------------------------------------------------- */

struct use_rule {
    const char *name;
    bool write, shared;             /* shared: in an isolated guest the page must have been made visible */
};

static const struct use_rule uses[USES] = {
    [USE_HYPERCALL_PAGE] = {"hypercall page", true, false},
    [USE_HYPERCALL_INPUT] = {"hypercall input", false, false},
    [USE_HYPERCALL_OUTPUT] = {"hypercall output", true, false},
    [USE_SYNIC_PAGE] = {"SynIC page", true, false},
    [USE_TSC_PAGE] = {"reference TSC page", true, false},
    [USE_CRASH_TEXT] = {"crash text", false, false},
    [USE_VISIBILITY] = {"page that changes hands", true, false},
    [USE_MONITOR_PAGE] = {"monitor page", true, true},
    [USE_GPADL] = {"GPADL", true, true},
    [USE_PACKET_READ] = {"packet, read", false, true},
    [USE_PACKET_WRITE] = {"packet, written", true, true},
};

static uint64_t without_boundary(const struct host *h, uint64_t gpa)
{
    if (h->book == NULL || h->cfg.boundary_bit == 0)
        return gpa;
    return gpa & ~(1ull << h->cfg.boundary_bit);
}

/* What the hypervisor uses itself it reaches as the guest would: a private page below the boundary, a visible one above. */
static bool wrong_side(const struct host *h, enum host_use use, uint64_t gpa)
{
    if (h->book == NULL || h->cfg.boundary_bit == 0 || uses[use].shared || use == USE_VISIBILITY)
        return false;
    return host_page_visible(h, without_boundary(h, gpa) >> HV_PAGE_SHIFT) != (without_boundary(h, gpa) != gpa);
}

void *host_map(struct host *h, enum host_use use, uint64_t gpa, size_t len)
{
    bool counted = h->book != NULL && uses[use].shared;
    void *p;

    if (wrong_side(h, use, gpa))
        return NULL;
    gpa = without_boundary(h, gpa);
    if (len == 0 || len > HV_PAGE_SIZE - (gpa & HV_PAGE_MASK))
        return NULL;
    if (counted && !host_page_enter(h, gpa >> HV_PAGE_SHIFT))
        return NULL;
    p = h->ops.gpa_map(h->ctx, gpa, len, uses[use].write);
    if (p != NULL)
        h->mapped[use]++;
    else if (counted)
        host_page_leave(h, gpa >> HV_PAGE_SHIFT);
    return p;
}

void host_unmap(struct host *h, enum host_use use, uint64_t gpa, size_t len)
{
    if (h->mapped[use] == 0) {
        host_violation(h, &gpa, sizeof(gpa), "the model itself: a %s is released twice", uses[use].name);
        return;
    }
    h->mapped[use]--;
    gpa = without_boundary(h, gpa);
    if (h->ops.gpa_unmap != NULL)
        h->ops.gpa_unmap(h->ctx, gpa, len, uses[use].write);
    if (h->book != NULL && uses[use].shared)
        host_page_leave(h, gpa >> HV_PAGE_SHIFT);
}

uint64_t host_now(struct host *h)
{
    return h->ops.now_100ns(h->ctx);
}

/* ---- alarms ----------------------------------------------------------------------------------------- */

void host_alarm_init(struct host_alarm *alarm, void (*fired)(struct host_alarm *alarm))
{
    list_init(&alarm->node);
    alarm->due = HOST_NEVER;
    alarm->fired = fired;
}

static void tell_transport(struct host *h)
{
    uint64_t first = HOST_NEVER;

    list_for_each(node, &h->alarms) {
        const struct host_alarm *a = list_entry(node, struct host_alarm, node);
        if (a->due < first)
            first = a->due;
    }
    if (first == h->alarm_told)
        return;
    h->alarm_told = first;
    h->ops.set_timer(h->ctx, HOST_NO_VP, first);
}

void host_alarm_set(struct host *h, struct host_alarm *alarm, uint64_t due)
{
    if (alarm->due == due)
        return;
    if (alarm->due != HOST_NEVER)
        list_remove(&alarm->node);
    alarm->due = due;
    if (due != HOST_NEVER)
        list_push_back(&h->alarms, &alarm->node);
    tell_transport(h);
}

void host_alarms_fired(struct host *h)
{
    uint64_t now = host_now(h);
    struct list due = LIST_INIT(due);

    h->alarm_told = HOST_NEVER;
    list_for_each_safe(node, &h->alarms) {
        if (list_entry(node, struct host_alarm, node)->due <= now) {
            list_remove(node);
            list_push_back(&due, node);
        }
    }
    while (!list_empty(&due)) {
        struct host_alarm *a = list_entry(list_pop_front(&due), struct host_alarm, node);
        a->due = HOST_NEVER;
        a->fired(a);
    }
    tell_transport(h);
}

/* ---- faults ----------------------------------------------------------------------------------------- */

void host_set_fault(struct host *h, uint32_t points, uint64_t number, enum host_fault_kind kind)
{
    h->fault_points = points;
    h->fault_number = number;
    h->fault_kind = kind;
    h->fault_count = 0;
}

uint64_t host_fault_count(const struct host *h)
{
    return h->fault_count;
}

enum host_fault_kind host_fault(struct host *h, enum host_fault_point point)
{
    if (!(h->fault_points & (uint32_t)point))
        return HOST_FAULT_NONE;
    h->fault_count++;
    if (h->fault_number == 0)
        return h->ops.fault != NULL ? h->ops.fault(h->ctx, point, h->fault_count) : HOST_FAULT_NONE;
    if (h->fault_count != h->fault_number)
        return HOST_FAULT_NONE;
    host_log(h, HOST_LOG_INFO, "fault %u at reply %llu of point %#x", h->fault_kind,
             (unsigned long long)h->fault_number, point);
    return h->fault_kind;
}

/* ---- life ------------------------------------------------------------------------------------------- */

static void reset_registers(struct host *h)
{
    h->guest_os_id = 0;
    h->hypercall_msr = 0;
    h->reference_tsc = 0;
    h->tsc_page = NULL;
    h->tsc_invariant = 0;
    h->reenlightenment = 0;
    h->tsc_emulation = 0;
    memset(h->crash, 0, sizeof(h->crash));
    for (uint32_t i = 0; i < h->cfg.vps; i++) {
        memset(&h->vp[i], 0, sizeof(h->vp[i]));
        for (uint32_t s = 0; s < HV_SYNIC_SINT_COUNT; s++)
            h->vp[i].sint[s] = HV_SINT_MASKED;
        h->vp[i].deadline = HOST_NEVER;
        vstimer_reset(h, i);
    }
}

struct host *host_create(const struct host_config *cfg, const struct host_ops *ops, void *ctx)
{
    struct host *h = ops->alloc(ctx, sizeof(*h));

    if (h == NULL)
        return NULL;
    h->cfg = *cfg;
    h->ops = *ops;
    h->ctx = ctx;
    if (h->ops.flush == NULL)                         /* whoever can't do it must not be asked */
        h->cfg.recommendations &= ~(uint32_t)HV_RECOMMEND_REMOTE_FLUSH;
    list_init(&h->memory);
    list_init(&h->work);
    list_init(&h->scsi);
    list_init(&h->nics);
    if (h->cfg.vps == 0)
        h->cfg.vps = 1;
    if (h->cfg.vps > HOST_MAX_VPS)
        h->cfg.vps = HOST_MAX_VPS;
    list_init(&h->alarms);
    h->alarm_told = HOST_NEVER;
    h->vp = host_alloc(h, h->cfg.vps * sizeof(*h->vp));
    if (h->vp == NULL || (h->cfg.isolation_type != HV_ISOLATION_NONE && !host_book_create(h))) {
        host_destroy(h);
        return NULL;
    }
    reset_registers(h);
    vserver_init(h);
    return h;
}

void host_destroy(struct host *h)
{
    struct host_ops ops;
    void *ctx;

    if (h == NULL || h->ops.free == NULL)
        return;
    ops = h->ops;
    ctx = h->ctx;
    list_for_each_safe(node, &h->memory) {
        struct host_mem *m = list_entry(node, struct host_mem, node);
        ops.free(ctx, m, m->bytes);
    }
    ops.free(ctx, h, sizeof(*h));
}

/* Pages that registers name. */
static void unmap_registers(struct host *h)
{
    for (uint32_t i = 0; i < h->cfg.vps; i++)
        vsynic_unmap(h, i);
    if (h->tsc_page != NULL)
        host_unmap(h, USE_TSC_PAGE, h->reference_tsc & HV_MSR_PAGE_GPA_MASK, HV_PAGE_SIZE);
}

void host_reset(struct host *h)
{
    vserver_reset(h);
    vballoon_reset(h);
    unmap_registers(h);
    reset_registers(h);
    host_book_clear(h);
}

bool host_poll(struct host *h)
{
    bool more = false;
    struct list now = LIST_INIT(now);

    /* Channels that ask again during this round wait for the next: one busy device cannot starve the
     * others. */
    while (!list_empty(&h->work))
        list_push_back(&now, list_pop_front(&h->work));
    while (!list_empty(&now)) {
        struct host_chan *ch = list_entry(list_pop_front(&now), struct host_chan, work);
        ch->queued = false;
        if (vchan_poll(ch))
            vchan_queue(ch);
    }
    if (vserver_poll(h))
        more = true;
    for (uint32_t i = 0; i < h->cfg.vps; i++) {
        if (h->vp[i].eom) {
            h->vp[i].eom = false;
            vstimer_retry(h, i);
        }
    }
    return more || !list_empty(&h->work);
}

void host_audit(struct host *h)
{
    vsynic_audit(h);
    vserver_audit(h);
    vballoon_audit(h);
}

/* ---- observation ------------------------------------------------------------------------------------ */

const struct host_counters *host_counters(const struct host *h)
{
    return &h->counters;
}

void host_get_state(const struct host *h, struct host_state *state)
{
    memset(state, 0, sizeof(*state));
    state->vmbus_version = h->vmbus.version;
    state->guest_os_id = h->guest_os_id;
    state->pages_visible = h->visible_pages;
    for (uint32_t i = 1; i <= VMBUS_RELID_MAX; i++) {
        const struct host_chan *ch = h->vmbus.channel[i];
        if (ch == NULL)
            continue;
        state->channels_offered += ch->offered && !ch->rescinded;
        state->channels_open += ch->open;
    }
    list_for_each(node, &h->vmbus.gpadls) {
        state->gpadls++;
        state->gpadl_pages += list_entry(node, struct host_gpadl, node)->pages;
    }
    for (uint32_t i = 0; i < USES; i++)
        state->pages_mapped += h->mapped[i];
    state->blk_in_flight = storvsp_in_flight(h);
    state->rx_sections_held = netvsp_sections_held(h);
}
