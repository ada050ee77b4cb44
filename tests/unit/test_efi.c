/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib */
/*
 * The parts of the UEFI entry that are plain functions on memory: candela.conf and load options to command line words,
 * the firmware's memory map to regions. The entry itself is booted under OVMF by the end-to-end tests.
 */
#include "boot/efi/conf.c"
#include "boot/efi/map.c"
#include "boot/efi/time.c"
#include "tests/unit/test.h"

static char cmdline[BOOT_CMDLINE_BYTES];
static unsigned line;

static const char *conf(const void *text, size_t bytes)
{
    cmdline[0] = '\0';
    return conf_append(cmdline, sizeof(cmdline), text, bytes, &line);
}

#define CONF(text) conf(text, sizeof(text) - 1)

TEST(conf_lines_become_words)
{
    CHECK(CONF("") == NULL && !strcmp(cmdline, ""));
    CHECK(CONF("a=1") == NULL && !strcmp(cmdline, "a=1"));
    CHECK(CONF("# c=d\n\n a=1 \r\n\tb=2\n#x") == NULL && !strcmp(cmdline, "a=1 b=2"));
    CHECK(CONF("\xef\xbb\xbf" "a=\xc3\xa4\n") == NULL && !strcmp(cmdline, "a=\xc3\xa4"));
    CHECK(CONF("args=x y\n") == NULL && !strcmp(cmdline, "args=\"x y\""));
    CHECK(CONF("args=\"x y\"\n") == NULL && !strcmp(cmdline, "args=\"x y\""));
    CHECK(CONF("a=#1\n") == NULL && !strcmp(cmdline, "a=#1"));
    CHECK(CONF("a=1 # why\n  # b=2\nc=3") == NULL && !strcmp(cmdline, "a=1 c=3"));
    CHECK(CONF("a=\"1 #2\" #3\n") == NULL && !strcmp(cmdline, "a=\"1 #2\""));
}

TEST(conf_utf16)
{
    CHECK(CONF("\xff\xfe" "a\0=\0001\0\r\0\n\0b\0=\0\xe4\0\xac\x20") == NULL);
    CHECK(!strcmp(cmdline, "a=1 b=\xc3\xa4\xe2\x82\xac"));
    CHECK(CONF("\xff\xfe" "a\0=\0\x3d\xd8\x00\xde") == NULL && !strcmp(cmdline, "a=??"));
    CHECK(CONF("\xff\xfe" "a\0=\0b") == NULL && !strcmp(cmdline, "a="));
    CHECK(CONF("\xfe\xff" "\0a\0=") != NULL);
}

TEST(conf_refuses_what_it_would_lose)
{
    static char big[BOOT_CMDLINE_BYTES + 100];
    CHECK(CONF("a=1\nnonsense\n") != NULL && line == 2);
    CHECK(CONF("a = 1\n") != NULL && line == 1);
    CHECK(CONF("=1\n") != NULL);
    CHECK(CONF("a=1\nb=\"open\nnbd.allow=10.0.0.0/8\n") != NULL && line == 2);
    CHECK(CONF("a=1\nb=\"x\" \"\n") != NULL && line == 2);
    CHECK(CONF("nbd,allow=10.0.0.0/8\n") != NULL && CONF("\xc3\xa4=1\n") != NULL);
    CHECK(CONF("a=\"1 2\"\r\nb=3\r\n") == NULL && !strcmp(cmdline, "a=\"1 2\" b=3"));
    CHECK(CONF("a=1\n\n\0") != NULL && line == 3);
    memset(big, 'x', sizeof(big));
    big[1] = '=';
    CHECK(conf(big, sizeof(big)) != NULL);
    CHECK(conf(big, BOOT_CMDLINE_BYTES) != NULL);
    CHECK(conf(big, BOOT_CMDLINE_BYTES - 1) == NULL && strlen(cmdline) == BOOT_CMDLINE_BYTES - 1);
    big[50] = ' ';      /* the quotes make it too long */
    CHECK(conf(big, BOOT_CMDLINE_BYTES - 1) != NULL);
    CHECK(conf(big, BOOT_CMDLINE_BYTES - 3) == NULL && strlen(cmdline) == BOOT_CMDLINE_BYTES - 1);
}

static bool options(const char *text, size_t bytes)
{
    uint8_t wide[2 * BOOT_CMDLINE_BYTES + 64];
    for (size_t i = 0; i < bytes; i++) {
        wide[2 * i] = (uint8_t)text[i];
        wide[2 * i + 1] = 0;
    }
    strcpy(cmdline, "a=1");
    return conf_append_load_options(cmdline, sizeof(cmdline), wide, 2 * bytes);
}

TEST(load_options)
{
    static char big[BOOT_CMDLINE_BYTES];
    CHECK(options("b=2 c=3", 8) && !strcmp(cmdline, "a=1 b=2 c=3"));
    CHECK(options("BOOTX64.EFI  b=2", 16) && !strcmp(cmdline, "a=1 b=2"));
    CHECK(options("BOOTX64.EFI", 11) && !strcmp(cmdline, "a=1"));
    CHECK(options("x\x01=", 3) && !strcmp(cmdline, "a=1"));
    CHECK(options("", 0) && !strcmp(cmdline, "a=1"));
    CHECK(conf_append_load_options(cmdline, sizeof(cmdline), NULL, 8));
    CHECK(conf_append_load_options(cmdline, sizeof(cmdline), "b\0=", 3) && !strcmp(cmdline, "a=1"));
    memset(big, '=', sizeof(big));
    CHECK(!options(big, sizeof(big)) && !strcmp(cmdline, "a=1"));
    CHECK(options(big, sizeof(big) - 5) && strlen(cmdline) == sizeof(cmdline) - 1);
}

#define STEP (sizeof(struct efi_memory_descriptor) + 8)      /* firmware may use larger descriptors than we know */
static uint8_t raw[1200 * STEP] __attribute__((aligned(8)));
static struct boot_info info;

static void put(size_t i, uint32_t type, uint64_t start, uint64_t pages, uint64_t attribute)
{
    *(struct efi_memory_descriptor *)(void *)(raw + i * STEP) =
        (struct efi_memory_descriptor){.type = type, .physical_start = start, .number_of_pages = pages, .attribute = attribute};
}

static bool is(unsigned i, uint64_t start, uint64_t bytes, enum mm_region_type type)
{
    const struct mm_region *r = &info.regions[i];
    return r->start.v == start && r->bytes == bytes && r->type == type;
}

TEST(map_sorts_types_and_merges)
{
    put(0, EFI_CONVENTIONAL_MEMORY, 0x100000, 16, EFI_MEMORY_WB);
    put(1, EFI_CONVENTIONAL_MEMORY, 0, 16, EFI_MEMORY_WB);
    put(2, EFI_BOOT_SERVICES_DATA, 0x110000, 16, EFI_MEMORY_WB);
    put(3, EFI_ACPI_NVS, 0x120000, 1, EFI_MEMORY_WB);
    put(4, EFI_ACPI_RECLAIM_MEMORY, 0x121000, 1, EFI_MEMORY_WB);
    put(5, EFI_RUNTIME_SERVICES_DATA, 0x122000, 1, EFI_MEMORY_WB);
    put(6, EFI_CONVENTIONAL_MEMORY, 0x123000, 1, EFI_MEMORY_WB | EFI_MEMORY_SP);
    put(7, EFI_CONVENTIONAL_MEMORY, 0x124000, 1, 0);
    put(8, EFI_UNACCEPTED_MEMORY, 0x200000, 1, EFI_MEMORY_WB);
    put(9, EFI_MMIO, 0xfe000000, 1, 1);
    map_convert(&info, raw, 10 * STEP, STEP);
    CHECK(info.region_count == 6 && info.note[0] == '\0');
    CHECK(is(0, 0, 0x10000, MM_RAM));
    CHECK(is(1, 0x100000, 0x20000, MM_RAM));
    CHECK(is(2, 0x120000, 0x2000, MM_ACPI));
    CHECK(is(3, 0x122000, 0x3000, MM_RESERVED));
    CHECK(is(4, 0x200000, 0x1000, MM_RESERVED));
    CHECK(is(5, 0xfe000000, 0x1000, MM_MMIO));
}

TEST(map_too_many_regions)
{
    /* RAM and reserved in turn: the reserved ones are given up, no RAM is lost. */
    for (size_t i = 0; i < 400; i++)
        put(i, i % 2 ? EFI_CONVENTIONAL_MEMORY : EFI_RESERVED_MEMORY, i << 20, 256, EFI_MEMORY_WB);
    map_convert(&info, raw, 400 * STEP, STEP);
    CHECK(info.region_count == 200 && info.note[0] == '\0' && is(0, 1 << 20, 1 << 20, MM_RAM));

    /* More RAM regions than fit: the smallest are given up, and that is told. */
    for (size_t i = 0; i < 300; i++)
        put(i, EFI_CONVENTIONAL_MEMORY, i << 20, i < 100 ? 1 : 2, EFI_MEMORY_WB);
    map_convert(&info, raw, 300 * STEP, STEP);
    uint64_t bytes = 0;
    for (unsigned i = 0; i < info.region_count; i++)
        bytes += info.regions[i].bytes;
    CHECK(info.region_count == BOOT_MAX_REGIONS);
    CHECK(bytes == (200 * 2 + 56) * PAGE_BYTES);
    CHECK(strstr(info.note, "300 regions, 256 fit: 176 KiB"));
}

TEST(map_lengths_beyond_all_addresses_stay_so)
{
    /* Cut to 64 bits they would look like small, good ones. */
    put(0, EFI_CONVENTIONAL_MEMORY, 0x100000, (1ull << 52) + 16, EFI_MEMORY_WB);
    put(1, EFI_CONVENTIONAL_MEMORY, 0x200000, 16, EFI_MEMORY_WB);
    put(2, EFI_CONVENTIONAL_MEMORY, 0x210000, (1ull << 52) - 1, EFI_MEMORY_WB);
    info.note[0] = '\0';
    map_convert(&info, raw, 3 * STEP, STEP);
    CHECK_EQ(info.region_count, 3);
    CHECK(is(0, 0x100000, UINT64_MAX, MM_RAM) && is(1, 0x200000, 0x10000, MM_RAM));
    CHECK(info.regions[2].bytes > UINT64_MAX - info.regions[2].start.v);
}

/* ---- time ---- */

static uint64_t unix_of(unsigned year, unsigned month, unsigned day, unsigned hour, int zone)
{
    return efi_unix_seconds(&(struct efi_time){.year = (uint16_t)year, .month = (uint8_t)month, .day = (uint8_t)day,
                                               .hour = (uint8_t)hour, .minute = 45, .second = 1,
                                               .time_zone = (int16_t)zone});
}

TEST(firmware_time)
{
    CHECK_EQ(unix_of(1970, 1, 1, 0, 0), 2701);
    CHECK_EQ(unix_of(2026, 11, 20, 10, 0), 1795171501);
    CHECK_EQ(unix_of(2026, 11, 20, 10, EFI_UNSPECIFIED_TIMEZONE), 1795171501);
    CHECK_EQ(unix_of(2026, 11, 20, 10, -60), 1795171501 - 3600);      /* Berlin: UTC is an hour less */
    CHECK_EQ(unix_of(2026, 11, 20, 10, 300), 1795171501 + 5 * 3600);  /* New York */
    CHECK_EQ(unix_of(2000, 2, 29, 0, 0), 951785101);
    CHECK_EQ(unix_of(2000, 3, 1, 0, 0), 951871501);
    CHECK_EQ(unix_of(2100, 3, 1, 0, 0), 4107545101);
    CHECK_EQ(unix_of(1969, 12, 31, 0, 0), 0);
    CHECK_EQ(unix_of(0, 0, 0, 0, 0), 0);
    CHECK_EQ(unix_of(2026, 13, 1, 0, 0), 0);
    CHECK_EQ(unix_of(2026, 1, 32, 0, 0), 0);
    CHECK_EQ(unix_of(2026, 1, 1, 24, 0), 0);
    CHECK_EQ(unix_of(2026, 1, 1, 0, 1441), 0);
    CHECK_EQ(unix_of(1970, 1, 1, 0, -1440), 0);
}

TEST_MAIN()
