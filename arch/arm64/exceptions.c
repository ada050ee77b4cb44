/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Processor exceptions. One that was expected goes on at its fix-up (shared.h, ARCH_FIXUP); any other ends in a report
 * of all registers, then panic_at. What a fault address means (a guard page, whose stack) is known higher up:
 * arch_set_fault_note. Source: Arm ARM, D17.2.37 (ESR).
 */
#include "arch/arm64/arm64.h"

extern const char boot_stack_guard[];
extern const char arm64_vectors_el1[], arm64_vectors_el2[];
static void (*fault_note)(vaddr_t address, char *text, size_t bytes);

void arch_set_fault_note(void (*note)(vaddr_t address, char *text, size_t bytes)) { fault_note = note; }

void arm64_vectors_init(void)
{
    sysreg_write(vbar_el1, va_of(arm64_el() == 2 ? arm64_vectors_el2 : arm64_vectors_el1).v);
    arm64_isb();
}

static const char *class_name(unsigned ec)
{
    static const struct { unsigned char ec; const char *name; } names[] = {
        {ESR_EC_UNKNOWN, "undefined instruction"}, {ESR_EC_WFX, "trapped wait"}, {ESR_EC_FP, "floating point is off"},
        {ESR_EC_PAC, "pointer authentication"}, {ESR_EC_BTI, "branch target"},
        {ESR_EC_ILLEGAL_STATE, "illegal execution state"}, {ESR_EC_SVC64, "supervisor call"},
        {ESR_EC_HVC64, "hypervisor call"}, {ESR_EC_SMC64, "monitor call"}, {ESR_EC_SYSREG, "system register"},
        {ESR_EC_SVE, "SVE is off"}, {ESR_EC_IABT_LOWER, "instruction abort from below"},
        {ESR_EC_IABT, "instruction abort"}, {ESR_EC_PC_ALIGN, "program counter alignment"},
        {ESR_EC_DABT_LOWER, "data abort from below"}, {ESR_EC_DABT, "data abort"},
        {ESR_EC_SP_ALIGN, "stack pointer alignment"}, {ESR_EC_FPE, "floating point exception"},
        {ESR_EC_SERROR, "SError"}, {ESR_EC_BREAKPOINT, "breakpoint"}, {ESR_EC_STEP, "single step"},
        {ESR_EC_WATCHPOINT, "watchpoint"}, {ESR_EC_BRK, "BRK instruction"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (names[i].ec == ec)
            return names[i].name;
    return "reserved exception class";
}

static const char *vector_name(unsigned vector)
{
    static const char *const kinds[] = {"synchronous", "IRQ", "FIQ", "SError"};
    return kinds[vector % 4];
}

static bool is_abort(unsigned ec)
{
    return ec == ESR_EC_DABT || ec == ESR_EC_IABT || ec == ESR_EC_DABT_LOWER || ec == ESR_EC_IABT_LOWER;
}

static const char *fault_name(uint32_t iss)
{
    uint32_t code = iss & ESR_ISS_FSC;
    if (code == ESR_FSC_ALIGNMENT)
        return "misaligned";
    if (code == ESR_FSC_EXTERNAL || ESR_FSC_TYPE(iss) == ESR_FSC_EXTERNAL_WALK)
        return "not answering (external abort)";
    switch (ESR_FSC_TYPE(iss)) {
    case ESR_FSC_ADDRESS:
        return "impossible";
    case ESR_FSC_TRANSLATION:
        return "unmapped";
    case ESR_FSC_ACCESS:
        return "never accessed";
    case ESR_FSC_PERMISSION:
        return "protected";
    default:
        return "faulting";
    }
}

#define U(v) ((unsigned long long)(v))
static void print_registers(const struct arm64_frame *f, unsigned vector)
{
    uint64_t offset = 0;
    const char *name = symbol_find(f->elr, &offset);
    kprintf("\nexception class 0x%x (%s), %s, syndrome 0x%x at EL%u\n", ESR_EC(f->esr), class_name(ESR_EC(f->esr)),
            vector_name(vector), (unsigned)f->esr, arm64_el());
    kprintf("pc  %016llx %s+0x%llx  pstate %08llx\n", U(f->elr), name == NULL ? "?" : name, U(offset), U(f->spsr));
    kprintf("sp  %016llx  far %016llx\n", U(f->sp), U(f->far));
    for (unsigned i = 0; i < 28; i += 4)
        kprintf("x%-2u %016llx  x%-2u %016llx  x%-2u %016llx  x%-2u %016llx\n", i, U(f->x[i]), i + 1, U(f->x[i + 1]),
                i + 2, U(f->x[i + 2]), i + 3, U(f->x[i + 3]));
    kprintf("x28 %016llx  x29 %016llx  x30 %016llx\n", U(f->x[28]), U(f->x[29]), U(f->x[30]));
    kprintf("sctlr %08llx  tcr %016llx  ttbr0 %016llx  ttbr1 %016llx\n", U(sysreg_read(sctlr_el1)),
            U(sysreg_read(tcr_el1)), U(sysreg_read(ttbr0_el1)), U(sysreg_read(ttbr1_el1)));
}

/* What the address behind a fault is, as far as anyone can tell; "" when nobody can. */
static void explain_address(uint64_t address, char *text, size_t bytes)
{
    void (*note)(vaddr_t address, char *text, size_t bytes) = fault_note;
    text[0] = '\0';
    fault_note = NULL;      /* what broke the task list may break its reader: that fault is reported without it */
    if (address - (uint64_t)boot_stack_guard < PAGE_BYTES)
        ksnprintf(text, bytes, "stack overflow in the boot task");
    else if (note != NULL)
        note(va(address), text, bytes);
    if (text[0] == '\0' && address < PAGE_BYTES)
        ksnprintf(text, bytes, "null pointer");
}

static NORETURN void die(const struct arm64_frame *f, unsigned vector)
{
    unsigned ec = ESR_EC(f->esr);
    uint32_t iss = ESR_ISS(f->esr);
    char note[120] = "";
    static bool printed;    /* once: where the console itself faults, the panic path must be reached to mark that */
    if (!printed) {
        printed = true;
        print_registers(f, vector);
    }
    arm64_fault_caller(f->elr, f->x[30]);
    if (vector % 4 == ARM64_VECTOR_SYNC && is_abort(ec)) {
        bool fetch = ec == ESR_EC_IABT || ec == ESR_EC_IABT_LOWER;
        explain_address(f->far, note, sizeof note);
        panic_at(f->elr, f->sp, f->x[29], f->far, "page fault: %s of %s address 0x%llx%s%s",
                 fetch ? "execution" : iss & ESR_ISS_WNR ? "write" : "read", fault_name(iss), U(f->far),
                 note[0] ? ": " : "", note);
    }
    panic_at(f->elr, f->sp, f->x[29], f->esr, "exception class 0x%x (%s), %s, syndrome 0x%x", ec, class_name(ec),
             vector_name(vector), (unsigned)f->esr);
}

void arm64_exception(struct arm64_frame *f, unsigned vector)
{
    if (vector == ARM64_VECTOR_SPX + ARM64_VECTOR_SYNC && arch_resume_at_fixup(&f->elr))
        return;
    die(f, vector);
}
