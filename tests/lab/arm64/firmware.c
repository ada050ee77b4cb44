/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Firmware mode: the machine the lab was started on, virtualised. The guest keeps everything at its own address, except
 * what is the lab's: its memory, the virtio-mmio places (which look empty), the pci-serial function (configuration and
 * ports), and the interrupt controller, which vgic.c shows. The machine's SPIs are the guest's but for the lab's own.
 * Its timers go on as they run. Power-off and reset come as PSCI calls, which the lab takes.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "arch/arm64/arm64.h"
#include "arch/arm64/gic.h"
#include "tests/lab/arm64/board.h"
#include "tests/lab/arm64/el2.h"
#include "tests/lab/arm64/firmware.h"
#include "tests/lab/arm64/uefi.h"
#include "tests/lab/arm64/vcpu.h"

#define TOP_BITS         44u              /* the machine's last PCI window ends at 1 TiB */
#define VIRTIO_MAGIC     0x74726976u
#define VIRTIO_VERSION   0x004
#define UART_PORTS       8u
#define UART_LSR         5u
#define LSR_IDLE         0x60u            /* nothing comes, all has gone out: for the firmware's driver, bound to it */

#define TCR2_PS_SHIFT    16
#define TCR2_TBI         (1ull << 20)
#define TCR2_SAME        0xFFFFull        /* size, cacheability and granule of the lower half stand at the same bits */
#define TCR1_EPD1        (1ull << 23)
#define TCR1_TG1_4K      (2ull << 30)
#define TCR1_IPS_SHIFT   32
#define TCR1_TBI0        (1ull << 37)
#define SCTLR2_KEPT      (SCTLR_M | SCTLR_A | SCTLR_C | SCTLR_SA | SCTLR_I | SCTLR_WXN)
#define CPACR_FP         (3ull << 20)
#define VMCR_ENG1        (1ull << 1)
#define VMCR_BPR1_SHIFT  18
#define VMCR_PMR_SHIFT   24

static struct lab_handoff handoff;
static struct arch_gic_range redistributors;

bool firmware_handoff(const struct boot_info *boot)
{
    redistributors = boot->platform.gic_redistributors[0];
    return handoff_find(boot, &handoff, sizeof(handoff));
}

void firmware_ecam(const struct boot_info *boot, uint64_t *start, uint64_t *bytes)
{
    if (!firmware_handoff(boot))
        return;
    *start = handoff.ecam;
    *bytes = handoff.ecam_bytes;
}

/* ---- memory ---- */
static void hide(uint64_t start, uint64_t bytes) { nested_unmap(start, bytes); }

void firmware_memory(void)
{
    int error = nested_map(0, 0, BIT(MIN(machine_guest_address_bits(), TOP_BITS)), MAP_READ | MAP_WRITE | MAP_EXEC);
    if (error)
        panic("second-stage tables: %s", error_name(error));
    hide(handoff.common.block_start, handoff.common.block_bytes);
    hide(BOARD_VIRTIO, BOARD_VIRTIOS * BOARD_VIRTIO_STEP);
    hide(handoff.ecam + ((uint64_t)board_serial_device() << 15), PAGE_BYTES);
    hide(BOARD_PIO + ALIGN_DOWN(board_serial_port(), PAGE_BYTES), PAGE_BYTES);
    hide(lab_gic_frames.distributor, VGIC_DISTRIBUTOR_BYTES);
    hide(BOARD_ITS, BOARD_ITS_BYTES);
    hide(redistributors.start, redistributors.bytes);
    handoff_guest_ram(&handoff.common);
}

/* The page of I/O ports in which the lab's are: the others are the guest's. */
static uint64_t port_access(uint64_t port, bool write, unsigned bytes, uint64_t value)
{
    uint64_t own = board_serial_port();
    if (port + bytes > own && port < own + UART_PORTS)
        return port == own + UART_LSR ? LSR_IDLE : 0;
    if (port % bytes || bytes > 4)
        return UINT64_MAX;              /* no bus has such */
    volatile uint8_t *at = board_ports() + port;
    if (write) {
        if (bytes == 1)
            arm64_write8(at, (uint8_t)value);
        else if (bytes == 2)
            *(volatile uint16_t *)at = (uint16_t)value;
        else
            arm64_write32(at, (uint32_t)value);
        return 0;
    }
    return bytes == 1 ? arm64_read8(at) : bytes == 2 ? *(volatile uint16_t *)at : arm64_read32(at);
}

bool firmware_access(uint64_t gpa, bool write, unsigned bytes, uint64_t *value)
{
    uint64_t offset = gpa - BOARD_VIRTIO;
    if (offset < BOARD_VIRTIOS * BOARD_VIRTIO_STEP) {
        offset %= BOARD_VIRTIO_STEP;
        *value = offset == 0 ? VIRTIO_MAGIC : offset == VIRTIO_VERSION ? 2 : 0;      /* there is a place, without a device */
        return true;
    }
    offset = gpa - BOARD_PIO;
    if (offset < BOARD_PIO_BYTES) {
        *value = port_access(offset, write, bytes, *value);
        return true;
    }
    return false;
}

/* ---- the first vcpu: where LAB.EFI captured itself ---- */

/* EL2's translation as EL1's: one half of the address space, other places for what lies above bit 15. */
static uint64_t tcr_of_el1(uint64_t tcr)
{
    return (tcr & TCR2_SAME) | (tcr >> TCR2_PS_SHIFT & 7) << TCR1_IPS_SHIFT | (tcr & TCR2_TBI ? TCR1_TBI0 : 0) |
           TCR1_EPD1 | TCR1_TG1_4K;
}

static void write_gic(struct vcpu *v, uint64_t gpa, uint64_t value)
{
    if (!vgic_access(v, gpa, true, 4, &value))
        panic("the guest's interrupt controller has no register at %#llx", (unsigned long long)gpa);
}

/* The controller is as the firmware has set it up, without what pends: it has its one timer, a level. */
static void start_gic(struct vcpu *v)
{
    const struct lab_handoff *h = &handoff;
    uint64_t sgi = lab_gic_frames.redistributors + GICR_SGI_FRAME;
    write_gic(v, lab_gic_frames.distributor + GICD_CTLR, h->gicd_ctlr);
    write_gic(v, lab_gic_frames.redistributors + GICR_WAKER, 0);
    write_gic(v, sgi + GICD_IGROUPR, h->gicr_group);
    for (unsigned i = 0; i < ARRAY_SIZE(h->gicr_priority); i++)
        write_gic(v, sgi + GICD_IPRIORITYR + 4 * i, h->gicr_priority[i]);
    write_gic(v, sgi + GICD_ISENABLER, h->gicr_enabled);
    sysreg_write_as(SYSREG_ICH_VMCR, (h->icc_pmr & 0xFF) << VMCR_PMR_SHIFT | (h->icc_bpr1 & 7) << VMCR_BPR1_SHIFT |
                                         (h->icc_igrpen1 & 1 ? VMCR_ENG1 : 0));
}

void firmware_start(struct vcpu *v)
{
    const struct lab_captured *c = &handoff.captured;
    memset(v->x, 0, sizeof(v->x));
    memcpy(&v->x[19], c->x19_x30, sizeof(c->x19_x30));
    v->x[0] = 1;                         /* lab_capture's second return */
    v->pc = c->pc;
    v->pstate = SPSR_EL1H | c->daif;
    sysreg_write(sp_el1, c->sp);
    sysreg_write(tpidr_el1, 0);
    sysreg_write_as(SYSREG_CONTEXTIDR_EL12, 0);
    sysreg_write_as(SYSREG_MAIR_EL12, c->mair);
    sysreg_write_as(SYSREG_AMAIR_EL12, 0);
    sysreg_write_as(SYSREG_TCR_EL12, tcr_of_el1(c->tcr));
    sysreg_write_as(SYSREG_TTBR0_EL12, c->ttbr0);
    sysreg_write_as(SYSREG_TTBR1_EL12, 0);
    sysreg_write_as(SYSREG_VBAR_EL12, c->vbar);
    sysreg_write_as(SYSREG_CPACR_EL12, CPACR_FP);
    sysreg_write_as(SYSREG_SCTLR_EL12, SCTLR_RES1 | (c->sctlr & SCTLR2_KEPT));
    arm64_isb();
    machine_nested_flush(0, UINT64_MAX);
    for (unsigned intid = GIC_SPI_FIRST; intid < VGIC_LINES; intid++)
        if (!lab_gic_is_own(intid))
            vgic_pass(intid);
    start_gic(v);
    v->state = VCPU_RUNNING;
}
