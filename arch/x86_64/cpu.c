/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processor: its set-up, idling, random numbers, and where the image's sections are.
 */
#include <string.h>
#include "arch/x86_64/x86.h"

/* The page attribute table, entry 0 first: write back, write combining, uncached (overridable), uncached; twice. */
#define PAT_VALUE      0x0007010600070106ull
#define RANDOM_TRIES   64        /* the vendors' advice is 10 for RDRAND; RDSEED may need more under load */

uint64_t image_phys_base;        /* set by the entry */
static char model[49];

static void read_model(void)
{
    uint32_t words[12];
    const char *start = (const char *)words;
    size_t n;
    if (x86_cpuid(0x80000000, 0).eax < 0x80000004) {
        ksnprintf(model, sizeof model, "unnamed x86_64 processor");
        return;
    }
    for (uint32_t i = 0; i < 3; i++) {
        struct x86_cpuid r = x86_cpuid(0x80000002 + i, 0);
        words[i * 4] = r.eax, words[i * 4 + 1] = r.ebx, words[i * 4 + 2] = r.ecx, words[i * 4 + 3] = r.edx;
    }
    n = strnlen(start, sizeof words);
    while (n > 0 && *start == ' ')
        start++, n--;
    while (n > 0 && start[n - 1] == ' ')
        n--;
    memcpy(model, start, n);
    model[n] = '\0';
}

const char *arch_cpu_model(void) { return model; }

/* An instruction that ends before pc is a call: direct, or through a register or memory. */
static bool follows_call(uint64_t pc)
{
    uint64_t word;
    if (!arch_read64_safe(pc - 8, &word))
        return false;
    for (unsigned length = 2; length <= 7; length++) {
        unsigned opcode = word >> (64 - 8 * length) & 0xFF, mod = word >> (72 - 8 * length) & 0xFF;
        if ((length == 5 && opcode == 0xE8) || (opcode == 0xFF && (mod >> 3 & 7) == 2))
            return true;
    }
    return false;
}

/* GCC gives functions that call nothing no frame: what called one is then the word on top of the stack. Believed when
 * the function does not begin by making a frame and a call lies before the address. */
static uint64_t frameless_caller(uint64_t ip, uint64_t sp)
{
    enum { PROLOGUE = 0xE5894855, PROLOGUE_BYTES = 4 };      /* push rbp; mov rbp, rsp */
    uint64_t pc, offset, word;
    if (!IS_ALIGNED(sp, 8ull) || !arch_read64_safe(sp, &pc) || symbol_find(ip, &offset) == NULL ||
        !arch_read64_safe(ip - offset, &word) || ((uint32_t)word == PROLOGUE && offset >= PROLOGUE_BYTES))
        return 0;
    return symbol_find(pc - 1, NULL) != NULL && follows_call(pc) ? pc : 0;
}

void arch_cpu_init(void)
{
    static const struct panic_machine machine = {arch_irq_disable, arch_backtrace, frameless_caller, arch_halt};
    struct x86_cpuid basic = x86_cpuid(1, 0), structured = x86_cpuid_checked(7, 0);
    struct x86_cpuid extended = x86_cpuid_checked(0x80000001, 0);
    uint64_t cr4 = x86_cr4();
    panic_set_machine(&machine);
    x86_tables_init();
    if (extended.edx & (1u << 20))
        x86_wrmsr(MSR_EFER, x86_rdmsr(MSR_EFER) | EFER_NXE);
    else
        panic("this processor has no no-execute bit");
    if (basic.edx & (1u << 7))     /* without it a machine check ends the machine, and nobody reads why */
        cr4 |= CR4_MCE;
    if (basic.edx & (1u << 13))
        cr4 |= CR4_PGE;
    if (structured.ebx & (1u << 7))
        cr4 |= CR4_SMEP;
    if (structured.ecx & (1u << 2))
        cr4 |= CR4_UMIP;
    x86_set_cr4(cr4);
    x86_set_cr0(x86_cr0() | CR0_WP);
    if (basic.edx & (1u << 16))
        x86_wrmsr(MSR_PAT, PAT_VALUE);
    read_model();
}

/* STI lets interrupts in only after the next instruction: none can slip in between the caller's test and HLT. */
void arch_idle(void) { __asm__ volatile("sti; hlt; cli" : : : "memory"); }

void arch_halt(void)
{
    for (;;)
        __asm__ volatile("cli; hlt" : : : "memory");
}

static bool rdseed(uint64_t *v)
{
    bool ok;
    __asm__ volatile("rdseed %0" : "=r"(*v), "=@ccc"(ok));
    return ok;
}

static bool rdrand(uint64_t *v)
{
    bool ok;
    __asm__ volatile("rdrand %0" : "=r"(*v), "=@ccc"(ok));
    return ok;
}

bool arch_random(uint64_t *value)
{
    bool has_seed = x86_cpuid_checked(7, 0).ebx & (1u << 18), has_rand = x86_cpuid(1, 0).ecx & (1u << 30);
    for (unsigned i = 0; i < RANDOM_TRIES; i++) {
        if ((has_seed && rdseed(value)) || (has_rand && rdrand(value))) {
            /* Broken firmware and suspended processors answer with all zeros or all ones, and "success". */
            if (*value != 0 && *value != UINT64_MAX)
                return true;
        } else {
            arch_cpu_relax();
        }
        if (!has_seed && !has_rand)
            return false;
    }
    return false;
}

bool arch_read64_safe(uint64_t address, uint64_t *v)
{
    uint32_t ok = 0;
    uint64_t value = 0;
    __asm__ volatile("1: movq (%2), %0\n   movl $1, %1\n2:\n" ARCH_FIXUP("1b", "2b")
                     : "+r"(value), "+r"(ok) : "r"(address) : "memory");
    *v = value;
    return ok != 0;
}

extern char boot_stack_start[], boot_stack_end[];

static void add_section(struct arch_image_section *s, const char *start, const char *end, unsigned attr)
{
    *s = (struct arch_image_section){
        .start = va_of(start), .bytes = (uint64_t)(end - start), .attr = attr | MAP_GLOBAL,
        .phys = pa(va_of(start).v - IMAGE_VIRT_BASE + image_phys_base),
    };
}

unsigned arch_image_sections(const struct arch_image_section **sections)
{
    static struct arch_image_section list[4 + X86_INTERRUPT_STACKS];
    unsigned n = 0;
    add_section(&list[n++], image_text_start, image_text_end, MAP_READ | MAP_EXEC);
    add_section(&list[n++], image_rodata_start, image_rodata_end, MAP_READ);
    add_section(&list[n++], image_data_start, image_data_end, MAP_READ | MAP_WRITE);
    add_section(&list[n++], boot_stack_start, boot_stack_end, MAP_READ | MAP_WRITE);
    for (unsigned i = 0; i < X86_INTERRUPT_STACKS; i++)
        add_section(&list[n++], x86_interrupt_stack(i), x86_interrupt_stack(i) + X86_INTERRUPT_STACK_BYTES,
                    MAP_READ | MAP_WRITE);
    *sections = list;
    return n;
}
