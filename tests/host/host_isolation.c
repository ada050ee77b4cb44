/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host_isolation.c: which pages of an isolated guest the host may see (TLFS: isolated virtual machines).
 *
 * One bit per page, all private at the start. host_map() asks this book for everything that VMBus
 * looks at. A page that a live GPADL names must not become private: a real host would then fault
 * on it.
 */
#include "tests/host/host_internal.h"

static bool page_visible(const struct host *h, uint64_t gpn)
{
    return (h->visible[gpn / 8] & (1u << (gpn % 8))) != 0;
}

static uint16_t change(struct host *h, uint64_t gpn, uint32_t visibility)
{
    bool want = visibility == HV_VISIBILITY_READ_WRITE;
    void *page;

    if (h->cfg.boundary_bit > HV_PAGE_SHIFT && (gpn & (1ull << (h->cfg.boundary_bit - HV_PAGE_SHIFT)))) {
        host_violation(h, &gpn, 8, "visibility: page number carries the boundary bit");
        return HV_STATUS_INVALID_PARAMETER;
    }
    page = gpn < h->cfg.ram_pages ? host_map(h, USE_VISIBILITY, gpn << HV_PAGE_SHIFT, HV_PAGE_SIZE) : NULL;
    if (page == NULL) {
        host_violation(h, &gpn, 8, "visibility: page outside of memory");
        return HV_STATUS_OPERATION_DENIED;
    }
    if (page_visible(h, gpn) == want) {
        host_unmap(h, USE_VISIBILITY, gpn << HV_PAGE_SHIFT, HV_PAGE_SIZE);
        return HV_STATUS_SUCCESS;
    }
    if (!want && vgpadl_covers(h, gpn)) {
        host_unmap(h, USE_VISIBILITY, gpn << HV_PAGE_SHIFT, HV_PAGE_SIZE);
        host_violation(h, &gpn, 8, "visibility: page made private while a GPADL or the monitor uses it");
        return HV_STATUS_OPERATION_DENIED;
    }
    h->visible[gpn / 8] ^= (uint8_t)(1u << (gpn % 8));
    h->visible_pages += want ? 1 : -1ull;
    if (h->cfg.scramble_on_change)
        memset(page, 0xA5, HV_PAGE_SIZE);
    host_unmap(h, USE_VISIBILITY, gpn << HV_PAGE_SHIFT, HV_PAGE_SIZE);
    if (h->ops.visibility != NULL)
        h->ops.visibility(h->ctx, gpn, visibility);
    return HV_STATUS_SUCCESS;
}

uint64_t host_visibility_call(struct host *h, uint64_t control, const uint8_t *in, uint32_t last)
{
    struct hv_modify_visibility head;
    uint32_t start = hv_control_rep_start(control);

    memcpy(&head, in, sizeof(head));
    if (head.partition_id != HV_PARTITION_ID_SELF)
        return hv_result(HV_STATUS_ACCESS_DENIED, (uint16_t)start);
    if ((head.visibility != HV_VISIBILITY_PRIVATE && head.visibility != HV_VISIBILITY_READ_WRITE) ||
        head.reserved != 0) {
        host_violation(h, in, sizeof(head), "visibility: %#x", head.visibility);
        return hv_result(HV_STATUS_INVALID_PARAMETER, (uint16_t)start);
    }
    for (uint32_t i = start; i < last; i++) {
        uint64_t gpn;
        uint16_t status;
        memcpy(&gpn, in + sizeof(head) + 8 * i, 8);
        switch (host_fault(h, HOST_FAULT_VISIBILITY)) {
        case HOST_FAULT_NONE:
            break;
        case HOST_FAULT_DROP:
            change(h, gpn, head.visibility);
            return hv_result(HV_STATUS_OPERATION_DENIED, (uint16_t)i);
        case HOST_FAULT_ERROR:
            return hv_result(HV_STATUS_OPERATION_DENIED, (uint16_t)i);
        case HOST_FAULT_SHORT:
            return hv_result(HV_STATUS_SUCCESS, (uint16_t)i);
        default:
            return hv_result(HV_STATUS_OPERATION_DENIED, HV_CONTROL_REP_MASK);
        }
        status = change(h, gpn, head.visibility);
        if (status != HV_STATUS_SUCCESS)
            return hv_result(status, (uint16_t)i);
    }
    return hv_result(HV_STATUS_SUCCESS, (uint16_t)last);
}
