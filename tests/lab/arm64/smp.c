/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * More than one vcpu, each on the physical processor of its number, started by the machine's own PSCI (SMC: QEMU's
 * machine offers that way below an EL2).
 *
 * All of the lab but the guest's own run time is under one lock: the model wants its calls serialised, and exits are
 * rare. A processor whose vcpu is off sleeps in WFI with interrupts masked: a kick that comes between its last look and
 * the WFI pends, and ends it.
 */
#define LOG_ROOM "lab"
#include "tests/lab/arm64/el2.h"
#include "tests/lab/arm64/smp.h"
#include "tests/lab/arm64/vcpu.h"

#define STACK_BYTES       32768u
#define START_LIMIT_100NS 10000000u    /* a second for a processor to report */
#define PSCI_CPU_ON_64    0xC4000003ull

struct vcpu *lab_aside;
static volatile uint32_t lock_word;
static volatile bool reported;

/* YIELD in the loop: with one thread for all processors QEMU then runs another one. */
void lab_lock(void)
{
    while (__atomic_exchange_n(&lock_word, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(&lock_word, __ATOMIC_RELAXED))
            arch_cpu_relax();
}

void lab_unlock(void) { __atomic_store_n(&lock_word, 0, __ATOMIC_RELEASE); }

/*
 * aside=1: rings are read and written by one processor while another one runs the guest, as on a real host. Only what
 * the guest calls for is done where it runs. Otherwise the guest never runs while the model does.
 */
void lab_poll(const struct vcpu *here)
{
    if (!lab_aside || here == lab_aside)
        glue_poll();
}

/* ---- on the starting processor ---- */
static NORETURN void ap_main(struct vcpu *v, uint64_t tcr)
{
    sysreg_write(tcr_el1, tcr);
    arm64_isb();
    __asm__ volatile("tlbi vmalle1\n dsb nsh\n isb" : : : "memory");
    arch_irq_disable();
    vcpu_cpu_init(v);
    __atomic_store_n(&reported, true, __ATOMIC_RELEASE);
    vcpu_run(v);
}

/* ---- on the first ---- */
static int64_t psci_cpu_on(uint64_t mpidr, uint64_t entry, uint64_t context)
{
    register uint64_t x0 __asm__("x0") = PSCI_CPU_ON_64;
    register uint64_t x1 __asm__("x1") = mpidr;
    register uint64_t x2 __asm__("x2") = entry;
    register uint64_t x3 __asm__("x3") = context;
    __asm__ volatile("smc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)
                     : : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
                         "memory");
    return (int64_t)x0;
}

/* The page of start.S at its physical address. */
static paddr_t make_start_tables(void)
{
    struct address_space space = {.root = page_alloc_zeroed(0), .format = arch_pt_format()};
    uint64_t page = ALIGN_DOWN(mm_virt_to_phys(lab_ap_start).v, PAGE_BYTES);
    if (pa_is_none(space.root) || map_range(&space, va(page), pa(page), PAGE_BYTES, MAP_READ | MAP_EXEC))
        return PADDR_NONE;
    return space.root;
}

static bool start_one(struct vcpu *v, unsigned index, paddr_t start_tables)
{
    static struct ap_registers r;
    uint8_t *stack = stack_alloc(STACK_BYTES);
    if (!stack)
        return false;
    v->index = index;
    r = (struct ap_registers){
        .hcr = lab_host_hcr, .mair = sysreg_read(mair_el1), .tcr = sysreg_read(tcr_el1),
        .ttbr1 = sysreg_read(ttbr1_el1), .start_tables = start_tables.v, .sctlr = sysreg_read(sctlr_el1),
        .vbar = lab_host_vbar, .stack = (uint64_t)(uintptr_t)stack + STACK_BYTES, .entry = (uint64_t)(uintptr_t)ap_main,
        .argument = (uint64_t)(uintptr_t)v,
    };
    arm64_cache_clean(&r, sizeof(r));
    reported = false;
    arch_fence_sync();
    /* QEMU's machine numbers its processors in clusters of 16. */
    int64_t error = psci_cpu_on((uint64_t)(index / 16) << 8 | index % 16, mm_virt_to_phys(lab_ap_start).v,
                                mm_virt_to_phys(&r).v);
    if (error)
        return false;
    for (uint64_t until = clock_now_100ns() + START_LIMIT_100NS; !reported && clock_now_100ns() < until;)
        arch_cpu_relax();
    return __atomic_load_n(&reported, __ATOMIC_ACQUIRE);
}

unsigned smp_start(unsigned count)
{
    unsigned n = 1;
    if (count <= 1 && !lab_options.aside)
        return 1;
    count = MIN(count, LAB_MAX_VCPUS - (lab_options.aside ? 1u : 0u));
    paddr_t start_tables = make_start_tables();
    if (pa_is_none(start_tables))
        return 1;
    for (; n < count; n++) {
        if (!start_one(&lab_vcpus[n], n, start_tables)) {
            log_warn("processor %u does not start: the guest has %u (QEMU needs -smp %u)", n, n, count);
            break;
        }
    }
    if (lab_options.aside) {
        if (start_one(&lab_vcpus[n], n, start_tables))
            lab_aside = &lab_vcpus[n];
        else
            log_warn("no processor for the model (QEMU needs -smp %u): aside=1 is ignored", n + 1);
    }
    return n;
}
