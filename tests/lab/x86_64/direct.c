/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads the guest: an ELF file at its physical addresses, or a bzImage, with the entry state of the Linux 64-bit boot
 * protocol exactly as OpenVMM makes it (09 of the reference: SSE off, no stack, RSDP only in the BIOS area).
 *
 * Memory. The lab keeps the first LAB_DIRECT_BYTES of the machine; what follows below 4 GiB becomes the guest's from
 * address 0 on, memory above 4 GiB stays where it is. Nothing of it is cleared or read without need, so a machine of
 * any size starts equally fast. QEMU puts the guest's image at the end of low memory, which is the guest's own memory
 * too: it is copied from there, and refused when there is too little memory to keep source and destination apart.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/x86_64/direct.h"
#include "tests/lab/x86_64/fwcfg.h"

#define FOUR_GIB        (4ull << 30)
#define GUEST_BLOCK     (2ull << 20)

#define PAT_RESET       0x0007040600070406ull
#define PIC_MASTER_MASK 0x21
#define PIC_SLAVE_MASK  0xA1
#define FWCFG_INITRD    "opt/lab/initrd"
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

static uint64_t low_bytes;                  /* guest RAM from address 0 on */
static uint64_t kept_start, kept_bytes;     /* below 4 GiB, kept back */
static struct { uint64_t start, bytes; } high[8];
static unsigned high_count;

static void add_ram(uint64_t gpa, uint64_t hpa, uint64_t bytes)
{
    int error = guest_ram_add(gpa, hpa, bytes);
    if (error)
        panic("guest memory %#llx + %#llx: %s", (unsigned long long)gpa, (unsigned long long)bytes, error_name(error));
}

/* The two interrupt controllers are real; what else the firmware used falls silent. */
static void prepare_machine(void)
{
    int error = npt_map(APIC_BASE_GPA, APIC_BASE_GPA, PAGE_BYTES, apic_guest_rights());
    if (!error)
        error = npt_map(IO_APIC_GPA, IO_APIC_GPA, PAGE_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE);
    if (error)
        panic("interrupt controllers: %s", error_name(error));
    x86_out8(PIC_MASTER_MASK, 0xFF);
    x86_out8(PIC_SLAVE_MASK, 0xFF);
    apic_reset();
    x86_wrmsr(MSR_PAT, PAT_RESET);
}

void direct_memory(const struct boot_info *boot)
{
    prepare_machine();
    uint64_t wanted = lab_options.guest_mem_bytes ? lab_options.guest_mem_bytes : UINT64_MAX;
    for (unsigned i = 0; i < boot->region_count; i++) {
        uint64_t start = boot->regions[i].start.v, end = start + boot->regions[i].bytes;
        if (boot->regions[i].type == MM_RAM && start <= LAB_DIRECT_BYTES && end > LAB_DIRECT_BYTES)
            low_bytes = ALIGN_DOWN((end < FOUR_GIB ? end : FOUR_GIB) - LAB_DIRECT_BYTES, GUEST_BLOCK);
    }
    kept_bytes = low_bytes - MIN(low_bytes, wanted);
    low_bytes -= kept_bytes;
    kept_start = LAB_DIRECT_BYTES + low_bytes;
    if (low_bytes < GUEST_BLOCK)
        lab_end(LAB_END_FAULT, "QEMU was given too little memory: the lab keeps 64 MiB for itself");
    add_ram(0, LAB_DIRECT_BYTES, low_bytes);
    wanted -= low_bytes;
    for (unsigned i = 0; i < boot->region_count && wanted > 0; i++) {
        uint64_t start = boot->regions[i].start.v, bytes = ALIGN_DOWN(boot->regions[i].bytes, GUEST_BLOCK);
        bytes = MIN(bytes, wanted);
        if (boot->regions[i].type != MM_RAM || start < FOUR_GIB || bytes == 0 || high_count == ARRAY_SIZE(high))
            continue;
        add_ram(start, start, bytes);
        high[high_count].start = start;
        high[high_count++].bytes = bytes;
        wanted -= bytes;
    }
    log_info("guest memory: %llu MiB", (unsigned long long)(guest_ram_bytes() >> 20));
    if (lab_options.guest_mem_bytes && wanted > 0)
        log_warn("that is %llu MiB less than guest_mem asks for", (unsigned long long)(wanted >> 20));
}

uint64_t direct_kept_take(uint64_t bytes)
{
    if (bytes > kept_bytes)
        return 0;
    kept_bytes -= bytes;
    kept_start += bytes;
    return kept_start - bytes;
}

static void *must_have(uint64_t gpa, uint64_t bytes, const char *what)
{
    void *p = guest_ptr(gpa, bytes);
    if (!p) {
        log_err("%s: %llu bytes at %#llx are outside the guest's memory", what, (unsigned long long)bytes,
                (unsigned long long)gpa);
        lab_end(LAB_END_FAULT, "the guest's image does not fit its memory");
    }
    return p;
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
    uint8_t *z = must_have(DIRECT_ZERO_PAGE, PAGE_BYTES, "zero page");
    memset(z, 0, PAGE_BYTES);
    z[ZP_BOOT_FLAG] = 0x55;
    z[ZP_BOOT_FLAG + 1] = 0xAA;
    memcpy(z + ZP_MAGIC, "HdrS", 4);
    z[ZP_LOADER] = LOADER_OTHER;
    put32(z + ZP_CMDLINE, (uint32_t)DIRECT_CMDLINE);
    size_t n = strlen(lab_options.guest_cmdline) + 1;
    memcpy(must_have(DIRECT_CMDLINE, n, "command line"), lab_options.guest_cmdline, n);
    put32(z + ZP_CMDLINE_SIZE, (uint32_t)n);

    e820_add(z, 0, DIRECT_ACPI, E820_RAM);
    e820_add(z, DIRECT_ACPI, DIRECT_ACPI + LAB_ACPI_BYTES, E820_ACPI);
    e820_add(z, DIRECT_ACPI + LAB_ACPI_BYTES, DIRECT_RSDP, E820_RAM);
    e820_add(z, DIRECT_RSDP, DIRECT_LOAD, E820_RESERVED);
    e820_add(z, DIRECT_LOAD, low_bytes, E820_RAM);
    for (unsigned i = 0; i < high_count; i++)
        e820_add(z, high[i].start, high[i].start + high[i].bytes, E820_RAM);
    return z;
}

static void build_tables(void)
{
    static const uint64_t gdt[4] = {0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x008F8B000000FFFF};
    memcpy(must_have(DIRECT_GDT, sizeof(gdt), "GDT"), gdt, sizeof(gdt));
    uint64_t *t = must_have(DIRECT_TABLES, 6 * PAGE_BYTES, "page tables");
    memset(t, 0, 6 * PAGE_BYTES);
    t[0] = (DIRECT_TABLES + PAGE_BYTES) | 3;
    for (unsigned i = 0; i < 4; i++)
        t[512 + i] = (DIRECT_TABLES + (2 + i) * PAGE_BYTES) | 3;
    for (unsigned i = 0; i < 2048; i++)
        t[1024 + i] = (uint64_t)i << 21 | 0x83;
}

/* The module lies in guest memory: nothing of it may be overwritten before it is copied. */
static void copy_into_guest(const struct boot_module *m, uint64_t gpa, uint64_t offset, uint64_t bytes,
                            uint64_t mem_bytes)
{
    uint64_t module_gpa = m->start.v - LAB_DIRECT_BYTES, hpa;
    uint8_t *to = must_have(gpa, mem_bytes, "guest image");
    if (!guest_ptr_to_hpa(to, &hpa) || (hpa < m->start.v + m->bytes && m->start.v < hpa + mem_bytes)) {
        log_err("the image's bytes at %#llx and their place %#llx overlap", (unsigned long long)module_gpa,
                (unsigned long long)gpa);
        lab_end(LAB_END_FAULT, "QEMU was given too little memory to unpack the guest");
    }
    uint8_t *from = mm_map_phys(pa(m->start.v + offset), MAX(bytes, 1ull), MAP_READ);
    if (!from)
        panic("the guest's image can't be mapped");
    memcpy(to, from, bytes);
    memset(to + bytes, 0, mem_bytes - bytes);
    mm_unmap_phys(from, MAX(bytes, 1ull));
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
        copy_into_guest(m, s->paddr, s->offset, s->filesz, s->memsz);
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
    copy_into_guest(m, DIRECT_LOAD, setup * 512ull, m->bytes - setup * 512ull,
                    MAX((uint64_t)get32(file + ZP_INIT_SIZE), m->bytes));
    return DIRECT_LOAD + 0x200;
}

/* -fw_cfg name=opt/lab/initrd,file=...: to the end of low memory, straight from QEMU. */
static void load_initrd(uint8_t *zero_page, uint64_t kernel_end)
{
    uint16_t select;
    uint32_t bytes;
    uint64_t hpa;
    if (!fwcfg_find(FWCFG_INITRD, &select, &bytes) || bytes == 0)
        return;
    if (bytes > low_bytes || ALIGN_DOWN(low_bytes - bytes, PAGE_BYTES) < kernel_end)
        lab_end(LAB_END_FAULT, "the guest's memory is too small for its initrd");
    uint64_t gpa = ALIGN_DOWN(low_bytes - bytes, PAGE_BYTES);
    guest_ptr_to_hpa(must_have(gpa, bytes, "initrd"), &hpa);
    fwcfg_read(select, hpa, bytes);
    put32(zero_page + ZP_RAMDISK, (uint32_t)gpa);
    put32(zero_page + ZP_RAMDISK_SIZE, bytes);
    log_info("initrd: %u bytes at %#llx", bytes, (unsigned long long)gpa);
}

void direct_load(const struct boot_info *boot)
{
    if (boot->module_count == 0 || boot->modules[0].bytes == 0)
        lab_end(LAB_END_FAULT, "no guest: give its image with -initrd");
    const struct boot_module *m = &boot->modules[0];
    uint64_t head_bytes = MIN(m->bytes, PAGE_BYTES);
    uint8_t *file = mm_map_phys(m->start, head_bytes, MAP_READ), *head = kzalloc(PAGE_BYTES);
    if (!file || !head)
        panic("the guest's image can't be mapped");
    memcpy(head, file, head_bytes);             /* the zero page may be built over the original */
    mm_unmap_phys(file, head_bytes);

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
