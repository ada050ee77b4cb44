/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv host fake_arch */
/*
 * DMA mappings in an isolated machine: what the host sees of a request, that the contract is that of any machine, that
 * a full pool makes requests wait in turn, and that the pool has everything back in the end.
 */
#include "hv/bounce.h"
#include "hv/shmem.h"
#include "tests/fake_arch/hv_host.h"
#include "tests/unit/test.h"

#define RAM_BYTES (64ull << 20)
#define FRAMES    600u

static struct host_config cfg;
static uint64_t frames[FRAMES];

static void start_of(uint8_t isolation, const char *settings)
{
    fake_arch_boot(RAM_BYTES);
    if (settings)
        config_parse(settings);
    host_config_default(&cfg);
    cfg.isolation_type = isolation;
    cfg.boundary_bit = isolation ? 37 : 0;
    cfg.ram_pages = 1ull << 20;
    cfg.scramble_on_change = true;
    hv_host_start(&cfg);
    if (!hv_init())
        test_fail(__FILE__, __LINE__, "no hypervisor");
}

static void start(const char *settings) { start_of(HV_ISOLATION_VBS, settings); }

static void finish(void)
{
    struct host_state state;

    CHECK_EQ(dma_stats.pages_lent, 0);
    hv_shutdown();
    host_get_state(hv_host.host, &state);
    CHECK_EQ(state.pages_visible, 0);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    CHECK_EQ(shmem_stats.pages_shared, 0);
}

static uint64_t random_state = 0x9E3779B97F4A7C15ull;
static uint32_t below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % n;
}

/* The host's side of a mapping: offset in the first frame, then whole ones. */
static void host_access(const struct dma_mapping *m, const uint64_t *list, uint8_t *data, bool write)
{
    uint32_t at = m->offset;

    for (uint32_t i = 0, left = m->bytes, some; left; i++, left -= some, at = 0, data += some) {
        uint8_t *page = fake_phys(list[i] << PAGE_SHIFT);
        some = MIN(left, (uint32_t)PAGE_BYTES - at);
        if (write)
            memcpy(page + at, data, some);
        else
            memcpy(data, page + at, some);
    }
}

static void fill(uint8_t *p, size_t bytes, unsigned seed)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(i * 7 + i / 253 + seed * 13);
}

/* ---- one request ---- */

TEST(bounce_nothing_where_the_host_sees_all)
{
    struct dma_mapping m;

    start_of(HV_ISOLATION_NONE, NULL);
    uint8_t *p = kmalloc(3 * PAGE_BYTES);
    struct dma_span span = {p + 100, 5000};
    CHECK(!dma_copies());
    CHECK_EQ(dma_map(&m, &span, 1, DMA_TO_DEVICE, frames, FRAMES), 0);
    CHECK(m.bounce == NULL);
    CHECK_EQ(frames[0], mm_virt_to_phys(p).v >> PAGE_SHIFT);
    dma_unmap(&m, &span, 1, DMA_TO_DEVICE);
    CHECK_EQ(dma_stats.bounced, 0);
    CHECK_EQ(dma_stats.pages, 0);
    hv_shutdown();
}

/* Every offset in steps of 4, lengths around page boundaries; both directions; bytes around stay as they were. */
TEST(bounce_keeps_the_offset)
{
    static const uint32_t lengths[] = {1, 4, 511, 512, 4095, 4096, 4097, 8192, 12289};
    static uint8_t seen[20000];
    struct dma_mapping m;

    start(NULL);
    uint8_t *p = kmalloc(8 * PAGE_BYTES);
    for (uint32_t offset = 0; offset < PAGE_BYTES; offset += 4) {
        uint32_t bytes = lengths[offset / 4 % ARRAY_SIZE(lengths)];
        struct dma_span span = {p + offset, bytes};
        fill(p, 8 * PAGE_BYTES, offset);
        uint64_t copied = dma_stats.bounced_bytes;
        CHECK_EQ(dma_map(&m, &span, 1, DMA_TO_DEVICE, frames, FRAMES), 0);
        CHECK(m.bounce && m.offset == offset && m.bytes == bytes);
        CHECK_EQ(m.frames, (offset + bytes + PAGE_MASK) >> PAGE_SHIFT);
        host_access(&m, frames, seen, false);
        CHECK(!memcmp(seen, p + offset, bytes));
        dma_unmap(&m, NULL, 0, DMA_TO_DEVICE);
        CHECK_EQ(dma_stats.bounced_bytes - copied, bytes);      /* once, this way only */

        CHECK_EQ(dma_map(&m, &span, 1, DMA_FROM_DEVICE, frames, FRAMES), 0);
        CHECK_EQ(dma_stats.bounced_bytes - copied, bytes);
        fill(seen, bytes, offset + 1);
        host_access(&m, frames, seen, true);
        dma_unmap(&m, &span, 1, DMA_FROM_DEVICE);
        CHECK_EQ(dma_stats.bounced_bytes - copied, 2 * bytes);
        CHECK(!memcmp(seen, p + offset, bytes));
        fill(seen, offset + bytes + 1, offset);
        CHECK(!memcmp(p, seen, offset) && p[offset + bytes] == seen[offset + bytes]);
    }
    kfree(p);
    finish();
}

/* Several spans, from the heap, the vmap region and the image: one run of bytes, as without bouncing. */
TEST(bounce_spans_as_one_run)
{
    static uint8_t in_image[2 * 4096] __attribute__((aligned(4096)));
    static uint8_t seen[64 * 4096], want[64 * 4096];
    paddr_t list[8];
    struct dma_mapping m;

    start(NULL);
    CHECK_EQ(pages_alloc_list(list, 8), 0);
    uint8_t *heap = kmalloc(16 * PAGE_BYTES), *mapped = vmap_pages(list, 8, MAP_READ | MAP_WRITE);
    for (unsigned round = 0; round < 300; round++) {
        uint32_t first = below(4096) & ~3u, last = 1 + below(4096);
        struct dma_span spans[4] = {
            {heap + first, (uint32_t)(16 * PAGE_BYTES) - first},
            {in_image, sizeof(in_image)},
            {mapped, 3 * PAGE_BYTES},
            {mapped + 4 * PAGE_BYTES, last},
        };
        uint32_t at = 0;
        fill(heap, 16 * PAGE_BYTES, round);
        fill(in_image, sizeof(in_image), round + 1);
        fill(mapped, 8 * PAGE_BYTES, round + 2);
        for (unsigned i = 0; i < 4; i++) {
            memcpy(want + at, spans[i].addr, spans[i].bytes);
            at += spans[i].bytes;
        }
        CHECK_EQ(dma_map(&m, spans, 4, DMA_TO_DEVICE | DMA_FROM_DEVICE, frames, FRAMES), 0);
        CHECK(m.offset == first && m.bytes == at);
        host_access(&m, frames, seen, false);
        CHECK(!memcmp(seen, want, at));
        fill(want, at, round + 9);
        host_access(&m, frames, want, true);
        dma_unmap(&m, spans, 4, DMA_FROM_DEVICE);
        at = 0;
        for (unsigned i = 0; i < 4; i++) {
            CHECK(!memcmp(want + at, spans[i].addr, spans[i].bytes));
            at += spans[i].bytes;
        }
    }
    vunmap_pages(mapped, 8);
    pages_free_list(list, 8);
    kfree(heap);
    finish();
}

/* What is refused, is refused alike. */
static void contract(void)
{
    static uint8_t area[8 * 4096] __attribute__((aligned(4096)));
    uint8_t *p = kmalloc(sizeof(area));
    struct dma_mapping m;
    struct dma_span good[2] = {{p + 8, 4096 - 8}, {p + 4096, 100}};
    struct dma_span early[2] = {{p, 4000}, {p + 4096, 100}};
    struct dma_span late[2] = {{p, 4096}, {p + 4100, 100}};
    struct dma_span empty[2] = {{p, 4096}, {p + 4096, 0}};

    CHECK_EQ(dma_map(&m, good, 0, DMA_TO_DEVICE, frames, FRAMES), -E_INVAL);
    CHECK_EQ(dma_map(&m, early, 2, DMA_TO_DEVICE, frames, FRAMES), -E_INVAL);
    CHECK_EQ(dma_map(&m, late, 2, DMA_TO_DEVICE, frames, FRAMES), -E_INVAL);
    CHECK_EQ(dma_map(&m, empty, 2, DMA_TO_DEVICE, frames, FRAMES), -E_INVAL);
    CHECK_EQ(dma_map(&m, good, 2, DMA_TO_DEVICE, frames, 1), -E_INVAL);
    CHECK_EQ(dma_map(&m, good, 2, DMA_TO_DEVICE, frames, 2), 0);
    CHECK(m.offset == 8 && m.bytes == 4096 - 8 + 100 && m.frames == 2);
    dma_unmap(&m, good, 2, DMA_TO_DEVICE);
    kfree(p);
}

TEST(bounce_contract) { start(NULL); contract(); finish(); }
TEST(bounce_contract_elsewhere) { start_of(HV_ISOLATION_NONE, NULL); contract(); }

TEST(bounce_gathers_pieces_of_any_kind)
{
    static uint8_t source[70000], seen[70000], want[70000];
    struct dma_mapping m;

    start(NULL);
    fill(source, sizeof(source), 1);
    for (unsigned round = 0; round < 500; round++) {
        struct dma_span pieces[18];
        unsigned count = 1 + below(18);
        uint32_t total = 0;
        for (unsigned i = 0; i < count; i++) {
            uint32_t bytes = 1 + below(3800), at = below((uint32_t)sizeof(source) - bytes);
            pieces[i] = (struct dma_span){source + at, bytes};
            memcpy(want + total, source + at, bytes);
            total += bytes;
        }
        CHECK_EQ(dma_gather(&m, pieces, count, frames, FRAMES), 0);
        CHECK(m.offset == 0 && m.bytes == total && m.frames == DIV_UP(total, PAGE_BYTES));
        host_access(&m, frames, seen, false);
        CHECK(!memcmp(seen, want, total));
        dma_unmap(&m, NULL, 0, DMA_TO_DEVICE);
        CHECK_EQ(dma_gather(&m, pieces, count, frames, DIV_UP(total, PAGE_BYTES) - 1), -E_INVAL);
        CHECK(m.bounce == NULL);
    }
    CHECK_EQ(dma_gather(&m, NULL, 0, frames, FRAMES), -E_INVAL);
    finish();
}

/* ---- the pool ---- */

#define HELD 600
static struct held { struct dma_mapping m; struct dma_span span; uint64_t frames[260]; uint8_t *data; } held[HELD];

static int take(struct held *h, uint32_t pages)
{
    h->data = kmalloc(pages * PAGE_BYTES);
    h->span = (struct dma_span){h->data, (uint32_t)(pages * PAGE_BYTES)};
    int e = dma_map(&h->m, &h->span, 1, DMA_TO_DEVICE, h->frames, ARRAY_SIZE(h->frames));
    if (e) {
        kfree(h->data);
        h->data = NULL;
    }
    return e;
}

static void give(struct held *h)
{
    dma_unmap(&h->m, &h->span, 1, DMA_TO_DEVICE);
    kfree(h->data);
    h->data = NULL;
}

/* From one chunk to what hv.bounce allows, and not beyond; what it grew to stays. */
TEST(bounce_pool_grows_to_its_limit)
{
    unsigned n = 0;

    start("hv.bounce=6M");
    CHECK_EQ(dma_stats.pages, 512);
    while (take(&held[n], 8) == 0) {
        n++;
        CHECK(n < HELD);
        CHECK(dma_stats.pages - dma_stats.pages_lent < 512);
    }
    CHECK_EQ(n, 6 * 256 / 8);
    CHECK_EQ(dma_stats.pages, 3 * 512);
    CHECK_EQ(dma_stats.pages_lent, 3 * 512);
    CHECK_EQ(dma_stats.refusals, 1);
    while (n)
        give(&held[--n]);
    CHECK_EQ(dma_stats.pages, 3 * 512);
    finish();
}

TEST(bounce_pool_size_nonsense_is_reported)
{
    start("hv.bounce=1M");                 /* less than the largest request */
    CHECK(fake_log_contains("hv.bounce"));
    CHECK_EQ(dma_stats.pages, 512);
    finish();
}

/* No memory to grow: the pool stays as it is, says so once, and tries again later. */
TEST(bounce_growth_needs_memory)
{
    unsigned n = 0;

    start("hv.bounce=32M");
    for (; n < 64; n++)
        CHECK_EQ(take(&held[n], 8), 0);
    mm_fail_nth(3);                        /* behind the two of the data */
    CHECK_EQ(take(&held[n], 8), -E_AGAIN);
    mm_fail_nth(0);
    CHECK(fake_log_contains("bounce memory stays at 2 MiB"));
    CHECK_EQ(take(&held[n], 8), -E_AGAIN); /* not asked again at once */
    fake_time_advance(S_100NS(2));
    CHECK_EQ(take(&held[n], 8), 0);
    CHECK_EQ(dma_stats.pages, 1024);
    for (unsigned i = 0; i <= n; i++)
        give(&held[i]);
    finish();
}

/* The host refuses more: that is what the line says, and the pool serves as before, without a page lost. */
TEST(bounce_growth_refused_by_the_host)
{
    unsigned n = 0;

    start("hv.bounce=32M");
    for (; n < 64; n++)
        CHECK_EQ(take(&held[n], 8), 0);
    host_set_fault(hv_host.host, HOST_FAULT_VISIBILITY, 300, HOST_FAULT_ERROR);
    CHECK_EQ(take(&held[n], 8), -E_AGAIN);
    host_set_fault(hv_host.host, 0, 0, HOST_FAULT_NONE);
    CHECK(fake_log_contains("bounce memory stays at 2 MiB: the host refused"));
    CHECK_EQ(shmem_stats.pages_shared, 512);
    fake_time_advance(S_100NS(2));
    CHECK_EQ(take(&held[n], 8), 0);
    for (unsigned i = 0; i <= n; i++)
        give(&held[i]);
    finish();
}

static unsigned asked;
static enum host_fault_kind refuse_all(enum host_fault_point point UNUSED, uint64_t number UNUSED)
{
    asked++;
    return HOST_FAULT_ERROR;
}

TEST(bounce_growth_is_not_asked_for_for_ever)
{
    unsigned n = 0;

    start("hv.bounce=32M");
    for (; n < 64; n++)
        CHECK_EQ(take(&held[n], 8), 0);
    hv_host.fault = refuse_all;
    host_set_fault(hv_host.host, HOST_FAULT_VISIBILITY, 0, HOST_FAULT_NONE);
    for (unsigned i = 0, before = 0; i < 20; i++, before = asked) {
        CHECK_EQ(take(&held[n], 8), -E_AGAIN);
        CHECK((asked > before) == (i < 8));
        fake_time_advance(S_100NS(2));
    }
    hv_host.fault = NULL;
    for (unsigned i = 0; i < n; i++)
        give(&held[i]);
    CHECK_EQ(take(&held[0], 8), 0);
    give(&held[0]);
    CHECK(shmem_stats.pages_leaked > 0);       /* which is why */
    shmem_stats.pages_leaked = 0;
    finish();
}

/* Not even the first part is to be had: the line names who is to blame. */
static void first_part_fails(enum host_fault_kind fault, unsigned allocation)
{
    hv_shutdown();
    hv_host_stop();
    hv_host_start(&cfg);
    host_set_fault(hv_host.host, HOST_FAULT_VISIBILITY, 1, fault);
    mm_fail_nth(allocation);
    CHECK(hv_init());
    mm_fail_nth(0);
    CHECK(!hv_can_vmbus());
    CHECK(!fake_log_contains("stays at 0"));
    hv_shutdown();
    CHECK_EQ(shmem_stats.pages_shared, 0);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
}

TEST(bounce_first_part_refused_by_the_host)
{
    start(NULL);
    first_part_fails(HOST_FAULT_ERROR, 0);
    CHECK(fake_log_contains("what the host must see cannot be shared: the host refused; no VMBus devices"));
    CHECK(!fake_log_contains("out of memory"));
}

/* Before the pool's own allocations come those of hypercalls. */
TEST(bounce_first_part_needs_memory)
{
    const char *line = "what the host must see cannot be shared: out of memory; no VMBus devices";

    start(NULL);
    for (unsigned n = 1; !fake_log_contains(line); n++) {
        CHECK(n < 20);
        first_part_fails(HOST_FAULT_NONE, n);
    }
}

/* Sizes and lifetimes at random: contents never mix, however the pool is cut up. */
TEST(bounce_pool_in_pieces)
{
    static struct { struct dma_mapping m; struct dma_span span; uint64_t frames[260]; unsigned seed; } live[60];
    static uint8_t seen[260 * 4096], want[260 * 4096];
    unsigned waits = 0, served = 0, cut = 0;

    start("hv.bounce=4M");
    uint8_t *data = kmalloc(260 * PAGE_BYTES);
    for (unsigned round = 0; round < 6000; round++) {
        unsigned i = below(ARRAY_SIZE(live));
        if (live[i].m.bounce) {
            fill(want, live[i].m.bytes, live[i].seed);
            host_access(&live[i].m, live[i].frames, seen, false);
            CHECK(!memcmp(want, seen, live[i].m.bytes));
            dma_unmap(&live[i].m, NULL, 0, DMA_TO_DEVICE);
            continue;
        }
        uint32_t offset = below(4096) & ~3u, bytes = 1 + below(below(8) ? 16384 : 1 << 20);
        live[i].seed = round;
        fill(data + offset, bytes, round);
        live[i].span = (struct dma_span){data + offset, bytes};
        int e = dma_map(&live[i].m, &live[i].span, 1, DMA_TO_DEVICE, live[i].frames, ARRAY_SIZE(live[i].frames));
        CHECK(e == 0 || e == -E_AGAIN);
        waits += e != 0;
        served += e == 0;
        if (e == 0)
            cut += ((struct bounce_extent *)live[i].m.bounce)->next != NULL;
        if (e)
            fake_time_advance(S_100NS(1));
    }
    CHECK(served > 2000 && waits > 10 && cut > 10);
    for (unsigned i = 0; i < ARRAY_SIZE(live); i++)
        dma_unmap(&live[i].m, NULL, 0, DMA_TO_DEVICE);
    kfree(data);
    finish();
}

/* ---- waiting ---- */

static unsigned order[8], ready_count;
struct waiting { struct dma_waiter w; unsigned number; uint32_t pages; struct held h; bool has; };

static void ready(void *arg)
{
    struct waiting *w = arg;

    order[ready_count++ % ARRAY_SIZE(order)] = w->number;
    if (take(&w->h, w->pages))
        dma_wait(&w->w);
    else
        w->has = true;
}

static void wait_for(struct waiting *w, unsigned number, uint32_t pages)
{
    *w = (struct waiting){.w = {.ready = ready, .arg = w}, .number = number, .pages = pages};
    if (take(&w->h, pages) != -E_AGAIN)
        test_fail(__FILE__, __LINE__, "there was room");
    dma_wait(&w->w);
    dma_wait(&w->w);                       /* twice is once */
}

TEST(bounce_waiters_in_their_order)
{
    static struct waiting w[3];

    start("hv.bounce=2M");
    for (unsigned i = 0; i < 64; i++)
        CHECK_EQ(take(&held[i], 8), 0);
    for (unsigned i = 0; i < 3; i++)
        wait_for(&w[i], i, 8);
    task_yield();
    CHECK_EQ(ready_count, 0);              /* nothing came free */
    give(&held[0]);
    give(&held[1]);
    task_yield();
    CHECK(w[0].has && w[1].has && !w[2].has);
    CHECK(order[0] == 0 && order[1] == 1 && order[2] == 2);
    ready_count = 0;
    dma_wait_cancel(&w[2].w);
    give(&held[2]);
    task_yield();
    CHECK_EQ(ready_count, 0);
    for (unsigned i = 3; i < 64; i++)
        give(&held[i]);
    give(&w[0].h);
    give(&w[1].h);
    finish();
}

/* A large request gets its turn although small ones would take every page that comes free. */
TEST(bounce_large_requests_do_not_starve)
{
    static struct waiting large;
    unsigned next = 0, given = 0;

    start("hv.bounce=2M");
    for (; next < 512; next++)
        CHECK_EQ(take(&held[next], 1), 0);
    wait_for(&large, 0, 256);
    for (unsigned i = 0; i < 400 && !large.has; i++) {
        give(&held[i]);
        given++;
        task_yield();
        CHECK_EQ(take(&held[i], 1), -E_AGAIN);          /* a small one comes along each time */
    }
    CHECK(large.has);
    CHECK_EQ(given, 256);
    give(&large.h);
    for (unsigned i = 0; i < 512; i++)
        if (held[i].data)
            give(&held[i]);
    finish();
}

/* But pages that the host never gives back must not stop the others for good. */
TEST(bounce_reservations_end)
{
    static struct waiting large, small;

    start("hv.bounce=2M");
    CHECK_EQ(take(&held[0], 256), 0);      /* never comes back, as far as this test lasts */
    CHECK_EQ(take(&held[1], 56), 0);
    wait_for(&large, 0, 257);
    wait_for(&small, 1, 8);                /* there are 200 pages, reserved */
    uint64_t begun = rt_now_100ns();
    while (!small.has && rt_now_100ns() - begun < S_100NS(10))
        task_sleep_us(50000);
    CHECK(small.has && !large.has);
    CHECK(rt_now_100ns() - begun < S_100NS(3));
    give(&held[0]);
    while (!large.has && rt_now_100ns() - begun < S_100NS(20))
        task_sleep_us(50000);
    CHECK(large.has);
    give(&large.h);
    give(&small.h);
    give(&held[1]);
    finish();
}

/* What the host never gave back is still its own at the end. */
TEST(bounce_lent_pages_are_leaked_at_the_end)
{
    start("hv.bounce=4M");
    CHECK_EQ(take(&held[0], 100), 0);
    hv_shutdown();
    CHECK_EQ(shmem_stats.pages_leaked, 512);
    CHECK_EQ(shmem_stats.pages_shared, 0);
}

TEST_MAIN()
