/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Misdeeds of an isolated machine: memory used on its wrong side, private pages named to the host in each of the four
 * places where pages are named, pages taken back that the host still uses.
 *
 * Assumes storage as channel 1; the network buffers are those of channel 2.
 */
#define LOG_ROOM "badguest"
#include <string.h>
#include "hv/isolation.h"
#include "rt/candela.h"
#include "tests/lab/badguest/badguest.h"
#include "vmbus/vmbus_internal.h"

#define STORAGE  1
#define NETWORK  2
#define GPADL    0x7777u
#define REQUEST  0x7777u

/* A page of a channel's rings: shared. */
static paddr_t ring_page(unsigned relid, unsigned page) { return pa(bus.channels[relid]->memory.frames[page] << PAGE_SHIFT); }

static paddr_t private_page(void)
{
    paddr_t page = page_alloc_zeroed(0);
    if (pa_is_none(page))
        panic("no memory");
    return page;
}

static volatile uint64_t *shared_side(paddr_t page, unsigned attr)
{
    return mm_map_phys(pa(page.v + hv_shared_boundary()), PAGE_BYTES, attr);
}

/* ---- the wrong side: nobody comes back from these ---- */

static void read_private_side(void)
{
    volatile uint64_t *p = arch_phys_to_virt(ring_page(STORAGE, 3));
    kprintf("badguest: reads %#llx\n", (unsigned long long)p[7]);
}

static void write_private_side(void)
{
    volatile uint64_t *p = arch_phys_to_virt(ring_page(STORAGE, 3));
    p[7] = 1;
    kprintf("badguest: has written\n");
}

/* By an instruction that the lab does not decode: of a string, of a pair of registers. */
static void copy_private_side(void)
{
    char buffer[256];
    memcpy(buffer, arch_phys_to_virt(ring_page(STORAGE, 3)), sizeof(buffer));
    kprintf("badguest: has copied %02x\n", (unsigned char)buffer[0]);
}

static void read_shared_side(void)
{
    volatile uint64_t *p = shared_side(private_page(), MAP_READ | MAP_WRITE);
    kprintf("badguest: reads %#llx\n", (unsigned long long)p[7]);
}

static void write_shared_side(void)
{
    volatile uint64_t *p = shared_side(private_page(), MAP_READ | MAP_WRITE);
    p[7] = 1;
    kprintf("badguest: has written\n");
}

static void execute_shared(void)
{
    void (*there)(void) = (void (*)(void))(uintptr_t)shared_side(ring_page(STORAGE, 3), MAP_READ | MAP_EXEC);
    there();
}

/* ---- private pages, named to the host ---- */

/* A list of one shared page and one private. */
static void gpadl(unsigned relid)
{
    struct {
        struct vmbus_msg_gpadl_header head;
        uint32_t bytes, offset;
        uint64_t pfn[2];
    } __attribute__((packed)) msg = {
        {.header = {.type = VMBUS_MSG_GPADL_HEADER}, .relid = relid, .gpadl = GPADL, .range_buffer_bytes = 24,
         .range_count = 1},
        2 * PAGE_BYTES, 0, {ring_page(relid, 1).v >> PAGE_SHIFT, private_page().v >> PAGE_SHIFT},
    };
    vmbus_post_message(&msg, sizeof(msg));
}

static void name_ring(void) { gpadl(STORAGE); }
static void name_buffer(void) { gpadl(NETWORK); }

static void name_monitor_pages(void)
{
    struct vmbus_msg_initiate_contact msg = {
        .header = {.type = VMBUS_MSG_INITIATE_CONTACT}, .version = VMBUS_VERSION_WIN10_5_3,
        .target = {.sint = HV_SYNIC_SINT_VMBUS},
        .monitor_page1 = private_page().v, .monitor_page2 = private_page().v,
    };
    vmbus_post_message(&msg, sizeof(msg));
}

static void read_sector_into(paddr_t page)
{
    static uint8_t srb[64] = {3, [4] = 1, [12] = 52, [20] = 16, [21] = 20, [22] = 1, [25] = 2, [28] = 0x28, [36] = 1};
    uint64_t frame = page.v >> PAGE_SHIFT;
    struct vmbus_gpa_range range = {.bytes = 512, .offset = 0, .frames = &frame, .frame_count = 1};
    vmbus_send_gpa(bus.channels[STORAGE], &range, 1, srb, sizeof(srb), REQUEST);
    vmbus_kick(bus.channels[STORAGE]);
}

static void name_data(void) { read_sector_into(private_page()); }

/* ---- pages in use, made private ---- */

static void take_back(paddr_t page)
{
    kprintf("badguest: %zu pages stay with the host\n", hv_pages_unshare(&page, 1));
}

static void take_back_ring(void) { take_back(ring_page(STORAGE, 3)); }

/* The disk must be a slow one: the request is still there. */
static void take_back_data(void)
{
    paddr_t page = private_page();
    size_t lost;
    if (hv_pages_share(&page, 1, &lost))
        panic("not shared");
    read_sector_into(page);
    take_back(page);
}

static const struct bad_way ways[] = {
    {"read-private-side", read_private_side}, {"write-private-side", write_private_side},
    {"copy-private-side", copy_private_side}, {"read-shared-side", read_shared_side},
    {"write-shared-side", write_shared_side}, {"execute-shared", execute_shared}, {"name-ring", name_ring},
    {"name-buffer", name_buffer}, {"name-monitor-pages", name_monitor_pages}, {"name-data", name_data},
    {"take-back-ring", take_back_ring}, {"take-back-data", take_back_data},
};

bool isolated_way(const char *word)
{
    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
        if (!strcmp(word, ways[i].word)) {
            ways[i].act();
            return true;
        }
    }
    return false;
}
