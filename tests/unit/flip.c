/* SPDX-License-Identifier: BSD-2-Clause */
/* See flip.h. The compiler puts the calls (trace-loads, trace-stores); flip.mk redirects what copies memory. */
#define _GNU_SOURCE
#include "tests/unit/flip.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "hv/hv.h"
#include "hv/shmem.h"
#include "tests/fake_arch/hv_host.h"
#include "tests/host/host_internal.h"
#include "tests/unit/test.h"
#include "vmbus/vmbus_internal.h"

#define PAGES_FOLLOWED (1ull << 20)          /* 4 GiB */
#define RANGES         512u
#define SITES          16u

bool flip_off;
uint32_t flip_wild;
uint64_t flip_seed = 1, flip_reads, flip_changes;
bool (*flip_may)(uint64_t page);

/* What a page is; each byte of a followed one says whether the guest knows it already. */
enum kind { NOT_FOLLOWED, BUFFER, RING, POLLED, MESSAGES };
struct page { uint8_t known[PAGE_BYTES]; };
static uint8_t kinds[PAGES_FOLLOWED];
static struct page *pages[PAGES_FOLLOWED];

static struct range { uint64_t start, end; } ranges[RANGES];
static unsigned range_count;
static uint64_t flags_page;                  /* of the synthetic interrupt controller */
static uint64_t lowest = UINT64_MAX, highest;

extern char __executable_start[];

/* ---- which memory ---- */

static void follow(uint64_t page, enum kind kind)
{
    if (page >= PAGES_FOLLOWED)
        return;
    if (!pages[page] && !(pages[page] = malloc(sizeof(struct page))))
        abort();
    memset(pages[page], 0, sizeof(struct page));
    kinds[page] = (uint8_t)kind;
}

static void add_range(const void *start, uint64_t bytes)
{
    if (!start)
        return;
    if (range_count == RANGES)
        abort();
    ranges[range_count++] = (struct range){(uint64_t)start, (uint64_t)start + bytes};
    lowest = MIN(lowest, (uint64_t)start);
    highest = MAX(highest, (uint64_t)start + bytes);
}

static void remove_range(const void *start)
{
    for (unsigned i = 0; i < range_count; i++)
        if (ranges[i].start == (uint64_t)start) {
            ranges[i] = ranges[--range_count];
            return;
        }
}

int __real_shmem_alloc(struct shmem *s, size_t count, enum shmem_layout layout, size_t second_pages);
int __wrap_shmem_alloc(struct shmem *s, size_t count, enum shmem_layout layout, size_t second_pages);
int __wrap_shmem_alloc(struct shmem *s, size_t count, enum shmem_layout layout, size_t second_pages)
{
    int rc = __real_shmem_alloc(s, count, layout, second_pages);
    bool few = s == &bus.monitor_pages || s == &bus.interrupt_page;

    if (rc)
        return rc;
    for (size_t i = 0; i < s->pages; i++)
        follow(s->frames[i], few || (layout == SHMEM_RING && (i == 0 || i == s->first_pages)) ? POLLED : layout == SHMEM_RING ? RING : BUFFER);
    add_range(s->virt, layout == SHMEM_RING ? (2 * s->first_pages - 1) * PAGE_BYTES : s->pages * PAGE_BYTES);
    if (layout == SHMEM_RING)
        add_range(s->virt_second, (2 * (s->pages - s->first_pages) - 1) * PAGE_BYTES);
    return 0;
}

void __real_shmem_free(struct shmem *s);
void __wrap_shmem_free(struct shmem *s);
void __wrap_shmem_free(struct shmem *s)
{
    for (size_t i = 0; i < s->pages && s->frames; i++)
        if (s->frames[i] < PAGES_FOLLOWED)
            kinds[s->frames[i]] = NOT_FOLLOWED;
    remove_range(s->virt);
    remove_range(s->virt_second);
    __real_shmem_free(s);
}

int __real_hv_synic_init(void);
int __wrap_hv_synic_init(void);
int __wrap_hv_synic_init(void)
{
    int rc = __real_hv_synic_init();

    if (rc == 0 && hv_host.host && hv_host.host->vp[0].messages && hv_host.host->vp[0].flags) {
        flags_page = ((uint64_t)hv_host.host->vp[0].flags - FAKE_VIEW_BASE) >> PAGE_SHIFT;
        follow(((uint64_t)hv_host.host->vp[0].messages - FAKE_VIEW_BASE) >> PAGE_SHIFT, MESSAGES);
        follow(flags_page, POLLED);
    }
    return rc;
}

void __real_hv_synic_stop(void);
void __wrap_hv_synic_stop(void);
void __wrap_hv_synic_stop(void)
{
    for (uint64_t page = 0; page < PAGES_FOLLOWED; page++)
        if (kinds[page] == MESSAGES || page == flags_page)
            kinds[page] = NOT_FOLLOWED;
    __real_hv_synic_stop();
}

/* The address in memory of what the guest sees there; false: nothing that is followed. */
static bool guest_to_phys(uint64_t address, uint64_t *phys)
{
    paddr_t p;

    if (address - ARCH_DIRECT_BASE < PAGES_FOLLOWED << PAGE_SHIFT) {
        *phys = address - ARCH_DIRECT_BASE;
        return kinds[*phys >> PAGE_SHIFT] != NOT_FOLLOWED;
    }
    if (address < lowest || address >= highest)
        return false;
    for (unsigned i = 0; i < range_count; i++) {
        if (address < ranges[i].start || address >= ranges[i].end)
            continue;
        if (!map_lookup(&kernel_space, va(address), &p, NULL, NULL))
            return false;
        *phys = p.v & ~fake_shared_gpa_boundary;
        return *phys >> PAGE_SHIFT < PAGES_FOLLOWED && kinds[*phys >> PAGE_SHIFT] != NOT_FOLLOWED;
    }
    return false;
}

static bool polled(uint64_t phys)
{
    uint64_t at = phys % sizeof(struct hv_message);

    switch ((enum kind)kinds[phys >> PAGE_SHIFT]) {
    case MESSAGES:
        return at < offsetof(struct hv_message, message_type) + 4 || at == offsetof(struct hv_message, message_flags);
    case POLLED:
        return true;
    default:
        return false;
    }
}

/* ---- changing ---- */

static uint64_t next_random(void)
{
    flip_seed ^= flip_seed << 13;
    flip_seed ^= flip_seed >> 7;
    flip_seed ^= flip_seed << 17;
    return flip_seed;
}

/* Each place is named once. Not in words: the sanitizer's symbolizer is another process, which can't be started from a
 * guest's stack, as that is memory which both would share. */
static void report(void *pc, uint64_t phys)
{
    static void *sites[SITES];
    for (unsigned i = 0; i < SITES; i++) {
        if (sites[i] == pc)
            return;
        if (sites[i])
            continue;
        sites[i] = pc;
        test_fail(__FILE__, __LINE__, "a byte is read twice, by addr2line -ie %s %#llx; offset %#llx of its page",
                  program_invocation_name, (unsigned long long)((char *)pc - 1 - __executable_start),
                  (unsigned long long)(phys % PAGE_BYTES));
        return;
    }
}

static void change(uint64_t phys, void *pc)
{
    uint8_t *byte = fake_phys(phys);

    if (flip_off)
        return;
    if (flip_wild) {
        if ((flip_may && !flip_may(phys >> PAGE_SHIFT)) || next_random() % flip_wild)
            return;
        *byte = (uint8_t)(next_random() >> 32);
    } else {
        if (polled(phys))
            return;
        *byte ^= 0xA5;
        report(pc, phys);
    }
    flip_changes++;
}

static void read_by_guest(uint64_t address, uint64_t bytes, void *pc)
{
    uint64_t phys, end = address + bytes, n;

    for (; address < end; address += n) {
        n = MIN(end - address, PAGE_BYTES - address % PAGE_BYTES);
        if (!guest_to_phys(address, &phys))
            continue;
        uint8_t *known = &pages[phys >> PAGE_SHIFT]->known[phys % PAGE_BYTES];
        flip_reads += n;
        for (uint64_t i = 0; i < n; i++) {
            if (known[i])
                change(phys + i, pc);
            known[i] = 1;
        }
    }
}

static bool host_to_phys(uint64_t address, uint64_t *phys)
{
    if (address - FAKE_VIEW_BASE < PAGES_FOLLOWED << PAGE_SHIFT)
        *phys = address - FAKE_VIEW_BASE;
    else
        *phys = address - (uint64_t)fake_phys(0);
    return *phys < PAGES_FOLLOWED << PAGE_SHIFT;
}

/* The host's writes make bytes new. The guest's own make those of a ring known: it knows what it wrote there, and need
 * not ask. What it prepares in a buffer is for the host alone, who would only fool himself. */
static void written(uint64_t address, uint64_t bytes, bool by_host)
{
    uint64_t phys, end = address + bytes, n;

    for (; address < end; address += n) {
        n = MIN(end - address, PAGE_BYTES - address % PAGE_BYTES);
        bool host_view = host_to_phys(address, &phys), host = host_view || by_host;
        if (!host_view && !guest_to_phys(address, &phys))
            continue;
        if (kinds[phys >> PAGE_SHIFT] == NOT_FOLLOWED)
            continue;
        uint8_t *known = pages[phys >> PAGE_SHIFT]->known;
        memset(known + phys % PAGE_BYTES, !host && kinds[phys >> PAGE_SHIFT] == RING, n);
        if (host && kinds[phys >> PAGE_SHIFT] == MESSAGES && polled(phys))      /* all of a slot is new with its type */
            memset(known + ALIGN_DOWN(phys % PAGE_BYTES, sizeof(struct hv_message)), 0, sizeof(struct hv_message));
    }
}

/* ---- what the compiler calls ---- */

#define CALLS(n)                                                                    \
    void __sanitizer_cov_load##n(void *p);                                          \
    void __sanitizer_cov_load##n(void *p) { read_by_guest((uint64_t)p, n, __builtin_return_address(0)); } \
    void __sanitizer_cov_store##n(void *p);                                         \
    void __sanitizer_cov_store##n(void *p) { written((uint64_t)p, n, false); }      \
    void flip_host_store##n(void *p);                                               \
    void flip_host_store##n(void *p) { written((uint64_t)p, n, true); }
CALLS(1)
CALLS(2)
CALLS(4)
CALLS(8)
CALLS(16)

/* In place of the sanitizer's, which check the marks and do the work. The model and the tests are the host. */
void *__asan_memcpy(void *to, const void *from, size_t n);
void *__asan_memmove(void *to, const void *from, size_t n);
void *__asan_memset(void *to, int byte, size_t n);
void *flip_guest_memcpy(void *to, const void *from, size_t n);
void *flip_guest_memmove(void *to, const void *from, size_t n);
void *flip_guest_memset(void *to, int byte, size_t n);
int flip_guest_memcmp(const void *a, const void *b, size_t n);
void *flip_host_memcpy(void *to, const void *from, size_t n);
void *flip_host_memmove(void *to, const void *from, size_t n);
void *flip_host_memset(void *to, int byte, size_t n);

void *flip_guest_memcpy(void *to, const void *from, size_t n)
{
    read_by_guest((uint64_t)from, n, __builtin_return_address(0));
    written((uint64_t)to, n, false);
    return __asan_memcpy(to, from, n);
}

void *flip_guest_memmove(void *to, const void *from, size_t n)
{
    read_by_guest((uint64_t)from, n, __builtin_return_address(0));
    written((uint64_t)to, n, false);
    return __asan_memmove(to, from, n);
}

void *flip_guest_memset(void *to, int byte, size_t n)
{
    written((uint64_t)to, n, false);
    return __asan_memset(to, byte, n);
}

int flip_guest_memcmp(const void *a, const void *b, size_t n)
{
    read_by_guest((uint64_t)a, n, __builtin_return_address(0));
    read_by_guest((uint64_t)b, n, __builtin_return_address(0));
    return memcmp(a, b, n);
}

void *flip_host_memcpy(void *to, const void *from, size_t n)
{
    written((uint64_t)to, n, true);
    return __asan_memcpy(to, from, n);
}

void *flip_host_memmove(void *to, const void *from, size_t n)
{
    written((uint64_t)to, n, true);
    return __asan_memmove(to, from, n);
}

void *flip_host_memset(void *to, int byte, size_t n)
{
    written((uint64_t)to, n, true);
    return __asan_memset(to, byte, n);
}
