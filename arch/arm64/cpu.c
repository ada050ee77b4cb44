/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processor: its set-up, random numbers, caches, and where the image's sections are.
 */
#include <string.h>
#include "arch/arm64/arm64.h"

#define RANDOM_TRIES   64
#define FUNCTION_MAX   4096          /* of a function that is looked through for the start of a frame */

uint64_t image_phys_base, arm64_boot_mapped_end;     /* all set by the entry */
unsigned arm64_entry_el;
static char model[64];

static void read_model(void)
{
    static const struct { uint8_t implementer; uint16_t part; const char *name; } parts[] = {
        {0x41, 0xD03, "Cortex-A53"}, {0x41, 0xD05, "Cortex-A55"}, {0x41, 0xD07, "Cortex-A57"},
        {0x41, 0xD08, "Cortex-A72"}, {0x41, 0xD09, "Cortex-A73"}, {0x41, 0xD0B, "Cortex-A76"},
        {0x41, 0xD0C, "Neoverse N1"}, {0x41, 0xD40, "Neoverse V1"}, {0x41, 0xD49, "Neoverse N2"},
        {0x41, 0xD4F, "Neoverse V2"}, {0x41, 0xD84, "Neoverse V3"}, {0x41, 0xD8E, "Neoverse N3"},
        {0x6D, 0xD49, "Azure Cobalt 100"}, {0xC0, 0xAC3, "Ampere-1"}, {0xC0, 0xAC4, "Ampere-1A"},
        {0x00, 0x051, "QEMU's largest"},
    };
    uint64_t midr = sysreg_read(midr_el1);
    unsigned implementer = midr >> 24 & 0xFF, part = midr >> 4 & 0xFFF, variant = midr >> 20 & 15, revision = midr & 15;
    const char *name = NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(parts) && name == NULL; i++)
        if (parts[i].implementer == implementer && parts[i].part == part)
            name = parts[i].name;
    if (name != NULL)
        ksnprintf(model, sizeof model, "%s r%up%u, EL%u", name, variant, revision, arm64_el());
    else
        ksnprintf(model, sizeof model, "processor 0x%02x/0x%03x r%up%u, EL%u", implementer, part, variant, revision,
                  arm64_el());
}

const char *arch_cpu_model(void) { return model; }

/* ---- where a function without a frame returns to ---- */

static uint64_t fault_pc, fault_return;

/* The link register of an exception that ends in a panic; frameless_caller may need it. */
void arm64_fault_caller(uint64_t pc, uint64_t return_address)
{
    fault_pc = pc;
    fault_return = return_address;
}

/* GCC gives functions that call nothing no frame: what called one is in the link register as long as no instruction
 * before stores it. That instruction is STP x29, x30 onto the stack, with any offset. */
static uint64_t frameless_caller(uint64_t ip, uint64_t sp)
{
    enum { STP_MASK = 0xFE407FFF, STP_FRAME = 0xA8007BFD };
    uint64_t offset, word;
    (void)sp;
    if (ip != fault_pc)
        return 0;
    if (symbol_find(ip, &offset) == NULL)        /* a jump into nowhere: who jumped is still known */
        return symbol_find(fault_return - 1, NULL) != NULL ? fault_return : 0;
    if (offset > FUNCTION_MAX)
        return 0;
    for (uint64_t at = ip - offset; at < ip; at += 4) {
        if (!arch_read64_safe(at & ~7ull, &word))
            return 0;
        if ((((uint32_t)(at & 4 ? word >> 32 : word)) & STP_MASK) == STP_FRAME)
            return 0;
    }
    return symbol_find(fault_return - 1, NULL) != NULL ? fault_return : 0;
}

void arm64_cpu_early(void)
{
    static const struct panic_machine machine = {arch_irq_disable, arch_backtrace, frameless_caller, arch_halt};
    panic_set_machine(&machine);
    arm64_vectors_init();
}

void arch_cpu_init(void)
{
    arm64_cpu_early();
    __asm__ volatile("msr daifclr, #4" : : : "memory");     /* SErrors: an error that is left out is one that hides */
    if (arm64_field(sysreg_read(id_aa64mmfr1_el1), 20) != 0)
        sysreg_write_as(SYSREG_PAN, SPSR_PAN);      /* nothing of ours is EL0's; should that change, by mistake */
    read_model();
}

void arch_halt(void)
{
    for (;;) {
        __asm__ volatile("msr daifset, #7" : : : "memory");
        arm64_wfi();
    }
}

bool arch_random(uint64_t *value)
{
    if (arm64_field(sysreg_read(id_aa64isar0_el1), 60) == 0)
        return false;
    for (unsigned i = 0; i < RANDOM_TRIES; i++) {
        bool ok;
        __asm__ volatile("mrs %0, s3_3_c2_c4_0" : "=r"(*value), "=@ccne"(ok));      /* RNDR; Z: it ran dry */
        if (ok && *value != 0 && *value != UINT64_MAX)
            return true;
        arch_cpu_relax();
    }
    return false;
}

bool arch_read64_safe(uint64_t address, uint64_t *v)
{
    uint64_t value = 0, ok = 0;
    __asm__ volatile("1: ldr %0, [%2]\n   mov %1, #1\n2:\n" ARCH_FIXUP("1b", "2b")
                     : "+&r"(value), "+&r"(ok) : "r"(address) : "memory");
    *v = value;
    return ok != 0;
}

/* ---- caches ---- */

static uint64_t line_bytes(unsigned shift) { return 4ull << (sysreg_read(ctr_el0) >> shift & 15); }

void arm64_cache_clean(const void *start, uint64_t bytes)
{
    uint64_t line = line_bytes(16), end = va_of(start).v + bytes;
    for (uint64_t at = ALIGN_DOWN(va_of(start).v, line); at < end; at += line)
        __asm__ volatile("dc cvac, %0" : : "r"(at) : "memory");
    arch_fence_sync();
}

void arm64_code_written(const void *start, uint64_t bytes)
{
    uint64_t line = line_bytes(16), end = va_of(start).v + bytes;
    for (uint64_t at = ALIGN_DOWN(va_of(start).v, line); at < end; at += line)
        __asm__ volatile("dc cvau, %0" : : "r"(at) : "memory");
    arm64_dsb_ish();
    __asm__ volatile("ic ialluis\n dsb ish\n isb" : : : "memory");
}

/* ---- the image ---- */

extern char boot_stack_start[], boot_stack_end[], emergency_stack_start[], emergency_stack_end[];

static void add_section(struct arch_image_section *s, const char *start, const char *end, unsigned attr)
{
    *s = (struct arch_image_section){
        .start = va_of(start), .bytes = (uint64_t)(end - start), .attr = attr | MAP_GLOBAL,
        .phys = pa(va_of(start).v - IMAGE_VIRT_BASE + image_phys_base),
    };
}

unsigned arch_image_sections(const struct arch_image_section **sections)
{
    static struct arch_image_section list[6];
    unsigned n = 0;
    add_section(&list[n++], image_text_start, image_text_end, MAP_READ | MAP_EXEC);
    add_section(&list[n++], image_rodata_start, image_rodata_end, MAP_READ);
    add_section(&list[n++], image_data_start, image_data_end, MAP_READ | MAP_WRITE);
    add_section(&list[n++], boot_stack_start, boot_stack_end, MAP_READ | MAP_WRITE);
    add_section(&list[n++], emergency_stack_start, emergency_stack_end, MAP_READ | MAP_WRITE);
    if (arm64_console_section(&list[n]))
        n++;
    *sections = list;
    return n;
}
