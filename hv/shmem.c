/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that the host reads or writes: pages from anywhere, one virtual range, and the frame list to tell the host.
 *
 * A page the host still knows by a number (a GPADL it did not give back) must not serve anyone else: shmem_hold
 * counts such claims, and shmem_free leaks the pages when one is left. Everything about sharing pages with the host
 * is in alloc_pages and give_back below: an isolated VM makes pages visible in the one and private in the other.
 * Between the two the list holds the addresses at which they may be touched, those above shared_gpa_boundary.
 */
#define LOG_ROOM "hv"
#include "hv/shmem.h"
#include <string.h>
#include "hv/isolation.h"

struct shmem_stats shmem_stats;

/* What s->list points into: the claims sit in front of the page list, so that a const struct shmem can be held. */
struct page_list {
    unsigned holds;
    paddr_t pages[];
};

static struct page_list *page_list(const struct shmem *s)
{
    return (struct page_list *)(void *)((char *)s->list - offsetof(struct page_list, pages));
}

/* Frees what did not stay with the host. */
static void free_pages(paddr_t *pages, size_t n, size_t lost)
{
    shmem_stats.pages_leaked += lost;
    if (!lost) {
        pages_free_list(pages, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (!pa_is_none(pages[i]))
            page_free(pages[i], 0);
    }
}

/* Nothing that was in the pages before may be seen. */
static int make_visible(paddr_t *pages, size_t n)
{
    size_t lost;

    for (size_t i = 0; i < n; i++)
        memset(arch_phys_to_virt(pages[i]), 0, PAGE_BYTES);
    if (hv_pages_share(pages, n, &lost)) {
        free_pages(pages, n, lost);
        return -E_REFUSED;
    }
    for (size_t i = 0; i < n; i++)
        pages[i].v += hv_shared_boundary();
    return 0;
}

static void make_private(paddr_t *pages, size_t n)
{
    size_t lost;

    for (size_t i = 0; i < n; i++)
        pages[i].v -= hv_shared_boundary();
    lost = hv_pages_unshare(pages, n);
    free_pages(pages, n, lost);
}

static int alloc_pages(struct shmem *s)
{
    struct page_list *list;
    int rc = 0;

    if (s->pages > (SIZE_MAX - sizeof(*list)) / sizeof(paddr_t))
        return -E_NOMEM;
    list = kmalloc(sizeof(*list) + s->pages * sizeof(paddr_t));
    s->frames = kcalloc(s->pages, sizeof(*s->frames));
    if (!list || !s->frames || pages_alloc_list(list->pages, s->pages)) {
        kfree(list);
        kfree(s->frames);
        return -E_NOMEM;
    }
    list->holds = 0;
    s->list = list->pages;
    for (size_t i = 0; i < s->pages; i++)
        s->frames[i] = list->pages[i].v >> PAGE_SHIFT;
    if (hv_isolated())
        rc = make_visible(list->pages, s->pages);
    if (rc) {
        kfree(list);
        kfree(s->frames);
    }
    return rc;
}

static void give_back(struct shmem *s)
{
    struct page_list *list = page_list(s);

    if (list->holds) {
        shmem_stats.pages_leaked += s->pages;
        log_warn_some("%zu pages stay with the host, which did not let go of them", s->pages);
    } else if (hv_isolated()) {
        make_private(list->pages, s->pages);
    } else {
        pages_free_list(list->pages, s->pages);
    }
    shmem_stats.pages_shared -= s->pages;
    kfree(s->frames);
    kfree(list);
}

/* Control page once, data pages twice in succession. */
static void *map_ring(const paddr_t *pages, size_t n)
{
    size_t mapped = 2 * n - 1;
    paddr_t *order = kcalloc(mapped, sizeof(*order));
    void *virt;

    if (!order)
        return NULL;
    memcpy(order, pages, n * sizeof(*order));
    memcpy(order + n, pages + 1, (n - 1) * sizeof(*order));
    virt = vmap_pages(order, mapped, MAP_READ | MAP_WRITE | MAP_GLOBAL);
    kfree(order);
    if (virt)
        memset(virt, 0, PAGE_BYTES);
    return virt;
}

static size_t second_pages(const struct shmem *s) { return s->pages - s->first_pages; }

static bool map(struct shmem *s)
{
    if (s->layout != SHMEM_RING) {
        s->virt = vmap_pages(s->list, s->pages, MAP_READ | MAP_WRITE | MAP_GLOBAL);
        if (s->virt && s->layout == SHMEM_LINEAR)
            memset(s->virt, 0, s->pages * PAGE_BYTES);
        return s->virt != NULL;
    }
    s->virt = map_ring(s->list, s->first_pages);
    if (!s->virt)
        return false;
    if (second_pages(s)) {
        s->virt_second = map_ring(s->list + s->first_pages, second_pages(s));
        if (!s->virt_second) {
            vunmap_pages(s->virt, 2 * s->first_pages - 1);
            return false;
        }
    }
    return true;
}

int shmem_alloc(struct shmem *s, size_t pages, enum shmem_layout layout, size_t second)
{
    int rc;

    KASSERT(pages > 0 && second < pages);
    KASSERT(layout == SHMEM_RING ? pages - second >= 2 && second != 1 : second == 0);
    *s = (struct shmem){.pages = pages, .first_pages = pages - second, .layout = layout};
    rc = alloc_pages(s);
    if (rc) {
        *s = (struct shmem){0};
        return rc;
    }
    shmem_stats.pages_shared += pages;
    if (!map(s)) {
        give_back(s);
        *s = (struct shmem){0};
        return -E_NOMEM;
    }
    shmem_stats.allocations++;
    return 0;
}

void shmem_free(struct shmem *s)
{
    if (!s->list)
        return;
    if (s->layout == SHMEM_RING) {
        vunmap_pages(s->virt, 2 * s->first_pages - 1);
        if (s->virt_second)
            vunmap_pages(s->virt_second, 2 * second_pages(s) - 1);
    } else {
        vunmap_pages(s->virt, s->pages);
    }
    give_back(s);
    *s = (struct shmem){0};
}

gpa_t shmem_gpa(const struct shmem *s, size_t page)
{
    KASSERT(page < s->pages);
    return (gpa_t){(s->frames[page] << PAGE_SHIFT) + hv_shared_boundary()};
}

void shmem_hold(const struct shmem *s)
{
    page_list(s)->holds++;
}

void shmem_release(const struct shmem *s)
{
    KASSERT(page_list(s)->holds > 0);
    page_list(s)->holds--;
}
