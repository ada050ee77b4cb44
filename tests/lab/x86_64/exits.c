/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the guest does that leaves it: CPUID, MSRs, hypercalls, ports, and addresses that are not memory.
 *
 * Policy of direct mode: the machine of OpenVMM's --kernel. COM1, the CMOS clock and port 0x80 are real; a power
 * management block at 0x400 and a port for marks (direct.h) are emulated; every other port reads all ones and ignores
 * writes (so no PIC, PIT, PCI, i8042). Reads of unbacked addresses give all ones. In firmware mode (firmware.c)
 * everything is real but the lab's own.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/balloon.h"
#include "tests/lab/x86_64/load.h"
#include "tests/lab/x86_64/firmware.h"
#include "tests/lab/glue.h"
#include "tests/lab/isolation.h"

#define VECTOR_UD 6
#define VECTOR_GP 13
#define CR4_OSXSAVE (1ull << 18)
#define EFER_GUEST  (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_FFXSR)

#define PORT_RTC        0x70
#define PORT_DELAY      0x80
#define PORT_COM1       0x3F8
#define PM_SLP_EN       (1u << 13)
#define PM_SCI_EN       1u
#define PM_TIMER_HZ     3579545ull

static paddr_t iopm, msrpm;

static void io_allow(uint8_t *map, unsigned port, unsigned count)
{
    for (; count > 0; count--, port++)
        map[port / 8] &= (uint8_t)~(1u << port % 8);
}

void io_deny(uint8_t *map, unsigned port, unsigned count)
{
    for (; count > 0; count--, port++)
        map[port / 8] |= (uint8_t)(1u << port % 8);
}

static void msr_deny(uint8_t *map, uint32_t msr)
{
    /* three ranges of 8192 MSRs, two bits each: read, write */
    uint32_t base = msr < 0x2000 ? 0 : msr < 0xC0002000 ? 0x800 : 0x1000;
    uint32_t bit = (msr & 0x1FFF) * 2;
    map[base + bit / 8] |= (uint8_t)(3u << bit % 8);
}

void io_init(void)
{
    iopm = page_alloc_zeroed(2);
    msrpm = page_alloc_zeroed(1);
    if (pa_is_none(iopm) || pa_is_none(msrpm))
        panic("no memory for the permission maps");
    uint8_t *io = arch_phys_to_virt(iopm);
    if (lab_firmware) {
        firmware_ports(io);
    } else {
        memset(io, 0xFF, 3 * PAGE_BYTES);
        io_allow(io, PORT_COM1, 8);
        io_allow(io, PORT_RTC, 2);
        io_allow(io, PORT_DELAY, 1);
    }
    uint8_t *msr = arch_phys_to_virt(msrpm);
    msr_deny(msr, MSR_EFER);
    msr_deny(msr, MSR_VM_CR);
    msr_deny(msr, MSR_VM_HSAVE);
}

paddr_t io_permission_map(void) { return iopm; }
paddr_t msr_permission_map(void) { return msrpm; }

/* ---- CPUID ---- */
void exit_cpuid(struct vcpu *v)
{
    struct svm_save *s = &v->vmcb->save;
    uint32_t leaf = (uint32_t)s->rax, sub = (uint32_t)v->gprs[GPR_RCX], r[4] = {0};
    if (leaf < 0x40000000 || leaf > 0x4FFFFFFF)
        lab_cpuid(leaf, sub, r);
    switch (leaf) {
    case 1:
        r[2] &= ~((1u << 3) | (1u << 5) | (1u << 24) | (1u << 27));    /* MONITOR, VMX, TSC deadline, OSXSAVE */
        if (s->cr4 & CR4_OSXSAVE)
            r[2] |= 1u << 27;
        break;
    case 7:
        if (sub == 0)
            r[2] &= ~(1u << 16);                                        /* LA57: the walker knows it, the EPYC not */
        break;
    case 0x80000001:
        r[2] &= ~(1u << 2);                                             /* SVM */
        break;
    case 0x8000000A:
        r[0] = r[1] = r[2] = r[3] = 0;
        break;
    }
    host_cpuid(lab_host, v->index, leaf, sub, r);
    s->rax = r[0];
    v->gprs[GPR_RBX] = r[1];
    v->gprs[GPR_RCX] = r[2];
    v->gprs[GPR_RDX] = r[3];
    vcpu_advance(v, s->rip + 2);
}

/* ---- MSRs ---- */
static bool write_efer(struct vcpu *v, uint64_t value)
{
    struct svm_save *s = &v->vmcb->save;
    if (value & ~EFER_GUEST)
        return false;
    if (((value ^ s->efer) & EFER_LME) && (s->cr0 & 1ull << 31))
        return false;               /* long mode can't be switched while paging is on */
    s->efer = (value & ~EFER_LMA) | (s->efer & EFER_LMA) | EFER_SVME;
    return true;
}

void exit_msr(struct vcpu *v)
{
    struct svm_save *s = &v->vmcb->save;
    uint32_t msr = (uint32_t)v->gprs[GPR_RCX];
    bool write = v->vmcb->control.exit_info1 & 1, good = false;
    uint64_t value = write ? (v->gprs[GPR_RDX] << 32) | (uint32_t)s->rax : 0;

    if (msr >= 0x40000000 && msr <= 0x400001FF) {
        good = write ? host_wrmsr(lab_host, v->index, msr, value) : host_rdmsr(lab_host, v->index, msr, &value);
        glue_model_called();
    } else if (msr == MSR_EFER) {
        good = !write || write_efer(v, value);
        value = s->efer & ~EFER_SVME;
    } else if (msr == MSR_VM_CR) {
        good = !write;
        value = VM_CR_SVMDIS | VM_CR_LOCK;
    }
    if (!good) {
        vcpu_inject_exception(v, VECTOR_GP, true, 0);
        return;
    }
    if (!write) {
        s->rax = (uint32_t)value;
        v->gprs[GPR_RDX] = value >> 32;
    }
    vcpu_advance(v, s->rip + 2);
}

/* ---- hypercalls ---- */
static void read_xmm(uint64_t regs[HOST_HCALL_REGS])
{
    /* The guest's vector registers are in the processor. */
    __asm__ volatile("movups %%xmm0, 0(%0); movups %%xmm1, 16(%0); movups %%xmm2, 32(%0);"
                     "movups %%xmm3, 48(%0); movups %%xmm4, 64(%0); movups %%xmm5, 80(%0)"
                     : : "r"(regs + 2) : "memory");
}

static void write_xmm(const uint64_t regs[HOST_HCALL_REGS])
{
    __asm__ volatile("movups 0(%0), %%xmm0; movups 16(%0), %%xmm1; movups 32(%0), %%xmm2;"
                     "movups 48(%0), %%xmm3; movups 64(%0), %%xmm4; movups 80(%0), %%xmm5"
                     : : "r"(regs + 2) : "memory");
}

void exit_hypercall(struct vcpu *v)
{
    struct svm_save *s = &v->vmcb->save;
    uint64_t regs[HOST_HCALL_REGS] = {0};
    if (s->cpl != 0 || !(s->cr0 & 1)) {
        vcpu_inject_exception(v, VECTOR_UD, false, 0);
        return;
    }
    bool wide = (s->efer & EFER_LMA) && (s->cs.attributes & 1u << 9);
    uint64_t control, before;
    if (wide) {
        control = v->gprs[GPR_RCX];
        regs[0] = v->gprs[GPR_RDX];
        regs[1] = v->gprs[GPR_R8];
    } else {
        control = v->gprs[GPR_RDX] << 32 | (uint32_t)s->rax;
        regs[0] = v->gprs[GPR_RBX] << 32 | (uint32_t)v->gprs[GPR_RCX];
        regs[1] = v->gprs[GPR_RDI] << 32 | (uint32_t)v->gprs[GPR_RSI];
    }
    before = control;
    bool xmm = glue_xmm_hypercalls && (control & 1u << 16);
    if (xmm)
        read_xmm(regs);
    uint64_t result = host_hypercall(lab_host, v->index, &control, regs);
    glue_model_called();
    isolation_sync(v);
    if (control != before) {
        if (wide) {
            v->gprs[GPR_RCX] = control;
        } else {
            s->rax = (uint32_t)control;
            v->gprs[GPR_RDX] = control >> 32;
        }
        return;                     /* the instruction is executed again with the new control word */
    }
    if (xmm)
        write_xmm(regs);
    if (wide) {
        s->rax = result;
        if (xmm) {
            v->gprs[GPR_RDX] = regs[0];
            v->gprs[GPR_R8] = regs[1];
        }
    } else {
        s->rax = (uint32_t)result;
        v->gprs[GPR_RDX] = result >> 32;
    }
    vcpu_advance(v, s->rip + 3);
}

/* ---- ports ---- */
static uint16_t pm_status, pm_enable, pm_control = PM_SCI_EN;

static uint32_t pm_read(unsigned port)
{
    switch (port) {
    case LAB_PORT_PM:
        return pm_status | (uint32_t)pm_enable << 16;
    case LAB_PORT_PM + 2:
        return pm_enable;
    case LAB_PORT_PM_CONTROL:
        return pm_control;
    case LAB_PORT_PM_TIMER:
        return (uint32_t)(clock_now_100ns() / 10 * PM_TIMER_HZ / 1000000);
    }
    return 0;
}

static void pm_write(unsigned port, uint32_t value)
{
    switch (port) {
    case LAB_PORT_PM:
        pm_status &= (uint16_t)~value;
        break;
    case LAB_PORT_PM + 2:
        pm_enable = (uint16_t)value;
        break;
    case LAB_PORT_PM_CONTROL:
        if (value & PM_SLP_EN)
            lab_end(LAB_END_POWER_OFF, "the guest powered off");
        pm_control = (uint16_t)value | PM_SCI_EN;
        break;
    case LAB_PORT_PM_RESET:
        if (value & 1)
            lab_end(LAB_END_REBOOT, "the guest reset the machine");
        break;
    }
}

static bool is_pm(unsigned port) { return port >= LAB_PORT_PM && port < LAB_PORT_PM_END; }

void exit_io(struct vcpu *v)
{
    struct svm_control *c = &v->vmcb->control;
    struct svm_save *s = &v->vmcb->save;
    uint32_t info = (uint32_t)c->exit_info1;
    unsigned port = info >> SVM_IOIO_PORT_SHIFT;
    unsigned bytes = info & SVM_IOIO_SIZE8 ? 1 : info & SVM_IOIO_SIZE16 ? 2 : 4;
    uint64_t mask = (1ull << 8 * bytes) - 1;
    if (info & SVM_IOIO_STRING) {
        /* at absent ports nothing moves */
    } else if (info & SVM_IOIO_IN) {
        uint32_t value = lab_firmware ? firmware_port_read(port, bytes) : is_pm(port) ? pm_read(port) : 0xFFFFFFFF;
        s->rax = bytes == 4 ? value : (s->rax & ~mask) | (value & mask);
    } else if (lab_firmware) {
        firmware_port_write(port, bytes, (uint32_t)(s->rax & mask));
    } else if (is_pm(port)) {
        pm_write(port, (uint32_t)(s->rax & mask));
    } else if (port == LAB_PORT_MARK) {
        char name[16];
        ksnprintf(name, sizeof(name), "port-%u", (unsigned)(s->rax & 0xFF));
        report_mark(name);
    }
    vcpu_advance(v, c->exit_info2);
}

/* ---- addresses that are not memory ---- */
void exit_npf(struct vcpu *v)
{
    struct svm_control *c = &v->vmcb->control;
    uint64_t gpa = c->exit_info2, info = c->exit_info1;
    struct lab_access access = {.gpa = gpa, .write = info & SVM_NPF_WRITE, .fetch = info & SVM_NPF_FETCH,
                                .walk = !(info & SVM_NPF_FINAL), .present = info & SVM_NPF_PRESENT};
    struct mmio_op op;
    if (!access.present && nested_mapped(gpa))
        return;                         /* another processor was about to replace the entry */
    if (!balloon_gone(gpa) && isolation_fault(v, &access))
        return;
    if ((info & SVM_NPF_FETCH) || !(info & SVM_NPF_FINAL) || !mmio_decode(v, &op)) {
        const char *use = info & SVM_NPF_FETCH ? "code" : info & SVM_NPF_FINAL ? "an access the lab can't decode"
                                                                               : "its page tables";
        log_err("the guest used physical address %#llx, which is not memory, for %s", (unsigned long long)gpa, use);
        vcpu_dump(v);
        lab_end(LAB_END_TRIPLE, "the guest went where nothing is");
    }
    if (balloon_gone(gpa)) {
        char text[128];
        ksnprintf(text, sizeof(text), "the guest %s physical address %#llx, which it has given to the host (rip %#llx)",
                  op.write ? "writes" : "reads", (unsigned long long)gpa, (unsigned long long)v->vmcb->save.rip);
        report_violation(text);
    } else if (gpa - APIC_BASE_GPA < PAGE_BYTES) {
        if (op.write)
            apic_guest_write(v, (uint32_t)(gpa - APIC_BASE_GPA), (uint32_t)op.value);
    } else {
        static uint64_t last_page;
        if (!lab_firmware && last_page != gpa >> PAGE_SHIFT) {
            last_page = gpa >> PAGE_SHIFT;
            log_warn("the guest %s physical address %#llx, where nothing is (rip %#llx)", op.write ? "writes" : "reads",
                     (unsigned long long)gpa, (unsigned long long)v->vmcb->save.rip);
        }
    }
    mmio_finish(v, &op, UINT64_MAX);
}
