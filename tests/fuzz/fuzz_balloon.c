/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Dynamic memory: the host changes, repeats and invents messages: versions, requests for more than there is, pages given
 * back that it never had, or twice, memory added where there is memory, or nowhere.
 *
 * Must hold: the guest's book is right whatever the host says: pages given and available are all its pages (memory that
 * was added apart), no less than the floor stays, nothing comes back that was not given; memory it has left can be
 * allocated and written; and a device that goes leaves given pages given and nothing else behind.
 */
#include <string.h>
#include <sys/mman.h>
#include "drivers/balloon.h"
#include "tests/fake_arch/space.h"
#include "tests/fuzz/machine.h"

#define HOT_FIRST (1u << 16)                   /* 256 MiB: beyond the RAM, within physical memory */

static struct host_balloon_config config;
static struct machine_book empty;
static uint64_t ram_pages;

static struct mm_stats memory(void)
{
    struct mm_stats s;
    mm_get_stats(&s);
    return s;
}

static struct host_balloon_state state(void)
{
    struct host_balloon_state s;
    host_balloon_get_state(machine_host, &s);
    return s;
}

static void add(void)
{
    FUZZ_CHECK(host_add_balloon(machine_host, &config));
    hv_host_run();
}

static void remove_device(void)
{
    host_remove_balloon(machine_host);
    hv_host_run();
    FUZZ_CHECK(RUN_UNTIL(bus.channel_count == 0, 100));
    machine_run_us(1000);
}

static void setup(void)
{
    machine_boot(32 << 20, "memory.floor=4M");
    /* Memory that a lie adds is there as far as the guest can tell: its page tables may come to lie in it. */
    space_protect(FAKE_HOST_BASE, 0, ARCH_DIRECT_BYTES, PROT_READ | PROT_WRITE);
    machine_start();
    hv_host.pages_stay = true;
    balloon_register();
    machine_connect();
    host_balloon_config_default(&config);
    add();
    FUZZ_CHECK(RUN_UNTIL(state().ready, 10));
    FUZZ_CHECK(host_balloon(machine_host, 300) && RUN_UNTIL(!state().busy, 10));
    FUZZ_CHECK(host_unballoon(machine_host, 300) && RUN_UNTIL(!state().busy, 10) && memory().given_pages == 0);
    remove_device();
    ram_pages = memory().ram_pages;
    machine_fill_stack_cache();
    empty = machine_book();
    add();
    FUZZ_CHECK(RUN_UNTIL(state().ready, 10));
    machine_run_us(1000000);
}

static void check_book(void)
{
    struct mm_stats s = memory();
    uint64_t floor = balloon_floor_pages();

    FUZZ_CHECK(s.given_pages <= s.ram_pages && s.ram_pages >= ram_pages);
    FUZZ_CHECK(s.given_pages == 0 || s.free_pages + 64 >= MIN(floor, (uint64_t)empty.pages));
}

/* Takes what is there, writes to each page and gives it back. */
static void use_memory(void)
{
    static paddr_t pages[256];
    unsigned n = 0;
    while (n < ARRAY_SIZE(pages) && !pa_is_none(pages[n] = page_alloc(3)))
        n++;
    for (unsigned i = 0; i < n; i++)
        for (unsigned page = 0; page < 8; page++)
            memset((char *)arch_phys_to_virt(pages[i]) + page * PAGE_BYTES, 0x77, 64);
    for (unsigned i = 0; i < n; i++)
        page_free(pages[i], 3);
}

/* What a host may ask, or any message at all. */
static void ask(struct input *in)
{
    static uint8_t message[DM_MESSAGE_MAX] __attribute__((aligned(8)));
    const uint8_t *bytes;
    uint8_t what = in_u8(in);

    switch (what % 6) {
    case 0:
        host_balloon(machine_host, in_u16(in));
        break;
    case 1:
        host_unballoon(machine_host, in_u16(in) % 4096);
        break;
    case 2:
        host_hot_add(machine_host, HOT_FIRST + in_u8(in) * 512u, 1 + in_u16(in) % 4096u, what & 8);
        break;
    case 3: {
        uint32_t n = (uint32_t)in_take(in, &bytes, MIN((uint32_t)in_u16(in), DM_MESSAGE_MAX));
        memcpy(message, bytes, n);
        host_balloon_lie(machine_host, message, n, 0, 0);
        break;
    }
    case 4: {                                  /* pages that may be the guest's gifts, or not */
        struct dm_unballoon_request *m = (void *)message;
        m->count = 1 + what / 6 % 4;
        m->flags = what & 128 ? DM_MORE : 0;
        m->header = (struct dm_header){.type = DM_UNBALLOON_REQUEST, .size = (uint16_t)(sizeof(*m) + m->count * 8)};
        for (unsigned i = 0; i < m->count; i++) {
            uint64_t first = in_u16(in), pages = in_u8(in);
            m->ranges[i] = DM_RANGE(first, pages);
        }
        host_balloon_lie(machine_host, m, m->header.size, 0, 0);
        break;
    }
    default:
        machine_run_us(what * 10000u);
    }
    hv_host_run();
}

static void run(struct input *in)
{
    uint8_t first = in_u8(in);

    if (first & 7) {                           /* another one, from its first message on */
        remove_device();
        config.max_version = first & 1 ? DM_VERSION_WIN8 : DM_VERSION_WIN10;
        config.max_pages = first & 2 ? 100000 : 0;
        if (first & 4)
            lies_begin(LIES_PACKETS, in);
        add();
        machine_run_us(2000);
        RUN_UNTIL(state().ready || !lies_left(), 20);
    }
    for (unsigned n = 0; in->left && n < 30; n++) {
        struct host_chan *ch = vchan_find(machine_host, state().relid);
        uint8_t what = in_u8(in);
        lies_begin(LIES_PACKETS, in);
        if (what & 1)
            ask(in);
        else if (ch && ch->open)
            lies_say_packet(ch);
        machine_run_us(3000);
        lies_end();
        check_book();
    }
    lies_end();
    if (first & 128 || !fuzz_thorough)         /* it stays */
        return;
    use_memory();
    remove_device();
    check_book();
    struct mm_stats s = memory();
    struct machine_book now = empty;
    now.pages = empty.pages - s.given_pages + (s.ram_pages - ram_pages);
    if (s.ram_pages == ram_pages && s.given_pages == 0)
        FUZZ_CHECK(machine_same_within(&now, 10));
    if ((first & 8) && s.ram_pages == ram_pages) {      /* in memory that a lie added no device works */
        host_balloon_forget(machine_host);
        add();
        FUZZ_CHECK(RUN_UNTIL(state().ready, 20));
        remove_device();
    }
}

const struct fuzz_target fuzz_target = {.setup = setup, .run = run, .limit_s = 3000};
