/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Direct mode, what is the same everywhere: which memory the guest has, and its image brought into it.
 *
 * The lab keeps the first LAB_DIRECT_BYTES of RAM; what follows in low memory becomes the guest's from RAM's first
 * address on, memory above stays where it is. Nothing of it is cleared or read without need, so a machine of any size
 * starts equally fast. QEMU puts the guest's image into low memory, which is the guest's own memory too: it is copied
 * from there, and refused when there is too little memory to keep source and destination apart.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/direct.h"
#include "tests/lab/fwcfg.h"

#define GUEST_BLOCK     (2ull << 20)
#define FWCFG_INITRD    "opt/lab/initrd"

static uint64_t low_bytes;                  /* guest RAM from machine_layout.ram on */
static uint64_t kept_start, kept_bytes;     /* of low memory, kept back */
static struct direct_range high[8];
static unsigned high_count;

static void add_ram(uint64_t gpa, uint64_t hpa, uint64_t bytes)
{
    int error = guest_ram_add(gpa, hpa, bytes);
    if (error)
        panic("guest memory %#llx + %#llx: %s", (unsigned long long)gpa, (unsigned long long)bytes, error_name(error));
}

void direct_memory(const struct boot_info *boot)
{
    uint64_t low_end = machine_layout.low_end, own_end = machine_layout.ram + LAB_DIRECT_BYTES;
    machine_prepare_direct();
    uint64_t wanted = lab_options.guest_mem_bytes ? lab_options.guest_mem_bytes : UINT64_MAX;
    for (unsigned i = 0; i < boot->region_count; i++) {
        uint64_t start = boot->regions[i].start.v, end = start + boot->regions[i].bytes;
        if (boot->regions[i].type == MM_RAM && start <= own_end && end > own_end)
            low_bytes = ALIGN_DOWN(MIN(end, low_end) - own_end, GUEST_BLOCK);
    }
    kept_bytes = low_bytes - MIN(low_bytes, wanted);
    low_bytes -= kept_bytes;
    kept_start = own_end + low_bytes;
    if (low_bytes < GUEST_BLOCK)
        lab_end(LAB_END_FAULT, "QEMU was given too little memory: the lab keeps 64 MiB for itself");
    add_ram(machine_layout.ram, own_end, low_bytes);
    wanted -= low_bytes;
    for (unsigned i = 0; i < boot->region_count && wanted > 0; i++) {
        uint64_t start = boot->regions[i].start.v, bytes = ALIGN_DOWN(boot->regions[i].bytes, GUEST_BLOCK);
        bytes = MIN(bytes, wanted);
        if (boot->regions[i].type != MM_RAM || start < low_end || bytes == 0 || high_count == ARRAY_SIZE(high))
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

uint64_t direct_low_bytes(void) { return low_bytes; }

unsigned direct_high_ranges(const struct direct_range **ranges)
{
    *ranges = high;
    return high_count;
}

uint64_t direct_kept_take(uint64_t bytes)
{
    if (bytes > kept_bytes)
        return 0;
    kept_bytes -= bytes;
    kept_start += bytes;
    return kept_start - bytes;
}

void *direct_must_have(uint64_t gpa, uint64_t bytes, const char *what)
{
    void *p = guest_ptr(gpa, bytes);
    if (!p) {
        log_err("%s: %llu bytes at %#llx are outside the guest's memory", what, (unsigned long long)bytes,
                (unsigned long long)gpa);
        lab_end(LAB_END_FAULT, "the guest's image does not fit its memory");
    }
    return p;
}

const struct boot_module *direct_module(const struct boot_info *boot)
{
    if (boot->module_count == 0 || boot->modules[0].bytes == 0)
        lab_end(LAB_END_FAULT, "no guest: give its image with -initrd");
    return &boot->modules[0];
}

uint8_t *direct_head(const struct boot_module *m)
{
    uint64_t bytes = MIN(m->bytes, PAGE_BYTES);
    uint8_t *file = mm_map_phys(m->start, bytes, MAP_READ), *head = kzalloc(PAGE_BYTES);
    if (!file || !head)
        panic("the guest's image can't be mapped");
    memcpy(head, file, bytes);
    mm_unmap_phys(file, bytes);
    return head;
}

void direct_copy(const struct boot_module *m, uint64_t gpa, uint64_t offset, uint64_t bytes, uint64_t mem_bytes)
{
    uint64_t hpa;
    uint8_t *to = direct_must_have(gpa, mem_bytes, "guest image");
    if (!guest_ptr_to_hpa(to, &hpa) || (hpa < m->start.v + m->bytes && m->start.v < hpa + mem_bytes)) {
        log_err("the image's bytes at %#llx and their place %#llx overlap", (unsigned long long)m->start.v,
                (unsigned long long)hpa);
        lab_end(LAB_END_FAULT, "QEMU was given too little memory to unpack the guest");
    }
    uint8_t *from = mm_map_phys(pa(m->start.v + offset), MAX(bytes, 1ull), MAP_READ);
    if (!from)
        panic("the guest's image can't be mapped");
    memcpy(to, from, bytes);
    memset(to + bytes, 0, mem_bytes - bytes);
    mm_unmap_phys(from, MAX(bytes, 1ull));
}

uint32_t direct_initrd(uint64_t kernel_end, uint64_t *gpa)
{
    uint16_t select;
    uint32_t bytes;
    uint64_t hpa;
    if (!fwcfg_find(FWCFG_INITRD, &select, &bytes) || bytes == 0)
        return 0;
    uint64_t end = machine_layout.ram + low_bytes;
    if (bytes > low_bytes || ALIGN_DOWN(end - bytes, PAGE_BYTES) < kernel_end)
        lab_end(LAB_END_FAULT, "the guest's memory is too small for its initrd");
    *gpa = ALIGN_DOWN(end - bytes, PAGE_BYTES);
    guest_ptr_to_hpa(direct_must_have(*gpa, bytes, "initrd"), &hpa);
    fwcfg_read(select, hpa, bytes);
    log_info("initrd: %u bytes at %#llx", bytes, (unsigned long long)*gpa);
    return bytes;
}
