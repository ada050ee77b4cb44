/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hypercalls: three primitives and the two calls that VMBus lives on. Source: TLFS, hypercall interface.
 *
 * Each CPU has one page. Its lower half is input, its upper half output: they cannot overlap and neither can cross a
 * page, whatever a caller does, and half a page of input means at worst a few calls more. There is no lock: a CPU's
 * page is used only by the CPU itself, outside interrupt handlers, and between filling the input and reading the
 * output nothing blocks.
 */
#define LOG_ROOM "hv"
#include "hv/hv_internal.h"
#include <string.h>

static struct {
    uint8_t *memory;
    gpa_t gpa;
} call_page[ARCH_MAX_CPUS];
static paddr_t code_page;              /* the host overlays its instructions on it */
static void *code_mapped;

struct hv_counters hv_counters;

_Static_assert(2 * HV_CALL_HALF == HV_PAGE_SIZE, "input and output share one page and cannot overlap");
_Static_assert(sizeof(struct hv_post_message) <= HV_CALL_HALF, "a message fits the input half");

int hv_hypercall_init(void)
{
    unsigned cpu = arch_cpu_index();

    if (!call_page[cpu].memory) {
        paddr_t p = page_alloc_zeroed(0);
        if (pa_is_none(p))
            return -E_NOMEM;
        call_page[cpu].memory = arch_phys_to_virt(p);
        call_page[cpu].gpa = hv_gpa(p);
    }
    if (hv_state.hypercalls)
        return 0;

    paddr_t p = page_alloc_zeroed(0);
    if (pa_is_none(p))
        return -E_NOMEM;
    void *mapped = vmap_pages(&p, 1, MAP_READ | MAP_EXEC | MAP_GLOBAL);
    if (!mapped) {
        page_free(p, 0);
        return -E_NOMEM;
    }
    if (!arch_hv_hypercall_enable(p, va_of(mapped))) {
        vunmap_pages(mapped, 1);
        page_free(p, 0);
        return -E_REFUSED;
    }
    code_page = p;
    code_mapped = mapped;
    hv_state.hypercalls = true;
    return 0;
}

void hv_hypercall_stop(void)
{
    if (hv_state.hypercalls) {
        arch_hv_hypercall_disable();
        hv_state.hypercalls = false;
        vunmap_pages(code_mapped, 1);
        page_free(code_page, 0);
    }
    for (unsigned cpu = 0; cpu < ARCH_MAX_CPUS; cpu++) {
        if (call_page[cpu].memory)
            page_free((paddr_t){call_page[cpu].gpa.v}, 0);
        call_page[cpu].memory = NULL;
    }
}

void *hv_call_input(void)
{
    KASSERT(call_page[arch_cpu_index()].memory);
    return call_page[arch_cpu_index()].memory;
}

const void *hv_call_output(void)
{
    return call_page[arch_cpu_index()].memory + HV_CALL_HALF;
}

static uint64_t call_in_memory(uint64_t control, bool output)
{
    gpa_t in = call_page[arch_cpu_index()].gpa;
    gpa_t out = {output ? in.v + HV_CALL_HALF : 0};

    hv_counters.hypercalls++;
    return arch_hypercall(control, in, out);
}

uint16_t hv_call(uint16_t code, uint16_t varhead, bool output)
{
    return hv_result_status(call_in_memory(hv_control(code, varhead, 0, 0), output));
}

uint16_t hv_call_rep(uint16_t code, uint16_t varhead, unsigned count, bool output, unsigned *done)
{
    unsigned start = 0;
    uint16_t status;

    KASSERT(count > 0 && count <= HV_CONTROL_REP_MASK);
    for (;;) {
        uint64_t result = call_in_memory(hv_control(code, varhead, (uint16_t)count, (uint16_t)start), output);
        unsigned reps = hv_result_reps(result);
        bool progress = reps > start && reps <= count;

        status = hv_result_status(result);
        if (progress)
            start = reps;
        if (start == count || !progress || (status != HV_STATUS_SUCCESS && status != HV_STATUS_TIMEOUT))
            break;                     /* else the host only ran out of its time slice */
    }
    if (status == HV_STATUS_SUCCESS && start != count)
        status = HV_STATUS_OPERATION_FAILED;   /* success for work that was not done */
    if (done)
        *done = start;
    return status;
}

/* Posting and signalling are the only calls that concern the host's VMBus server: in an isolated VM they alone go past
 * the paravisor, so they have no second door anywhere else. */
uint16_t hv_post_message(uint32_t connection_id, uint32_t message_type, const void *payload, uint32_t bytes)
{
    struct hv_post_message *in = hv_call_input();

    KASSERT(bytes <= HV_MESSAGE_PAYLOAD_MAX);
    in->connection_id = connection_id;
    in->reserved = 0;
    in->message_type = message_type;
    in->payload_size = bytes;
    memcpy(in->payload, payload, bytes);
    memset(in->payload + bytes, 0, HV_MESSAGE_PAYLOAD_MAX - bytes);

    hv_counters.hypercalls++;
    uint16_t status = hv_result_status(arch_host_hypercall(hv_control(HVCALL_POST_MESSAGE, 0, 0, 0),
                                                           call_page[arch_cpu_index()].gpa));
    if (status == HV_STATUS_SUCCESS)
        hv_counters.messages_posted++;
    return status;
}

uint16_t hv_signal_event(uint32_t connection_id, uint16_t flag)
{
    hv_counters.signals_sent++;
    hv_counters.hypercalls++;
    return hv_result_status(arch_host_hypercall_fast(hv_control(HVCALL_SIGNAL_EVENT, 0, 0, 0) | HV_CONTROL_FAST,
                                                     connection_id | (uint64_t)flag << 32, 0));
}

const char *hv_status_name(uint16_t status)
{
    static const struct {
        uint16_t status;
        const char *name;
    } names[] = {
        {HV_STATUS_SUCCESS, "success"},
        {HV_STATUS_INVALID_HYPERCALL_CODE, "invalid hypercall code"},
        {HV_STATUS_INVALID_HYPERCALL_INPUT, "invalid hypercall input"},
        {HV_STATUS_INVALID_ALIGNMENT, "invalid alignment"},
        {HV_STATUS_INVALID_PARAMETER, "invalid parameter"},
        {HV_STATUS_ACCESS_DENIED, "access denied"},
        {HV_STATUS_INVALID_PARTITION_STATE, "invalid partition state"},
        {HV_STATUS_OPERATION_DENIED, "operation denied"},
        {HV_STATUS_UNKNOWN_PROPERTY, "unknown property"},
        {HV_STATUS_INSUFFICIENT_MEMORY, "insufficient memory"},
        {HV_STATUS_INVALID_PARTITION_ID, "invalid partition id"},
        {HV_STATUS_INVALID_VP_INDEX, "invalid VP index"},
        {HV_STATUS_NOT_FOUND, "not found"},
        {HV_STATUS_INVALID_PORT_ID, "invalid port id"},
        {HV_STATUS_INVALID_CONNECTION_ID, "invalid connection id"},
        {HV_STATUS_INSUFFICIENT_BUFFERS, "insufficient buffers"},
        {HV_STATUS_INVALID_VP_STATE, "invalid VP state"},
        {HV_STATUS_INVALID_SYNIC_STATE, "invalid SynIC state"},
        {HV_STATUS_OBJECT_IN_USE, "object in use"},
        {HV_STATUS_NO_RESOURCES, "no resources"},
        {HV_STATUS_FEATURE_UNAVAILABLE, "feature unavailable"},
        {HV_STATUS_INVALID_REGISTER_VALUE, "invalid register value"},
        {HV_STATUS_INVALID_VTL_STATE, "invalid VTL state"},
        {HV_STATUS_OPERATION_FAILED, "operation failed"},
        {HV_STATUS_TIMEOUT, "timeout"},
        {HV_STATUS_UNKNOWN_REGISTER_NAME, "unknown register name"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (names[i].status == status)
            return names[i].name;
    }
    return "unknown status";
}
