/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtual processor: what EL2 of its processor is set to, how it starts, the run loop.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/arm64/el2.h"
#include "tests/lab/arm64/vcpu.h"
#include "tests/lab/glue.h"

#define MPIDR_AFFINITY 0xFF00FFFFFFull
#define PSTATE_RESET   (SPSR_EL1H | SPSR_F | SPSR_I | SPSR_A | SPSR_D)
#define PSTATE_MODE    0xFu
#define PSTATE_EL0     0x0u
#define PSTATE_EL1T    0x4u
#define PSTATE_32      (1u << 4)   /* AArch32, which is at EL0 then */
#define PSTATE_BTYPE   (3ull << 10)
#define PSTATE_SS      (1ull << 21)
#define VECTOR_SPX     0x200u      /* offsets of the synchronous ones in EL1's table */
#define VECTOR_LOWER   0x400u
#define VECTOR_LOWER32 0x600u

struct vcpu lab_vcpus[LAB_MAX_VCPUS];
unsigned lab_vcpu_count;
uint64_t lab_host_vbar, lab_host_hcr;

/* ---- bring-up ---- */
int machine_init(const struct boot_info *boot)
{
    if (arm64_el() != 2 || !(sysreg_read(hcr_el2) & HCR_E2H)) {
        log_err("the lab needs EL2 with VHE: QEMU -machine virt,virtualization=on,gic-version=3 -cpu neoverse-n1");
        return -E_NOTSUP;
    }
    if (arm64_field(sysreg_read(id_aa64dfr0_el1), 8) == 0) {
        log_err("this processor has no cycle counter: QEMU's -cpu must not have pmu=off");
        return -E_NOTSUP;
    }
    arch_irq_disable();
    lab_host_vbar = sysreg_read(vbar_el2);
    lab_host_hcr = sysreg_read(hcr_el2);
    machine_nested_format();
    return lab_gic_init(boot);
}

int machine_vcpus(unsigned wanted)
{
    vgic_init();
    lab_vcpus[0].index = 0;
    vcpu_cpu_init(&lab_vcpus[0]);
    lab_vcpu_count = smp_start(wanted);
    return 0;
}

void machine_host_config(struct host_config *host)
{
    host->arm64 = true;
    host->apic_hz = clock_counter_hz();
}

/* What the guest may do without the lab: its vector registers, pointer authentication, counters of time. What it may
 * not: performance counters, and whatever its ID registers do not show (it is undefined then). */
void vcpu_cpu_init(struct vcpu *v)
{
    v->mpidr = sysreg_read(mpidr_el1) & MPIDR_AFFINITY;
    v->hcr = HCR_E2H | HCR_RW | HCR_VM | HCR_SWIO | HCR_FMO | HCR_IMO | HCR_AMO | HCR_BSU_IS | HCR_TID3 | HCR_TSC |
             HCR_APK | HCR_API | HCR_ENSCXT | (lab_options.measure ? HCR_TWI : 0);
    sysreg_write(vpidr_el2, sysreg_read(midr_el1));
    sysreg_write(vmpidr_el2, sysreg_read(mpidr_el1));
    sysreg_write(cptr_el2, CPTR_FPEN);
    sysreg_write(hstr_el2, 0);
    if (arm64_field(sysreg_read(id_aa64mmfr1_el1), 40))
        sysreg_write_as(SYSREG_HCRX, HCRX_MSCEN);

    uint64_t counters = sysreg_read(pmcr_el0) >> PMCR_N_SHIFT & 0x1F;
    sysreg_write(mdcr_el2, counters | MDCR_TPM | MDCR_TPMCR);
    sysreg_write(pmccfiltr_el0, 0);                    /* EL1 and EL0, not EL2 */
    sysreg_write(pmcr_el0, PMCR_E | PMCR_LC);
    sysreg_write(pmcntenset_el0, PMCNTEN_CYCLES);
    arm64_isb();
    timer_cpu_init();
    stage2_cpu_init();
    lab_gic_cpu_init(v);
    vgic_cpu_reset(v);
    watch_arm(v);
}

/* ---- contract ---- */
struct vcpu *vcpu_at(unsigned index) { return &lab_vcpus[index]; }
unsigned vcpu_index(const struct vcpu *v) { return v->index; }
bool vcpu_runs(const struct vcpu *v) { return v->state != VCPU_OFF; }
uint64_t vcpu_pc(const struct vcpu *v) { return v->pc; }
uint64_t vcpu_argument(const struct vcpu *v) { return v->x[0]; }
uint64_t vcpu_guest_instructions(const struct vcpu *v) { return v->guest_instructions; }
bool vcpu_is_here(const struct vcpu *v) { return v->mpidr == (sysreg_read(mpidr_el1) & MPIDR_AFFINITY); }

void vcpu_kick(struct vcpu *v)
{
    if (!vcpu_is_here(v))
        lab_gic_kick(v);
}

void vcpu_raise(struct vcpu *v, unsigned vector, bool auto_eoi)
{
    (void)auto_eoi;                     /* does not exist here: every interrupt is ended at the CPU interface */
    if (vector < 32)
        vgic_raise(v, vector);
    else
        log_warn("interrupt %u is not one of a processor's own: dropped", vector);
}

struct vcpu *vcpu_of_mpidr(uint64_t mpidr)
{
    for (unsigned i = 0; i < lab_vcpu_count; i++)
        if (lab_vcpus[i].mpidr == mpidr)
            return &lab_vcpus[i];
    return NULL;
}

void vcpu_dump(const struct vcpu *v)
{
    const uint64_t *x = v->x;
    struct { const char *name; uint64_t value; } el1[] = {
        {"sp_el1", sysreg_read(sp_el1)}, {"sp_el0", sysreg_read(sp_el0)},
        {"sctlr", sysreg_read_as(SYSREG_SCTLR_EL12)}, {"tcr", sysreg_read_as(SYSREG_TCR_EL12)},
        {"ttbr0", sysreg_read_as(SYSREG_TTBR0_EL12)}, {"ttbr1", sysreg_read_as(SYSREG_TTBR1_EL12)},
        {"vbar", sysreg_read_as(SYSREG_VBAR_EL12)}, {"elr", sysreg_read_as(SYSREG_ELR_EL12)},
        {"spsr", sysreg_read_as(SYSREG_SPSR_EL12)}, {"esr", sysreg_read_as(SYSREG_ESR_EL12)},
        {"far", sysreg_read_as(SYSREG_FAR_EL12)},
    };
    log_err("vcpu %u: ESR %#llx FAR %#llx HPFAR %#llx, pc %#llx pstate %#llx", v->index, (unsigned long long)v->esr,
            (unsigned long long)v->far, (unsigned long long)v->hpfar, (unsigned long long)v->pc,
            (unsigned long long)v->pstate);
    for (unsigned i = 0; i < 28; i += 4)
        log_err("  x%-2u %016llx %016llx %016llx %016llx", i, (unsigned long long)x[i], (unsigned long long)x[i + 1],
                (unsigned long long)x[i + 2], (unsigned long long)x[i + 3]);
    log_err("  x28 %016llx %016llx %016llx", (unsigned long long)x[28], (unsigned long long)x[29],
            (unsigned long long)x[30]);
    if (!vcpu_is_here(v))
        return;                         /* what follows is the processor's */
    for (unsigned i = 0; i < ARRAY_SIZE(el1); i++)
        log_err("  %-6s %016llx", el1[i].name, (unsigned long long)el1[i].value);
    uint32_t code[4];
    size_t n = guest_fetch(v, v->pc, code, sizeof(code)) / sizeof(code[0]);
    for (size_t i = 0; i < n; i++)
        log_err("  [pc+%02zx] %08x", i * 4, code[i]);
}

/* ---- the guest's next instruction ---- */

/* 32-bit programs at EL0: T32 has instructions of two bytes, and up to four that share a condition (IT), whose state is
 * in the PSTATE. Source: Arm ARM, AArch32.ITAdvance. */
static uint64_t next_condition(uint64_t pstate)
{
    unsigned it = (unsigned)(pstate >> 10 & 0x3F) << 2 | (unsigned)(pstate >> 25 & 3);
    it = (it & 7) == 0 ? 0 : (it & 0xE0) | (it << 1 & 0x1F);
    return (pstate & ~(0x3Full << 10 | 3ull << 25)) | (uint64_t)(it >> 2) << 10 | (uint64_t)(it & 3) << 25;
}

void vcpu_advance(struct vcpu *v)
{
    v->pc += v->esr & ESR_IL ? 4 : 2;
    v->pstate &= ~PSTATE_SS;                        /* who steps has made his step */
    v->pstate = v->pstate & PSTATE_32 ? next_condition(v->pstate) : v->pstate & ~PSTATE_BTYPE;
}

/* ---- exceptions for the guest ---- */
void vcpu_inject(struct vcpu *v, uint64_t esr)
{
    unsigned mode = (unsigned)v->pstate & PSTATE_MODE;
    unsigned offset = v->pstate & PSTATE_32 ? VECTOR_LOWER32 : mode == PSTATE_EL0 ? VECTOR_LOWER : mode == PSTATE_EL1T ? 0 : VECTOR_SPX;
    sysreg_write_as(SYSREG_ELR_EL12, v->pc);
    sysreg_write_as(SYSREG_SPSR_EL12, v->pstate);
    sysreg_write_as(SYSREG_ESR_EL12, esr);
    v->pc = sysreg_read_as(SYSREG_VBAR_EL12) + offset;
    v->pstate = PSTATE_RESET | (v->pstate & SPSR_PAN);
    if (!(sysreg_read_as(SYSREG_SCTLR_EL12) & SCTLR_SPAN) && arm64_field(sysreg_read(id_aa64mmfr1_el1), 20))
        v->pstate |= SPSR_PAN;
}

void vcpu_undefined(struct vcpu *v) { vcpu_inject(v, (uint64_t)ESR_EC_UNKNOWN << ESR_EC_SHIFT | ESR_IL); }

/* ---- starting ---- */
void vcpu_start(struct vcpu *v, uint64_t pc, uint64_t x0)
{
    v->start_pc = pc;
    v->start_x0 = x0;
    v->state = VCPU_STARTING;
    vcpu_kick(v);
}

static void reset(struct vcpu *v)
{
    memset(v->x, 0, sizeof(v->x));
    v->x[0] = v->start_x0;
    v->pc = v->start_pc;
    v->pstate = PSTATE_RESET;
    sysreg_write_as(SYSREG_SCTLR_EL12, SCTLR_RES1);
    sysreg_write_as(SYSREG_CPACR_EL12, 0);
    sysreg_write_as(SYSREG_TTBR0_EL12, 0);
    sysreg_write_as(SYSREG_TTBR1_EL12, 0);
    sysreg_write_as(SYSREG_TCR_EL12, 0);
    sysreg_write_as(SYSREG_MAIR_EL12, 0);
    sysreg_write_as(SYSREG_AMAIR_EL12, 0);
    sysreg_write_as(SYSREG_VBAR_EL12, 0);
    sysreg_write_as(SYSREG_CONTEXTIDR_EL12, 0);
    sysreg_write_as(SYSREG_CNTKCTL_EL12, 0);
    sysreg_write_as(SYSREG_CNTP_CTL_EL02, 0);
    sysreg_write_as(SYSREG_CNTV_CTL_EL02, 0);
    sysreg_write(tpidr_el0, 0);
    sysreg_write(tpidrro_el0, 0);
    sysreg_write(tpidr_el1, 0);
    vgic_cpu_reset(v);
    machine_nested_flush(0, UINT64_MAX);           /* translations of its life before */
    v->state = VCPU_RUNNING;
}

/* ---- the run loop ---- */
NORETURN void vcpu_run(struct vcpu *v)
{
    lab_lock();
    for (;;) {
        if (v->state == VCPU_STARTING)
            reset(v);
        lab_poll(v);
        if (v->state != VCPU_RUNNING) {
            lab_unlock();
            arm64_wfi();                /* a kick between the look and this one is pending, and ends it */
            lab_lock();
            lab_gic_take(v);
            continue;
        }
        vgic_load(v);
        lab_unlock();
        unsigned kind = lab_enter(v);
        lab_lock();
        vgic_save(v);
        lab_count(CNT_EXITS);
        v->guest_instructions += v->spent;
        exit_handle(v, kind);
    }
}
