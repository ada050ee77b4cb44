/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The GHCB protocol: see ghcb.h. Source: AMD publication 56421; Hyper-V's hypercalls in the page after what its guests
 * do.
 *
 * Two things are done as Linux does them, because hosts are known to live with it and the paper leaves room: a control
 * word goes without the fast bit (the input lies in the page either way), and the registers that come back from a read
 * of an MSR are taken without asking the bitmap for them.
 */
#include <string.h>
#include "arch/x86_64/ghcb.h"

/* ---- the register ---- */

uint64_t ghcb_msr_page_state(paddr_t page, enum ghcb_page_state state)
{
    return (uint64_t)state << GHCB_MSR_PAGE_STATE_SHIFT | (page.v & GHCB_MSR_PAGE_STATE_GPA_MASK) |
           GHCB_MSR_PAGE_STATE_REQUEST;
}

bool ghcb_msr_version(uint64_t answer, uint16_t *version)
{
    uint64_t most = answer >> GHCB_MSR_VERSION_MOST_SHIFT & GHCB_MSR_VERSION_MASK;
    uint64_t least = answer >> GHCB_MSR_VERSION_LEAST_SHIFT & GHCB_MSR_VERSION_MASK;

    if ((answer & GHCB_MSR_INFO_MASK) != GHCB_MSR_SEV_INFO || most < GHCB_VERSION_LEAST || least > GHCB_VERSION_MOST ||
        least > most)
        return false;
    *version = (uint16_t)MIN(most, (uint64_t)GHCB_VERSION_MOST);
    return true;
}

/* One word to the host by the register, and its answer. */
static uint64_t ask(const struct ghcb_machine *m, uint64_t request)
{
    m->write_msr(request);
    m->exit();
    return m->read_msr();
}

/* ---- the page ---- */

static void mean(struct ghcb_page *page, size_t offset)
{
    page->valid[offset / 512] |= 1ull << (offset / 8 % 64);
}
#define MEAN(page, field) mean(page, offsetof(struct ghcb_page, field))

static bool meant(const struct ghcb_page *page, size_t offset)
{
    return (((const volatile struct ghcb_page *)page)->valid[offset / 512] >> (offset / 8 % 64) & 1) != 0;
}

/* What is left in the page from before was shared before: clearing the bitmap is enough. */
static void begin(struct ghcb_page *page, uint16_t version, uint64_t exit_code, uint64_t info1)
{
    page->valid[0] = page->valid[1] = 0;
    page->version = version;
    page->usage = GHCB_USAGE_STANDARD;
    page->exit_code = exit_code;
    page->exit_info1 = info1;
    page->exit_info2 = 0;
    MEAN(page, exit_code);
    MEAN(page, exit_info1);
    MEAN(page, exit_info2);
}

static bool served(const struct ghcb_page *page)
{
    return (((const volatile struct ghcb_page *)page)->exit_info1 & GHCB_EXIT_INFO1_ERROR_MASK) == 0;
}

void ghcb_put_msr(struct ghcb_page *page, uint16_t version, uint32_t msr, bool write, uint64_t value)
{
    begin(page, version, GHCB_EXIT_MSR, write);
    page->rcx = msr;
    MEAN(page, rcx);
    if (write) {
        page->rax = value & 0xFFFFFFFF;
        page->rdx = value >> 32;
        MEAN(page, rax);
        MEAN(page, rdx);
    }
}

bool ghcb_take_msr(const struct ghcb_page *page, uint64_t *value)
{
    const volatile struct ghcb_page *p = page;

    if (!served(page))
        return false;
    *value = (p->rax & 0xFFFFFFFF) | p->rdx << 32;
    return true;
}

void ghcb_put_vmmcall(struct ghcb_page *page, uint16_t version, uint64_t control, uint64_t rdx, uint64_t r8)
{
    begin(page, version, GHCB_EXIT_VMMCALL, 0);
    page->rax = 0;
    page->cpl = 0;
    page->rcx = control;
    page->rdx = rdx;
    page->r8 = r8;
    MEAN(page, rax);
    MEAN(page, cpl);
    MEAN(page, rcx);
    MEAN(page, rdx);
    MEAN(page, r8);
}

/* What is not a hypercall's answer must not look like success. */
uint64_t ghcb_take_vmmcall(const struct ghcb_page *page)
{
    if (!served(page) || !meant(page, offsetof(struct ghcb_page, rax)))
        return HV_STATUS_OPERATION_FAILED;
    return ((const volatile struct ghcb_page *)page)->rax;
}

void ghcb_put_hypercall(struct ghcb_hypercall_page *page, uint16_t version, uint64_t control, const void *input,
                        size_t bytes, gpa_t output)
{
    KASSERT(bytes <= GHCB_HYPERCALL_INPUT_MAX);
    page->version = version;
    page->usage = GHCB_USAGE_HYPERCALL;
    page->reserved = 0;
    page->output_gpa = output.v;
    page->word = control & ~HV_CONTROL_FAST;
    memcpy(page->input, input, bytes);
}

uint64_t ghcb_take_hypercall(struct ghcb_hypercall_page *page)
{
    uint64_t result = ((volatile struct ghcb_hypercall_page *)page)->word;
    struct ghcb_page *standard = (struct ghcb_page *)(void *)page;

    page->usage = GHCB_USAGE_NOTHING;
    standard->valid[0] = standard->valid[1] = 0;     /* input lay there */
    return result & (HV_RESULT_STATUS_MASK | HV_CONTROL_REP_MASK << HV_RESULT_REPS_SHIFT);
}

/* ---- the exchange ---- */

bool ghcb_negotiate(struct ghcb *g)
{
    const struct ghcb_machine *m = g->machine;
    uint64_t irq = arch_irq_save();
    bool agreed = ghcb_msr_version(ask(m, GHCB_MSR_SEV_INFO_REQUEST), &g->version);

    m->write_msr(g->msr);
    if (agreed)
        m->exit();                    /* the host learns the address, too */
    arch_irq_restore(irq);
    return agreed;
}

bool ghcb_msr_read(const struct ghcb *g, uint32_t msr, uint64_t *value)
{
    uint64_t irq = arch_irq_save();
    bool ok;

    ghcb_put_msr(g->page, g->version, msr, false, 0);
    g->machine->exit();
    ok = ghcb_take_msr(g->page, value);
    arch_irq_restore(irq);
    return ok;
}

bool ghcb_msr_write(const struct ghcb *g, uint32_t msr, uint64_t value)
{
    uint64_t irq = arch_irq_save();
    bool ok;

    ghcb_put_msr(g->page, g->version, msr, true, value);
    g->machine->exit();
    ok = served(g->page);
    arch_irq_restore(irq);
    return ok;
}

uint64_t ghcb_hypercall(const struct ghcb *g, uint64_t control, const void *input, size_t bytes, gpa_t output)
{
    uint64_t irq = arch_irq_save(), result;

    ghcb_put_hypercall(g->page, g->version, control, input, bytes, output);
    g->machine->exit();
    result = ghcb_take_hypercall(g->page);
    arch_irq_restore(irq);
    return result;
}

uint64_t ghcb_vmmcall(const struct ghcb *g, uint64_t control, uint64_t rdx, uint64_t r8)
{
    uint64_t irq = arch_irq_save(), result;

    ghcb_put_vmmcall(g->page, g->version, control, rdx, r8);
    g->machine->exit();
    result = ghcb_take_vmmcall(g->page);
    arch_irq_restore(irq);
    return result;
}

/* ---- pages, without a paravisor ---- */

static bool set_state(const struct ghcb *g, paddr_t page, enum ghcb_page_state state)
{
    uint64_t irq = arch_irq_save();
    uint64_t answer = ask(g->machine, ghcb_msr_page_state(page, state));

    g->machine->write_msr(g->msr);
    arch_irq_restore(irq);
    return answer == GHCB_MSR_PAGE_STATE;            /* no error, and nothing in the reserved bits */
}

/* A page that was not in the other state before is one that the host exchanged behind our back. */
static bool validate(const struct ghcb *g, const void *mapped, bool valid)
{
    bool changed = false;

    return g->machine->validate(mapped, valid, &changed) == PVALIDATE_SUCCESS && changed;
}

bool ghcb_page_share(const struct ghcb *g, paddr_t page, const void *mapped)
{
    return validate(g, mapped, false) && set_state(g, page, GHCB_PAGE_SHARED);
}

bool ghcb_page_unshare(const struct ghcb *g, paddr_t page, const void *mapped)
{
    return set_state(g, page, GHCB_PAGE_PRIVATE) && validate(g, mapped, true);
}
