/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bring-up of memory, and the questions that concern more than one file of the room.
 *
 * Order: normalise the map; bring a few megabytes online through the boot tables; build the kernel's own tables (image
 * sections as the architecture names them, direct map of what is online); switch to them; heap; address ranges. From
 * then on memory comes online when the allocator runs dry. The boot tables are left alone: they are part of the image
 * or of MM_KERNEL memory.
 */
#define LOG_ROOM "mm"
#include "mm/internal.h"

#define MIN_RAM_BYTES     (4ull << 20)
#define INIT_PAGES        512                /* brought online at once, where there is so much */
#define INIT_PAGES_LEAST  64                 /* tables of image and direct map, heap, the reserve */

#define DEVICES_MAX       64                 /* mappings of devices that are remembered */

static const struct arch_image_section *sections;
static unsigned section_count;
static struct mm_range devices[DEVICES_MAX];
static unsigned devices_forgotten;           /* mapped while the table was full */

static void map_image(void)
{
    section_count = arch_image_sections(&sections);
    for (unsigned i = 0; i < section_count; i++) {
        const struct arch_image_section *s = &sections[i];
        uint64_t bytes = ALIGN_UP(s->bytes, PAGE_BYTES);
        if (bytes == 0)
            continue;
        int error = map_range(&kernel_space, s->start, s->phys, bytes, s->attr | MAP_GLOBAL);
        if (error)
            panic("image section %u can't be mapped: %s", i, error_name(error));
    }
}

static void *map_device(paddr_t start, uint64_t bytes)
{
    return mm_map_phys(start, bytes, MAP_READ | MAP_WRITE | MAP_DEVICE);
}

void mm_init(const struct mm_region *map, unsigned entries)
{
    static struct mm_range found[MM_RANGE_MAX];
    unsigned count = memory_map_normalise(map, entries, found, MM_MAP_MAX);
    uint64_t total = 0;
    for (unsigned i = 0; i < count; i++)
        total += found[i].end - found[i].start;
    if (total < MIN_RAM_BYTES)
        panic("the memory map has %llu KiB of usable RAM, at least %llu are needed", (unsigned long long)total >> 10,
              MIN_RAM_BYTES >> 10);
    if (pages_init(found, count, ARCH_BOOT_MAPPED_END, INIT_PAGES) < INIT_PAGES_LEAST)
        panic("less than %llu KiB of RAM below %llu GiB, where bring-up needs them",
              INIT_PAGES_LEAST * PAGE_BYTES >> 10, (unsigned long long)ARCH_BOOT_MAPPED_END >> 30);
    paddr_t root = page_alloc_zeroed(0);
    KASSERT(!pa_is_none(root));
    map_init(root);
    map_image();
    pages_map_online();
    arch_pt_set_root(root);
    heap_init();
    vmap_init();
    arch_set_device_map(map_device);
    struct mm_stats stats;
    mm_get_stats(&stats);
    log_info("%llu MiB of RAM in %u ranges, %llu MiB online", (unsigned long long)total >> 20, count,
             (unsigned long long)stats.online_pages * PAGE_BYTES >> 20);
}

void mm_get_stats(struct mm_stats *stats)
{
    heap_trim();
    pages_get_stats(stats);
    stats->given_pages = given_pages();
    stats->table_pages = map_table_pages();
    stats->heap_bytes = heap_bytes();
    stats->vmap_bytes = vmap_bytes();
}

/* The virtual start shares its low bits with the physical one, so that large ranges get large blocks. */
static uint64_t block_alignment(uint64_t bytes)
{
    for (uint64_t block = PAGE_BYTES << 18; block > PAGE_BYTES; block >>= 9)
        if (bytes >= block)
            return block;
    return PAGE_BYTES;
}

uint64_t mm_phys_limit(void)
{
    unsigned bits = arch_pt_format()->phys_bits;
    return bits && bits < 63 ? MIN(BIT(bits), (uint64_t)ARCH_DIRECT_BYTES) : ARCH_DIRECT_BYTES;
}

/* What is mapped as a device can't become RAM by hot add, whatever the host says. */
static void device_note(uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < DEVICES_MAX; i++)
        if (devices[i].start == devices[i].end) {
            devices[i] = (struct mm_range){start, end};
            return;
        }
    devices_forgotten++;
}

static void device_forget(uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < DEVICES_MAX; i++)
        if (devices[i].start == start && devices[i].end == end) {
            devices[i] = (struct mm_range){0, 0};
            return;
        }
    devices_forgotten--;
}

bool device_mapped(uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < DEVICES_MAX; i++)
        if (devices[i].start < end && start < devices[i].end)
            return true;
    return devices_forgotten != 0;
}

void *mm_map_phys(paddr_t start, uint64_t bytes, unsigned attr)
{
    if (bytes == 0 || start.v + (bytes - 1) < start.v || start.v + (bytes - 1) > UINT64_MAX - PAGE_BYTES)
        return NULL;
    uint64_t first = ALIGN_DOWN(start.v, PAGE_BYTES);
    uint64_t span = ALIGN_UP(start.v + bytes, PAGE_BYTES) - first;
    uint64_t align = block_alignment(span);
    vaddr_t at = vmap_reserve_at(span, align, first & (align - 1));
    if (at.v == 0)
        return NULL;
    if (map_range(&kernel_space, at, pa(first), span, attr | MAP_GLOBAL)) {
        vmap_release(at, span);
        return NULL;
    }
    device_note(first, first + span);
    return va_ptr(va_add(at, start.v - first));
}

void mm_unmap_phys(void *mapped, uint64_t bytes)
{
    if (!mapped)
        return;
    vaddr_t at = va(ALIGN_DOWN(va_of(mapped).v, PAGE_BYTES));
    uint64_t span = ALIGN_UP(va_of(mapped).v + bytes, PAGE_BYTES) - at.v;
    uint64_t first = ALIGN_DOWN(mm_virt_to_phys(mapped).v, PAGE_BYTES);
    device_forget(first, first + span);
    unmap_range(&kernel_space, at, span);
    vmap_release(at, span);
}

paddr_t mm_virt_to_phys(const void *p)
{
    uint64_t address = va_of(p).v;
    paddr_t phys;
    if (arch_virt_in_direct_map(va(address)))
        return arch_direct_to_phys(va(address));
    for (unsigned i = 0; i < section_count; i++)
        if (address - sections[i].start.v < sections[i].bytes)
            return pa(sections[i].phys.v + (address - sections[i].start.v));
    if (!map_lookup(&kernel_space, va(address), &phys, NULL, NULL))
        panic("mm_virt_to_phys: %p is not mapped", p);
    return phys;
}
