/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch */
/*
 * What boot reads from others: ACPI tables, and the structures of the PVH, Linux and Multiboot2 loaders. Good ones give
 * what they say; broken ones are refused without a read outside of them (the address sanitizer watches). The entries'
 * assembly is tested by booting.
 */
#define LOG_ROOM "acpi"         /* as boot/acpi.c has it */
#define arch_platform_set test_platform_set
#include "arch/arch.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/test.h"

/* ---- loaders: their physical memory is one block, so that a read past its end is caught ---- */
#define IMAGE_VIRT_BASE 0ull
static uint64_t image_phys_base;
#define ARENA_START 0x10000ull
static uint8_t *arena;
static uint64_t arena_bytes;

#define boot_phys boot_phys_of_the_kernel
#define boot_text boot_text_of_the_kernel
#include "boot/loader/loader.c"
#include "boot/x86_64/entry.c"
#undef boot_phys
#undef boot_text
char image_end[1];
void kernel_main(struct boot_info *boot) { (void)boot; abort(); }
const void *boot_phys(uint64_t address, uint64_t bytes);
const void *boot_phys(uint64_t address, uint64_t bytes)
{
    if (address < ARENA_START || address - ARENA_START > arena_bytes)
        return NULL;
    return bytes <= arena_bytes - (address - ARENA_START) ? arena + (address - ARENA_START) : NULL;
}
size_t boot_text(const char **text, uint64_t address);
size_t boot_text(const char **text, uint64_t address)
{
    *text = boot_phys(address, 1);
    return *text == NULL ? 0 : strnlen(*text, arena_bytes - (address - ARENA_START));
}
#include "boot/x86_64/linux64.c"
#include "boot/x86_64/multiboot2.c"
#include "boot/x86_64/pvh.c"

static struct boot_info info;
static void arena_new(uint64_t bytes)
{
    free(arena);
    arena = calloc(1, bytes);
    arena_bytes = bytes;
    memset(&info, 0, sizeof info);
}
static void put(uint64_t at, const void *what, size_t bytes) { memcpy(arena + at, what, bytes); }
#define PUT(at, type, ...) put(at, &(type){__VA_ARGS__}, sizeof(type))

TEST(pvh_map_command_line_and_modules)
{
    arena_new(4096);
    PUT(0, struct pvh_start_info, .magic = PVH_MAGIC, .version = 1, .module_count = 1, .modules = ARENA_START + 0x100,
        .cmdline = ARENA_START + 0x200, .rsdp = 0xF0000, .memory_map = ARENA_START + 0x300, .memory_map_entries = 2);
    PUT(0x100, struct pvh_module, .address = 0x500123, .bytes = 0x1000, .cmdline = ARENA_START + 0x280);
    put(0x200, "a=1 b=2", 8);
    put(0x280, "disk.img", 9);
    PUT(0x300, struct pvh_region, .address = 0x100000, .bytes = 0x7F00000, .type = 1);
    PUT(0x318, struct pvh_region, .address = 0xE0000, .bytes = 0x20000, .type = 2);
    boot_from_pvh(&info, ARENA_START);
    CHECK(strcmp(info.cmdline, "a=1 b=2") == 0 && info.note[0] == '\0');
    CHECK_EQ(info.acpi_rsdp.v, 0xF0000);
    CHECK_EQ(info.region_count, 3);
    CHECK(info.regions[0].type == MM_RAM && info.regions[1].type == MM_RESERVED);
    CHECK(info.regions[2].type == MM_KERNEL && info.regions[2].start.v == 0x500000 && info.regions[2].bytes == 0x2000);
    CHECK(info.module_count == 1 && strcmp(info.modules[0].name, "disk.img") == 0);
    CHECK_EQ(info.modules[0].start.v, 0x500123);
}

TEST(pvh_nonsense_is_noted)
{
    arena_new(4096);
    boot_from_pvh(&info, ARENA_START);
    CHECK(strstr(info.note, "no PVH start info") != NULL);
    memset(&info, 0, sizeof info);
    boot_from_pvh(&info, ARENA_START + 4090);
    CHECK(strstr(info.note, "no PVH start info") != NULL);
    arena_new(4096);
    PUT(0, struct pvh_start_info, .magic = PVH_MAGIC, .version = 1, .memory_map = ARENA_START + 4000,
        .memory_map_entries = 1000, .module_count = 1u << 31, .modules = 1);
    boot_from_pvh(&info, ARENA_START);
    CHECK(strstr(info.note, "without a memory map") != NULL && info.region_count == 0 && info.module_count == 0);
}

TEST(linux_zero_page)
{
    arena_new(8192);
    put(ZP_HEADER_MAGIC, "HdrS", 4);
    put(ZP_CMDLINE, &(uint32_t){ARENA_START + 4096}, 4);
    put(4096, "x=y", 4);
    arena[ZP_E820_ENTRIES] = 200;                                   /* more than the table holds */
    put(ZP_E820_TABLE, &(struct {uint64_t a, b; uint32_t t; } __attribute__((packed))){0x100000, 0x1000000, 1}, 20);
    put(ZP_E820_TABLE + 20, &(struct {uint64_t a, b; uint32_t t; } __attribute__((packed))){0x2000000, 0x1000, 3}, 20);
    put(ZP_RAMDISK_IMAGE, &(uint32_t){0x1800000}, 4);
    put(ZP_RAMDISK_SIZE, &(uint32_t){0x1001}, 4);
    arena[SCREEN_TYPE] = SCREEN_TYPE_EFI;
    put(SCREEN_WIDTH, &(uint16_t){1024}, 2);
    put(SCREEN_HEIGHT, &(uint16_t){768}, 2);
    put(SCREEN_DEPTH, &(uint16_t){32}, 2);
    put(SCREEN_BASE, &(uint32_t){0xC0000000}, 4);
    put(SCREEN_LINE_BYTES, &(uint16_t){4096}, 2);
    boot_from_linux64(&info, ARENA_START);
    CHECK(strcmp(info.cmdline, "x=y") == 0 && info.note[0] == '\0');
    CHECK_EQ(info.region_count, 3);
    CHECK(info.regions[0].type == MM_RAM && info.regions[0].bytes == 0x1000000 && info.regions[1].type == MM_ACPI);
    CHECK(info.module_count == 1 && info.regions[2].bytes == 0x2000);
    CHECK(info.framebuffer.address.v == 0xC0000000 && info.framebuffer.width == 1024);
    CHECK_EQ(info.framebuffer.stride_pixels, 1024);
    arena_new(8192);
    boot_from_linux64(&info, ARENA_START);
    CHECK(strstr(info.note, "no Linux boot parameters") != NULL);
}

static uint64_t tag_put(uint64_t at, uint32_t type, const void *payload, uint32_t bytes)
{
    put(at, &(struct tag){type, 8 + bytes}, 8);
    put(at + 8, payload, bytes);
    return at + ALIGN_UP(8 + bytes, 8u);
}

static void multiboot_sample(bool efi)
{
    struct { uint32_t step, version; struct e820_entry e[2]; } bios =
        {24, 0, {{0x100000, 0x1000000, 1, 0}, {0, 0x9F000, 1, 0}}};
    struct { uint32_t step, version; uint8_t d[3][48]; } map = {48, 1, {{0}}};
    uint64_t at = 8;
    arena_new(1024);
    put(0, &(uint32_t){1024}, 4);
    at = tag_put(at, TAG_CMDLINE, "k=v", 4);
    at = tag_put(at, TAG_MEMORY_MAP, &bios, sizeof bios);
    for (int i = 0; i < 3; i++)
        memcpy(map.d[i], &(struct efi_memory_descriptor){
                   i == 2 ? EFI_ACPI_RECLAIM_MEMORY : EFI_CONVENTIONAL_MEMORY, 0, 0x200000u + 0x1000u * (unsigned)i, 0, 1,
                   EFI_MEMORY_WB}, sizeof(struct efi_memory_descriptor));
    if (efi)
        at = tag_put(at, TAG_EFI_MEMORY_MAP, &map, sizeof map);
    at = tag_put(at, TAG_MODULE, &(struct { uint32_t s, e; char n[4]; }){0x3000000, 0x3001000, "mod"}, 12);
    at = tag_put(at, TAG_ACPI_OLD, "RSD PTR 0123456789ab", 20);
    tag_put(at, TAG_END, "", 0);
}

TEST(multiboot2_bios_and_efi_maps)
{
    multiboot_sample(false);
    boot_from_multiboot2(&info, ARENA_START);
    CHECK(strcmp(info.cmdline, "k=v") == 0);
    CHECK(info.region_count == 3 && info.regions[0].bytes == 0x1000000 && info.regions[2].type == MM_KERNEL);
    CHECK(info.module_count == 1 && strcmp(info.modules[0].name, "mod") == 0);
    CHECK(memcmp((const void *)info.acpi_rsdp.v, "RSD PTR 0123456789ab", 20) == 0);
    multiboot_sample(true);
    boot_from_multiboot2(&info, ARENA_START);
    CHECK_EQ(info.region_count, 3);                                 /* the two of one kind became one; the module */
    CHECK(info.regions[0].bytes == 0x2000 && info.regions[0].type == MM_RAM && info.regions[1].type == MM_ACPI);
}

TEST(multiboot2_survives_any_change_of_a_byte)
{
    for (unsigned at = 4; at < 400; at++)
        for (unsigned v = 0; v < 256; v += at < 12 ? 1 : 15) {
            multiboot_sample(true);
            arena[at] = (uint8_t)v;
            boot_from_multiboot2(&info, ARENA_START);
            CHECK(info.region_count <= BOOT_MAX_REGIONS && info.module_count <= BOOT_MAX_MODULES);
        }
    /* A total that ends inside a tag. */
    for (uint32_t total = 0; total < 400; total++) {
        multiboot_sample(true);
        uint8_t *copy = malloc(total < 8 ? 8 : total);
        memcpy(copy, arena, total < 8 ? 8 : total);
        free(arena);
        arena = copy;
        arena_bytes = total < 8 ? 8 : total;
        put(0, &total, 4);
        boot_from_multiboot2(&info, ARENA_START);
        CHECK(strnlen(info.note, sizeof info.note) < sizeof info.note);
    }
}

TEST(too_many_regions_and_long_lines_are_noted)
{
    char text[BOOT_CMDLINE_BYTES + 10];
    memset(&info, 0, sizeof info);
    for (unsigned i = 0; i < BOOT_MAX_REGIONS + 5; i++)
        boot_add_region(&info, i * PAGE_BYTES, PAGE_BYTES, MM_RAM);
    CHECK_EQ(info.region_count, BOOT_MAX_REGIONS);
    CHECK(strstr(info.note, "memory map has more than") != NULL);
    /* What must not be overwritten always finds a place: the kernel's own image comes last. */
    info.regions[7].bytes = 100;
    boot_add_region(&info, 0x200000, 0x100000, MM_KERNEL);
    CHECK(info.regions[7].type == MM_KERNEL && info.regions[7].bytes == 0x100000);
    CHECK_EQ(info.region_count, BOOT_MAX_REGIONS);
    memset(text, 'a', sizeof text);
    boot_set_cmdline(&info, text, sizeof text);
    CHECK_EQ(strlen(info.cmdline), BOOT_CMDLINE_BYTES - 1);
    CHECK(strstr(info.note, "; the command line is cut") != NULL);
}

/* ---- ACPI, in the fake machine's memory ---- */
#include "boot/aml.c"
#include "boot/acpi_arm.c"
#include "boot/acpi.c"

static struct arch_platform got;
void test_platform_set(const struct arch_platform *platform) { got = *platform; }

#define AT_RSDP 0x81000u
#define AT_ROOT 0x82000u
#define AT_FADT 0x83000u
#define AT_DSDT 0x84000u
#define AT_OEM0 0x86000u

static void seal(void *p, size_t bytes, uint8_t *checksum)
{
    uint8_t sum = 0;
    *checksum = 0;
    for (size_t i = 0; i < bytes; i++)
        sum = (uint8_t)(sum + ((uint8_t *)p)[i]);
    *checksum = (uint8_t)-sum;
}

static void table_put_at(uint64_t at, const char *signature, uint32_t bytes)
{
    struct table *t = fake_phys(at);
    memcpy(t->signature, signature, 4);
    t->length = bytes;
    seal(t, bytes, &t->checksum);
}

/* \_S5 = Package () {5, 6, 0, 0} */
static const uint8_t s5_plain[] = {0x08, '_', 'S', '5', '_', 0x12, 0x08, 0x04, 0x0A, 5, 0x0A, 6, 0x00, 0x00};

static void acpi_machine(bool extended, const void *aml, size_t aml_bytes)
{
    struct rsdp *r;
    struct table *root;
    uint8_t *fadt, *dsdt;
    static bool booted;
    if (!booted)
        fake_arch_boot(64 << 20);
    booted = true;
    for (uint64_t at = AT_RSDP; at < AT_OEM0 + PAGE_BYTES; at += PAGE_BYTES)
        memset(fake_phys(at), 0, PAGE_BYTES);
    root_count = 0;
    memset(&got, 0, sizeof got);
    r = fake_phys(AT_RSDP), root = fake_phys(AT_ROOT), fadt = fake_phys(AT_FADT), dsdt = fake_phys(AT_DSDT);
    *r = (struct rsdp){.revision = extended ? 2 : 0, .rsdt = AT_ROOT, .xsdt = extended ? AT_ROOT : 0, .length = 36};
    memcpy(r->signature, "RSD PTR ", 8);
    seal(r, RSDP_V1_BYTES, &r->checksum);
    memcpy(dsdt + 36, aml, aml_bytes);
    table_put_at(AT_DSDT, "DSDT", (uint32_t)(36 + aml_bytes));
    memcpy(fadt + FADT_DSDT, &(uint32_t){AT_DSDT}, 4);
    memcpy(fadt + FADT_PM1A_CONTROL, &(uint32_t){0x404}, 4);
    memcpy(fadt + FADT_PM_TIMER, &(uint32_t){0x408}, 4);
    fadt[FADT_PM_TIMER_BYTES] = 4;
    memcpy(fadt + FADT_FLAGS, &(uint32_t){FADT_FLAG_RESET}, 4);
    memcpy(fadt + FADT_RESET, &(struct address){SPACE_IO, 8, 0, 1, 0x433}, 12);
    fadt[FADT_RESET_VALUE] = 1;
    table_put_at(AT_FADT, "FACP", 244);
    memcpy(fake_phys(AT_OEM0 + 28 - 12), "MICROSFT", 8);
    memset(fake_phys(AT_OEM0 + 36), 0x77, 64);
    table_put_at(AT_OEM0, "OEM0", 100);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t entry = i == 0 ? AT_OEM0 : AT_FADT;
        memcpy((char *)(root + 1) + i * (extended ? 8u : 4u), &entry, extended ? 8 : 4);
    }
    table_put_at(AT_ROOT, extended ? "XSDT" : "RSDT", 36 + 2 * (extended ? 8 : 4));
}

TEST(acpi_platform_from_both_roots)
{
    uint8_t random[64];
    for (int extended = 0; extended < 2; extended++) {
        acpi_machine(extended, s5_plain, sizeof s5_plain);
        CHECK(acpi_init(pa(AT_RSDP)));
        CHECK(got.has_s5 && got.s5_type_a == 5 && got.s5_type_b == 6);
        CHECK(got.pm1a_control_port == 0x404 && got.pm_timer_port == 0x408);
        CHECK(got.reset.address == 0x433 && got.reset_value == 1 && got.reset.space == ARCH_SPACE_IO);
        CHECK_EQ(acpi_random_bytes(random, sizeof random), 64);
        CHECK_EQ(random[63], 0x77);
        CHECK_EQ(acpi_random_bytes(random, 10), 10);
    }
}

TEST(acpi_s5_in_its_encodings)
{
    static const struct { uint8_t aml[24]; size_t bytes; bool found; uint8_t a, b; } cases[] = {
        {{0x08, '\\', '_', 'S', '5', '_', 0x12, 0x06, 0x04, 0, 0, 0, 0}, 13, true, 0, 0},
        {{0x08, '_', 'S', '5', '_', 0x12, 0x06, 0x02, 0x01, 0x0A, 7}, 11, true, 1, 7},
        {{0x08, '_', 'S', '5', '_', 0x12, 0x47, 0x00, 0x02, 0x0B, 3, 0, 0x01}, 13, true, 3, 1},
        {{0x08, '_', 'S', '5', '_', 0x12, 0x03, 0x01, 0x0A, 4}, 10, true, 4, 0},
        {{0x10, '_', 'S', '5', '_', 0x12, 0x03, 0x01, 0x0A, 4}, 10, false, 0, 0},        /* not a Name */
        {{0x08, '_', 'S', '5', '_', 0x11, 0x03, 0x01, 0x0A, 4}, 10, false, 0, 0},        /* not a package */
        {{0x08, '_', 'S', '5', '_', 0x12, 0x03, 0x00}, 8, false, 0, 0},                  /* an empty one */
        {{0x08, '_', 'S', '5', '_', 0x12, 0xC3}, 7, false, 0, 0},                        /* cut at the length, */
        {{0x08, '_', 'S', '5', '_', 0x12, 0x03, 0x01, 0x0A}, 9, false, 0, 0},            /* at the value, */
        {{0x08, '_', 'S', '5', '_'}, 5, false, 0, 0},                                    /* at the name */
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t *aml = malloc(cases[i].bytes), a = 0, b = 0;
        memcpy(aml, cases[i].aml, cases[i].bytes);
        CHECK_EQ(aml_find_s5(aml, cases[i].bytes, &a, &b), cases[i].found);
        CHECK(!cases[i].found || (a == cases[i].a && b == cases[i].b));
        free(aml);
    }
}

TEST(acpi_broken_tables_are_refused)
{
    struct table *t;
    acpi_machine(true, s5_plain, sizeof s5_plain);
    CHECK(!acpi_init(pa(AT_RSDP + 16)));
    CHECK(fake_log_contains("no valid RSDP"));

    acpi_machine(true, s5_plain, sizeof s5_plain);
    ((uint8_t *)fake_phys(AT_ROOT))[40] ^= 1;
    CHECK(!acpi_init(pa(AT_RSDP)));
    CHECK(fake_log_contains("wrong checksum"));

    acpi_machine(true, s5_plain, sizeof s5_plain);
    t = fake_phys(AT_DSDT);
    t->length = UINT32_MAX;
    CHECK(acpi_init(pa(AT_RSDP)) && !got.has_s5);
    CHECK(fake_log_contains("claims 4294967295 bytes"));

    acpi_machine(true, s5_plain, sizeof s5_plain);
    table_put_at(AT_FADT, "FACP", 60);                              /* ends before the ports */
    CHECK(acpi_init(pa(AT_RSDP)));
    CHECK(!got.has_s5 && got.pm1a_control_port == 0 && got.reset.address == 0 && got.pm_timer_port == 0);

    acpi_machine(true, s5_plain, sizeof s5_plain);
    table_put_at(AT_ROOT, "XSDT", 36);                              /* empty */
    CHECK(!acpi_init(pa(AT_RSDP)));

    /* Addresses that no processor has, in every place that holds one. */
    static const uint64_t nowhere[] = {UINT64_MAX, UINT64_MAX - 35, 0xFFF0000000000000ull, 1ull << 52, 1ull << 40};
    fake_pt_format.phys_bits = 40;
    for (size_t i = 0; i < ARRAY_SIZE(nowhere); i++) {
        acpi_machine(true, s5_plain, sizeof s5_plain);
        CHECK(!acpi_init(pa(nowhere[i])));

        acpi_machine(true, s5_plain, sizeof s5_plain);
        ((struct rsdp *)fake_phys(AT_RSDP))->xsdt = nowhere[i];
        CHECK(!acpi_init(pa(AT_RSDP)));

        acpi_machine(true, s5_plain, sizeof s5_plain);
        memcpy((char *)fake_phys(AT_ROOT) + 36, &nowhere[i], 8);
        table_put_at(AT_ROOT, "XSDT", 36 + 16);
        CHECK(acpi_init(pa(AT_RSDP)) && got.has_s5);
        CHECK_EQ(acpi_random_bytes((uint8_t[4]){0}, 4), 0);

        acpi_machine(true, s5_plain, sizeof s5_plain);
        memcpy((char *)fake_phys(AT_FADT) + FADT_X_DSDT, &nowhere[i], 8);
        table_put_at(AT_FADT, "FACP", 244);
        CHECK(acpi_init(pa(AT_RSDP)) && !got.has_s5);
    }
    fake_pt_format.phys_bits = 0;
}

/* Tables that name one another in circles, and themselves, end like any other broken ones. */
TEST(acpi_tables_in_circles)
{
    acpi_machine(true, s5_plain, sizeof s5_plain);
    for (unsigned i = 0; i < 2; i++)
        memcpy((char *)fake_phys(AT_ROOT) + 36 + 8 * i, &(uint64_t){i == 0 ? AT_ROOT : AT_RSDP}, 8);
    table_put_at(AT_ROOT, "XSDT", 36 + 16);
    CHECK(!acpi_init(pa(AT_RSDP)));
    acpi_machine(true, s5_plain, sizeof s5_plain);
    memcpy((char *)fake_phys(AT_FADT) + FADT_X_DSDT, &(uint64_t){AT_FADT}, 8);
    table_put_at(AT_FADT, "FACP", 244);
    CHECK(acpi_init(pa(AT_RSDP)) && !got.has_s5);
    acpi_machine(true, s5_plain, sizeof s5_plain);
    ((struct rsdp *)fake_phys(AT_RSDP))->xsdt = AT_RSDP;
    CHECK(!acpi_init(pa(AT_RSDP)));
}

/* Machines without ports keep these registers in memory (QEMU's microvm); other spaces are not for us. */
TEST(acpi_registers_in_memory)
{
    acpi_machine(true, s5_plain, sizeof s5_plain);
    memcpy((char *)fake_phys(AT_FADT) + FADT_PM1A_CONTROL, &(uint32_t){0}, 4);
    memcpy((char *)fake_phys(AT_FADT) + FADT_SLEEP_CONTROL, &(struct address){0, 8, 0, 1, 0xFEA00000}, 12);
    memcpy((char *)fake_phys(AT_FADT) + FADT_RESET, &(struct address){0, 8, 0, 1, 0xFEA00002}, 12);
    table_put_at(AT_FADT, "FACP", 268);
    CHECK(acpi_init(pa(AT_RSDP)) && got.has_s5);
    CHECK(got.sleep_control.address == 0xFEA00000 && got.sleep_control.space == ARCH_SPACE_MEMORY);
    CHECK(got.reset.address == 0xFEA00002 && got.reset.space == ARCH_SPACE_MEMORY);
    memcpy((char *)fake_phys(AT_FADT) + FADT_SLEEP_CONTROL, &(struct address){2, 8, 0, 1, 0xFEA00000}, 12);
    memcpy((char *)fake_phys(AT_FADT) + FADT_RESET, &(struct address){SPACE_IO, 8, 0, 1, 0x10433}, 12);
    table_put_at(AT_FADT, "FACP", 268);
    root_count = 0;
    CHECK(acpi_init(pa(AT_RSDP)) && !got.has_s5 && got.reset.address == 0);
}

TEST_MAIN()
