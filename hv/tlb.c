/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLB flushes that must reach every VP running our kernel, by hypercall. Source: TLFS, HvCallFlushVirtualAddressList
 * and its Ex form.
 *
 * Kernel mappings are global and live in every address space, so the calls name all address spaces and never ask for
 * "non-global only". Ranges go as list entries of up to 4096 pages; beyond one list full of entries a flush of
 * everything is cheaper. VPs 0..63 fit the plain form's mask; beyond, a sparse set of 64-bit banks is sent. With one
 * VP the architecture's own instruction does the same without an exit. A call that fails falls back to the
 * architecture's way, and says so once.
 */
#define LOG_ROOM "hv"
#include "hv/hv_internal.h"
#include <string.h>

#define FLUSH_FLAGS   HV_FLUSH_ALL_ADDRESS_SPACES
/* The longest header has all banks; what is left of the half is the list. */
#define EX_HEADER_MAX (sizeof(struct hv_flush_ex) + HV_VP_BANKS * sizeof(uint64_t))
#define LIST_MAX      HV_CALL_ELEMENTS(EX_HEADER_MAX, sizeof(uint64_t))

_Static_assert(sizeof(struct hv_flush) <= EX_HEADER_MAX, "the plain form is the shorter one");
_Static_assert(LIST_MAX >= 64 && LIST_MAX <= HV_CONTROL_REP_MASK, "a useful number of ranges fits the half");
_Static_assert(EX_HEADER_MAX + LIST_MAX * sizeof(uint64_t) <= HV_CALL_HALF, "header and list fit the half");

static bool refused;

/* Writes the header; returns where the list goes, and the words of variable header. */
static uint64_t *begin(bool ex, uint16_t *varhead)
{
    *varhead = 0;
    if (!ex) {
        struct hv_flush *in = hv_call_input();
        *in = (struct hv_flush){.flags = FLUSH_FLAGS, .processor_mask = hv_state.online[0]};
        return (uint64_t *)(void *)(in + 1);
    }
    struct hv_flush_ex *in = hv_call_input();
    uint64_t *banks = (uint64_t *)(void *)(in + 1), mask = 0;
    for (unsigned b = 0; b < HV_VP_BANKS; b++) {
        if (hv_state.online[b]) {
            mask |= BIT(b);
            banks[(*varhead)++] = hv_state.online[b];
        }
    }
    *in = (struct hv_flush_ex){
        .flags = FLUSH_FLAGS,
        .processors = {.format = HV_VP_SET_SPARSE_4K, .valid_bank_mask = mask},
    };
    return banks + *varhead;
}

static bool needs_ex(void)
{
    for (unsigned b = 1; b < HV_VP_BANKS; b++) {
        if (hv_state.online[b])
            return true;
    }
    return false;
}

static bool flush_by_host(vaddr_t start, uint64_t bytes)
{
    uint64_t page = start.v & ~PAGE_MASK, pages = (bytes + (start.v & PAGE_MASK) + PAGE_MASK) >> PAGE_SHIFT;
    bool ex = needs_ex();
    uint16_t varhead, status;
    uint64_t *list;

    if (ex && !hv_recommends(HV_RECOMMEND_EX_PROCESSOR_MASKS))
        return false;
    list = begin(ex, &varhead);
    hv_counters.tlb_hypercalls++;
    if (pages > LIST_MAX * (uint64_t)HV_GVA_RANGE_PAGES_MAX) {
        status = hv_call(ex ? HVCALL_FLUSH_ADDRESS_SPACE_EX : HVCALL_FLUSH_ADDRESS_SPACE, varhead, false);
    } else {
        unsigned n = 0;
        while (pages) {
            uint64_t some = MIN(pages, (uint64_t)HV_GVA_RANGE_PAGES_MAX);
            list[n++] = page | (some - 1);
            page += some << PAGE_SHIFT;
            pages -= some;
        }
        status = hv_call_rep(ex ? HVCALL_FLUSH_ADDRESS_LIST_EX : HVCALL_FLUSH_ADDRESS_LIST, varhead, n, false, NULL);
    }
    if (status == HV_STATUS_SUCCESS)
        return true;
    if (!refused)
        log_warn("the host refused a TLB flush (%s): flushing natively", hv_status_name(status));
    refused = true;
    return false;
}

static void flush(vaddr_t start, uint64_t bytes)
{
    if (!bytes)
        return;
    if (hv_state.online_count > 1 && hv_state.hypercalls && !refused && flush_by_host(start, bytes))
        return;
    arch_tlb_flush(start, bytes);
}

void hv_tlb_init(void)
{
    refused = false;
    if (hv_state.hypercalls && hv_recommends(HV_RECOMMEND_REMOTE_FLUSH) && config_bool("hv.tlb", true))
        mm_set_tlb_flush(flush);
}
