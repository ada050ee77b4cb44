/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest may try with the processor: calls to the emulator, every answer of PSCI, processors that do not exist,
 * 32-bit programs, extensions that no ID register shows.
 *
 * call_psci and stop_last want a machine of one processor.
 */
#define LOG_ROOM "badguest"
#include <string.h>
#include "arch/arm64/arm64.h"
#include "arch/arm64/gic.h"
#include "arch/arm64/smccc.h"
#include "rt/candela.h"
#include "tests/lab/arm64/badguest/processor.h"
#include "tests/lab/badguest/badguest.h"

#define SEMIHOSTING_EXIT  0x20           /* SYS_EXIT_EXTENDED */
#define STOPPED_BY_EXIT   0x20026        /* ADP_Stopped_ApplicationExit */
#define CONSOLE           0x09000000ull
#define DISTRIBUTOR       0x08000000ull
#define FORGED_END        33             /* what the lab says when the guest powered off */

#define NOT_SUPPORTED     (-1)
#define INVALID_PARAMETERS (-2)
#define ALREADY_ON        (-4)
#define INVALID_ADDRESS   (-9)

/* True: the instruction did something. */
#define EXECUTES(instruction)                                                                             \
    ({                                                                                                    \
        uint64_t ok_ = 0;                                                                                 \
        __asm__ volatile("1: " instruction "\n mov %0, #1\n2:\n" ARCH_FIXUP("1b", "2b")                   \
                         : "+&r"(ok_) : : "x0", "memory");                                                \
        ok_ != 0;                                                                                         \
    })

/* True: the load took place. */
#define LOADS(instruction, from)                                                                          \
    ({                                                                                                    \
        uint64_t ok_ = 0;                                                                                 \
        __asm__ volatile("1: " instruction "\n mov %0, #1\n2:\n" ARCH_FIXUP("1b", "2b")                   \
                         : "+&r"(ok_) : "r"(from) : "x0", "x1", "memory");                                \
        ok_ != 0;                                                                                         \
    })

/* The emulator's own calls: an end of its choice, or the user's files, for a guest that is let. */
void call_emulator(void)
{
    uint64_t parameters[2] = {STOPPED_BY_EXIT, FORGED_END}, ok = 0;
    register uint64_t x0 __asm__("x0") = SEMIHOSTING_EXIT;
    register const uint64_t *x1 __asm__("x1") = parameters;
    __asm__ volatile("1: hlt #0xf000\n mov %[ok], #1\n2:\n" ARCH_FIXUP("1b", "2b")
                     : "+r"(x0), [ok] "+&r"(ok) : "r"(x1) : "memory");
    kprintf("badguest: the emulator %s\n", ok ? "answers" : "is not to be called");
}

/* ---- PSCI ---- */

static int64_t psci(uint64_t function, uint64_t a1, uint64_t a2, uint64_t a3)
{
    struct arm64_call call = {{function, a1, a2, a3}};
    return arm64_hvc(&call) ? (int64_t)call.x[0] : 1;
}

static unsigned differs(const char *what, int64_t is, int64_t should)
{
    if (is != should)
        kprintf("badguest: %s: %lld\n", what, (long long)is);
    return is != should;
}

void call_psci(void)
{
    uint64_t self = sysreg_read(mpidr_el1) & 0xFF00FFFFFFull, code = machine_ram_start + (2 << 20);
    unsigned bad = 0;
    bad += differs("on, itself", psci(PSCI_CPU_ON | PSCI_64BIT, self, code, 0), ALREADY_ON);
    bad += differs("on, nobody", psci(PSCI_CPU_ON | PSCI_64BIT, self + 1, code, 0), INVALID_PARAMETERS);
    bad += differs("on, no affinity", psci(PSCI_CPU_ON | PSCI_64BIT, self | 1ull << 31, code, 0), INVALID_PARAMETERS);
    bad += differs("on, by 32 bits", psci(PSCI_CPU_ON, self | 1ull << 32, code, 0), ALREADY_ON);
    bad += differs("on, outside", psci(PSCI_CPU_ON | PSCI_64BIT, self, ram_end(), 0), INVALID_ADDRESS);
    bad += differs("on, odd", psci(PSCI_CPU_ON | PSCI_64BIT, self, code + 2, 0), INVALID_ADDRESS);
    bad += differs("affinity, itself", psci(PSCI_AFFINITY_INFO | PSCI_64BIT, self, 0, 0), 0);
    bad += differs("affinity, nobody", psci(PSCI_AFFINITY_INFO | PSCI_64BIT, self + 1, 0, 0), INVALID_PARAMETERS);
    bad += differs("affinity, cluster", psci(PSCI_AFFINITY_INFO | PSCI_64BIT, self, 1, 0), INVALID_PARAMETERS);
    bad += differs("features, on", psci(PSCI_FEATURES, PSCI_CPU_ON | PSCI_64BIT, 0, 0), 0);
    bad += differs("features, off by 64 bits", psci(PSCI_FEATURES, PSCI_CPU_OFF | PSCI_64BIT, 0, 0), NOT_SUPPORTED);
    bad += differs("an unknown function", psci(0x8400FFFF, 0, 0, 0), NOT_SUPPORTED);
    bad += differs("an unknown owner", psci(0xC5000001, 0, 0, 0), NOT_SUPPORTED);
    kprintf("badguest: %u answers of PSCI are wrong\n", bad);
}

/* There is nobody left to switch it on again. */
void stop_last(void)
{
    kprintf("badguest: switches its processor off\n");
    psci(PSCI_CPU_OFF, 0, 0, 0);
    kprintf("badguest: is still there\n");
}

/* ---- 32-bit programs ---- */

#define BLOCK_USER  0xFC1ull             /* block, MAIR_NORMAL, read-only, for EL0 too, shareable, accessed, not global */
#define SPSR_THUMB  0x30u                /* user, T32 */

/*
 * Thumb instructions at EL0, of two bytes each; the first block of a load from where nothing is. The call at the end is
 * one that the kernel does not have: its report shows the registers.
 */
void run_thumb(void)
{
    static const uint16_t program[] = {
        0x6808,                          /* ldr r0, [r1] */
        0x3201,                          /* adds r2, #1 */
        0x4282,                          /* cmp r2, r0: differ */
        0xBF14,                          /* ite ne */
        0x680B,                          /* ldrne r3, [r1] */
        0x3201,                          /* addeq r2, #1 */
        0x3202,                          /* adds r2, #2: outside of the block */
        0xDF00,                          /* svc #0 */
    };
    paddr_t l0 = page_alloc_zeroed(0), l1 = page_alloc_zeroed(0), code = page_alloc_zeroed(0);
    if (pa_is_none(l0) || pa_is_none(l1) || pa_is_none(code))
        panic("no memory");
    memcpy(arch_phys_to_virt(code), program, sizeof(program));
    arm64_code_written(arch_phys_to_virt(code), sizeof(program));
    ((uint64_t *)arch_phys_to_virt(l0))[0] = l1.v | 3;
    for (unsigned gib = 1; gib <= 2; gib++)
        ((uint64_t *)arch_phys_to_virt(l1))[gib] = (uint64_t)gib << 30 | BLOCK_USER;
    arch_irq_disable();
    sysreg_write(ttbr0_el1, l0.v);
    sysreg_write(tcr_el1, sysreg_read(tcr_el1) & ~(uint64_t)TCR_EPD0);
    __asm__ volatile("dsb sy\n isb\n tlbi vmalle1\n dsb sy\n isb" : : : "memory");
    sysreg_write(elr_el1, code.v);
    sysreg_write(spsr_el1, SPSR_THUMB);
    register uint64_t x0 __asm__("x0") = 0;
    register uint64_t x1 __asm__("x1") = ram_end();
    register uint64_t x2 __asm__("x2") = 0x40;
    register uint64_t x3 __asm__("x3") = 0;
    __asm__ volatile("eret" : : "r"(x0), "r"(x1), "r"(x2), "r"(x3) : "memory");
}

/* ---- devices, as if they were memory ---- */

/* In the guest's tables the console is ordinary memory, in the lab's it is a device: words across its registers, and a
 * pair of them; then words across those that the lab emulates. */
void miss_devices(void)
{
    volatile uint8_t *uart = mm_map_phys(pa(CONSOLE), PAGE_BYTES, MAP_READ | MAP_WRITE);
    volatile uint8_t *gic = mm_map_phys(pa(DISTRIBUTOR), PAGE_BYTES, MAP_READ | MAP_WRITE);
    unsigned faults = 0;
    if (!uart || !gic)
        panic("no memory");
    for (unsigned i = 1; i < 8; i++) {
        faults += !LOADS("ldr x0, [%1]", uart + i);
        faults += !LOADS("ldr w0, [%1]", gic + i);
        faults += !LOADS("ldrh w0, [%1]", gic + GICD_ISENABLER + i);
    }
    faults += !LOADS("ldp x0, x1, [%1]", uart);
    kprintf("badguest: goes on after %s\n", faults == 0 ? "no fault" : "faults of its own");
}

/* ---- debug registers ---- */
#define WCR_EL2_ALONE  (1u | 3u << 3 | 0xFFu << 5 | 1u << 13 | 3u << 14 | 31u << 24)   /* loads and stores, in 2 GiB */
#define MDSCR_KDE_MDE  (1ull << 13 | 1ull << 15)

/* The lab is linked where the guest is: a watchpoint on all that it touches, if it let itself be watched. */
void watch_lab(void)
{
    sysreg_write(oslar_el1, 0);
    sysreg_write(dbgwvr0_el1, EARLY_DEVICE_BASE);
    sysreg_write(dbgwcr0_el1, WCR_EL2_ALONE);
    sysreg_write(mdscr_el1, MDSCR_KDE_MDE);
    arm64_isb();
    bool set = sysreg_read(dbgwcr0_el1) == WCR_EL2_ALONE;
    for (unsigned i = 0; i < 100; i++)
        psci(PSCI_VERSION, 0, 0, 0);
    kprintf("badguest: %s the lab\n", set ? "watches" : "can't watch");
}

/* ---- what the ID registers do not show: undefined, on processors that have it, too ---- */
#define CPACR_ALL   (3ull << 24 | 3ull << 20 | 3ull << 16)      /* SME, vectors, SVE: no traps */

void stream(void)
{
    unsigned bad = 0;
    bad += arm64_field(sysreg_read(id_aa64pfr0_el1), 32) != 0;                       /* SVE */
    bad += arm64_field(sysreg_read(id_aa64pfr1_el1), 24) != 0;                       /* SME */
    bad += arm64_field(sysreg_read(id_aa64pfr1_el1), 8) != 0;                        /* MTE */
    uint64_t kept = sysreg_read(cpacr_el1);
    sysreg_write(cpacr_el1, CPACR_ALL);                                              /* as far as it is the guest's */
    arm64_isb();
    bad += EXECUTES(".inst 0xd503477f");                                             /* smstart */
    bad += EXECUTES(".inst 0x04bf5020");                                             /* rdvl x0, #1 */
    bad += EXECUTES("mrs x0, s3_0_c1_c2_0");                                         /* ZCR_EL1 */
    bad += EXECUTES("mrs x0, s3_0_c1_c0_6");                                         /* GCR_EL1 */
    sysreg_write(cpacr_el1, kept);
    kprintf("badguest: %u extensions more than its registers show\n", bad);
}
