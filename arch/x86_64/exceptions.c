/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Processor exceptions. One that was expected goes on at its fix-up (arch/shared.h); any other ends in a report of
 * all registers, then panic_at. What a fault address means (a guard page, whose stack) is known higher up:
 * arch_set_fault_note.
 */
#include "arch/x86_64/x86.h"

extern const char boot_stack_guard[];
static void (*fault_note)(vaddr_t address, char *text, size_t bytes);

void arch_set_fault_note(void (*note)(vaddr_t address, char *text, size_t bytes)) { fault_note = note; }

static const char *exception_name(uint64_t vector)
{
    static const char *const names[X86_EXCEPTIONS] = {
        "divide error", "debug", "NMI", "breakpoint", "overflow", "bound range", "invalid opcode", "no FPU",
        "double fault", "coprocessor segment", "invalid TSS", "segment not present", "stack segment",
        "general protection", "page fault", NULL, "x87 error", "alignment check", "machine check", "SIMD error",
        "virtualization",
        "control protection", NULL, NULL, NULL, NULL, NULL, NULL, "hypervisor injection", "VMM communication",
        "security",
    };
    return vector < X86_EXCEPTIONS && names[vector] != NULL ? names[vector] : "reserved exception";
}

#define U(v) ((unsigned long long)(v))
static void print_registers(const struct x86_frame *f, uint64_t cr2)
{
    uint64_t offset = 0;
    const char *name = symbol_find(f->rip, &offset);
    kprintf("\nexception %u (%s), error code 0x%llx\n", (unsigned)f->vector, exception_name(f->vector), U(f->error));
    kprintf("rip %04llx:%016llx %s+0x%llx  rflags %08llx\n", U(f->cs), U(f->rip), name == NULL ? "?" : name, U(offset),
            U(f->rflags));
    kprintf("rsp %04llx:%016llx  rbp %016llx\n", U(f->ss), U(f->rsp), U(f->rbp));
    kprintf("rax %016llx  rbx %016llx  rcx %016llx  rdx %016llx\n", U(f->rax), U(f->rbx), U(f->rcx), U(f->rdx));
    kprintf("rsi %016llx  rdi %016llx  r8  %016llx  r9  %016llx\n", U(f->rsi), U(f->rdi), U(f->r8), U(f->r9));
    kprintf("r10 %016llx  r11 %016llx  r12 %016llx  r13 %016llx\n", U(f->r10), U(f->r11), U(f->r12), U(f->r13));
    kprintf("r14 %016llx  r15 %016llx\n", U(f->r14), U(f->r15));
    kprintf("cr0 %08llx  cr2 %016llx  cr3 %016llx  cr4 %08llx  efer %04llx\n", U(x86_cr0()), U(cr2), U(x86_cr3()),
            U(x86_cr4()), U(x86_rdmsr(MSR_EFER)));
}

/* What the address behind a page fault is, as far as anyone can tell; "" when nobody can. */
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

static NORETURN void die(const struct x86_frame *f)
{
    uint64_t cr2 = x86_cr2();
    char note[120] = "";
    static bool printed;    /* once: where the console itself faults, the panic path must be reached to mark that */
    if (!printed) {
        printed = true;
        print_registers(f, cr2);
    }
    if (f->vector == X86_VECTOR_DF) {
        /* The address whose fault could not be delivered is still in CR2. */
        explain_address(cr2, note, sizeof note);
        panic_at(f->rip, f->rsp, f->rbp, cr2, "double fault%s%s", note[0] ? ": " : "", note);
    }
    if (f->vector == X86_VECTOR_PF) {
        explain_address(cr2, note, sizeof note);
        panic_at(f->rip, f->rsp, f->rbp, cr2, "page fault: %s of %s address 0x%llx%s%s",
                 f->error & 16 ? "execution" : f->error & 2 ? "write" : "read",
                 f->error & 1 ? "protected" : "unmapped", U(cr2), note[0] ? ": " : "", note);
    }
    panic_at(f->rip, f->rsp, f->rbp, f->vector << 32 | f->error, "exception %u (%s), error code 0x%llx",
             (unsigned)f->vector, exception_name(f->vector), U(f->error));
}

/* Not inline, so that an interrupt passes through x86_trap without a frame. */
__attribute__((noinline)) void x86_exception(struct x86_frame *f)
{
    if (f->vector != X86_VECTOR_NMI && f->vector != X86_VECTOR_DF && f->vector != X86_VECTOR_MC &&
        arch_resume_at_fixup(&f->rip))
        return;
    die(f);
}

void x86_trap(struct x86_frame *f)
{
    if (f->vector < X86_EXCEPTIONS)
        x86_exception(f);
    else
        x86_interrupt(f);
}
