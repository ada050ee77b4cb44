/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A loader for tests: starts a kernel by the Linux 64-bit protocol in exactly the state in which OpenVMM's --kernel
 * does, so that plain QEMU can show whether the image accepts it.
 *
 *   qemu-system-x86_64 -kernel linux64.elf -initrd candela.elf -append "the kernel's command line"
 *
 * QEMU starts it by PVH with the kernel's ELF file as module. It checks the file as OpenVMM does, copies the segments
 * to their physical addresses, writes boot parameters (0x2000) and command line (0x3000), moves the RSDP to 0xE0000,
 * its only place, and jumps. Everything it dislikes is one line "linux64: ..." on COM1, then a halt.
 *
 * A command line that begins with linux64.at=0x... has the image put there instead, which no loader of this protocol
 * does, but firmware and GRUB do: it must run at any multiple of 2 MiB.
 */
#include <stddef.h>
#include <stdint.h>

#define BOOT_PARAMS     0x2000u
#define COMMAND_LINE    0x3000u
#define COMMAND_LINE_MAX 4095u
#define RSDP_ADDRESS    0xE0000u
#define LOWEST_LOAD     0x100000u
#define IMAGE_ADDRESS   0x200000u      /* of Candela's ELF files */
#define E820_MAX        128u
#define PREFIX          "panic=-1 debug pci=off console=ttyS0 "     /* what OpenVMM puts before the operator's words */

struct start_info {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, cmdline, rsdp, memory_map;
    uint32_t memory_map_entries, reserved;
};
struct module { uint64_t address, bytes, cmdline, reserved; };
struct region { uint64_t address, bytes; uint32_t type, reserved; };

struct elf_header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, program_headers, section_headers;
    uint32_t flags;
    uint16_t header_bytes, program_header_bytes, program_header_count;
    uint16_t section_header_bytes, section_header_count, section_names;
};
struct program_header { uint32_t type, flags; uint64_t offset, vaddr, paddr, file_bytes, memory_bytes, align; };
#define ELF_IDENT      "\177ELF\2\1\1"
#define ELF_X86_64     62
#define SEGMENT_LOAD   1
#define SEGMENT_INTERP 3

extern char loader_start[], loader_end[];
uint64_t load(const struct start_info *info);

static void out8(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static void out32(uint16_t port, uint32_t v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static uint32_t in32(uint16_t port)
{
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static void say(const char *text)
{
    while (*text != '\0')
        out8(0x3F8, (uint8_t)*text++);
}

static void refuse(const char *why)
{
    say("linux64: ");
    say(why);
    say("\r\n");
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void copy(void *to, const void *from, uint64_t bytes)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

static void clear(void *p, uint64_t bytes)
{
    __asm__ volatile("rep stosb" : "+D"(p), "+c"(bytes) : "a"(0) : "memory");
}

static int same(const void *a, const void *b, unsigned bytes)
{
    const uint8_t *x = a, *y = b;
    for (unsigned i = 0; i < bytes; i++) {
        if (x[i] != y[i])
            return 0;
    }
    return 1;
}

static int overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

/* How far from its own addresses the image is wanted. */
static uint64_t wanted_shift(const char *words)
{
    static const char key[] = "linux64.at=0x";
    uint64_t at = 0;
    if (words == NULL || !same(words, key, sizeof key - 1))
        return 0;
    for (words += sizeof key - 1; (*words >= '0' && *words <= '9') || (*words >= 'a' && *words <= 'f'); words++)
        at = at << 4 | (uint64_t)(*words <= '9' ? *words - '0' : *words - 'a' + 10);
    return at - IMAGE_ADDRESS;
}

static uint64_t load_elf(const uint8_t *file, uint64_t bytes, uint64_t shift)
{
    const struct elf_header *h = (const void *)file;
    const struct program_header *p;
    if (bytes < sizeof *h || !same(h->ident, ELF_IDENT, 7) || h->machine != ELF_X86_64)
        refuse("not an ELF file for x86_64");
    if (h->entry < LOWEST_LOAD)
        refuse("e_entry lies below 1 MiB");
    if (h->program_header_bytes != sizeof *p || h->program_headers > bytes ||
        h->program_header_count > (bytes - h->program_headers) / sizeof *p)
        refuse("the program headers lie outside the file");
    p = (const void *)(file + h->program_headers);
    for (unsigned i = 0; i < h->program_header_count; i++, p++) {
        if (p->type == SEGMENT_INTERP)
            refuse("not a static program");
        if (p->type != SEGMENT_LOAD)
            continue;
        if (p->paddr < LOWEST_LOAD)
            refuse("a segment lies below 1 MiB");
        if (p->offset > bytes || p->file_bytes > bytes - p->offset || p->memory_bytes < p->file_bytes)
            refuse("a segment lies outside the file");
        if (overlap(p->paddr, p->memory_bytes, (uintptr_t)file, bytes) ||
            overlap(p->paddr, p->memory_bytes, (uintptr_t)loader_start, (uint64_t)(loader_end - loader_start)))
            refuse("a segment overlaps the loader or the file: give the machine more memory");
        copy((void *)(p->paddr + shift), file + p->offset, p->file_bytes);
        clear((void *)(p->paddr + shift + p->file_bytes), p->memory_bytes - p->file_bytes);
    }
    return h->entry + shift;
}

/* The chipset write-protects 0xE0000..0xFFFFF after the BIOS ran; q35 keeps the switches in its registers 0x90 (upper
 * half: 0xF0000) and 0x95 (0xE0000). */
static void unlock_bios_area(void)
{
    out32(0xCF8, 0x80000090);
    out32(0xCFC, in32(0xCFC) | 0x30);
    out32(0xCF8, 0x80000094);
    out32(0xCFC, in32(0xCFC) | 0x3300);
}

static void move_rsdp(uint64_t from)
{
    uint8_t *place = (void *)(uintptr_t)RSDP_ADDRESS;
    if (from == 0)
        refuse("QEMU gave no RSDP");
    unlock_bios_area();
    if (from != RSDP_ADDRESS) {
        copy(place, (const void *)from, 36);
        clear((void *)from, 8);
    }
    if (!same(place, "RSD PTR ", 8) || same((const void *)from, "RSD PTR ", 8))
        refuse("0xE0000 can't be written on this machine (q35 is needed)");
}

/* Boot parameters and command line take the place of what QEMU put into low memory: everything is copied first. */
static void write_params(const struct start_info *info)
{
    static struct region map[E820_MAX];
    static char given[COMMAND_LINE_MAX + 1];
    uint8_t *params = (void *)(uintptr_t)BOOT_PARAMS, *entry = params + 0x2D0;
    char *line = (void *)(uintptr_t)COMMAND_LINE;
    const char *words = (const char *)info->cmdline;
    unsigned n = sizeof PREFIX - 1, entries = info->memory_map_entries;
    if (info->version < 1 || entries > E820_MAX)
        refuse("no memory map, or too long a one");
    copy(map, (const void *)info->memory_map, entries * sizeof map[0]);
    for (unsigned i = 0; words != NULL && words[i] != '\0' && i < COMMAND_LINE_MAX - n; i++)
        given[i] = words[i];
    words = given;
    clear(params, 4096);
    params[0x1E8] = (uint8_t)entries;
    params[0x1FE] = 0x55;
    params[0x1FF] = 0xAA;
    copy(params + 0x202, "HdrS", 4);
    params[0x210] = 0xFF;                                  /* type_of_loader */
    copy(params + 0x228, &(uint32_t){COMMAND_LINE}, 4);
    for (unsigned i = 0; i < entries; i++, entry += 20)
        copy(entry, &map[i], 20);

    copy(line, PREFIX, n);
    while (*words != '\0')
        line[n++] = *words++;
    line[n] = '\0';
}

uint64_t load(const struct start_info *info)
{
    struct module module;
    uint64_t entry, shift = wanted_shift((const char *)info->cmdline);
    if (info->module_count != 1)
        refuse("give the kernel by -initrd");
    copy(&module, (const void *)info->modules, sizeof module);
    move_rsdp(info->rsdp);
    write_params(info);
    entry = load_elf((const void *)module.address, module.bytes, shift);
    say("linux64: starting the kernel\r\n");
    return entry;
}
