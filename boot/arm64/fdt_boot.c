/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the device tree tells: memory, what of it is taken, the command line, an initial RAM disk, random numbers, the
 * console, the interrupt controller, timers, the way to PSCI, VMBus' interrupt, and where UEFI's tables are. Sources:
 * Devicetree Specification 0.4, chapter 3; Linux's bindings of the nodes named below; Linux documentation,
 * arch/arm64/booting and arch/arm/uefi (the properties linux,uefi-*); the trees of QEMU and OpenVMM.
 *
 * Two walks: /chosen names the console by a path or an alias, so it comes first.
 */
#include "arch/arm64/console.h"
#include "boot/arm64/entry.h"
#include "boot/arm64/fdt.h"
#include <string.h>

#define HEADER_LOOK_BYTES 8
#define TREE_BYTES_MAX    (4u << 20)     /* the booting protocol has 2 MiB; QEMU adds room to a file of 1 MiB twice */
#define SEED_BYTES_MIN    8

struct chosen {
    char console[FDT_PATH_MAX];      /* path of the node, or an alias, without the settings behind a colon */
    uint64_t system_table;           /* 0: there is no trace of UEFI */
    struct boot_efi_map map;
};

static bool open_at(struct boot_info *boot, struct fdt *fdt, uint64_t address)
{
    const void *blob = boot_phys(address, HEADER_LOOK_BYTES);
    uint32_t bytes = blob == NULL ? 0 : fdt_claimed_bytes(blob);
    if (bytes != 0 && bytes <= TREE_BYTES_MAX && boot_phys(address, bytes) != NULL && fdt_open(fdt, blob, bytes))
        return true;
    boot_note(boot, "no device tree at 0x%llx that can be read", (unsigned long long)address);
    return false;
}

/* ---- /chosen and /aliases ---- */

static void take_seed(struct boot_info *boot, const uint8_t *seed, uint32_t bytes)
{
    size_t room = sizeof boot->random_seed - boot->random_seed_bytes;
    size_t n = MIN((size_t)bytes, room);
    if (seed == NULL || bytes < SEED_BYTES_MIN)
        return;
    memcpy(boot->random_seed + boot->random_seed_bytes, seed, n);
    boot->random_seed_bytes += (unsigned)n;
}

static void read_console(const struct fdt_walk *w, struct chosen *c)
{
    const char *text = fdt_text(w, "stdout-path");
    if (text == NULL)
        text = fdt_text(w, "linux,stdout-path");
    if (text == NULL)
        return;
    const char *colon = strchr(text, ':');
    size_t length = colon == NULL ? strlen(text) : (size_t)(colon - text);
    length = MIN(length, sizeof c->console - 1);
    memcpy(c->console, text, length);
    c->console[length] = '\0';
}

static void read_chosen(struct boot_info *boot, const struct fdt_walk *w, struct chosen *c)
{
    uint64_t start, end;
    uint32_t bytes;
    const char *text = (const char *)fdt_property(w, "bootargs", &bytes);
    const uint8_t *seed;
    boot_set_cmdline(boot, text, bytes);
    if (fdt_number(w, "linux,initrd-start", &start) && fdt_number(w, "linux,initrd-end", &end) && start < end)
        boot_add_module(boot, start, end - start, "initrd", sizeof "initrd");
    seed = fdt_property(w, "rng-seed", &bytes);
    take_seed(boot, seed, bytes);
    seed = fdt_property(w, "kaslr-seed", &bytes);
    take_seed(boot, seed, bytes);
    if (!fdt_number(w, "linux,uefi-system-table", &c->system_table))
        c->system_table = 0;
    if (!fdt_number(w, "linux,uefi-mmap-start", &c->map.start) ||
        !fdt_number(w, "linux,uefi-mmap-size", &c->map.bytes) ||
        !fdt_number(w, "linux,uefi-mmap-desc-size", &c->map.descriptor_bytes))
        c->map = (struct boot_efi_map){0, 0, 0};
}

/* An alias stands for a path. */
static void resolve_alias(const struct fdt_walk *w, struct chosen *c)
{
    const char *path = fdt_text(w, c->console);
    if (path != NULL)
        ksnprintf(c->console, sizeof c->console, "%s", path);
}

/* ---- memory ---- */

static void add_memory(struct boot_info *boot, const struct fdt_walk *w, enum mm_region_type type)
{
    uint64_t start, bytes;
    for (unsigned i = 0; fdt_reg(w, i, &start, &bytes); i++)
        boot_add_region(boot, start, bytes, type);
}

static bool in_reserved_memory(const struct fdt_walk *w)
{
    return w->depth == 2 && strcmp(w->stack[1].name, "reserved-memory") == 0;
}

/* ---- the platform ---- */

static void read_gic(struct arch_platform *p, const struct fdt_walk *w, uint32_t version)
{
    uint64_t start, bytes, ranges = 1;
    if (p->gic_version != 0 || !fdt_reg(w, 0, &start, &bytes))
        return;
    p->gic_version = version;
    p->gic_distributor = start;
    if (version < 3)
        return;
    fdt_number(w, "#redistributor-regions", &ranges);
    for (unsigned i = 0; i < ranges && i < ARCH_GIC_RANGES && fdt_reg(w, 1 + i, &start, &bytes); i++)
        p->gic_redistributors[p->gic_ranges++] = (struct arch_gic_range){start, bytes, false};
}

/* By name where there are names (OpenVMM lists the virtual timer alone), else by the binding's order. */
static uint32_t timer_interrupt(const struct fdt_walk *w, const char *name, unsigned place)
{
    uint32_t bytes;
    int index = (int)place;
    if (fdt_property(w, "interrupt-names", &bytes) != NULL)
        index = fdt_text_index(w, "interrupt-names", name);
    return index < 0 ? 0 : fdt_gic_interrupt(w, (unsigned)index);
}

static void read_platform(struct arch_platform *p, const struct fdt_walk *w)
{
    enum { TIMER_VIRTUAL = 2, TIMER_EL2_PHYSICAL = 3 };      /* order of the list: secure, EL1, virtual, EL2 */
    if (fdt_compatible(w, "arm,gic-v3"))
        read_gic(p, w, 3);
    else if (fdt_compatible(w, "arm,cortex-a15-gic") || fdt_compatible(w, "arm,gic-400"))
        read_gic(p, w, 2);
    else if (fdt_compatible(w, "arm,armv8-timer")) {
        p->timer_irq = timer_interrupt(w, "virt", TIMER_VIRTUAL);
        p->timer_irq_el2 = timer_interrupt(w, "hyp-phys", TIMER_EL2_PHYSICAL);
    } else if (fdt_compatible(w, "arm,psci-1.0") || fdt_compatible(w, "arm,psci-0.2")) {
        p->psci = fdt_text_is(w, "method", "hvc") ? ARCH_PSCI_HVC : fdt_text_is(w, "method", "smc") ? ARCH_PSCI_SMC :
                  ARCH_PSCI_UNKNOWN;
    } else if (fdt_compatible(w, "microsoft,vmbus")) {
        p->vmbus_irq = fdt_gic_interrupt(w, 0);
    }
}

/* ---- the console ---- */

struct uart { enum arm64_uart kind; uint64_t registers; unsigned shift, width; };

static enum arm64_uart uart_kind(const struct fdt_walk *w)
{
    if (fdt_compatible(w, "arm,sbsa-uart"))
        return ARM64_UART_SBSA;
    if (fdt_compatible(w, "arm,pl011"))
        return ARM64_UART_PL011;
    if (fdt_compatible(w, "ns16550a") || fdt_compatible(w, "ns16550") || fdt_compatible(w, "snps,dw-apb-uart"))
        return ARM64_UART_16550;
    return ARM64_UART_NONE;
}

/* The one that /chosen names, else the first there is. */
static void read_uart(struct uart *uart, const struct fdt_walk *w, const struct chosen *c)
{
    enum arm64_uart kind = uart_kind(w);
    uint64_t start, bytes, shift = 0, width = 1;
    if (kind == ARM64_UART_NONE || !fdt_reg(w, 0, &start, &bytes))
        return;
    if (strcmp(w->path, c->console) != 0 && (uart->kind != ARM64_UART_NONE || !fdt_enabled(w)))
        return;
    if (kind == ARM64_UART_16550) {
        fdt_number(w, "reg-shift", &shift);
        fdt_number(w, "reg-io-width", &width);
        if (shift > 3 || (width != 1 && width != 4))
            return;
    }
    *uart = (struct uart){kind, start, (unsigned)shift, (unsigned)width};
}

static void use_uart(const struct uart *uart)
{
    if (uart->kind != ARM64_UART_NONE && boot_map_early_device(uart->registers))
        arm64_console_set(uart->kind, pa(uart->registers), uart->shift, uart->width);
}

/* ---- the walks ---- */

/* Goes to a child of the root. */
static bool find_node(struct fdt_walk *w, const struct fdt *fdt, const char *path)
{
    fdt_walk_begin(w, fdt);
    while (fdt_walk_next(w))
        if (w->depth == 1 && strcmp(w->path, path) == 0)
            return true;
    return false;
}

static void read_names(struct boot_info *boot, const struct fdt *fdt, struct chosen *c, bool alone)
{
    static struct fdt_walk w;
    memset(c, 0, sizeof *c);
    if (find_node(&w, fdt, "/chosen")) {
        read_console(&w, c);
        if (alone)
            read_chosen(boot, &w, c);
    }
    if (c->console[0] != '/' && c->console[0] != '\0' && find_node(&w, fdt, "/aliases"))
        resolve_alias(&w, c);
}

/* alone: nobody else tells of memory and command line. UEFI's memory map wins over nodes, as it does for Linux. */
static void read_nodes(struct boot_info *boot, const struct fdt *fdt, const struct chosen *c, bool alone)
{
    static struct fdt_walk w;
    struct uart uart = {ARM64_UART_NONE, 0, 0, 0};
    for (fdt_walk_begin(&w, fdt); fdt_walk_next(&w);) {
        if (alone && c->map.bytes == 0 && fdt_text_is(&w, "device_type", "memory") && fdt_enabled(&w))
            add_memory(boot, &w, MM_RAM);
        else if (alone && in_reserved_memory(&w))
            add_memory(boot, &w, MM_RESERVED);
        read_platform(&boot->platform, &w);
        read_uart(&uart, &w, c);
    }
    use_uart(&uart);
}

bool boot_from_fdt(struct boot_info *boot, uint64_t device_tree)
{
    static struct chosen chosen;
    struct fdt fdt;
    uint64_t start, bytes;
    if (!open_at(boot, &fdt, device_tree))
        return false;
    boot->device_tree = pa(device_tree);
    read_names(boot, &fdt, &chosen, true);
    read_nodes(boot, &fdt, &chosen, true);
    boot_efi_memory(boot, &chosen.map);
    for (unsigned i = 0; fdt_reservation(&fdt, i, &start, &bytes); i++)
        boot_add_region(boot, start, bytes, MM_RESERVED);
    /* It stays readable: the lab's hypervisor hands parts of it on. */
    start = ALIGN_DOWN(device_tree, PAGE_BYTES);
    boot_add_region(boot, start, ALIGN_UP(device_tree + fdt.bytes, PAGE_BYTES) - start, MM_KERNEL);
    boot->efi_system_table = chosen.system_table;
    if (chosen.system_table != 0)
        boot->acpi_rsdp = boot_efi_acpi(chosen.system_table);
    return true;
}

void boot_platform_from_fdt(struct boot_info *boot, uint64_t device_tree)
{
    static struct chosen chosen;
    struct fdt fdt;
    if (!open_at(boot, &fdt, device_tree))
        return;
    read_names(boot, &fdt, &chosen, false);
    read_nodes(boot, &fdt, &chosen, false);
}
