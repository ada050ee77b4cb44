/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Machines isolated by the processor: which of the ways to the host this one has. Source: TLFS, isolated virtual
 * machines; Linux's and OpenVMM's handling of SNP and TDX machines. None of it has ever run on such hardware: there was
 * none. What goes over the wire is tested (tests/unit/test_ghcb_tdx.c), not the instructions.
 *
 *                  registers                 hypercalls                    pages
 *   VBS            the ordinary ones         the ordinary page             hypercall
 *   SNP, TDX below the paravisor's, and the  paravisor: the ordinary page  hypercall, which the paravisor
 *     a paravisor  host's by GHCB, TDVMCALL  host: GHCB, TDVMCALL          answers
 *   SNP, TDX alone by #VC, #VE               GHCB, TDVMCALL                PVALIDATE and GHCB; MapGPA and accept
 *
 * Machines that stand alone get no farther than the refusal here, if they get so far: the processor stops them at each
 * CPUID, port and MSR, which boot would have to handle from its first instruction on, with page tables that say which
 * memory is private. Their calls and page changes are complete and tested as such, for the day that it does.
 */
#define LOG_ROOM "hv"
#include <string.h>
#include "arch/x86_64/ghcb.h"
#include "arch/x86_64/isolation.h"
#include "arch/x86_64/tdx.h"

/* isolation_calls.S */
bool x86_vmgexit(void);
bool x86_pvalidate(const void *page, bool valid, uint32_t *result, bool *unchanged);
bool x86_tdcall(struct tdx_registers *r);

struct way {
    const char *lacking;                 /* why a machine of this kind can't be lived in; NULL: it can */
    const char *(*start)(const struct arch_isolation *kind);       /* NULL, or what is wrong */
    bool (*reg_read)(uint32_t reg, uint64_t *value);
    bool (*reg_write)(uint32_t reg, uint64_t value);
    uint64_t (*call)(uint64_t control, uint64_t rdx, uint64_t r8);
    bool (*page)(paddr_t page, bool shared);
    struct arch_isolation_rules rules;
};

static const struct way *way;            /* NULL: everything is reached in the ordinary way */
static uint64_t shared_bit;
static struct {
    void *memory;
    uint64_t gpa;
} message_page;

/* ---- SNP ---- */

static uint64_t read_ghcb_msr(void)
{
    uint64_t value = 0;

    x86_rdmsr_safe(HV_X64_MSR_GHCB, &value);
    return value;
}

static void write_ghcb_msr(uint64_t value) { x86_wrmsr_safe(HV_X64_MSR_GHCB, value); }
static void vmgexit(void) { x86_vmgexit(); }

static unsigned pvalidate(const void *page, bool valid, bool *changed)
{
    uint32_t result = PVALIDATE_FAIL_INPUT;
    bool unchanged = true;

    if (!x86_pvalidate(page, valid, &result, &unchanged))
        return PVALIDATE_FAIL_INPUT;
    *changed = !unchanged;
    return result;
}

static const struct ghcb_machine machine = {read_ghcb_msr, write_ghcb_msr, vmgexit, pvalidate};
static struct ghcb ghcb = {.machine = &machine};

/* The page is the paravisor's, above the boundary, its address in the register. */
static const char *snp_start(const struct arch_isolation *kind)
{
    uint64_t msr;

    if (kind->boundary == 0)
        return "with a paravisor and no boundary above which memory is shared";
    if (!x86_rdmsr_safe(HV_X64_MSR_GHCB, &msr))
        return "with no GHCB register";
    if ((msr & GHCB_MSR_INFO_MASK) != 0 || (msr & ~kind->boundary) == 0 || (msr & ~kind->boundary) >= kind->boundary)
        return "with no GHCB page where the paravisor should have put one";
    if (ghcb.page == NULL || ghcb.msr != msr)
        ghcb.page = kind->map(pa(msr | kind->boundary));
    ghcb.msr = msr;
    if (ghcb.page == NULL)
        return "with no memory to map the GHCB page";
    return ghcb_negotiate(&ghcb) ? NULL : "by a host that speaks no version of the GHCB protocol known here";
}

static bool snp_reg_read(uint32_t reg, uint64_t *value) { return ghcb_msr_read(&ghcb, reg, value); }
static bool snp_reg_write(uint32_t reg, uint64_t value) { return ghcb_msr_write(&ghcb, reg, value); }

/* Hosts serve two calls that come this way. */
static uint64_t snp_call(uint64_t control, uint64_t rdx, uint64_t r8)
{
    (void)r8;
    switch (hv_control_code(control)) {
    case HVCALL_POST_MESSAGE:
        return ghcb_hypercall(&ghcb, control, arch_phys_to_virt(pa(rdx)), sizeof(struct hv_post_message), (gpa_t){0});
    case HVCALL_SIGNAL_EVENT:
        return ghcb_hypercall(&ghcb, control, &rdx, sizeof(struct hv_signal_event), (gpa_t){0});
    default:
        return HV_STATUS_INVALID_HYPERCALL_CODE;
    }
}

static uint64_t snp_alone_call(uint64_t control, uint64_t rdx, uint64_t r8)
{
    return ghcb_vmmcall(&ghcb, control, rdx, r8);
}

static bool snp_page(paddr_t page, bool shared)
{
    const void *mapped = arch_phys_to_virt(page);

    return shared ? ghcb_page_share(&ghcb, page, mapped) : ghcb_page_unshare(&ghcb, page, mapped);
}

/* ---- TDX ---- */

static const char *tdx_start(const struct arch_isolation *kind)
{
    return kind->boundary == 0 ? "with a paravisor and no boundary above which memory is shared" : NULL;
}

static bool tdx_reg_read(uint32_t reg, uint64_t *value) { return tdx_msr_read(x86_tdcall, reg, value); }
static bool tdx_reg_write(uint32_t reg, uint64_t value) { return tdx_msr_write(x86_tdcall, reg, value); }

/* The same two calls; the host reads a message where it can see it. */
static uint64_t tdx_call(uint64_t control, uint64_t rdx, uint64_t r8)
{
    switch (hv_control_code(control)) {
    case HVCALL_POST_MESSAGE:
        if (message_page.memory == NULL)
            return HV_STATUS_INSUFFICIENT_MEMORY;
        memcpy(message_page.memory, arch_phys_to_virt(pa(rdx)), sizeof(struct hv_post_message));
        return tdx_hypercall(x86_tdcall, control, message_page.gpa, 0);
    case HVCALL_SIGNAL_EVENT:
        return tdx_hypercall(x86_tdcall, control, rdx, r8);
    default:
        return HV_STATUS_INVALID_HYPERCALL_CODE;
    }
}

static uint64_t tdx_alone_call(uint64_t control, uint64_t rdx, uint64_t r8)
{
    return tdx_hypercall(x86_tdcall, control, rdx, r8);
}

static bool tdx_page(paddr_t page, bool shared)
{
    return shared ? tdx_page_share(x86_tdcall, page, shared_bit) : tdx_page_unshare(x86_tdcall, page);
}

/* ---- the contract ---- */

static const struct way snp_below_paravisor = {
    .start = snp_start, .reg_read = snp_reg_read, .reg_write = snp_reg_write, .call = snp_call,
    .rules = {.two_listeners = true},
};
static const struct way tdx_below_paravisor = {
    .start = tdx_start, .reg_read = tdx_reg_read, .reg_write = tdx_reg_write, .call = tdx_call,
    .rules = {.two_listeners = true, .message_page = true},
};
static const struct way snp_alone = {
    .lacking = "without a paravisor, which would take page tables with the C-bit and a handler of #VC",
    .call = snp_alone_call, .page = snp_page, .rules = {.own_pages = true},
};
static const struct way tdx_alone = {
    .lacking = "without a paravisor, which would take a handler of #VE",
    .call = tdx_alone_call, .page = tdx_page, .rules = {.own_pages = true},
};

const char *arch_isolation_init(const struct arch_isolation *kind, struct arch_isolation_rules *rules)
{
    const struct way *w = NULL;
    const char *wrong;

    way = NULL;
    message_page.memory = NULL;
    *rules = (struct arch_isolation_rules){0};
    if (kind->type == HV_ISOLATION_VBS)
        return NULL;
    if (kind->type == HV_ISOLATION_SNP)
        w = kind->paravisor ? &snp_below_paravisor : &snp_alone;
    else if (kind->type == HV_ISOLATION_TDX)
        w = kind->paravisor ? &tdx_below_paravisor : &tdx_alone;
    if (w == NULL)
        return "of which nothing is known here";
    wrong = w->lacking != NULL ? w->lacking : w->start(kind);
    if (wrong != NULL)
        return wrong;
    shared_bit = kind->boundary;
    *rules = w->rules;
    way = w;
    return NULL;
}

void arch_isolation_message_page(void *memory, gpa_t gpa)
{
    message_page.memory = memory;
    message_page.gpa = gpa.v;
}

bool arch_isolation_page(paddr_t page, bool shared)
{
    return way != NULL && way->page != NULL && way->page(page, shared);
}

bool arch_host_reg_read(uint32_t reg, uint64_t *value)
{
    return way != NULL && way->reg_read != NULL ? way->reg_read(reg, value) : arch_hv_reg_read(reg, value);
}

bool arch_host_reg_write(uint32_t reg, uint64_t value)
{
    return way != NULL && way->reg_write != NULL ? way->reg_write(reg, value) : arch_hv_reg_write(reg, value);
}

/* ---- for hv.c ---- */

bool x86_isolation_owns_host(void) { return way != NULL; }
bool x86_isolation_without_page(void) { return way != NULL && !way->rules.two_listeners; }

uint64_t x86_isolation_call(bool to_host, uint64_t control, uint64_t rdx, uint64_t r8)
{
    /* With two listeners, what is not meant for the host goes by the page or nowhere. */
    if (way == NULL || (way->rules.two_listeners && !to_host))
        return HV_STATUS_INVALID_HYPERCALL_CODE;
    return way->call(control, rdx, r8);
}
