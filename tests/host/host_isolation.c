/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host_isolation.c: which pages of an isolated guest the host may see (TLFS: isolated virtual machines).
 *
 * A word per page, all private at the start: 0 private, else 1 and as many more as there are uses of the page by the
 * host now. The words come in chunks, made when the first page of one becomes visible. host_map() asks this book for
 * everything that VMBus looks at, and enters the use: a page that a live GPADL, the monitor or a packet under way
 * names can't become private, whoever has its address (a real host would fault on it). Nor can a page become visible
 * that the hypervisor keeps its own things in.
 */
#include "tests/host/host_internal.h"

#define CHUNK_PAGES 512u

static uint64_t chunks(const struct host *h) { return h->cfg.ram_pages / CHUNK_PAGES + 1; }

bool host_book_create(struct host *h)
{
    h->book = host_alloc(h, chunks(h) * sizeof(h->book[0]));
    return h->book != NULL;
}

void host_book_clear(struct host *h)
{
    h->visible_pages = 0;
    for (uint64_t i = 0; h->book != NULL && i < chunks(h); i++) {
        if (h->book[i] != NULL)
            memset(h->book[i], 0, CHUNK_PAGES * sizeof(h->book[i][0]));
    }
}

/* The word of a page; NULL: it is private, and so is its chunk. */
static uint32_t *word_of(const struct host *h, uint64_t gpn)
{
    if (gpn >= h->cfg.ram_pages || h->book[gpn / CHUNK_PAGES] == NULL)
        return NULL;
    return &h->book[gpn / CHUNK_PAGES][gpn % CHUNK_PAGES];
}

bool host_page_visible(const struct host *h, uint64_t gpn)
{
    const uint32_t *word = h->book != NULL ? word_of(h, gpn) : NULL;

    return h->book == NULL || (word != NULL && *word != 0);
}

bool host_page_enter(struct host *h, uint64_t gpn)
{
    uint32_t *word = word_of(h, gpn);

    if (word == NULL || *word == 0 || *word == UINT32_MAX)
        return false;
    ++*word;
    return true;
}

void host_page_leave(struct host *h, uint64_t gpn)
{
    uint32_t *word = word_of(h, gpn);

    if (word == NULL || *word <= 1)
        host_violation(h, &gpn, 8, "the model itself: a page is left that nobody looked at");
    else
        --*word;
}

/* Of the hypervisor, inside guest memory: nothing for the host to see. */
static const char *overlay_at(const struct host *h, uint64_t gpn)
{
    if ((h->hypercall_msr & HV_MSR_PAGE_ENABLE) && h->hypercall_msr >> HV_PAGE_SHIFT == gpn)
        return "the hypercall page";
    if (h->tsc_page != NULL && h->reference_tsc >> HV_PAGE_SHIFT == gpn)
        return "the reference TSC page";
    for (uint32_t i = 0; i < h->cfg.vps; i++) {
        if ((h->vp[i].messages != NULL && h->vp[i].simp >> HV_PAGE_SHIFT == gpn) ||
            (h->vp[i].flags != NULL && h->vp[i].siefp >> HV_PAGE_SHIFT == gpn))
            return "a SynIC page";
    }
    return NULL;
}

static bool open_page(struct host *h, uint64_t gpn)
{
    uint32_t **chunk = &h->book[gpn / CHUNK_PAGES];

    if (*chunk == NULL)
        *chunk = host_alloc(h, CHUNK_PAGES * sizeof(**chunk));
    if (*chunk == NULL)
        return false;
    (*chunk)[gpn % CHUNK_PAGES] = 1;
    h->visible_pages++;
    return true;
}

/* In the state that it shall have already, or not to be had; else HV_STATUS_SUCCESS and *change. */
static uint16_t may_change(struct host *h, uint64_t gpn, bool want, bool *change)
{
    const uint32_t *word = word_of(h, gpn);
    const char *overlay;

    *change = (word != NULL && *word != 0) != want;
    if (*change && !want && *word > 1) {
        host_violation(h, &gpn, 8, "visibility: page made private while %s uses it",
                       vgpadl_covers(h, gpn) ? "a GPADL or the monitor" : "a packet");
        return HV_STATUS_OPERATION_DENIED;
    }
    overlay = *change && want ? overlay_at(h, gpn) : NULL;
    if (overlay != NULL) {
        host_violation(h, &gpn, 8, "visibility: page made visible that is %s", overlay);
        return HV_STATUS_OPERATION_DENIED;
    }
    return HV_STATUS_SUCCESS;
}

static uint16_t change(struct host *h, uint64_t gpn, uint32_t visibility)
{
    bool want = visibility == HV_VISIBILITY_READ_WRITE, changes;
    uint16_t status;
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
    status = may_change(h, gpn, want, &changes);
    if (status == HV_STATUS_SUCCESS && changes && want && !open_page(h, gpn))
        status = HV_STATUS_INSUFFICIENT_MEMORY;
    if (status != HV_STATUS_SUCCESS || !changes) {
        host_unmap(h, USE_VISIBILITY, gpn << HV_PAGE_SHIFT, HV_PAGE_SIZE);
        return status;
    }
    if (!want) {
        *word_of(h, gpn) = 0;
        h->visible_pages--;
    }
    if (h->cfg.scramble_on_change)
        memset(page, 0xA5, HV_PAGE_SIZE);
    host_unmap(h, USE_VISIBILITY, gpn << HV_PAGE_SHIFT, HV_PAGE_SIZE);
    if (h->ops.visibility != NULL)
        h->ops.visibility(h->ctx, gpn, visibility);
    return HV_STATUS_SUCCESS;
}

void host_check_unused(struct host *h, const void *message, size_t bytes, size_t used, const char *what)
{
    const uint8_t *p = message;

    for (size_t i = used; h->book != NULL && i < bytes; i++) {
        if (p[i] != 0) {
            host_violation(h, message, bytes, "%s: byte %u has no meaning and shows old memory", what, (uint32_t)i);
            return;
        }
    }
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
        switch (malice_visibility(h)) {
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
