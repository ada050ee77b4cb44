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
#include "tests/lab/x86_64/badguest/badguest.h"
#include "vmbus/vmbus_internal.h"

#define MIB            (1ull << 20)
#define PROBES         128u
#define MARKER         0x5341565345525645ull
#define UNKNOWN_CALL   0x7777u
#define MSR_EFER       0xC0000080u
#define MSR_VM_CR      0xC0010114u
#define MSR_VM_HSAVE   0xC0010117u
#define EFER_SVME      (1ull << 12)
#define PORT_PCI       0xCF8
#define PORT_DATA      0xCFC
#define PORT_FWCFG     0x510
#define PORT_COM2      0x2F8
#define PORT_DEBUG     0xF4
#define PORT_PM_RESET  0x433

const char app_name[] = "badguest";

static inline void out8(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void out32(uint16_t port, uint32_t v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static inline uint8_t in8(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint32_t in32(uint16_t port)
{
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

/* ---- what is not the guest's ---- */

static uint64_t ram_end(void)
{
    const char *text = config_string("badguest.mib", "64");
    uint64_t mib = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        mib = mib * 10 + (uint64_t)(*text - '0');
    return mib * MIB;
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
    static const uint64_t devices[] = {0xB0000000, 0xB0080000, 0xE0000000, 0xFD000000, 0xFE000000, 0xFEB00000,
                                       0xFEBF0000, 0xFED00000, 0xFED1C000, 0xFFFFF000, 1ull << 32, 1ull << 38};
    unsigned bad = 0, n = 0;
    uint64_t end = ram_end();
    for (; n < PROBES; n++)
        bad += probe(end + n * MIB);
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++, n++)
        bad += probe(devices[i]);
    kprintf("badguest: %u places outside, %u of them answer\n", n, bad);
}

static void touch_ports(void)
{
    unsigned bad = 0;
    for (unsigned device = 0; device < 32; device++) {
        out32(PORT_PCI, 0x80000000u | device << 11);
        bad += in32(PORT_DATA) != UINT32_MAX || in32(PORT_PCI) != UINT32_MAX;
    }
    for (uint16_t port = PORT_COM2; port < PORT_COM2 + 8; port++)
        bad += in8(port) != 0xFF;
    bad += in8(PORT_FWCFG + 1) != 0xFF;
    bad += in8(PORT_DEBUG) != 0xFF;
    for (const char *c = "badguest was here\n"; *c; c++)
        out8(PORT_COM2, (uint8_t)*c);
    out8(PORT_DEBUG, 0x33);
    kprintf("badguest: %u ports answer\n", bad);
}

static void touch_svm(void)
{
    uint64_t value = 0;
    uint32_t a = 0x80000001, b, c, d;
    unsigned bad = 0;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    bad += (c >> 2) & 1;
    bad += arch_hv_reg_read(MSR_EFER, &value) && (value & EFER_SVME);
    bad += arch_hv_reg_write(MSR_EFER, value | EFER_SVME);
    bad += arch_hv_reg_write(MSR_VM_HSAVE, 0);
    bad += arch_hv_reg_read(MSR_VM_HSAVE, &value);
    bad += arch_hv_reg_write(MSR_VM_CR, 0);
    kprintf("badguest: %u ways to SVM\n", bad);
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

static void unknown_register(void)
{
    uint64_t value;
    kprintf("badguest: %s\n", arch_hv_reg_read(0x400001F0, &value) ? "it reads" : "#GP");
}

/* ---- ends ---- */

static void triple_fault(void)
{
    struct { uint16_t limit; uint64_t base; } __attribute__((packed)) nothing = {0, 0};
    __asm__ volatile("lidt %0; ud2" : : "m"(nothing));
}

static void jump_outside(void)
{
    void (*nowhere)(void) = (void (*)(void))mm_map_phys(pa(ram_end()), PAGE_BYTES, MAP_READ | MAP_EXEC);
    if (nowhere)
        nowhere();
}

static void crash(void) { panic("badguest was told to"); }
static void reset(void) { out8(PORT_PM_RESET, 1); }

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
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void nothing(void) { }

static const struct { const char *word; void (*act)(void); } ways[] = {
    {"nothing", nothing}, {"memory", touch_memory}, {"ports", touch_ports}, {"svm", touch_svm},
    {"hypercall", bad_hypercall}, {"input", name_foreign_input}, {"gpadl", name_foreign_gpadl},
    {"pages", name_foreign_pages}, {"message", unknown_message}, {"ring", scribble_on_ring},
    {"register", unknown_register}, {"triple", triple_fault}, {"jump", jump_outside}, {"crash", crash},
    {"reset", reset}, {"hang", hang}, {"halt", halt},
};

int app_main(int argc, char **argv)
{
    for (unsigned i = 0; argc > 1 && i < ARRAY_SIZE(ways); i++) {
        if (!strcmp(argv[1], ways[i].word)) {
            ways[i].act();
            return 0;
        }
    }
    if (argc > 1 && isolated_way(argv[1]))
        return 0;
    kprintf("badguest: no such way\n");
    return 1;
}
