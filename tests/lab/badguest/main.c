/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest that misbehaves in one way, chosen by args=WORD, so that it can be seen that the lab notices and stays whole.
 * It is the kernel with all its rooms and this application, which goes behind their backs.
 *
 * Whoever survives his misdeed powers off in order: then only the lab can tell that something happened.
 */
#define LOG_ROOM "badguest"
#include <string.h>
#include "hv/hv_wire.h"
#include "rt/candela.h"
#include "tests/lab/badguest/badguest.h"
#include "vmbus/vmbus_internal.h"

#define MIB            (1ull << 20)
#define PROBES         128u
#define MARKER         0x5341565345525645ull
#define UNKNOWN_CALL   0x7777u

const char app_name[] = "badguest";

/* ---- what is not the guest's ---- */

uint64_t ram_end(void)
{
    const char *text = config_string("badguest.mib", "64");
    uint64_t mib = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        mib = mib * 10 + (uint64_t)(*text - '0');
    return machine_ram_start + mib * MIB;
}

/* Nothing may be there: all ones, whatever was written. */
static unsigned probe(uint64_t physical)
{
    volatile uint64_t *p = mm_map_phys(pa(physical), PAGE_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE);
    if (!p)
        return 1;
    uint64_t before = p[0];
    p[0] = MARKER;
    p[511] = MARKER;
    unsigned bad = before != UINT64_MAX || p[0] != UINT64_MAX || p[511] != UINT64_MAX;
    if (bad)
        kprintf("badguest: %#llx is there: %#llx, then %#llx\n", (unsigned long long)physical,
                (unsigned long long)before, (unsigned long long)p[0]);
    mm_unmap_phys((void *)(uintptr_t)p, PAGE_BYTES);
    return bad;
}

static void touch_memory(void)
{
    unsigned bad = 0, n = 0;
    uint64_t end = ram_end();
    for (; n < PROBES; n++)
        bad += probe(end + n * MIB);
    for (unsigned i = 0; machine_devices[i]; i++, n++)
        bad += probe(machine_devices[i]);
    kprintf("badguest: %u places outside, %u of them answer\n", n, bad);
}

/* ---- broken rules ---- */

static void bad_hypercall(void)
{
    uint64_t result = arch_hypercall(UNKNOWN_CALL, (gpa_t){0}, (gpa_t){0});
    kprintf("badguest: result %#llx\n", (unsigned long long)result);
}

/* Memory that is not the guest's, by its address: as input of a hypercall, as a GPADL, as pages of a packet. */
static void name_foreign_input(void)
{
    uint64_t result = arch_hypercall(HVCALL_POST_MESSAGE, (gpa_t){ram_end()}, (gpa_t){0});
    kprintf("badguest: result %#llx\n", (unsigned long long)result);
}

static void name_foreign_gpadl(void)
{
    struct {
        struct vmbus_msg_gpadl_header head;
        uint32_t bytes, offset;
        uint64_t pfn;
    } __attribute__((packed)) msg = {
        {.header = {.type = VMBUS_MSG_GPADL_HEADER}, .relid = 1, .gpadl = 0x7777, .range_buffer_bytes = 16,
         .range_count = 1},
        PAGE_BYTES, 0, ram_end() >> PAGE_SHIFT,
    };
    vmbus_post_message(&msg, sizeof(msg));
}

static void name_foreign_pages(void)
{
    struct vmbus_channel *ch = bus.channels[1];
    uint64_t frame = ram_end() >> PAGE_SHIFT;
    uint8_t srb[64] = {3, [4] = 1, [12] = 52, [20] = 16, [21] = 20, [22] = 1, [25] = 2, [28] = 0x28, [36] = 1};
    struct vmbus_gpa_range range = {.bytes = 512, .offset = 0, .frames = &frame, .frame_count = 1};
    vmbus_send_gpa(ch, &range, 1, srb, sizeof(srb), 0x7777);
    vmbus_kick(ch);
}

static void unknown_message(void)
{
    struct vmbus_msg_header msg = {.type = 99};
    vmbus_post_message(&msg, sizeof(msg));
}

static void scribble_on_ring(void)
{
    struct vmbus_channel *ch = bus.channels[1];
    volatile uint32_t *words = (volatile uint32_t *)ch->out.control;
    words[0] = 0x12345677;
    hv_signal_event(ch->offer.connection_id, 0);
}

/* ---- ends ---- */

static void jump_outside(void)
{
    void (*nowhere)(void) = (void (*)(void))mm_map_phys(pa(ram_end()), PAGE_BYTES, MAP_READ | MAP_EXEC);
    if (nowhere)
        nowhere();
}

static void crash(void) { panic("badguest was told to"); }
static void reset(void) { arch_reboot(); }

static void hang(void)
{
    kprintf("badguest: hangs\n");
    arch_irq_disable();
    for (;;)
        __asm__ volatile("" : : : "memory");
}

static void halt(void)
{
    kprintf("badguest: halts\n");
    arch_irq_disable();
    for (;;)
        machine_sleep();
}

static void nothing(void) { }

static const struct bad_way ways[] = {
    {"nothing", nothing}, {"memory", touch_memory}, {"hypercall", bad_hypercall}, {"input", name_foreign_input},
    {"gpadl", name_foreign_gpadl}, {"pages", name_foreign_pages}, {"message", unknown_message},
    {"ring", scribble_on_ring}, {"jump", jump_outside}, {"crash", crash}, {"reset", reset}, {"hang", hang},
    {"halt", halt}, {"", NULL},
};

static bool act(const struct bad_way *of, const char *word)
{
    for (; of->word[0] != '\0'; of++) {
        if (!strcmp(word, of->word)) {
            of->act();
            return true;
        }
    }
    return false;
}

int app_main(int argc, char **argv)
{
    if (argc > 1 && (act(ways, argv[1]) || act(machine_ways, argv[1]) || isolated_way(argv[1])))
        return 0;
    kprintf("badguest: no such way\n");
    return 1;
}
