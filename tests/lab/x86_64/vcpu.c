/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtual processor: its control block, the states it can start in, the run loop.
 *
 * What QEMU's emulation of SVM leaves to us (measured, see the pitfalls named below): no next-RIP, the interrupt shadow
 * is reported but not restored, and EXITINTINFO gives the wrong type for external interrupts.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/x86_64/smp.h"

#define CR0_RESET       0x60000010ull
#define CR0_PE          (1ull << 0)
#define CR0_PG          (1ull << 31)
#define CR4_PAE         (1ull << 5)
#define DR6_RESET       0xFFFF0FF0ull
#define DR7_RESET       0x400ull
#define PAT_RESET       0x0007040600070406ull
#define RFLAGS_FIXED    0x2ull
#define OPCODE_HLT      0xF4
#define VECTOR_DB       1
#define VECTOR_UD       6
#define VECTOR_DF       8
#define VECTOR_PF       14
#define GATE_BYTES      16u
#define PF_PRESENT      (1ull << 0)
#define PF_FETCH        (1ull << 4)
#define DR7_GLOBAL_0    (1ull << 1)    /* execution, one byte: the other fields are 0 */
#define RFLAGS_RF       (1ull << 16)
#define PROFILE_MIN     2      /* an NMI that came while the lab ran says nothing about the guest */
#define FIRST_EXTERNAL_VECTOR 32

struct vcpu lab_vcpus[LAB_MAX_VCPUS];
unsigned lab_vcpu_count;

struct vcpu *vcpu_at(unsigned index) { return &lab_vcpus[index]; }
unsigned vcpu_index(const struct vcpu *v) { return v->index; }
bool vcpu_runs(const struct vcpu *v) { return v->state == VCPU_RUNNING; }
uint64_t vcpu_pc(const struct vcpu *v) { return v->vmcb->save.rip; }
uint64_t vcpu_argument(const struct vcpu *v) { return v->gprs[GPR_RDI]; }
uint64_t vcpu_guest_instructions(const struct vcpu *v) { return v->guest_instructions; }

int svm_init(void)
{
    uint32_t r[4];
    lab_cpuid(0x80000001, 0, r);
    if (!(r[2] & 1u << 2)) {
        log_err("this CPU has no SVM: QEMU needs -cpu EPYC,+svm,+npt");
        return -E_NOTSUP;
    }
    lab_cpuid(0x8000000A, 0, r);
    if (!(r[3] & 1)) {
        log_err("SVM without nested paging: QEMU needs -cpu EPYC,+svm,+npt");
        return -E_NOTSUP;
    }
    paddr_t save = page_alloc_zeroed(0);
    if (pa_is_none(save))
        return -E_NOMEM;
    x86_wrmsr(MSR_EFER, x86_rdmsr(MSR_EFER) | EFER_SVME);
    x86_wrmsr(MSR_VM_HSAVE, save.v);
    return 0;
}

int vcpu_init(struct vcpu *v, unsigned index, unsigned apic_id)
{
    v->index = index;
    v->apic_id = apic_id;
    v->vmcb_pa = page_alloc_zeroed(0);
    v->host_vmcb_pa = page_alloc_zeroed(0);
    if (pa_is_none(v->vmcb_pa) || pa_is_none(v->host_vmcb_pa))
        return -E_NOMEM;
    v->vmcb = arch_phys_to_virt(v->vmcb_pa);

    struct svm_control *c = &v->vmcb->control;
    c->intercept1 = SVM_INTERCEPT1_NMI | SVM_INTERCEPT1_CPUID | SVM_INTERCEPT1_INVLPGA | SVM_INTERCEPT1_IOIO |
                    SVM_INTERCEPT1_MSR | SVM_INTERCEPT1_SHUTDOWN;
    if (lab_options.measure)
        c->intercept1 |= SVM_INTERCEPT1_HLT;
    c->intercept2 = SVM_INTERCEPT2_VMRUN | SVM_INTERCEPT2_VMMCALL | SVM_INTERCEPT2_VMLOAD | SVM_INTERCEPT2_VMSAVE |
                    SVM_INTERCEPT2_STGI | SVM_INTERCEPT2_CLGI | SVM_INTERCEPT2_SKINIT;
    c->iopm = io_permission_map().v;
    c->msrpm = msr_permission_map().v;
    c->asid = 1;
    c->tlb_control = SVM_TLB_FLUSH_ALL;
    c->nested_paging = 1;
    c->nested_cr3 = nested_root().v;

    struct svm_save *s = &v->vmcb->save;
    s->efer = EFER_SVME;
    s->dr6 = DR6_RESET;
    s->dr7 = DR7_RESET;
    s->rflags = RFLAGS_FIXED;
    s->g_pat = PAT_RESET;
    s->gdtr.limit = s->idtr.limit = 0xFFFF;
    s->ldtr = (struct svm_segment){.attributes = SVM_SEG_LDT, .limit = 0xFFFF};
    s->tr = (struct svm_segment){.attributes = SVM_SEG_TSS, .limit = 0xFFFF};
    watch_arm(v);
    v->state = VCPU_OFF;
    return 0;
}

void vcpu_set_long_mode(struct vcpu *v, uint64_t rip, uint64_t cr3, uint64_t gdt, uint64_t rsi)
{
    struct svm_save *s = &v->vmcb->save;
    s->cs = (struct svm_segment){.selector = 0x08, .attributes = SVM_SEG_CODE64, .limit = 0xFFFFFFFF};
    s->ds = (struct svm_segment){.selector = 0x10, .attributes = SVM_SEG_DATA, .limit = 0xFFFFFFFF};
    s->es = s->fs = s->gs = s->ss = s->ds;
    s->gdtr.base = gdt;
    s->gdtr.limit = 4 * 8 - 1;
    s->cr0 = CR0_PG | CR0_PE;
    s->cr4 = CR4_PAE;
    s->cr3 = cr3;
    s->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_SVME;
    s->rip = rip;
    v->gprs[GPR_RSI] = rsi;
    v->state = VCPU_RUNNING;
}

void vcpu_set_real_mode(struct vcpu *v, unsigned sipi_vector)
{
    struct svm_save *s = &v->vmcb->save;
    for (unsigned i = 0; i < ARRAY_SIZE(v->gprs); i++)
        v->gprs[i] = 0;
    s->cs = (struct svm_segment){.selector = (uint16_t)(sipi_vector << 8), .attributes = SVM_SEG_CODE16,
                                 .limit = 0xFFFF, .base = (uint64_t)sipi_vector << 12};
    s->ds = (struct svm_segment){.attributes = SVM_SEG_DATA16, .limit = 0xFFFF};
    s->es = s->fs = s->gs = s->ss = s->ds;
    s->gdtr = s->idtr = (struct svm_segment){.limit = 0xFFFF};
    s->ldtr = (struct svm_segment){.attributes = SVM_SEG_LDT, .limit = 0xFFFF};
    s->tr = (struct svm_segment){.attributes = SVM_SEG_TSS, .limit = 0xFFFF};
    s->cr0 = CR0_RESET;
    s->cr2 = s->cr3 = s->cr4 = 0;
    s->cpl = 0;
    s->dr6 = DR6_RESET;
    s->dr7 = DR7_RESET;
    s->efer = EFER_SVME;
    s->rflags = RFLAGS_FIXED;
    s->rip = s->rsp = s->rax = 0;
    v->vmcb->control.event_injection = 0;
    v->state = VCPU_RUNNING;
}

/* QEMU's VMRUN takes DR7 over without arming what it says, so the lab's own is armed, too: lab_debug_entry. */
void machine_watch(struct vcpu *v, uint64_t address)
{
    v->vmcb->save.dr7 |= DR7_GLOBAL_0;
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"(address), "r"(v->vmcb->save.dr7));
    v->vmcb->control.intercept_exceptions |= 1u << VECTOR_DB;
}

void exit_debug(struct vcpu *v)
{
    watch_hit(v);
    v->vmcb->save.rflags |= RFLAGS_RF;
}

/* Tables as they were when the dump began; other processors may change them while it is printed. */
static void dump_walk(const struct vcpu *v, const char *what, const struct walk *then, unsigned n)
{
    struct walk now;
    unsigned left = guest_walk(v, then->address, &now);
    for (unsigned i = 0; i < n; i++)
        log_err("  tables of %s: %#llx at %#llx", what, (unsigned long long)then->entry[i],
                (unsigned long long)then->gpa[i]);
    for (unsigned i = 0; i < left; i++)
        if (i >= n || now.gpa[i] != then->gpa[i] || now.entry[i] != then->entry[i])
            log_err("  tables of %s: %#llx at %#llx by now", what, (unsigned long long)now.entry[i],
                    (unsigned long long)now.gpa[i]);
}

void vcpu_dump(const struct vcpu *v)
{
    const struct svm_save *s = &v->vmcb->save;
    struct walk code, data;
    unsigned code_levels = guest_walk(v, s->rip, &code), data_levels = guest_walk(v, s->cr2, &data);
    const struct svm_control *c = &v->vmcb->control;
    const uint64_t *g = v->gprs;
    log_err("vcpu %u: exit %#llx info %#llx %#llx during %#llx, cpl %u", v->index, (unsigned long long)c->exit_code,
            (unsigned long long)c->exit_info1, (unsigned long long)c->exit_info2, (unsigned long long)c->exit_int_info,
            s->cpl);
    log_err("  rip %016llx rsp %016llx rflags %llx cs %x ss %x", (unsigned long long)s->rip, (unsigned long long)s->rsp,
            (unsigned long long)s->rflags, s->cs.selector, s->ss.selector);
    log_err("  rax %016llx rbx %016llx rcx %016llx rdx %016llx", (unsigned long long)s->rax,
            (unsigned long long)g[GPR_RBX], (unsigned long long)g[GPR_RCX], (unsigned long long)g[GPR_RDX]);
    log_err("  rsi %016llx rdi %016llx rbp %016llx r8  %016llx", (unsigned long long)g[GPR_RSI],
            (unsigned long long)g[GPR_RDI], (unsigned long long)g[GPR_RBP], (unsigned long long)g[8]);
    log_err("  r9  %016llx r10 %016llx r11 %016llx r12 %016llx", (unsigned long long)g[9], (unsigned long long)g[10],
            (unsigned long long)g[11], (unsigned long long)g[12]);
    log_err("  r13 %016llx r14 %016llx r15 %016llx", (unsigned long long)g[13], (unsigned long long)g[14],
            (unsigned long long)g[15]);
    log_err("  cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx gdt %llx idt %llx", (unsigned long long)s->cr0,
            (unsigned long long)s->cr2, (unsigned long long)s->cr3, (unsigned long long)s->cr4,
            (unsigned long long)s->efer, (unsigned long long)s->gdtr.base, (unsigned long long)s->idtr.base);
    dump_walk(v, "rip", &code, code_levels);
    dump_walk(v, "cr2", &data, data_levels);
    uint64_t words[8];
    size_t n = guest_fetch(v, s->rsp, words, sizeof(words)) / sizeof(words[0]);
    for (size_t i = 0; i + 1 < n; i += 2)
        log_err("  [rsp+%02zx] %016llx %016llx", i * 8, (unsigned long long)words[i], (unsigned long long)words[i + 1]);
}

void vcpu_inject_exception(struct vcpu *v, unsigned vector, bool has_error, uint32_t error)
{
    v->vmcb->control.event_injection = vector | SVM_EVENT_TYPE_EXC | SVM_EVENT_VALID |
                                       (has_error ? SVM_EVENT_ERROR | (uint64_t)error << 32 : 0);
}

void vcpu_advance(struct vcpu *v, uint64_t next_rip)
{
    v->vmcb->save.rip = next_rip;
    v->vmcb->control.interrupt_shadow &= ~1ull;
}

/* An exit in the shadow of STI with HLT next: VMRUN would not restore the shadow, so a pending interrupt would be taken
 * before the HLT, which then sleeps through what it waited for. Going on behind the HLT is a wake without cause, which
 * every kernel must expect. */
static void repair_shadow(struct vcpu *v)
{
    uint8_t opcode;
    if ((v->vmcb->control.interrupt_shadow & 1) && guest_fetch(v, v->vmcb->save.rip, &opcode, 1) == 1 &&
        opcode == OPCODE_HLT)
        vcpu_advance(v, v->vmcb->save.rip + 1);
}

/* An event whose delivery an exit interrupted is injected again. QEMU reports external interrupts as exceptions. */
static void reinject(struct vcpu *v)
{
    uint64_t info = v->vmcb->control.exit_int_info;
    if (!(info & SVM_EVENT_VALID) || (v->vmcb->control.event_injection & SVM_EVENT_VALID))
        return;
    if ((info & SVM_EVENT_TYPE_MASK) == SVM_EVENT_TYPE_EXC && (info & SVM_EVENT_VECTOR) >= FIRST_EXTERNAL_VECTOR)
        info &= ~SVM_EVENT_TYPE_MASK;
    if ((info & SVM_EVENT_TYPE_MASK) == SVM_EVENT_TYPE_SOFT)
        return;     /* the INT instruction is executed again */
    v->vmcb->control.event_injection = info;
}

/*
 * measure=1: the guest's HLT leaves it, and it is executed in a second VMRUN that ends with the interrupt itself,
 * real or virtual (intercepted, not yet taken), or an NMI. Interrupts pending already end it at once. So nothing is
 * lost between the two and the time asleep is not counted as the guest's.
 */
#define WAKES (SVM_INTERCEPT1_INTR | SVM_INTERCEPT1_VINTR)

static void begin_idle_run(struct vcpu *v)
{
    struct svm_control *c = &v->vmcb->control;
    c->intercept1 = (c->intercept1 & ~SVM_INTERCEPT1_HLT) | WAKES;
    v->idle_run = true;
}

static void stop_idle_run(struct vcpu *v)
{
    struct svm_control *c = &v->vmcb->control;
    c->intercept1 = (c->intercept1 & ~WAKES) | SVM_INTERCEPT1_HLT;
    v->idle_run = false;
}

/* An NMI is not the guest's: it sleeps on, and whatever the NMI's cause makes pend ends the next run. */
static void end_idle_run(struct vcpu *v, uint64_t halt_rip)
{
    struct svm_control *c = &v->vmcb->control;
    if (c->exit_code == SVM_EXIT_NMI) {
        v->vmcb->save.rip = halt_rip;
        return;
    }
    stop_idle_run(v);
    vcpu_advance(v, halt_rip + 1);
}

static bool translated(const struct vcpu *v, uint64_t address)
{
    uint64_t gpa;
    return guest_translate(v, address, &gpa) && guest_ptr(gpa, 1);
}

/*
 * The guest shut down because the code at its RIP was not present, nor was any gate to tell it so, but by its tables
 * all of them are: a walk that the processor got wrong. Every run begins without translations, so it was no old one.
 * Seen once of QEMU 7.2, with three vcpus on a busy machine, at the instruction behind a WRMSR that had left the guest.
 */
static bool walked_wrong(const struct vcpu *v)
{
    const struct svm_save *s = &v->vmcb->save;
    uint64_t info = v->vmcb->control.exit_int_info, error = info >> 32;
    return (info & (SVM_EVENT_VALID | SVM_EVENT_TYPE_MASK | SVM_EVENT_VECTOR)) ==
               (SVM_EVENT_VALID | SVM_EVENT_TYPE_EXC | VECTOR_PF) &&
           (error & (PF_PRESENT | PF_FETCH)) == PF_FETCH && translated(v, s->rip) &&
           translated(v, s->idtr.base + VECTOR_PF * GATE_BYTES) && translated(v, s->idtr.base + VECTOR_DF * GATE_BYTES);
}

static NORETURN void shut_down(const struct vcpu *v)
{
    bool wrong = walked_wrong(v);      /* first: other processors may change the tables */
    vcpu_dump(v);
    if (wrong)
        lab_end(LAB_END_FAULT, "the processor found no translation where the guest's tables have one");
    lab_end(LAB_END_TRIPLE, "the guest's exception handling failed (triple fault)");
}

static void handle_exit(struct vcpu *v, uint64_t spent)
{
    struct svm_control *c = &v->vmcb->control;
    switch (c->exit_code) {
    case SVM_EXIT_NMI:
        lab_count(CNT_EXIT_INTERRUPT);
        lab_take_nmi();
        if (lab_options.profile_us && !v->idle_run && spent > PROFILE_MIN)
            profile_sample(v);
        if (!v->idle_run)
            repair_shadow(v);
        break;
    case SVM_EXIT_CPUID:
        lab_count(CNT_EXIT_ID);
        exit_cpuid(v);
        break;
    case SVM_EXIT_MSR:
        lab_count(CNT_EXIT_REGISTER);
        exit_msr(v);
        break;
    case SVM_EXIT_VMMCALL:
        lab_count(CNT_EXIT_HYPERCALL);
        exit_hypercall(v);
        break;
    case SVM_EXIT_IOIO:
        lab_count(CNT_EXIT_PORT);
        exit_io(v);
        break;
    case SVM_EXIT_NPF:
        lab_count(CNT_EXIT_MEMORY);
        exit_npf(v);
        break;
    case SVM_EXIT_HLT:
        lab_count(CNT_EXIT_IDLE);
        begin_idle_run(v);
        break;
    case SVM_EXIT_INTR:
    case SVM_EXIT_VINTR:
        break;
    case SVM_EXIT_DB:
        exit_debug(v);
        break;
    case SVM_EXIT_VMRUN:
    case SVM_EXIT_VMLOAD:
    case SVM_EXIT_VMSAVE:
    case SVM_EXIT_STGI:
    case SVM_EXIT_CLGI:
    case SVM_EXIT_SKINIT:
    case SVM_EXIT_INVLPGA:
        vcpu_inject_exception(v, VECTOR_UD, false, 0);   /* the guest was told there is no SVM */
        break;
    case SVM_EXIT_SHUTDOWN:
        shut_down(v);
    default:
        vcpu_dump(v);
        lab_end(LAB_END_FAULT, (uint32_t)c->exit_code == SVM_EXIT_INVALID_LOW ? "VMRUN refused the guest's state"
                                                                              : "unexpected exit");
    }
}

/*
 * Auto-EOI interrupts are virtual ones: the processor keeps one pending until the guest takes interrupts, and the local
 * APIC, which would wait for an EOI, never hears of it. One at a time; the others wait for the next exit.
 */
static void raise_auto_eoi(struct vcpu *v, unsigned vector)
{
    v->auto_eoi[vector / 64] |= BIT(vector % 64);
    if (v->apic_id != apic_own_id())
        vcpu_kick(v);
}

void vcpu_raise(struct vcpu *v, unsigned vector, bool auto_eoi)
{
    if (auto_eoi)
        raise_auto_eoi(v, vector);
    else
        apic_raise(v, vector);
}

static void offer_auto_eoi(struct vcpu *v)
{
    struct svm_control *c = &v->vmcb->control;
    for (unsigned i = ARRAY_SIZE(v->auto_eoi); i > 0 && !(c->vintr & SVM_VINTR_PENDING); i--) {
        uint64_t *word = &v->auto_eoi[i - 1];
        if (*word == 0)
            continue;
        unsigned bit = 63 - (unsigned)__builtin_clzll(*word);
        *word &= ~BIT(bit);
        c->vintr = SVM_VINTR_PENDING | SVM_VINTR_IGNORE_TPR | SVM_VINTR_VECTOR((i - 1) * 64 + bit);
    }
}

/* INIT and SIPI from another vcpu (apic.c). */
static void take_signals(struct vcpu *v)
{
    if (v->init_pending) {
        v->state = VCPU_WAIT_SIPI;
        apic_take_init();
        memset(v->auto_eoi, 0, sizeof(v->auto_eoi));
        v->vmcb->control.vintr &= ~(uint64_t)SVM_VINTR_PENDING;
        v->vmcb->control.event_injection = 0;
        v->init_pending = false;
        if (v->idle_run)                    /* the HLT it slept in is over */
            stop_idle_run(v);
    }
    if (v->sipi_pending) {
        if (v->state == VCPU_WAIT_SIPI)
            vcpu_set_real_mode(v, v->sipi_vector);
        v->sipi_pending = false;
    }
}

NORETURN void vcpu_run(struct vcpu *v)
{
    struct svm_control *c = &v->vmcb->control;
    lab_lock();
    for (;;) {
        take_signals(v);
        glue_poll();
        offer_auto_eoi(v);
        lab_unlock();
        while (v->state != VCPU_RUNNING && !v->init_pending && !v->sipi_pending)
            lab_sleep();
        if (v->state == VCPU_RUNNING) {
            bool idle = v->idle_run;
            uint64_t halt_rip = v->vmcb->save.rip;
            __atomic_fetch_add(&v->runs, 1, __ATOMIC_SEQ_CST);
            uint64_t spent = lab_vmrun(v->gprs, v->vmcb_pa.v, v->host_vmcb_pa.v);
            __atomic_fetch_add(&v->runs, 1, __ATOMIC_SEQ_CST);
            lab_lock();
            c->event_injection = 0;
            lab_count(CNT_EXITS);
            spent -= LAB_SWITCH_INSTRUCTIONS;
            if (idle)
                end_idle_run(v, halt_rip);
            else
                v->guest_instructions += spent;
            handle_exit(v, spent);
            reinject(v);
        } else {
            lab_lock();
        }
    }
}
