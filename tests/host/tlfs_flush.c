/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tlfs_flush.c: the TLB flush and IPI hypercalls (TLFS: virtual MMU, virtual interrupts).
 *
 * All four flush calls and both IPI calls name their processors either by a mask of 64 or by a sparse set;
 * the set is expanded here into one bit per VP. The flush itself is the transport's: it knows where the TLB
 * is.
 */
#include "tests/host/host_internal.h"

#define SET_WORDS (HOST_MAX_VPS / 64u)

struct vp_bits {
    uint64_t words[SET_WORDS];
};

static void add_all(const struct host *h, struct vp_bits *set)
{
    for (uint32_t i = 0; i < h->cfg.vps; i++)
        set->words[i / 64] |= 1ull << (i % 64);
}

/* A VP that does not exist in the set is the guest's mistake, though hosts ignore it. */
static void limit_set(struct host *h, struct vp_bits *set)
{
    for (uint32_t i = 0; i < HOST_MAX_VPS; i++) {
        if (i < h->cfg.vps || !(set->words[i / 64] & (1ull << (i % 64))))
            continue;
        host_strict(h, NULL, 0, "processor set names VP %u of %u", i, h->cfg.vps);
        set->words[i / 64] &= ~(1ull << (i % 64));
    }
}

static uint32_t bits_set(uint64_t word)
{
    uint32_t n = 0;

    for (; word != 0; word &= word - 1)
        n++;
    return n;
}

/* set: struct hv_vp_set followed by its banks, of which the control word counts `banks`. */
static bool expand(struct host *h, const uint8_t *in, uint32_t banks, struct vp_bits *set)
{
    struct hv_vp_set header;
    uint32_t used = 0;

    memcpy(&header, in, sizeof(header));
    if (header.format == HV_VP_SET_ALL) {
        add_all(h, set);
        return true;
    }
    if (header.format != HV_VP_SET_SPARSE_4K || bits_set(header.valid_bank_mask) != banks) {
        host_violation(h, in, sizeof(header), "processor set: format, or %u banks do not match the mask",
                       banks);
        return false;
    }
    for (uint32_t bank = 0; bank < 64; bank++) {
        uint64_t word;
        if (!(header.valid_bank_mask & (1ull << bank)))
            continue;
        memcpy(&word, in + sizeof(header) + 8 * used++, 8);
        if (bank < SET_WORDS)
            set->words[bank] = word;
        else
            host_strict(h, in, sizeof(header), "processor set: bank %u", bank);
    }
    return true;
}

uint64_t host_flush_call(struct host *h, uint32_t vp, uint64_t control, const uint8_t *in, uint32_t in_bytes,
                         uint32_t last)
{
    uint16_t code = hv_control_code(control);
    bool list = code == HVCALL_FLUSH_ADDRESS_LIST || code == HVCALL_FLUSH_ADDRESS_LIST_EX;
    bool ex = code == HVCALL_FLUSH_ADDRESS_SPACE_EX || code == HVCALL_FLUSH_ADDRESS_LIST_EX;
    uint32_t banks = hv_control_varhead(control), start = hv_control_rep_start(control);
    uint32_t at = ex ? (uint32_t)sizeof(struct hv_flush_ex) + 8 * banks : (uint32_t)sizeof(struct hv_flush);
    struct vp_bits set = {{0}};
    struct hv_flush head;

    (void)vp;
    (void)in_bytes;
    memcpy(&head, in, sizeof(head));
    if (!(h->cfg.recommendations & HV_RECOMMEND_REMOTE_FLUSH) ||
        (ex && !(h->cfg.recommendations & HV_RECOMMEND_EX_PROCESSOR_MASKS))) {
        host_strict(h, in, 32, "flush %#x although it is not recommended", code);
        return HV_STATUS_INVALID_HYPERCALL_CODE;
    }
    if ((head.flags & ~0xFull) || (list && (head.flags & HV_FLUSH_NON_GLOBAL_ONLY)) ||
        ((head.flags & HV_FLUSH_EXTENDED_RANGES) && !(h->cfg.features & HV_FEATURE_EXT_GVA_RANGES_FLUSH))) {
        host_violation(h, in, 24, "flush: flags %#llx", (unsigned long long)head.flags);
        return HV_STATUS_INVALID_PARAMETER;
    }
    if (head.flags & HV_FLUSH_ALL_PROCESSORS) {
        add_all(h, &set);
    } else if (ex) {
        if (!expand(h, in + 16, banks, &set))
            return HV_STATUS_INVALID_PARAMETER;
    } else {
        set.words[0] = head.processor_mask;
        if (head.processor_mask == 0)
            host_strict(h, in, 24, "flush: empty processor mask");
    }
    limit_set(h, &set);
    h->counters.tlb_flushes++;
    h->ops.flush(h->ctx, set.words, list ? (const uint64_t *)(const void *)(in + at + 8 * start) : NULL,
                 list ? last - start : 0);
    return hv_result(HV_STATUS_SUCCESS, (uint16_t)(list ? last : 0));
}

uint64_t host_ipi_call(struct host *h, uint32_t vp, uint64_t control, const uint8_t *in, uint32_t in_bytes)
{
    bool ex = hv_control_code(control) == HVCALL_SEND_CLUSTER_IPI_EX;
    struct vp_bits set = {{0}};
    struct hv_cluster_ipi head;

    (void)vp;
    (void)in_bytes;
    memcpy(&head, in, sizeof(head));
    if (!(h->cfg.recommendations & HV_RECOMMEND_CLUSTER_IPI)) {
        host_strict(h, in, 16, "cluster IPI although it is not recommended");
        return HV_STATUS_INVALID_HYPERCALL_CODE;
    }
    if (head.vector < 0x10 || head.vector > 0xFF) {
        host_violation(h, in, 16, "cluster IPI: vector %#x", head.vector);
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    }
    if (ex) {
        if (!expand(h, in + 8, hv_control_varhead(control), &set))
            return HV_STATUS_INVALID_PARAMETER;
    } else {
        set.words[0] = head.processor_mask;
    }
    limit_set(h, &set);
    for (uint32_t i = 0; i < h->cfg.vps; i++) {
        if (!(set.words[i / 64] & (1ull << (i % 64))))
            continue;
        h->counters.ipis++;
        h->counters.interrupts++;
        h->ops.raise(h->ctx, i, head.vector, false);
    }
    return HV_STATUS_SUCCESS;
}
