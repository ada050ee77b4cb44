/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv host fake_arch */
/*
 * Isolated machines, as far as hv/: what is detected, pages that change hands, hosts that refuse or lie about it, and
 * that nothing private is ever seen. The fake machine closes the side of a page that may not be touched, and the model
 * keeps the book of who may see what.
 */
#include "hv/bounce.h"
#include "hv/hv_internal.h"
#include "hv/isolation.h"
#include "hv/shmem.h"
#include "tests/fake_arch/hv_host.h"
#include "tests/host/host_internal.h"
#include "tests/unit/child.h"

#define RAM_BYTES (64ull << 20)
#define BATCH     254u                 /* pages of one call: half a page, less the header, in words */

static struct host_config cfg;
static struct host *host;

static void boot(void)
{
    fake_arch_boot(RAM_BYTES);
    host_config_default(&cfg);
    cfg.isolation_type = HV_ISOLATION_VBS;
    cfg.boundary_bit = 38;
    cfg.ram_pages = 1ull << 20;
    cfg.scramble_on_change = true;
}

static void start(void)
{
    host = hv_host_start(&cfg);
    if (!hv_init())
        test_fail(__FILE__, __LINE__, "no hypervisor");
}

static uint64_t visible_pages(void)
{
    struct host_state state;

    host_get_state(host, &state);
    return state.pages_visible;
}

static uint64_t free_pages(void)
{
    struct mm_stats stats;

    mm_get_stats(&stats);
    return stats.free_pages;
}

/* ---- detection ---- */

TEST(isolation_none)
{
    struct shmem s;

    boot();
    cfg.isolation_type = HV_ISOLATION_NONE;
    start();
    CHECK(!hv_isolated() && hv_can_vmbus() && !dma_copies());
    uint64_t calls = hv_counters.hypercalls;
    CHECK_EQ(shmem_alloc(&s, 100, SHMEM_LINEAR, 0), 0);
    CHECK_EQ(shmem_gpa(&s, 7).v, s.frames[7] << PAGE_SHIFT);
    shmem_free(&s);
    CHECK_EQ(hv_counters.hypercalls, calls);
    CHECK(!fake_log_contains("isolated"));
    hv_shutdown();
}

static void one_boundary(void *arg)
{
    unsigned bit = (unsigned)(uintptr_t)arg;
    struct shmem s;
    char text[100];

    boot();
    cfg.boundary_bit = (uint8_t)bit;
    fake_pt_format.phys_bits = bit ? bit + 1 : 36;       /* exactly wide enough */
    start();
    CHECK(hv_isolated() && hv_can_vmbus());
    if (bit)
        snprintf(text, sizeof(text), "isolated by VBS: shared pages above 0x%llx; virtual trust level not told",
                 1ull << bit);
    else
        snprintf(text, sizeof(text), "isolated by VBS: shared pages at their own addresses");
    CHECK(fake_log_contains(text));
    uint64_t before = visible_pages();
    CHECK_EQ(shmem_alloc(&s, 300, SHMEM_LINEAR, 0), 0);
    CHECK_EQ(visible_pages(), before + 300);
    for (unsigned i = 0; i < 300; i++) {
        paddr_t phys;
        CHECK(s.frames[i] < 1ull << (32 - PAGE_SHIFT));   /* plain page frames in lists ... */
        CHECK_EQ(shmem_gpa(&s, i).v, (s.frames[i] << PAGE_SHIFT) + (bit ? 1ull << bit : 0));
        CHECK(map_lookup(&kernel_space, va_of((char *)s.virt + i * PAGE_BYTES), &phys, NULL, NULL));
        CHECK_EQ(phys.v, shmem_gpa(&s, i).v);             /* ... and the shared side mapped */
    }
    memset(s.virt, 0x77, 300 * PAGE_BYTES);
    CHECK_EQ(((uint8_t *)fake_phys(s.frames[299] << PAGE_SHIFT))[4095], 0x77);
    shmem_free(&s);
    CHECK_EQ(visible_pages(), before);
    hv_shutdown();
    CHECK_EQ(visible_pages(), 0);
    CHECK_EQ(shmem_stats.pages_shared, 0);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
}

TEST(isolation_boundaries)
{
    static const unsigned bits[] = {0, 33, 37, 38, 39, 45, 47, 51};

    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
        CHECK_EQ(in_child(one_boundary, (void *)(uintptr_t)bits[i]), FAKE_RETURNED);
}

/* An address with that bit can't be expressed, or the bit is inside a page: one line, and no bus. */
static void one_nonsense(void *arg)
{
    unsigned bit = (unsigned)(uintptr_t)arg;
    char text[64];

    boot();
    cfg.boundary_bit = (uint8_t)bit;
    fake_pt_format.phys_bits = 40;
    start();
    CHECK(hv_present() && hv_isolated() && !hv_can_vmbus());
    snprintf(text, sizeof(text), "boundary at bit %u, where no address", bit);
    CHECK(fake_log_contains(text));
    CHECK_EQ(visible_pages(), 0);
    hv_shutdown();
}

TEST(isolation_boundary_nonsense)
{
    static const unsigned bits[] = {1, 5, 12, 40, 41, 52, 63};

    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
        CHECK_EQ(in_child(one_nonsense, (void *)(uintptr_t)bits[i]), FAKE_RETURNED);
}

static void one_type(void *arg)
{
    unsigned type = (unsigned)(uintptr_t)arg;
    char text[64];

    boot();
    cfg.isolation_type = (uint8_t)type;
    cfg.paravisor = true;
    start();
    CHECK(hv_isolated() && !hv_can_vmbus());
    snprintf(text, sizeof(text), "(type %u) of which the fake machine knows nothing: no VMBus", type);
    CHECK(fake_log_contains(text));
    hv_shutdown();
}

TEST(isolation_other_types)
{
    static const unsigned types[] = {2, 3, 4, 5, 15};

    for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
        CHECK_EQ(in_child(one_type, (void *)(uintptr_t)types[i]), FAKE_RETURNED);
}

TEST(isolation_by_nothing)
{
    boot();
    cfg.isolation_type = HV_ISOLATION_NONE;
    cfg.privileges |= HV_PRIV_ISOLATION;
    start();
    CHECK(!hv_isolated() && hv_can_vmbus());
    CHECK(fake_log_contains("taken as not isolated"));
    hv_shutdown();
}

static bool tell_level(uint64_t control, uint64_t in, uint64_t out, uint64_t *result)
{
    const struct hv_vp_registers *head = fake_phys(in);
    const uint32_t *name = (const uint32_t *)(const void *)(head + 1);

    if (hv_control_code(control) != HVCALL_GET_VP_REGISTERS || *name != HV_REGISTER_VSM_VP_STATUS)
        return false;
    memset(fake_phys(out), 0, sizeof(struct hv_register_value));
    *(uint64_t *)fake_phys(out) = 0xA2;                  /* level 2, and bits that are not the level's */
    *result = hv_result(HV_STATUS_SUCCESS, 1);
    return true;
}

TEST(isolation_trust_level_is_told)
{
    boot();
    cfg.privileges |= HV_PRIV_ACCESS_VSM;
    host = hv_host_start(&cfg);
    hv_host.intercept = tell_level;
    CHECK(hv_init());
    CHECK(fake_log_contains("virtual trust level 2"));
    hv_shutdown();
}

/* RAM on the wrong side of the boundary can't be shared, whatever the host would say. */
TEST(isolation_ram_above_the_boundary)
{
    paddr_t pages[3] = {{0x200000}, {(1ull << 38) + 0x5000}, {0x201000}};
    size_t lost;

    boot();
    start();
    uint64_t before = visible_pages();
    CHECK_EQ(hv_pages_share(pages, 3, &lost), -E_REFUSED);
    CHECK_EQ(lost, 0);
    CHECK(fake_log_contains("RAM at 0x4000005000 lies above the shared boundary"));
    CHECK_EQ(visible_pages(), before);
    hv_shutdown();
}

/* ---- calls ---- */

static unsigned calls, longest;

static bool count_calls(uint64_t control, uint64_t in UNUSED, uint64_t out UNUSED, uint64_t *result UNUSED)
{
    if (hv_control_code(control) != HVCALL_MODIFY_HOST_VISIBILITY)
        return false;
    calls++;
    longest = MAX(longest, (unsigned)hv_control_rep_count(control));
    return false;
}

TEST(isolation_calls_are_as_full_as_they_can_be)
{
    struct shmem s;

    boot();
    start();
    hv_host.intercept = count_calls;
    CHECK_EQ(shmem_alloc(&s, 4096, SHMEM_LINEAR_UNCLEARED, 0), 0);
    CHECK_EQ(calls, (4096 + BATCH - 1) / BATCH);
    CHECK_EQ(longest, BATCH);
    shmem_free(&s);
    CHECK_EQ(calls, 2 * ((4096 + BATCH - 1) / BATCH));
    hv_shutdown();
}

/* The host's time is up after every third page: by the status that says so, which the guest must go on from. */
static bool interrupted(uint64_t control, uint64_t in, uint64_t out, uint64_t *result)
{
    static bool inside;
    unsigned start_at = hv_control_rep_start(control), count = hv_control_rep_count(control);
    unsigned stop = MIN(start_at + 3, count);
    uint64_t regs[HOST_HCALL_REGS] = {in, out}, part;

    if (inside || hv_control_code(control) != HVCALL_MODIFY_HOST_VISIBILITY)
        return false;
    inside = true;
    part = hv_control(HVCALL_MODIFY_HOST_VISIBILITY, 0, (uint16_t)stop, (uint16_t)start_at);
    *result = host_hypercall(host, 0, &part, regs);
    if (hv_result_status(*result) == HV_STATUS_SUCCESS && stop < count)
        *result = hv_result(HV_STATUS_TIMEOUT, (uint16_t)stop);
    inside = false;
    return true;
}

TEST(isolation_interrupted_calls_are_continued)
{
    struct shmem s;

    boot();
    start();
    uint64_t before = visible_pages();
    hv_host.intercept = interrupted;
    CHECK_EQ(shmem_alloc(&s, 1000, SHMEM_LINEAR, 0), 0);
    CHECK_EQ(visible_pages(), before + 1000);
    memset(s.virt, 1, 1000 * PAGE_BYTES);
    shmem_free(&s);
    CHECK_EQ(visible_pages(), before);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    hv_shutdown();
}

/* ---- a host that refuses, or says so, at each page in turn ---- */

static const enum host_fault_kind kinds[] = {HOST_FAULT_ERROR, HOST_FAULT_DROP, HOST_FAULT_SHORT, HOST_FAULT_GARBAGE};

TEST(isolation_sharing_fails_at_every_page)
{
    struct shmem s;

    boot();
    start();
    uint64_t before = visible_pages();
    CHECK_EQ(shmem_alloc(&s, 30, SHMEM_LINEAR, 0), 0);
    shmem_free(&s);
    uint64_t free_before = free_pages();
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (unsigned at = 1; at <= 30; at++) {
            host_set_fault(host, HOST_FAULT_VISIBILITY, at, kinds[k]);
            int e = shmem_alloc(&s, 30, SHMEM_RING, 12);
            /* Stopped early is not refused: only a first page that leads nowhere is. */
            CHECK_EQ(e, kinds[k] == HOST_FAULT_SHORT && at > 1 ? 0 : -E_REFUSED);
            host_set_fault(host, 0, 0, HOST_FAULT_NONE);
            if (e == 0)
                shmem_free(&s);
            CHECK(s.virt == NULL && s.frames == NULL);
            CHECK_EQ(visible_pages(), before);
            CHECK_EQ(free_pages(), free_before);
            CHECK_EQ(shmem_stats.pages_leaked, 0);
            CHECK_EQ(shmem_stats.pages_shared, before);
        }
    }
    CHECK(fake_log_contains("the host would not share memory: operation denied"));
    CHECK_EQ(fake_wrong_sides(), 0);
    hv_shutdown();
}

/* At both ends of each call of a longer list. */
TEST(isolation_sharing_fails_in_later_calls)
{
    static const unsigned at[] = {1, 253, 254, 255, 256, 507, 508, 509, 510, 600};
    struct shmem s;

    boot();
    start();
    uint64_t before = visible_pages(), free_before = free_pages();
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
            host_set_fault(host, HOST_FAULT_VISIBILITY, at[i], kinds[k]);
            int e = shmem_alloc(&s, 600, SHMEM_LINEAR, 0);
            CHECK_EQ(e, kinds[k] == HOST_FAULT_SHORT && (at[i] - 1) % BATCH ? 0 : -E_REFUSED);
            host_set_fault(host, 0, 0, HOST_FAULT_NONE);
            if (e == 0)
                shmem_free(&s);
            CHECK_EQ(visible_pages(), before);
            CHECK_EQ(free_pages(), free_before);
        }
    }
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    hv_shutdown();
}

/* A page that the host does not give back is leaked, all others come back; it is never handed out again. */
TEST(isolation_taking_back_fails_at_every_page)
{
    struct shmem s;
    uint64_t leaked = 0;

    boot();
    start();
    uint64_t before = visible_pages();
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (unsigned at = 1; at <= 30; at++) {
            CHECK_EQ(shmem_alloc(&s, 30, SHMEM_LINEAR, 0), 0);
            uint64_t free_before = free_pages();
            host_set_fault(host, HOST_FAULT_VISIBILITY, at, kinds[k]);
            shmem_free(&s);
            host_set_fault(host, 0, 0, HOST_FAULT_NONE);
            leaked += kinds[k] != HOST_FAULT_SHORT || at == 1;
            CHECK_EQ(shmem_stats.pages_leaked, leaked);
            CHECK_EQ(shmem_stats.pages_shared, before);
            CHECK(free_pages() >= free_before + 29);
        }
    }
    CHECK(fake_log_contains("1 of 30 shared pages stay with the host, the first at 0x"));
    uint64_t still_visible = visible_pages() - before;
    CHECK(still_visible > 0 && still_visible <= leaked);
    /* Every free page can be touched: a visible one among them would fault. */
    for (paddr_t p = page_alloc_zeroed(0); !pa_is_none(p); p = page_alloc_zeroed(0))
        ;
    CHECK_EQ(visible_pages() - before, still_visible);
}

/* Refused while sharing, and the way back is refused as well. */
static uint64_t fail_from, fail_to;
static enum host_fault_kind refuse_some(enum host_fault_point point, uint64_t number)
{
    return point == HOST_FAULT_VISIBILITY && number >= fail_from && number <= fail_to ? HOST_FAULT_ERROR
                                                                                     : HOST_FAULT_NONE;
}

TEST(isolation_undoing_fails_too)
{
    struct shmem s;

    boot();
    start();
    uint64_t before = visible_pages(), free_before = free_pages();
    hv_host.fault = refuse_some;
    for (unsigned broken = 1; broken <= 20; broken++) {
        uint64_t leaked = shmem_stats.pages_leaked;
        fail_from = 21;                        /* the 21st page of sharing, and the first ones of taking back */
        fail_to = 21 + broken;
        host_set_fault(host, HOST_FAULT_VISIBILITY, 0, HOST_FAULT_NONE);
        CHECK_EQ(shmem_alloc(&s, 40, SHMEM_LINEAR, 0), -E_REFUSED);
        host_set_fault(host, 0, 0, HOST_FAULT_NONE);
        CHECK_EQ(shmem_stats.pages_leaked, leaked + broken);
        CHECK_EQ(visible_pages(), before + shmem_stats.pages_leaked);
    }
    CHECK(free_pages() >= free_before - shmem_stats.pages_leaked - 4);
    CHECK_EQ(fake_wrong_sides(), 0);
}

/* Nothing works any more: everything stays with the host, the guest goes on. */
TEST(isolation_host_that_gives_nothing_back)
{
    struct shmem s;

    boot();
    start();
    CHECK_EQ(shmem_alloc(&s, 700, SHMEM_LINEAR, 0), 0);
    hv_host.fault = refuse_some;
    fail_from = 0;
    fail_to = UINT64_MAX;
    host_set_fault(host, HOST_FAULT_VISIBILITY, 0, HOST_FAULT_NONE);
    shmem_free(&s);
    CHECK_EQ(shmem_stats.pages_leaked, 700);
    CHECK_EQ(shmem_alloc(&s, 5, SHMEM_LINEAR, 0), -E_REFUSED);
    CHECK(fake_log_contains("700 of 700 shared pages stay with the host"));
}

/* ---- what the host may see ---- */

static unsigned secrets_seen, pages_seen;

static void look_for_secrets(uint64_t page, bool to_host)
{
    const uint8_t *p = fake_phys(page << PAGE_SHIFT);

    if (!to_host)
        return;
    pages_seen++;
    for (unsigned i = 0; i < PAGE_BYTES; i++)
        secrets_seen += p[i] != 0;
}

static void fill_memory_with_secrets(void)
{
    struct list pages = LIST_INIT(pages), *node;
    paddr_t p;

    while (!pa_is_none(p = page_alloc(0))) {
        memset(arch_phys_to_virt(p), 0x5E, PAGE_BYTES);
        list_push_back(&pages, arch_phys_to_virt(p));
    }
    while ((node = list_pop_front(&pages)))
        page_free(arch_direct_to_phys(va_of(node)), 0);
}

TEST(isolation_no_secret_becomes_visible)
{
    static const enum shmem_layout layouts[] = {SHMEM_LINEAR, SHMEM_RING, SHMEM_LINEAR_UNCLEARED};
    struct shmem s;

    boot();
    cfg.scramble_on_change = false;        /* as under VBS: contents stay */
    fill_memory_with_secrets();
    host = hv_host_start(&cfg);
    hv_host.visibility = look_for_secrets;
    CHECK(hv_init());
    for (unsigned i = 0; i < ARRAY_SIZE(layouts); i++) {
        CHECK_EQ(shmem_alloc(&s, 500, layouts[i], 0), 0);
        shmem_free(&s);
    }
    CHECK_EQ(pages_seen, DMA_BOUNCE_PAGES_MOST + 3 * 500);
    CHECK_EQ(secrets_seen, 0);
    hv_shutdown();
}

/* Where contents are lost by the change, what was promised to be zero is. */
TEST(isolation_zeroes_are_zeroes)
{
    struct shmem s;

    boot();
    start();
    CHECK_EQ(shmem_alloc(&s, 64, SHMEM_LINEAR, 0), 0);
    for (size_t i = 0; i < 64 * PAGE_BYTES; i++)
        CHECK(((uint8_t *)s.virt)[i] == 0);
    shmem_free(&s);
    CHECK_EQ(shmem_alloc(&s, 20, SHMEM_RING, 10), 0);
    for (size_t i = 0; i < PAGE_BYTES; i++)
        CHECK(((uint8_t *)s.virt)[i] == 0 && ((uint8_t *)s.virt_second)[i] == 0);
    shmem_free(&s);
    hv_shutdown();
}

static void touch(void *at) { *(volatile uint8_t *)at = 1; }

/* One side of a page at a time: the shared mapping is its only one, and the private side faults. */
TEST(isolation_only_one_side)
{
    struct shmem s;

    boot();
    start();
    CHECK_EQ(shmem_alloc(&s, 9, SHMEM_RING, 4), 0);
    touch((char *)s.virt + 2 * PAGE_BYTES);
    CHECK_FAULTS(touch, arch_phys_to_virt(pa(s.frames[2] << PAGE_SHIFT)));
    CHECK_EQ(fake_wrong_sides(), 0);
    shmem_free(&s);

    paddr_t page = page_alloc(0), alias = pa(page.v + hv_shared_boundary());
    char *privately = arch_phys_to_virt(page), *shared = vmap_pages(&alias, 1, MAP_READ | MAP_WRITE);
    size_t lost;
    touch(privately);
    CHECK_EQ(fake_wrong_sides(), 1);
    CHECK_FAULTS(touch, shared);
    vunmap_pages(shared, 1);
    CHECK_EQ(hv_pages_share(&page, 1, &lost), 0);
    CHECK_FAULTS(touch, privately);
    shared = vmap_pages(&alias, 1, MAP_READ | MAP_WRITE);
    touch(shared);
    vunmap_pages(shared, 1);
    CHECK_EQ(hv_pages_unshare(&page, 1), 0);
    touch(privately);                          /* ours again */
    page_free(page, 0);
    hv_shutdown();
}

/* 0,1,2,3,4,1,2,3,4 and 0,1,2,3,1,2,3, of shared addresses. */
TEST(isolation_rings_of_aliases)
{
    struct shmem s;

    boot();
    start();
    CHECK_EQ(shmem_alloc(&s, 9, SHMEM_RING, 4), 0);
    for (unsigned i = 0; i < 9; i++) {
        paddr_t phys;
        CHECK(map_lookup(&kernel_space, va_of((char *)s.virt + i * PAGE_BYTES), &phys, NULL, NULL));
        CHECK_EQ(phys.v, shmem_gpa(&s, i < 5 ? i : i - 4).v);
        if (i < 7) {
            CHECK(map_lookup(&kernel_space, va_of((char *)s.virt_second + i * PAGE_BYTES), &phys, NULL, NULL));
            CHECK_EQ(phys.v, shmem_gpa(&s, 5 + (i < 4 ? i : i - 3)).v);
        }
    }
    shmem_free(&s);
    hv_shutdown();
}

/* Mapped after sharing, unmapped before taking back: at no page's change is it mapped on the side that it leaves. */
static unsigned wrong_at_change;
static void look_at_sides(uint64_t page UNUSED, bool to_host UNUSED)
{
    wrong_at_change += fake_wrong_sides();
}

TEST(isolation_mapped_only_while_shared)
{
    struct shmem s;

    boot();
    start();
    hv_host.visibility = look_at_sides;
    for (unsigned i = 0; i < 5; i++) {
        CHECK_EQ(shmem_alloc(&s, 20, i & 1 ? SHMEM_RING : SHMEM_LINEAR, i & 1 ? 8 : 0), 0);
        shmem_free(&s);
    }
    CHECK_EQ(wrong_at_change, 0);
    hv_shutdown();
}

/* Pages that the host claims stay with it, shared as they are: taking them away would make the host fault. */
TEST(isolation_claimed_pages_stay_shared)
{
    struct shmem s;

    boot();
    start();
    uint64_t before = visible_pages();
    CHECK_EQ(shmem_alloc(&s, 10, SHMEM_LINEAR, 0), 0);
    shmem_hold(&s);
    shmem_free(&s);
    CHECK_EQ(shmem_stats.pages_leaked, 10);
    CHECK_EQ(visible_pages(), before + 10);
    hv_shutdown();
    CHECK_EQ(visible_pages(), 10);
}

/* ---- memory runs out ---- */

static void one_allocation_fails(void *arg)
{
    unsigned n = (unsigned)(uintptr_t)arg;
    struct shmem s;

    boot();
    start();
    CHECK_EQ(shmem_alloc(&s, 600, SHMEM_RING, 300), 0);
    shmem_free(&s);
    hv_shutdown();
    hv_host_stop();
    uint64_t free_before = free_pages(), count = mm_alloc_count();
    host = hv_host_start(&cfg);
    mm_fail_nth(n);
    CHECK(hv_init());
    bool up = hv_can_vmbus();
    if (!up)
        CHECK(fake_log_contains("no VMBus devices"));
    int e = up ? shmem_alloc(&s, 600, SHMEM_RING, 300) : 0;
    bool reached = mm_alloc_count() - count >= n;
    mm_fail_nth(0);
    CHECK(e == 0 || e == -E_NOMEM);
    if (up && e == 0)
        shmem_free(&s);
    hv_shutdown();
    CHECK_EQ(visible_pages(), 0);
    CHECK_EQ(free_pages(), free_before);
    CHECK_EQ(shmem_stats.pages_shared, 0);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    if (!reached)
        nothing_left();
}

TEST(isolation_every_allocation_fails_once) { each_allocation(one_allocation_fails); }

/* No two pages lie together, and what is shared still comes and goes. */
TEST(isolation_fragmented_memory)
{
    struct list kept = LIST_INIT(kept), given = LIST_INIT(given), *node;
    struct shmem s[4];
    paddr_t p;

    boot();
    cfg.scramble_on_change = false;
    start();
    while (!pa_is_none(p = page_alloc(0)))
        list_push_back(p.v & PAGE_BYTES ? &kept : &given, arch_phys_to_virt(p));
    while ((node = list_pop_front(&given)))
        page_free(arch_direct_to_phys(va_of(node)), 0);
    uint64_t free_before = 0, before = visible_pages();
    CHECK(pa_is_none(page_alloc(1)));
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 4; i++)
            CHECK_EQ(shmem_alloc(&s[i], 1000, i & 1 ? SHMEM_RING : SHMEM_LINEAR_UNCLEARED, i & 1 ? 400 : 0), 0);
        for (unsigned i = 0; i < 4; i++) {
            memset(s[i].virt, (int)i, 500 * PAGE_BYTES);
            shmem_free(&s[i]);
        }
        CHECK_EQ(visible_pages(), before);
        if (round == 0)
            free_before = free_pages();
        CHECK_EQ(free_pages(), free_before);
    }
    CHECK_EQ(shmem_stats.pages_leaked, 0);
}

/* ---- the panic's text ---- */

static NORETURN void look_without_text(void)
{
    bool ok = hv_host.crashed && hv_host.crash_text[0] == '\0' && hv_host.crash_params[1] == hv_state.guest_os_id;
    _Exit(ok ? 42 : 1);
}

static NORETURN void look_with_text(void)
{
    _Exit(hv_host.crashed && strstr(hv_host.crash_text, "a secret") ? 42 : 1);
}

static void crash_and_look(void *look)
{
    panic_set_end((void (*)(void))look);
    panic("a secret");
}

TEST(isolation_crash_keeps_its_text)
{
    boot();
    start();
    hv_crash_init();
    CHECK_EQ(fake_run_child(crash_and_look, (void *)look_without_text), 42);
}

TEST(isolation_crash_text_when_wanted)
{
    boot();
    config_parse("hv.crash_text=yes");
    start();
    hv_crash_init();
    CHECK_EQ(fake_run_child(crash_and_look, (void *)look_with_text), 42);
}

TEST_MAIN()
