/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch */
/*
 * What arm64's entry reads: the device tree, good ones and broken ones; UEFI tables that it names; and what the image's
 * own header says to loaders. The entry's assembly is tested by booting.
 */
#define LOG_ROOM "acpi"         /* as boot/acpi_arm.c has it */
#include "arch/arm64/console.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/fdt_build.h"
#include "tests/unit/test.h"

#include "boot/arm64/fdt.c"
#include "boot/arm64/fdt_boot.c"
#include "boot/acpi_arm.c"
#define number acpi_console_number
#include "boot/arm64/acpi_console.c"
#undef number
#include "boot/arm64/efi_tables.c"
#include "boot/loader/loader.c"

/* ---- the loader's physical memory: one block, so that a read past its end is caught ---- */
#define ARENA_START 0x48000000ull
static uint8_t *arena;
static uint64_t arena_bytes;

const void *boot_phys(uint64_t address, uint64_t bytes)
{
    if (address < ARENA_START || address - ARENA_START > arena_bytes)
        return NULL;
    return bytes <= arena_bytes - (address - ARENA_START) ? arena + (address - ARENA_START) : NULL;
}

/* ---- what would reach the processor ---- */
static struct { enum arm64_uart kind; uint64_t registers, early; unsigned shift, width; } console;

bool boot_map_early_device(uint64_t registers)
{
    console.early = registers;
    return registers >> 44 == 0;
}
void arm64_console_set(enum arm64_uart kind, paddr_t registers, unsigned shift, unsigned width)
{
    console.kind = kind;
    console.registers = registers.v;
    console.shift = shift;
    console.width = width;
}

static struct boot_info info;

static bool read_arena(void)
{
    memset(&info, 0, sizeof info);
    memset(&console, 0, sizeof console);
    return boot_from_fdt(&info, ARENA_START);
}

static bool read_tree(void)
{
    uint32_t bytes;
    free(arena);
    arena = fdt_finish(&bytes);
    arena_bytes = bytes;
    return read_arena();
}

static bool has_region(uint64_t start, uint64_t bytes, enum mm_region_type type)
{
    for (unsigned i = 0; i < info.region_count; i++)
        if (info.regions[i].start.v == start && info.regions[i].bytes == bytes && info.regions[i].type == type)
            return true;
    return false;
}

/* As QEMU's machine "virt" describes itself, with the node that Hyper-V's users add. */
static void build_machine(void)
{
    fdt_start();
    fdt_new_reserved[0].start = 0x40001000;
    fdt_new_reserved[0].bytes = 0x2000;
    fdt_new_reservations = 1;
    fdt_node("");
    fdt_prop_cells("interrupt-parent", 0x8002);
    fdt_prop_cells("#size-cells", 2);
    fdt_prop_cells("#address-cells", 2);
    fdt_prop_text("compatible", "linux,dummy-virt");
    fdt_node("psci");
    fdt_prop_text("method", "hvc");
    fdt_prop("compatible", "arm,psci-1.0\0arm,psci-0.2\0arm,psci", 35);
    fdt_end();
    fdt_node("memory@40000000");
    fdt_prop_cells("reg", 0, 0x40000000, 0, 0x10000000, 2, 0, 1, 0);
    fdt_prop_text("device_type", "memory");
    fdt_end();
    fdt_node("reserved-memory");
    fdt_prop_cells("#size-cells", 2);
    fdt_prop_cells("#address-cells", 2);
    fdt_prop("ranges", "", 0);
    fdt_node("secret@41000000");
    fdt_prop_cells("reg", 0, 0x41000000, 0, 0x100000);
    fdt_end();
    fdt_end();
    fdt_node("pl011@9000000");
    fdt_prop_cells("reg", 0, 0x09000000, 0, 0x1000);
    fdt_prop("compatible", "arm,pl011\0arm,primecell", 24);
    fdt_end();
    fdt_node("pl011@9040000");
    fdt_prop_text("status", "disabled");
    fdt_prop_cells("reg", 0, 0x09040000, 0, 0x1000);
    fdt_prop("compatible", "arm,pl011\0arm,primecell", 24);
    fdt_end();
    fdt_node("soc");
    fdt_prop_cells("#size-cells", 1);
    fdt_prop_cells("#address-cells", 1);
    fdt_prop_cells("ranges", 0x10000000, 0x7, 0x20000000, 0x100000);
    fdt_node("serial@10001000");
    fdt_prop_text("compatible", "ns16550a");
    fdt_prop_cells("reg", 0x10001000, 0x100);
    fdt_prop_cells("reg-shift", 2);
    fdt_prop_cells("reg-io-width", 4);
    fdt_end();
    fdt_end();
    fdt_node("intc@8000000");
    fdt_prop_cells("reg", 0, 0x08000000, 0, 0x10000, 0, 0x080A0000, 0, 0xF60000, 0x40, 0, 0, 0x4000000);
    fdt_prop_cells("#redistributor-regions", 2);
    fdt_prop_text("compatible", "arm,gic-v3");
    fdt_end();
    fdt_node("timer");
    fdt_prop_cells("interrupts", 1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4);
    fdt_prop_text("compatible", "arm,armv8-timer");
    fdt_end();
    fdt_node("vmbus");
    fdt_prop_text("compatible", "microsoft,vmbus");
    fdt_prop_cells("interrupts", 1, 2, 1);
    fdt_end();
    fdt_node("aliases");
    fdt_prop_text("serial0", "/soc/serial@10001000");
    fdt_end();
}

static void chosen(const char *console_path)
{
    fdt_node("chosen");
    fdt_prop_text("bootargs", "loglevel=debug nbd.write=disk0");
    if (console_path != NULL)
        fdt_prop_text("stdout-path", console_path);
    fdt_prop_cells("linux,initrd-start", 0x44000000);
    fdt_prop_cells("linux,initrd-end", 0, 0x44001234);
    fdt_prop_cells("rng-seed", 1, 2, 3, 4, 5, 6, 7, 8);
    fdt_prop_cells("kaslr-seed", 9, 10);
    fdt_end();
    fdt_end();
}

TEST(a_machine_is_read)
{
    const struct arch_platform *p = &info.platform;
    build_machine();
    chosen("/pl011@9000000");
    CHECK(read_tree());
    CHECK(info.note[0] == '\0');
    CHECK(strcmp(info.cmdline, "loglevel=debug nbd.write=disk0") == 0);
    CHECK(has_region(0x40000000, 0x10000000, MM_RAM) && has_region(0x200000000, 0x100000000, MM_RAM));
    CHECK(has_region(0x40001000, 0x2000, MM_RESERVED) && has_region(0x41000000, 0x100000, MM_RESERVED));
    CHECK(has_region(ARENA_START, ALIGN_UP(arena_bytes, PAGE_BYTES), MM_KERNEL));
    CHECK(info.module_count == 1 && info.modules[0].start.v == 0x44000000 && info.modules[0].bytes == 0x1234);
    CHECK(has_region(0x44000000, 0x2000, MM_KERNEL));
    CHECK_EQ(info.random_seed_bytes, 40);
    CHECK_EQ(info.random_seed[3], 1);
    CHECK_EQ(info.random_seed[35], 9);
    CHECK_EQ(p->gic_version, 3);
    CHECK_EQ(p->gic_distributor, 0x08000000);
    CHECK(p->gic_ranges == 2 && p->gic_redistributors[0].start == 0x080A0000 &&
          p->gic_redistributors[0].bytes == 0xF60000 && p->gic_redistributors[1].start == 0x4000000000 &&
          p->gic_redistributors[1].bytes == 0x4000000 && !p->gic_redistributors[0].one_by_one);
    CHECK(p->timer_irq == 27 && p->timer_irq_el2 == 26 && p->vmbus_irq == 18 && p->psci == ARCH_PSCI_HVC);
    CHECK(console.kind == ARM64_UART_PL011 && console.registers == 0x09000000 && console.early == 0x09000000);
}

TEST(the_console_is_the_one_that_is_named)
{
    build_machine();
    chosen("serial0:115200n8");
    CHECK(read_tree());
    CHECK(console.kind == ARM64_UART_16550 && console.registers == 0x720001000 && console.shift == 2 &&
          console.width == 4);
    build_machine();                        /* even one that is switched off: the loader printed there, too */
    chosen("/pl011@9040000");
    CHECK(read_tree() && console.registers == 0x09040000);
    build_machine();                        /* nothing named, or nothing that is there: the first */
    chosen(NULL);
    CHECK(read_tree() && console.registers == 0x09000000);
    build_machine();
    chosen("serial7");
    CHECK(read_tree() && console.registers == 0x09000000);
    boot_platform_from_fdt(&info, ARENA_START);
    CHECK(console.registers == 0x09000000);
    build_machine();                        /* where UEFI tells the rest, the console is still the tree's to name */
    chosen("/pl011@9040000");
    CHECK(read_tree());
    memset(&console, 0, sizeof console);
    boot_platform_from_fdt(&info, ARENA_START);
    CHECK(console.registers == 0x09040000);
}

TEST(addresses_go_through_the_buses_above)
{
    fdt_start();
    fdt_node("");
    fdt_prop_cells("#address-cells", 1);
    fdt_prop_cells("#size-cells", 1);
    fdt_node("closed");                     /* no ranges: what lies behind can't be reached from here */
    fdt_prop_cells("#address-cells", 1);
    fdt_prop_cells("#size-cells", 1);
    fdt_node("serial@100");
    fdt_prop_text("compatible", "arm,pl011");
    fdt_prop_cells("reg", 0x100, 0x1000);
    fdt_end();
    fdt_end();
    fdt_node("outer");
    fdt_prop_cells("#address-cells", 1);
    fdt_prop_cells("#size-cells", 1);
    fdt_prop_cells("ranges", 0, 0x80000000, 0x100000, 0x200000, 0x90000000, 0x1000);
    fdt_node("inner");
    fdt_prop_cells("#address-cells", 2);
    fdt_prop_cells("#size-cells", 1);
    fdt_prop_cells("ranges", 5, 0, 0x40000, 0x10000);
    fdt_node("serial@500001000");
    fdt_prop_text("compatible", "arm,pl011");
    fdt_prop_cells("reg", 5, 0x1000, 0x1000);
    fdt_end();
    fdt_end();
    fdt_end();
    fdt_end();
    CHECK(read_tree());
    CHECK_EQ(console.registers, 0x80041000);
}

/* As OpenVMM describes its machine: one timer, by name; the small UART; a console path that leads nowhere. */
TEST(openvmm_is_read)
{
    fdt_start();
    fdt_node("");
    fdt_prop_cells("#address-cells", 2);
    fdt_prop_cells("#size-cells", 2);
    fdt_node("psci");
    fdt_prop_text("compatible", "arm,psci-0.2");
    fdt_prop_text("method", "hvc");
    fdt_end();
    fdt_node("memory@0");
    fdt_prop_text("device_type", "memory");
    fdt_prop_cells("reg", 0, 0, 0, 0x40000000);
    fdt_end();
    fdt_node("timer");
    fdt_prop_text("compatible", "arm,armv8-timer");
    fdt_prop_text("interrupt-names", "virt");
    fdt_prop_cells("interrupts", 1, 4, 8);
    fdt_end();
    fdt_node("openvmm");
    fdt_prop_text("compatible", "simple-bus");
    fdt_prop_cells("#address-cells", 2);
    fdt_prop_cells("#size-cells", 2);
    fdt_prop("ranges", "", 0);
    fdt_node("uart@effec000");
    fdt_prop("compatible", "arm,sbsa-uart\0arm,primecell", 28);
    fdt_prop_cells("reg", 0, 0xEFFEC000, 0, 0x1000);
    fdt_prop_text("status", "okay");
    fdt_end();
    fdt_node("uart@effeb000");
    fdt_prop("compatible", "arm,sbsa-uart\0arm,primecell", 28);
    fdt_prop_cells("reg", 0, 0xEFFEB000, 0, 0x1000);
    fdt_prop_text("status", "okay");
    fdt_end();
    fdt_node("vmbus");
    fdt_prop_text("compatible", "microsoft,vmbus");
    fdt_prop_cells("interrupts", 1, 2, 1);
    fdt_end();
    fdt_end();
    fdt_node("chosen");
    fdt_prop_text("bootargs", "loglevel=debug");
    fdt_prop_cells("linux,initrd-start", 0, 0x1000000);      /* none: it ends where it starts */
    fdt_prop_cells("linux,initrd-end", 0, 0x1000000);
    fdt_prop_text("stdout-path", "/hvlite/uart@effec000");
    fdt_end();
    fdt_end();
    CHECK(read_tree());
    CHECK(info.note[0] == '\0' && info.module_count == 0);
    CHECK(has_region(0, 0x40000000, MM_RAM));
    CHECK(info.platform.timer_irq == 20 && info.platform.timer_irq_el2 == 0 && info.platform.vmbus_irq == 18);
    CHECK(console.kind == ARM64_UART_SBSA && console.registers == 0xEFFEC000);
}

TEST(interrupts_are_told_by_kind)
{
    static const struct { uint32_t type, number, expected; } cases[] = {
        {1, 0, 16}, {1, 15, 31}, {1, 16, 0}, {0, 0, 32}, {0, 987, 1019}, {0, 988, 0}, {2, 3, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        fdt_start();
        fdt_node("");
        fdt_node("vmbus");
        fdt_prop_text("compatible", "microsoft,vmbus");
        fdt_prop_cells("interrupts", cases[i].type, cases[i].number, 1);
        fdt_end();
        fdt_end();
        CHECK(read_tree());
        CHECK_EQ(info.platform.vmbus_irq, cases[i].expected);
    }
}

TEST(what_is_no_tree_is_refused)
{
    build_machine();
    chosen(NULL);
    CHECK(read_tree());
    for (unsigned offset = 0; offset < 40; offset += 4) {
        uint8_t kept[4];
        if (offset == 20 || offset == 28)   /* a newer version that ours can read; the boot processor's number */
            continue;
        memcpy(kept, arena + offset, 4);
        put32(arena + offset, 0x7FFFFFFC);
        CHECK(!read_arena());
        CHECK(info.note[0] != '\0' && info.region_count == 0);
        memcpy(arena + offset, kept, 4);
    }
    put32(arena + 20, 16);                  /* too old: without the size of the structure block */
    CHECK(!read_arena());
    put32(arena + 20, 17);
    CHECK(read_arena());
    memset(&info, 0, sizeof info);
    CHECK(!boot_from_fdt(&info, 0));
    CHECK(!boot_from_fdt(&info, ARENA_START + arena_bytes));
    put32(arena + 4, 5u << 20);             /* larger than the protocol allows */
    CHECK(!read_arena());
}

/* Cut anywhere, with a header that knows: no read outside, and what was read is complete. */
TEST(cut_trees_do_no_harm)
{
    uint32_t bytes;
    uint8_t *whole;
    build_machine();
    chosen("/pl011@9000000");
    whole = fdt_finish(&bytes);
    for (uint32_t cut = 40; cut < bytes; cut++) {
        uint32_t structs = 40 + 32;
        free(arena);
        arena = malloc(cut);
        memcpy(arena, whole, cut);
        arena_bytes = cut;
        put32(arena + 4, cut);
        if (cut > structs)
            put32(arena + 36, MIN(cut - structs, fdt_new.structs_bytes));
        if (cut < structs + fdt_new.structs_bytes)
            put32(arena + 12, cut), put32(arena + 32, 0);
        else
            put32(arena + 32, cut - structs - fdt_new.structs_bytes);
        read_arena();
        CHECK(memchr(info.cmdline, 0, sizeof info.cmdline) != NULL);
    }
    free(whole);
}

/* Every word of a good tree in turn says something else. */
TEST(changed_trees_do_no_harm)
{
    static const uint32_t values[] = {0, 1, 2, 3, 4, 9, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF, 0x01000000};
    build_machine();
    chosen("/pl011@9000000");
    CHECK(read_tree());
    for (uint32_t at = 40; at + 4 <= arena_bytes; at += 4) {
        uint8_t kept[4];
        memcpy(kept, arena + at, 4);
        for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
            put32(arena + at, values[i]);
            read_arena();
            CHECK(info.region_count <= BOOT_MAX_REGIONS && info.module_count <= BOOT_MAX_MODULES);
            CHECK(info.platform.gic_ranges <= ARCH_GIC_RANGES);
        }
        memcpy(arena + at, kept, 4);
    }
}

TEST(deep_trees_end)
{
    fdt_start();
    fdt_node("");
    for (unsigned i = 0; i < 40; i++)
        fdt_node("a-name-that-is-long-enough-to-fill-a-path");
    fdt_prop_text("compatible", "microsoft,vmbus");
    for (unsigned i = 0; i < 40; i++)
        fdt_end();
    fdt_node("memory");
    fdt_prop_text("device_type", "memory");
    fdt_prop_cells("reg", 0, 0x40000000, 0x1000000);
    fdt_end();
    fdt_end();
    CHECK(read_tree());
    CHECK_EQ(info.region_count, 2);         /* and the tree itself */
    CHECK(has_region(0x40000000, 0x1000000, MM_RAM));
}

TEST(many_seeds_fill_the_place_for_them)
{
    uint8_t seed[100];
    memset(seed, 0xA5, sizeof seed);
    fdt_start();
    fdt_node("");
    fdt_node("chosen");
    fdt_prop("rng-seed", seed, sizeof seed);
    fdt_prop("kaslr-seed", seed, 8);
    fdt_end();
    fdt_end();
    CHECK(read_tree());
    CHECK_EQ(info.random_seed_bytes, sizeof info.random_seed);
}

/* ---- the console by ACPI alone, before mm can map tables ---- */

static void put_table(uint64_t at, const char *signature, uint32_t bytes)
{
    uint8_t sum = 0;
    memcpy(arena + at, signature, 4);
    memcpy(arena + at + 4, &bytes, 4);
    arena[at + 9] = 0;
    for (uint32_t i = 0; i < bytes; i++)
        sum = (uint8_t)(sum + arena[at + i]);
    arena[at + 9] = (uint8_t)-sum;
}

static void put64(uint64_t at, uint64_t v) { memcpy(arena + at, &v, 8); }

/* RSDP at 0, XSDT at 0x100 with two tables, the second a SPCR at 0x201 that ends the arena. */
static void build_acpi(uint8_t type, uint64_t registers)
{
    free(arena);
    arena_bytes = 0x201 + 80;
    arena = calloc(1, arena_bytes);
    memcpy(arena, "RSD PTR ", 8);
    arena[15] = 2;
    put64(24, ARENA_START + 0x100);
    put64(0x100 + 36, ARENA_START + 0x180);
    put64(0x100 + 44, ARENA_START + 0x201);
    put_table(0x100, "XSDT", 52);
    put_table(0x180, "APIC", 44);
    arena[0x201 + 36] = type;
    arena[0x201 + 41] = 32;                 /* registers in memory, 32 bits apart, accessed so */
    arena[0x201 + 43] = 3;
    put64(0x201 + 44, registers);
    put_table(0x201, "SPCR", 80);
    memset(&console, 0, sizeof console);
}

TEST(the_console_by_acpi)
{
    build_acpi(3, 0xEFFEC000);
    boot_console_from_acpi(ARENA_START);
    CHECK(console.kind == ARM64_UART_PL011 && console.registers == 0xEFFEC000 && console.early == 0xEFFEC000);
    build_acpi(0x12, 0x10001000);
    boot_console_from_acpi(ARENA_START);
    CHECK(console.kind == ARM64_UART_16550 && console.shift == 2 && console.width == 4);
    build_acpi(3, 1ull << 60);              /* nowhere */
    boot_console_from_acpi(ARENA_START);
    CHECK(console.kind == ARM64_UART_NONE);
    build_acpi(7, 0xEFFEC000);              /* of a kind that is not known */
    boot_console_from_acpi(ARENA_START);
    CHECK(console.kind == ARM64_UART_NONE && console.early == 0);
}

TEST(broken_acpi_is_no_console)
{
    for (unsigned offset = 0; offset < 0x201 + 80; offset++) {
        build_acpi(3, 0xEFFEC000);
        arena[offset] ^= 0xFF;              /* lengths, addresses, checksums: read within the arena or not at all */
        boot_console_from_acpi(ARENA_START);
        if (offset >= 0x201)
            CHECK_EQ(console.kind, ARM64_UART_NONE);
    }
    build_acpi(3, 0xEFFEC000);
    boot_console_from_acpi(ARENA_START + 0x240);
    boot_console_from_acpi(0);
    CHECK_EQ(console.kind, ARM64_UART_NONE);
}

/* ---- UEFI's table without firmware ---- */

TEST(acpi_by_a_system_table)
{
    static const struct efi_guid acpi = EFI_ACPI_20_TABLE_GUID, other = EFI_DTB_TABLE_GUID;
    struct efi_configuration_table list[2] = {{.guid = other, .table = (void *)0x1000}, {.guid = acpi}};
    struct efi_system_table table = {.number_of_table_entries = 2};
    uint32_t bytes, at;
    uint8_t *tree;
    list[1].table = (void *)0x7FFF0014;     /* anywhere: mm maps it later */
    fdt_start();
    fdt_node("");
    fdt_node("chosen");
    fdt_prop_cells("linux,uefi-system-table", 0, (uint32_t)ARENA_START + 0x1000);
    fdt_end();
    fdt_end();
    tree = fdt_finish(&bytes);
    at = 0x1000 + sizeof table;
    free(arena);
    arena_bytes = at + sizeof list;
    arena = calloc(1, arena_bytes);
    memcpy(arena, tree, bytes);
    free(tree);
    table.configuration_table = (void *)(uintptr_t)(ARENA_START + at);
    memcpy(arena + 0x1000, &table, sizeof table);
    memcpy(arena + at, list, sizeof list);
    CHECK(read_arena());
    CHECK_EQ(info.acpi_rsdp.v, 0x7FFF0014);
    CHECK_EQ(info.efi_system_table, ARENA_START + 0x1000);
    table.number_of_table_entries = 3;      /* the third would lie outside */
    memcpy(arena + 0x1000, &table, sizeof table);
    CHECK(read_arena() && pa_is_none(info.acpi_rsdp));
    table.number_of_table_entries = SIZE_MAX;
    memcpy(arena + 0x1000, &table, sizeof table);
    CHECK(read_arena() && pa_is_none(info.acpi_rsdp));
}

/* Nothing but /chosen: memory by UEFI's map, whose descriptors may be longer than we know them. */
TEST(memory_by_uefis_map)
{
    static const struct { uint32_t type; uint64_t start, pages, attribute; } map[] = {
        {EFI_BOOT_SERVICES_DATA, 0x800000, 2, EFI_MEMORY_WB}, {EFI_ACPI_RECLAIM_MEMORY, 0x802000, 16, EFI_MEMORY_WB},
        {EFI_CONVENTIONAL_MEMORY, 0, 0x800, EFI_MEMORY_WB}, {EFI_CONVENTIONAL_MEMORY, 0x812000, 0x1000, EFI_MEMORY_WB},
        {EFI_CONVENTIONAL_MEMORY, 0x1812000, 0x1000, EFI_MEMORY_WB},
    };
    const uint32_t step = sizeof(struct efi_memory_descriptor) + 8;
    uint32_t bytes;
    uint8_t *tree;
    for (unsigned broken = 0; broken < 4; broken++) {
        fdt_start();
        fdt_node("");
        fdt_node("memory");
        fdt_prop_text("device_type", "memory");
        fdt_prop_cells("reg", 0, 0x77000000, 0x1000000);         /* not believed beside a map */
        fdt_end();
        fdt_node("chosen");
        fdt_prop_cells("linux,uefi-system-table", 0, 0x40000000);
        fdt_prop_cells("linux,uefi-mmap-start", 0, (uint32_t)ARENA_START + (broken == 1 ? 0x1001 : 0x1000));
        fdt_prop_cells("linux,uefi-mmap-size", broken == 2 ? 0xFFFFFFFF : step * (uint32_t)ARRAY_SIZE(map));
        fdt_prop_cells("linux,uefi-mmap-desc-size", broken == 3 ? 8 : step);
        fdt_end();
        fdt_end();
        tree = fdt_finish(&bytes);
        free(arena);
        arena_bytes = 0x1000 + step * ARRAY_SIZE(map);
        arena = calloc(1, arena_bytes);
        memcpy(arena, tree, bytes);
        free(tree);
        for (unsigned i = 0; i < ARRAY_SIZE(map); i++) {
            struct efi_memory_descriptor d = {.type = map[i].type, .physical_start = map[i].start,
                                              .number_of_pages = map[i].pages, .attribute = map[i].attribute};
            memcpy(arena + 0x1000 + i * step, &d, sizeof d);
        }
        CHECK(read_arena());
        CHECK(!has_region(0x77000000, 0x1000000, MM_RAM));
        if (broken == 0) {
            CHECK(info.note[0] == '\0');
            CHECK(has_region(0x800000, 0x2000, MM_RAM) && has_region(0x802000, 0x10000, MM_ACPI));
            CHECK(has_region(0, 0x800000, MM_RAM) && has_region(0x812000, 0x2000000, MM_RAM));      /* two in one */
        } else {
            CHECK(strstr(info.note, "memory map of UEFI") != NULL && info.region_count == 1);
        }
    }
}

/* ---- the image's header ---- */

#define IMAGE_VIRT_BASE 0x10000ull
/* What linker.ld computes, for an image whose entries lie at 0x70 and 0x7C. */
__asm__(".globl image_memory_bytes, image_file_bytes, image_branch, boot_entry_efi\n"
        ".set image_memory_bytes, 0x300000\n.set image_file_bytes, 0x123456\n"
        ".set image_branch, 0x1400001C\n.set boot_entry_efi, 0x1007C\n");
#include "boot/arm64/image_header.c"

TEST(loaders_find_the_header)
{
    const uint8_t *b = (const uint8_t *)&image_header;
    uint64_t words[8];
    memcpy(words, b, sizeof words);
    CHECK(words[0] == 0x1400001C);                      /* B +0x70: to boot_entry_linux, then nothing */
    CHECK(words[1] == 0 && words[2] == 0x300000);       /* no offset from 2 MiB; memory, not file size */
    CHECK(words[3] == 0xA);                             /* little endian, 4 KiB pages, anywhere */
    CHECK(words[4] == 0 && words[5] == 0 && words[6] == 0);
    CHECK(memcmp(b + 56, "ARM\x64", 4) == 0 && memcmp(b + 60, "\0\0\0\0", 4) == 0);
    CHECK(image_header.own.magic == IMAGE_MAGIC && image_header.own.version == IMAGE_VERSION);
    CHECK(image_header.own.memory_bytes == 0x300000 && image_header.own.file_bytes == 0x123456);
    CHECK(image_header.own.entry_offset == 0x7C);
    CHECK(image_header.own.boot_info_offset == va_of(&boot_info).v - IMAGE_VIRT_BASE);
    CHECK(image_header.own.boot_info_bytes == sizeof(struct boot_info));
    CHECK_EQ(offsetof(struct arm64_image_header, own), 64);
}

TEST_MAIN()
