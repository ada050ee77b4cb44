/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC, through its page (xAPIC) or, when whoever started us switched it on, through MSRs (x2APIC). The old
 * PIC is only silenced, where there is one: Generation 2 machines have none and read 0xFF from its ports.
 *
 * Source: AMD64 APM volume 2, chapter 16; Intel SDM volume 3, chapter "APIC".
 */
#define LOG_ROOM "apic"
#include "arch/x86_64/x86.h"

#define APIC_ID       0x020
#define APIC_TPR      0x080
#define APIC_EOI      0x0B0
#define APIC_SPURIOUS 0x0F0
#define APIC_ISR      0x100      /* eight words */
#define APIC_LVT_TIMER 0x320
#define APIC_LVT_LINT0 0x350
#define APIC_LVT_LINT1 0x360
#define APIC_LVT_ERROR 0x370
#define LVT_MASKED    (1u << 16)
#define LVT_NMI       (4u << 8)
#define SPURIOUS_ENABLE (1u << 8)
#define APIC_PAGE_MASK 0x000FFFFFFFFFF000ull

static volatile uint32_t *page;  /* NULL: x2APIC or not ready */
static bool x2apic;

bool x86_apic_ready(void) { return page != NULL || x2apic; }

uint32_t x86_apic_read(unsigned reg)
{
    return x2apic ? (uint32_t)x86_rdmsr(MSR_X2APIC + reg / 16) : page[reg / 4];
}

void x86_apic_write(unsigned reg, uint32_t v)
{
    if (x2apic)
        x86_wrmsr(MSR_X2APIC + reg / 16, v);
    else
        page[reg / 4] = v;
}

void x86_apic_eoi(void)
{
    if (x86_apic_ready())
        x86_apic_write(APIC_EOI, 0);
}

/* Two 8259s: moved away from the exceptions' vectors and masked. */
static void silence_pic(void)
{
    enum { PIC1 = 0x20, PIC2 = 0xA0, DATA = 1, ICW1_INIT_ICW4 = 0x11, ICW4_8086 = 0x01, PROBE = 0xFE };
    x86_out8(PIC1 + DATA, PROBE);
    if (x86_in8(PIC1 + DATA) != PROBE)
        return;
    x86_out8(PIC1, ICW1_INIT_ICW4);
    x86_out8(PIC2, ICW1_INIT_ICW4);
    x86_out8(PIC1 + DATA, 0x20);
    x86_out8(PIC2 + DATA, 0x28);
    x86_out8(PIC1 + DATA, 1 << 2);
    x86_out8(PIC2 + DATA, 2);
    x86_out8(PIC1 + DATA, ICW4_8086);
    x86_out8(PIC2 + DATA, ICW4_8086);
    x86_out8(PIC1 + DATA, 0xFF);
    x86_out8(PIC2 + DATA, 0xFF);
}

/* What firmware left in service would block lower vectors for ever. */
static void drain_in_service(void)
{
    for (unsigned n = 0; n < X86_VECTORS; n++) {
        uint32_t any = 0;
        for (unsigned i = 0; i < 8; i++)
            any |= x86_apic_read(APIC_ISR + i * 16);
        if (any == 0)
            return;
        x86_apic_write(APIC_EOI, 0);
    }
    log_warn("interrupts stay in service after %u acknowledgements", X86_VECTORS);
}

int arch_irq_init(void)
{
    uint64_t base;
    if (x86_apic_ready())
        return 0;
    silence_pic();
    if (!(x86_cpuid(1, 0).edx & (1u << 9)) || !x86_rdmsr_safe(MSR_APIC_BASE, &base)) {
        log_err("this processor has no local APIC");
        return -E_NOTSUP;
    }
    if (!(base & APIC_BASE_ENABLE) && !x86_wrmsr_safe(MSR_APIC_BASE, base | APIC_BASE_ENABLE)) {
        log_err("the local APIC is switched off for good");
        return -E_NOTSUP;
    }
    if (base & APIC_BASE_X2APIC) {
        x2apic = true;
    } else {
        page = x86_map_device(pa(base & APIC_PAGE_MASK), PAGE_BYTES);
        if (page == NULL)
            return -E_NOMEM;
    }
    x86_apic_write(APIC_SPURIOUS, SPURIOUS_ENABLE | 0xFF);
    x86_apic_write(APIC_LVT_TIMER, LVT_MASKED);
    x86_apic_write(APIC_LVT_LINT0, LVT_MASKED);
    x86_apic_write(APIC_LVT_LINT1, LVT_NMI);
    x86_apic_write(APIC_LVT_ERROR, LVT_MASKED);
    x86_apic_write(APIC_TPR, 0);
    drain_in_service();
    log_debug("local APIC %u by %s", x2apic ? x86_apic_read(APIC_ID) : x86_apic_read(APIC_ID) >> 24,
              x2apic ? "MSRs" : "memory");
    return 0;
}
