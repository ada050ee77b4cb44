/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tlfs_hypercall.c: the hypercall entry: finds the call, checks the control word against what the call
 * allows, copies the input out of the guest, runs it, writes the output (TLFS: hypercall interface).
 *
 * The rules a guest must keep are here once for all calls: blocks aligned to 8 and inside one page, input and
 * output apart, no repetition for simple calls, no variable header where none is allowed, reserved bits zero.
 */
#include "tests/host/host_internal.h"

#define X86_HCALL_REGS 14u           /* RDX, R8, XMM0 to XMM5 */

enum {
    CALL_REP = 1,                   /* a list of elements follows the header */
    CALL_VARHEAD = 2,               /* a variable header is allowed */
    CALL_MEMORY_ONLY = 4,           /* the input does not fit into registers */
};

struct call {
    uint16_t code;
    uint8_t flags;
    uint16_t in_bytes;              /* fixed part */
    uint16_t in_element, out_element;
    uint16_t out_bytes;             /* simple calls */
    uint32_t privilege;             /* HV_PRIV_*, 0: everybody */
    const char *name;
};

static const struct call calls[] = {
    {HVCALL_FLUSH_ADDRESS_SPACE, 0, 24, 0, 0, 0, 0, "flush space"},
    {HVCALL_FLUSH_ADDRESS_LIST, CALL_REP, 24, 8, 0, 0, 0, "flush list"},
    {HVCALL_FLUSH_ADDRESS_SPACE_EX, CALL_VARHEAD, 32, 0, 0, 0, 0, "flush space ex"},
    {HVCALL_FLUSH_ADDRESS_LIST_EX, CALL_REP | CALL_VARHEAD, 32, 8, 0, 0, 0, "flush list ex"},
    {HVCALL_NOTIFY_LONG_SPIN_WAIT, 0, 8, 0, 0, 0, 0, "long spin wait"},
    {HVCALL_SEND_CLUSTER_IPI, 0, 16, 0, 0, 0, 0, "cluster IPI"},
    {HVCALL_SEND_CLUSTER_IPI_EX, CALL_VARHEAD, 24, 0, 0, 0, 0, "cluster IPI ex"},
    {HVCALL_GET_PARTITION_ID, 0, 0, 0, 0, 8, HV_PRIV_ACCESS_PARTITION_ID, "get partition id"},
    {HVCALL_GET_VP_REGISTERS, CALL_REP, 16, 4, 16, 0, HV_PRIV_ACCESS_VP_REGISTERS, "get VP registers"},
    {HVCALL_SET_VP_REGISTERS, CALL_REP, 16, 32, 0, 0, HV_PRIV_ACCESS_VP_REGISTERS, "set VP registers"},
    {HVCALL_POST_MESSAGE, CALL_MEMORY_ONLY, 256, 0, 0, 0, HV_PRIV_POST_MESSAGES, "post message"},
    {HVCALL_SIGNAL_EVENT, 0, 8, 0, 0, 0, HV_PRIV_SIGNAL_EVENTS, "signal event"},
    {HVCALL_START_VP, CALL_MEMORY_ONLY, 240, 0, 0, 0, HV_PRIV_START_VP, "start VP"},
    {HVCALL_GET_VP_INDEX_FROM_APIC_ID, CALL_REP, 16, 4, 4, 0, 0, "VP index from APIC id"},
    {HVCALL_MODIFY_HOST_VISIBILITY, CALL_REP, 16, 8, 0, 0, HV_PRIV_ISOLATION, "modify visibility"},
    {HVCALL_QUERY_CAPABILITIES, 0, 0, 0, 0, 8, HV_PRIV_EXTENDED_HYPERCALLS, "query capabilities"},
};

/* One call on its way. */
struct frame {
    struct host *h;
    uint32_t vp;
    uint64_t control;
    uint64_t *regs;
    const struct call *call;
    uint32_t start, count, last;    /* repetitions: [start, last) now, count in all */
    uint32_t in_bytes;              /* fixed part, variable header and all elements */
    uint8_t *in, *out;              /* the blocks, copied; h->hcall_in and h->hcall_out */
};

static const struct call *find_call(uint16_t code)
{
    for (uint32_t i = 0; i < HOST_COUNT(calls); i++) {
        if (calls[i].code == code)
            return &calls[i];
    }
    return NULL;
}

static bool privileged(const struct host *h, const struct call *c)
{
    if (c->privilege == 0)
        return true;
    if (c->privilege == HV_PRIV_ISOLATION)
        return h->cfg.isolation_type != HV_ISOLATION_NONE;
    if (h->cfg.arm64 && c->privilege == HV_PRIV_ACCESS_VP_REGISTERS)
        return true;                /* arm64 has no other way to its registers */
    if (!h->cfg.enforce_privileges)
        return true;
    return (h->cfg.privileges & c->privilege) != 0;
}

static uint16_t check_control(struct frame *f)
{
    struct host *h = f->h;
    const struct call *c = f->call;
    uint16_t batch = h->cfg.rep_batch;

    if ((f->control & HV_CONTROL_RESERVED_MASK) || (f->control & HV_CONTROL_NESTED)) {
        host_violation(h, &f->control, 8, "%s: reserved bits in the control word", c->name);
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    }
    if (hv_control_varhead(f->control) != 0 && !(c->flags & CALL_VARHEAD)) {
        host_violation(h, &f->control, 8, "%s: takes no variable header", c->name);
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    }
    f->count = hv_control_rep_count(f->control);
    f->start = hv_control_rep_start(f->control);
    if (c->flags & CALL_REP) {
        if (f->count == 0 || f->start >= f->count) {
            host_violation(h, &f->control, 8, "%s: repetition %u of %u", c->name, f->start, f->count);
            return HV_STATUS_INVALID_HYPERCALL_INPUT;
        }
    } else if (f->count != 0 || f->start != 0) {
        host_violation(h, &f->control, 8, "%s: a simple call with repetitions", c->name);
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    }
    f->last = f->count;
    if (c->code == HVCALL_MODIFY_HOST_VISIBILITY && h->cfg.visibility_batch != 0)
        batch = h->cfg.visibility_batch;
    if (batch != 0 && f->count - f->start > batch)
        f->last = f->start + batch;
    f->in_bytes = c->in_bytes + 8u * hv_control_varhead(f->control) + f->count * c->in_element;
    return HV_STATUS_SUCCESS;
}

static uint16_t check_block(struct frame *f, uint64_t gpa, uint32_t bytes, const char *what)
{
    if (gpa & 7) {
        host_violation(f->h, &gpa, 8, "%s: %s is not aligned to 8", f->call->name, what);
        return HV_STATUS_INVALID_ALIGNMENT;
    }
    if (bytes > HV_PAGE_SIZE - (gpa & HV_PAGE_MASK)) {
        host_violation(f->h, &gpa, 8, "%s: %s of %u bytes crosses a page", f->call->name, what, bytes);
        return HV_STATUS_INVALID_ALIGNMENT;
    }
    return HV_STATUS_SUCCESS;
}

static uint32_t out_bytes(const struct frame *f)
{
    return f->call->flags & CALL_REP ? f->count * f->call->out_element : f->call->out_bytes;
}

static uint16_t fetch_fast(struct frame *f)
{
    bool wide = f->h->cfg.arm64;
    uint32_t bytes = f->in_bytes, room = (wide ? HOST_HCALL_REGS : X86_HCALL_REGS) * 8;
    uint32_t out_at = (bytes + 15) / 16 * 16;

    if (f->call->flags & CALL_MEMORY_ONLY) {
        host_violation(f->h, &f->control, 8, "%s: cannot be a fast call", f->call->name);
        return HV_STATUS_INVALID_HYPERCALL_CODE;
    }
    if (bytes > room || out_at + out_bytes(f) > room) {
        host_violation(f->h, &f->control, 8, "%s: too long for a fast call", f->call->name);
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    }
    if (bytes > 16 && !wide && !(f->h->cfg.features & HV_FEATURE_XMM_INPUT)) {
        host_violation(f->h, &f->control, 8, "%s: XMM input is not announced", f->call->name);
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    }
    if (out_bytes(f) != 0 && !wide && !(f->h->cfg.features & HV_FEATURE_XMM_OUTPUT)) {
        host_violation(f->h, &f->control, 8, "%s: fast output is not announced", f->call->name);
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    }
    memcpy(f->in, f->regs, bytes);
    return HV_STATUS_SUCCESS;
}

static uint16_t fetch_memory(struct frame *f)
{
    uint64_t in = f->regs[0], out = f->regs[1];
    uint32_t out_len = out_bytes(f);
    const void *p;
    uint16_t status;

    if (f->in_bytes > HV_PAGE_SIZE || out_len > HV_PAGE_SIZE) {
        host_violation(f->h, &f->control, 8, "%s: more than a page of input or output", f->call->name);
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    }
    if (f->in_bytes != 0) {
        status = check_block(f, in, f->in_bytes, "input");
        if (status != HV_STATUS_SUCCESS)
            return status;
        p = host_map(f->h, USE_HYPERCALL_INPUT, in, f->in_bytes);
        if (p == NULL) {
            host_violation(f->h, &in, 8, "%s: input outside of memory", f->call->name);
            return HV_STATUS_INVALID_PARAMETER;
        }
        memcpy(f->in, p, f->in_bytes);
        host_unmap(f->h, USE_HYPERCALL_INPUT, in, f->in_bytes);
    }
    if (out_len != 0) {
        status = check_block(f, out, out_len, "output");
        if (status != HV_STATUS_SUCCESS)
            return status;
        if (in < out + out_len && out < in + f->in_bytes)
            host_strict(f->h, f->regs, 16, "%s: input and output overlap", f->call->name);
    }
    return HV_STATUS_SUCCESS;
}

static void store_output(struct frame *f, uint32_t reps)
{
    uint32_t bytes = f->call->flags & CALL_REP ? reps * f->call->out_element : f->call->out_bytes;
    /* A continued call: what earlier parts wrote stays. */
    uint32_t done = f->call->flags & CALL_REP ? f->start * f->call->out_element : 0;
    uint8_t *p;

    if (bytes <= done)
        return;
    if (f->control & HV_CONTROL_FAST) {
        memcpy((uint8_t *)f->regs + (f->in_bytes + 15) / 16 * 16 + done, f->out + done, bytes - done);
        return;
    }
    p = host_map(f->h, USE_HYPERCALL_OUTPUT, f->regs[1], out_bytes(f));
    if (p == NULL) {
        host_violation(f->h, &f->regs[1], 8, "%s: output outside of memory", f->call->name);
        return;
    }
    memcpy(p + done, f->out + done, bytes - done);
    host_unmap(f->h, USE_HYPERCALL_OUTPUT, f->regs[1], out_bytes(f));
}

static uint16_t do_post(struct frame *f)
{
    struct hv_post_message in;
    uint16_t status;

    memcpy(&in, f->in, sizeof(in));
    if (in.reserved != 0)
        host_strict(f->h, &in, 16, "post message: reserved field set");
    if (in.message_type == 0 || (in.message_type & 0x80000000u) || in.payload_size > HV_MESSAGE_PAYLOAD_MAX) {
        host_violation(f->h, &in, 16, "post message: bad type or size");
        return HV_STATUS_INVALID_PARAMETER;
    }
    status = malice_post(f->h);
    if (status != HV_STATUS_SUCCESS)
        return status;
    switch (host_fault(f->h, HOST_FAULT_POST_MESSAGE)) {
    case HOST_FAULT_NONE:
        break;
    case HOST_FAULT_DROP:
        return HV_STATUS_SUCCESS;
    default:
        return HV_STATUS_INSUFFICIENT_BUFFERS;
    }
    return vserver_post(f->h, in.connection_id, in.message_type, in.payload, in.payload_size);
}

static uint16_t do_signal(struct frame *f)
{
    struct hv_signal_event in;

    memcpy(&in, f->in, sizeof(in));
    f->h->counters.signals++;
    if (in.reserved != 0) {
        host_violation(f->h, &in, sizeof(in), "signal event: reserved field set");
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    }
    return vserver_signal(f->h, in.connection_id, in.flag_number);
}

static uint16_t do_start_vp(struct frame *f)
{
    struct hv_vp_registers in;              /* the same header */

    memcpy(&in, f->in, sizeof(in));
    if (in.partition_id != HV_PARTITION_ID_SELF)
        return HV_STATUS_ACCESS_DENIED;
    if (in.vp_index >= f->h->cfg.vps)
        return HV_STATUS_INVALID_VP_INDEX;
    if (f->h->ops.start_vp == NULL || !f->h->ops.start_vp(f->h->ctx, in.vp_index, f->in + 16))
        return HV_STATUS_INVALID_VP_STATE;
    return HV_STATUS_SUCCESS;
}

static uint64_t do_vp_index(struct frame *f)
{
    struct host *h = f->h;

    for (uint32_t i = f->start; i < f->last; i++) {
        uint32_t id;
        memcpy(&id, f->in + 16 + 4 * i, 4);
        if (h->ops.vp_of_apic_id != NULL)
            id = h->ops.vp_of_apic_id(h->ctx, id);
        if (id >= h->cfg.vps)
            return hv_result(HV_STATUS_INVALID_PARAMETER, (uint16_t)i);
        memcpy(f->out + 4 * i, &id, 4);
    }
    return hv_result(HV_STATUS_SUCCESS, (uint16_t)f->last);
}

/* Runs the call on the copied input; the output is left in f->out. */
static uint64_t run(struct frame *f)
{
    uint64_t self = 1;

    switch (f->call->code) {
    case HVCALL_FLUSH_ADDRESS_SPACE:
    case HVCALL_FLUSH_ADDRESS_LIST:
    case HVCALL_FLUSH_ADDRESS_SPACE_EX:
    case HVCALL_FLUSH_ADDRESS_LIST_EX:
        return host_flush_call(f->h, f->vp, f->control, f->in, f->in_bytes, f->last);
    case HVCALL_SEND_CLUSTER_IPI:
    case HVCALL_SEND_CLUSTER_IPI_EX:
        return host_ipi_call(f->h, f->vp, f->control, f->in, f->in_bytes);
    case HVCALL_NOTIFY_LONG_SPIN_WAIT:
        return HV_STATUS_SUCCESS;
    case HVCALL_GET_PARTITION_ID:
        memcpy(f->out, &self, sizeof(self));
        return HV_STATUS_SUCCESS;
    case HVCALL_GET_VP_REGISTERS:
        return host_get_vp_registers(f->h, f->vp, f->in, (const uint32_t *)(const void *)(f->in + 16),
                                     f->start, f->last, (struct hv_register_value *)(void *)f->out);
    case HVCALL_SET_VP_REGISTERS:
        return host_set_vp_registers(f->h, f->vp, f->in,
                                     (const struct hv_register_assignment *)(const void *)(f->in + 16),
                                     f->start, f->last);
    case HVCALL_POST_MESSAGE:
        return do_post(f);
    case HVCALL_SIGNAL_EVENT:
        return do_signal(f);
    case HVCALL_START_VP:
        return do_start_vp(f);
    case HVCALL_GET_VP_INDEX_FROM_APIC_ID:
        return do_vp_index(f);
    case HVCALL_MODIFY_HOST_VISIBILITY:
        return host_visibility_call(f->h, f->control, f->in, f->last);
    default:
        memset(f->out, 0, 8);                    /* HVCALL_QUERY_CAPABILITIES: none */
        return HV_STATUS_SUCCESS;
    }
}

static bool early_call(const struct host *h, uint16_t code)
{
    return h->cfg.arm64 && (code == HVCALL_GET_VP_REGISTERS || code == HVCALL_SET_VP_REGISTERS);
}

uint64_t host_hypercall(struct host *h, uint32_t vp, uint64_t *control, uint64_t regs[HOST_HCALL_REGS])
{
    struct frame f = {
        .h = h, .vp = vp, .control = *control, .regs = regs, .in = h->hcall_in, .out = h->hcall_out,
    };
    uint16_t code = hv_control_code(*control), status;
    uint64_t result;

    h->counters.hypercalls++;
    if (h->guest_os_id == 0 && !early_call(h, code)) {
        host_violation(h, control, 8, "hypercall %#x before GUEST_OS_ID was set", code);
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    }
    /* Isolated guests may execute the instruction themselves. */
    if (!h->cfg.arm64 && h->cfg.isolation_type == HV_ISOLATION_NONE && !(h->hypercall_msr & HV_MSR_PAGE_ENABLE))
        host_strict(h, control, 8, "hypercall %#x without a hypercall page", code);
    f.call = find_call(code);
    if (f.call == NULL) {
        host_strict(h, control, 8, "hypercall %#x is unknown", code);
        return HV_STATUS_INVALID_HYPERCALL_CODE;
    }
    if (!privileged(h, f.call)) {
        /* Some hosts let guests post and signal without saying so: one may try these two. */
        if (!(f.call->privilege & (HV_PRIV_POST_MESSAGES | HV_PRIV_SIGNAL_EVENTS)))
            host_strict(h, control, 8, "%s: no privilege", f.call->name);
        return HV_STATUS_ACCESS_DENIED;
    }
    status = check_control(&f);
    if (status == HV_STATUS_SUCCESS)
        status = f.control & HV_CONTROL_FAST ? fetch_fast(&f) : fetch_memory(&f);
    if (status != HV_STATUS_SUCCESS)
        return hv_result(status, (uint16_t)f.start);

    result = run(&f);
    host_trace(h, HOST_TRACE_TLFS, "vp %u %s: %#llx", vp, f.call->name, (unsigned long long)result);
    if (f.call->flags & CALL_REP)
        store_output(&f, hv_result_reps(result));
    else if (hv_result_status(result) == HV_STATUS_SUCCESS)
        store_output(&f, 0);
    if (hv_result_status(result) == HV_STATUS_SUCCESS && f.last < f.count && hv_result_reps(result) == f.last) {
        *control = (f.control & ~(HV_CONTROL_REP_MASK << HV_CONTROL_REP_START_SHIFT)) |
                   (uint64_t)f.last << HV_CONTROL_REP_START_SHIFT;
    }
    return result;
}
