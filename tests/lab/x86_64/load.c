/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads the guest: an ELF file at its physical addresses, or a bzImage, with the entry state of the Linux 64-bit boot
 * protocol exactly as OpenVMM makes it (SSE off, no stack, RSDP only in the BIOS area). Guest memory below 4 GiB begins
 * at address 0.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/direct.h"
#include "tests/lab/x86_64/load.h"

#define FOUR_GIB        (4ull << 30)

#define PAT_RESET       0x0007040600070406ull
#define PIC_MASTER_MASK 0x21
#define PIC_SLAVE_MASK  0xA1
#define IO_APIC_GPA     0xFEC00000ull

#define ELF_MAGIC       0x464C457Fu
#define ELF_CLASS64     2
#define ELF_MACHINE_X86_64 62
#define ELF_PT_LOAD     1

struct elf_header {
    uint32_t magic;
    uint8_t class, data, version, abi[9];
    uint16_t type, machine;
    uint32_t version2;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct elf_segment { uint32_t type, flags; uint64_t offset, vaddr, paddr, filesz, memsz, align; };

/* The zero page: offsets of the Linux boot protocol. */
#define ZP_E820_COUNT   0x1E8
#define ZP_SETUP_SECTS  0x1F1
#define ZP_BOOT_FLAG    0x1FE
#define ZP_MAGIC        0x202
#define ZP_VERSION      0x206
#define ZP_LOADER       0x210
#define ZP_LOADFLAGS    0x211
#define ZP_RAMDISK      0x218
#define ZP_RAMDISK_SIZE 0x21C
#define ZP_CMDLINE      0x228
#define ZP_XLOADFLAGS   0x236
#define ZP_CMDLINE_SIZE 0x238
#define ZP_INIT_SIZE    0x260
#define ZP_HEADER_END   0x268
#define ZP_E820         0x2D0
#define ZP_E820_MAX     128
#define LOADER_OTHER    0xFF
#define E820_RAM        1
#define E820_RESERVED   2
#define E820_ACPI       3

/* The two interrupt controllers are real; what else the firmware used falls silent. */
const struct machine_layout machine_layout = {.ram = 0, .low_end = FOUR_GIB};

void machine_prepare_direct(void)
{
    int error = nested_map(APIC_BASE_GPA, APIC_BASE_GPA, PAGE_BYTES, apic_guest_rights());
    if (!error)
        error = nested_map(IO_APIC_GPA, IO_APIC_GPA, PAGE_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE);
    if (error)
        panic("interrupt controllers: %s", error_name(error));
    x86_out8(PIC_MASTER_MASK, 0xFF);
    x86_out8(PIC_SLAVE_MASK, 0xFF);
    apic_reset();
    x86_wrmsr(MSR_PAT, PAT_RESET);
}

static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, sizeof(v)); }
static uint32_t get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static void e820_add(uint8_t *zero_page, uint64_t start, uint64_t end, uint32_t type)
{
    if (end <= start || zero_page[ZP_E820_COUNT] == ZP_E820_MAX)
        return;
    uint8_t *e = zero_page + ZP_E820 + 20 * zero_page[ZP_E820_COUNT]++;
    uint64_t bytes = end - start;
    memcpy(e, &start, sizeof(start));
    memcpy(e + 8, &bytes, sizeof(bytes));
    put32(e + 16, type);
}

static uint8_t *build_zero_page(void)
{
    uint8_t *z = direct_must_have(DIRECT_ZERO_PAGE, PAGE_BYTES, "zero page");
    memset(z, 0, PAGE_BYTES);
    z[ZP_BOOT_FLAG] = 0x55;
    z[ZP_BOOT_FLAG + 1] = 0xAA;
    memcpy(z + ZP_MAGIC, "HdrS", 4);
    z[ZP_LOADER] = LOADER_OTHER;
    put32(z + ZP_CMDLINE, (uint32_t)DIRECT_CMDLINE);
    size_t n = strlen(lab_options.guest_cmdline) + 1;
    memcpy(direct_must_have(DIRECT_CMDLINE, n, "command line"), lab_options.guest_cmdline, n);
    put32(z + ZP_CMDLINE_SIZE, (uint32_t)n);

    e820_add(z, 0, DIRECT_ACPI, E820_RAM);
    e820_add(z, DIRECT_ACPI, DIRECT_ACPI + LAB_ACPI_BYTES, E820_ACPI);
    e820_add(z, DIRECT_ACPI + LAB_ACPI_BYTES, DIRECT_RSDP, E820_RAM);
    e820_add(z, DIRECT_RSDP, DIRECT_LOAD, E820_RESERVED);
    e820_add(z, DIRECT_LOAD, direct_low_bytes(), E820_RAM);
    const struct direct_range *high;
    for (unsigned i = 0, count = direct_high_ranges(&high); i < count; i++)
        e820_add(z, high[i].start, high[i].start + high[i].bytes, E820_RAM);
    return z;
}

static void build_tables(void)
{
    static const uint64_t gdt[4] = {0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x008F8B000000FFFF};
    memcpy(direct_must_have(DIRECT_GDT, sizeof(gdt), "GDT"), gdt, sizeof(gdt));
    uint64_t *t = direct_must_have(DIRECT_TABLES, 6 * PAGE_BYTES, "page tables");
    memset(t, 0, 6 * PAGE_BYTES);
    t[0] = (DIRECT_TABLES + PAGE_BYTES) | 3;
    for (unsigned i = 0; i < 4; i++)
        t[512 + i] = (DIRECT_TABLES + (2 + i) * PAGE_BYTES) | 3;
    for (unsigned i = 0; i < 2048; i++)
        t[1024 + i] = (uint64_t)i << 21 | 0x83;
}

static uint64_t load_elf(const struct boot_module *m, const uint8_t *file)
{
    const struct elf_header *h = (const void *)file;
    if (h->class != ELF_CLASS64 || h->machine != ELF_MACHINE_X86_64 || h->phentsize != sizeof(struct elf_segment) ||
        h->phoff > PAGE_BYTES || h->phnum * sizeof(struct elf_segment) > PAGE_BYTES - h->phoff)
        lab_end(LAB_END_FAULT, "the guest's image is not an ELF64 file for x86_64 that the lab can read");
    for (unsigned i = 0; i < h->phnum; i++) {
        const struct elf_segment *s = (const void *)(file + h->phoff + i * sizeof(struct elf_segment));
        if (s->type != ELF_PT_LOAD || s->memsz == 0)
            continue;
        if (s->paddr < DIRECT_LOAD || s->filesz > s->memsz || s->offset > m->bytes || s->filesz > m->bytes - s->offset)
            lab_end(LAB_END_FAULT, "a segment of the guest's image is out of bounds or below 1 MiB");
        direct_copy(m, s->paddr, s->offset, s->filesz, s->memsz);
    }
    return h->entry;
}

static uint64_t load_bzimage(const struct boot_module *m, const uint8_t *file, uint8_t *zero_page)
{
    uint32_t setup = (file[ZP_SETUP_SECTS] ? file[ZP_SETUP_SECTS] : 4u) + 1u;
    if (!(file[ZP_XLOADFLAGS] & 1) || setup * 512ull >= m->bytes)
        lab_end(LAB_END_FAULT, "the guest's bzImage has no 64-bit entry");
    uint32_t cmdline_size = get32(file + ZP_CMDLINE_SIZE);
    memcpy(zero_page + ZP_SETUP_SECTS, file + ZP_SETUP_SECTS, ZP_HEADER_END - ZP_SETUP_SECTS);
    zero_page[ZP_LOADER] = LOADER_OTHER;
    put32(zero_page + ZP_CMDLINE, (uint32_t)DIRECT_CMDLINE);
    if (strlen(lab_options.guest_cmdline) > cmdline_size)
        log_warn("the guest's command line is longer than its kernel accepts");
    direct_copy(m, DIRECT_LOAD, setup * 512ull, m->bytes - setup * 512ull,
                    MAX((uint64_t)get32(file + ZP_INIT_SIZE), m->bytes));
    return DIRECT_LOAD + 0x200;
}

static void load_initrd(uint8_t *zero_page, uint64_t kernel_end)
{
    uint64_t gpa;
    uint32_t bytes = direct_initrd(kernel_end, &gpa);
    if (bytes == 0)
        return;
    put32(zero_page + ZP_RAMDISK, (uint32_t)gpa);
    put32(zero_page + ZP_RAMDISK_SIZE, bytes);
}

void direct_load(const struct boot_info *boot)
{
    const struct boot_module *m = direct_module(boot);
    uint8_t *head = direct_head(m);
    uint64_t entry = 0;
    uint8_t *zero_page = build_zero_page();
    build_tables();
    if (get32(head) == ELF_MAGIC)
        entry = load_elf(m, head);
    else if (head[ZP_BOOT_FLAG] == 0x55 && !memcmp(head + ZP_MAGIC, "HdrS", 4)) {
        entry = load_bzimage(m, head, zero_page);
        load_initrd(zero_page, DIRECT_LOAD + get32(head + ZP_INIT_SIZE));
    } else
        lab_end(LAB_END_FAULT, "the guest's image is neither ELF nor bzImage");
    kfree(head);
    acpi_build(DIRECT_ACPI, DIRECT_RSDP, lab_vcpu_count);
    vcpu_set_long_mode(&lab_vcpus[0], entry, DIRECT_TABLES, DIRECT_GDT, DIRECT_ZERO_PAGE);
    log_info("guest: %llu bytes, entry %#llx", (unsigned long long)m->bytes, (unsigned long long)entry);
}
