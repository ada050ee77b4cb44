/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads the guest in direct mode: a flat image with Linux's header, entered as Linux's documentation of
 * arch/arm64/booting wants it (x0 = device tree, MMU off, EL1), and the device tree of the machine that the guest sees:
 * memory, processors with PSCI by HVC, timer, GICv3, a PL011, and VMBus with Hyper-V's interrupt.
 *
 *   qemu-system-aarch64 -kernel lab.bin -initrd guest.bin -append "options -- guest words"
 *
 * The device tree lies at the start of RAM, ACPI's tables (acpi=1) and the image behind it, an initrd at the end.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "arch/arm64/arm64.h"
#include "boot/arm64/image_header.h"
#include "tests/lab/arm64/acpi.h"
#include "tests/lab/arm64/board.h"
#include "tests/lab/arm64/tree.h"
#include "tests/lab/arm64/vcpu.h"
#include "tests/lab/direct.h"

#define TREE_BYTES     (64u << 10)
#define IMAGE_ALIGN    (2ull << 20)
#define HEADER_BIG_ENDIAN 1u
#define HEADER_PAGES(flags) ((flags) >> 1 & 3)
#define PAGES_4K       1u
#define GIC_PHANDLE    1u
#define CLOCK_PHANDLE  2u
#define UART_HZ        24000000u

enum { SPI, PPI };
enum { EDGE_RISING = 1, LEVEL_HIGH = 4 };
#define FIRST_PPI 16u
#define FIRST_SPI 32u

/* ---- the device tree ---- */
static void tree_interrupt(struct tree *t, unsigned intid, unsigned flags)
{
    uint32_t cells[] = {intid < FIRST_SPI ? PPI : SPI, intid - (intid < FIRST_SPI ? FIRST_PPI : FIRST_SPI), flags};
    tree_cells(t, "interrupts", cells, ARRAY_SIZE(cells));
}

/* The seed is the one QEMU gave the lab, which has no use for it. */
static void describe_chosen(struct tree *t, const struct boot_info *boot, uint64_t initrd, uint32_t initrd_bytes)
{
    tree_begin(t, "chosen");
    if (lab_options.acpi)
        acpi_hand_over(t, machine_layout.ram + TREE_BYTES);
    tree_text(t, "bootargs", lab_options.guest_cmdline);
    tree_text(t, "stdout-path", "/pl011@9000000");
    if (boot->random_seed_bytes)
        tree_bytes(t, "rng-seed", boot->random_seed, boot->random_seed_bytes);
    if (initrd_bytes) {
        uint64_t end = initrd + initrd_bytes;
        tree_wide(t, "linux,initrd-start", &initrd, 1);
        tree_wide(t, "linux,initrd-end", &end, 1);
    }
    tree_end(t);
}

static void describe_memory(struct tree *t)
{
    const struct direct_range *high;
    unsigned count = direct_high_ranges(&high);
    char name[32];
    uint64_t reg[2] = {machine_layout.ram, direct_low_bytes()};
    for (unsigned i = 0; i <= count; i++) {
        if (i > 0) {
            reg[0] = high[i - 1].start;
            reg[1] = high[i - 1].bytes;
        }
        ksnprintf(name, sizeof(name), "memory@%llx", (unsigned long long)reg[0]);
        tree_begin(t, name);
        tree_text(t, "device_type", "memory");
        tree_wide(t, "reg", reg, 2);
        tree_end(t);
    }
    if (!lab_options.acpi)
        return;
    reg[0] = machine_layout.ram + TREE_BYTES;
    reg[1] = LAB_ACPI_BYTES;
    ksnprintf(name, sizeof(name), "acpi@%llx", (unsigned long long)reg[0]);
    tree_begin(t, "reserved-memory");
    tree_cell(t, "#address-cells", 2);
    tree_cell(t, "#size-cells", 2);
    tree_flag(t, "ranges");
    tree_begin(t, name);
    tree_wide(t, "reg", reg, 2);
    tree_end(t);
    tree_end(t);
}

static void describe_processors(struct tree *t)
{
    char name[32];
    tree_begin(t, "psci");
    tree_text(t, "compatible", "arm,psci-1.0");
    tree_text(t, "method", "hvc");
    tree_end(t);
    tree_begin(t, "cpus");
    tree_cell(t, "#address-cells", 1);
    tree_cell(t, "#size-cells", 0);
    for (unsigned i = 0; i < lab_vcpu_count; i++) {
        uint32_t id = (uint32_t)lab_vcpus[i].mpidr & 0xFFFFFF;
        ksnprintf(name, sizeof(name), "cpu@%x", id);
        tree_begin(t, name);
        tree_text(t, "device_type", "cpu");
        tree_text(t, "compatible", "arm,armv8");
        tree_text(t, "enable-method", "psci");
        tree_cell(t, "reg", id);
        tree_end(t);
    }
    tree_end(t);
    static const uint32_t timers[] = {PPI, 13, LEVEL_HIGH, PPI, 14, LEVEL_HIGH, PPI, 11, LEVEL_HIGH, PPI, 10, LEVEL_HIGH};
    tree_begin(t, "timer");
    tree_text(t, "compatible", "arm,armv8-timer");
    tree_cells(t, "interrupts", timers, ARRAY_SIZE(timers));
    tree_flag(t, "always-on");
    tree_end(t);
}

static void describe_devices(struct tree *t)
{
    char name[40];
    static const uint32_t clocks[] = {CLOCK_PHANDLE, CLOCK_PHANDLE};
    static const char clock_names[] = "uartclk\0apb_pclk";
    uint64_t gic[] = {lab_gic_frames.distributor, 0x10000, lab_gic_frames.redistributors, lab_vcpu_count * 0x20000ull};
    uint64_t uart[] = {BOARD_UART, PAGE_BYTES};
    ksnprintf(name, sizeof(name), "intc@%llx", (unsigned long long)gic[0]);
    tree_begin(t, name);
    tree_text(t, "compatible", "arm,gic-v3");
    tree_cell(t, "#interrupt-cells", 3);
    tree_flag(t, "interrupt-controller");
    tree_cell(t, "#redistributor-regions", 1);
    tree_wide(t, "reg", gic, ARRAY_SIZE(gic));
    tree_cell(t, "phandle", GIC_PHANDLE);
    tree_end(t);

    tree_begin(t, "apb-pclk");
    tree_text(t, "compatible", "fixed-clock");
    tree_cell(t, "#clock-cells", 0);
    tree_cell(t, "clock-frequency", UART_HZ);
    tree_cell(t, "phandle", CLOCK_PHANDLE);
    tree_end(t);
    tree_begin(t, "pl011@9000000");
    tree_bytes(t, "compatible", "arm,pl011\0arm,primecell", sizeof("arm,pl011\0arm,primecell"));
    tree_wide(t, "reg", uart, ARRAY_SIZE(uart));
    tree_interrupt(t, BOARD_UART_IRQ, LEVEL_HIGH);
    tree_cells(t, "clocks", clocks, ARRAY_SIZE(clocks));
    tree_bytes(t, "clock-names", clock_names, sizeof(clock_names));
    tree_end(t);

    tree_begin(t, "vmbus");
    tree_text(t, "compatible", "microsoft,vmbus");
    tree_cell(t, "#address-cells", 2);
    tree_cell(t, "#size-cells", 2);
    tree_flag(t, "ranges");
    tree_flag(t, "dma-coherent");
    tree_interrupt(t, BOARD_VMBUS_IRQ, EDGE_RISING);
    tree_end(t);
}

static void build_tree(uint64_t gpa, const struct boot_info *boot, uint64_t initrd, uint32_t initrd_bytes)
{
    static struct tree t;
    tree_start(&t, direct_must_have(gpa, TREE_BYTES, "device tree"), TREE_BYTES);
    tree_begin(&t, "");
    tree_text(&t, "compatible", "candela,lab");
    tree_text(&t, "model", "Candela lab");
    tree_cell(&t, "#address-cells", 2);
    tree_cell(&t, "#size-cells", 2);
    tree_cell(&t, "interrupt-parent", GIC_PHANDLE);
    describe_chosen(&t, boot, initrd, initrd_bytes);
    describe_memory(&t);
    describe_processors(&t);
    describe_devices(&t);
    tree_end(&t);
    tree_finish(&t, (uint32_t)lab_vcpus[0].mpidr & 0xFFFFFF);
}

/* ---- the image ---- */

/* The guest begins with its caches off: what was written here must be in memory itself. */
static void clean_to_memory(uint64_t gpa, uint64_t bytes)
{
    uintptr_t at = (uintptr_t)guest_ptr(gpa, bytes), end = at + bytes;
    uintptr_t line = 4u << (sysreg_read(ctr_el0) >> 16 & 15);
    for (at = ALIGN_DOWN(at, line); at < end; at += line)
        __asm__ volatile("dc cvac, %0" : : "r"(at) : "memory");
    __asm__ volatile("dsb sy; ic ialluis; dsb sy; isb" : : : "memory");
}

/* QEMU has put the image into what is the guest's memory. */
static bool would_overlap(const struct boot_module *m, uint64_t gpa, uint64_t bytes)
{
    uint64_t hpa = gpa + LAB_DIRECT_BYTES;
    return hpa < m->start.v + m->bytes && m->start.v < hpa + bytes;
}

void direct_load(const struct boot_info *boot)
{
    const struct boot_module *m = direct_module(boot);
    struct linux_header *h = (void *)direct_head(m);
    uint64_t ram = machine_layout.ram, initrd = 0;
    if (h->magic != LINUX_HEADER_MAGIC || m->bytes < sizeof(*h))
        lab_end(LAB_END_FAULT, "the guest's image is no flat arm64 image with Linux's header");
    uint64_t text_offset = h->image_size ? h->text_offset : 0x80000;
    uint64_t memory = MAX(h->image_size, m->bytes), most = direct_low_bytes();
    if ((h->flags & HEADER_BIG_ENDIAN) || (HEADER_PAGES(h->flags) != PAGES_4K && HEADER_PAGES(h->flags) != 0))
        lab_end(LAB_END_FAULT, "the guest's image is of big endian byte order, or wants other pages than 4 KiB");
    if (text_offset % PAGE_BYTES)
        lab_end(LAB_END_FAULT, "the guest's image wants to lie in the middle of a page");
    if (text_offset > most || most - text_offset < IMAGE_ALIGN || memory > most - text_offset - IMAGE_ALIGN)
        lab_end(LAB_END_FAULT, "the guest's image does not fit its memory");
    uint64_t entry = ram + IMAGE_ALIGN + text_offset;
    while (would_overlap(m, entry, memory) && memory + IMAGE_ALIGN <= ram + most - entry)
        entry += IMAGE_ALIGN;
    direct_copy(m, entry, 0, m->bytes, memory);
    kfree(h);
    uint32_t initrd_bytes = direct_initrd(entry + memory, &initrd);
    build_tree(ram, boot, initrd, initrd_bytes);
    clean_to_memory(entry, memory);
    clean_to_memory(ram, TREE_BYTES + LAB_ACPI_BYTES);
    if (initrd_bytes)
        clean_to_memory(initrd, initrd_bytes);
    vcpu_start(&lab_vcpus[0], entry, ram);
    log_info("guest: %llu bytes, entry %#llx", (unsigned long long)m->bytes, (unsigned long long)entry);
}
