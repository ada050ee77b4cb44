/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * More than one vcpu, each on the physical processor of its number.
 *
 * Every processor has its own descriptor tables, a copy of the first one's with other interrupt stacks (an NMI may come
 * anywhere), and its own host save area. All of the lab but the guest's own run time is under one lock: the model wants
 * its calls serialised, and exits are rare.
 *
 * A processor whose vcpu does not run sleeps in HLT with GIF open. A kick that comes between its last look and the HLT
 * would be lost, so who kicks it repeats until it has answered (apic.c).
 *
 * Flushing translations (machine_flush_guest). A processor enters the guest without any, so it has forgotten them once
 * it has been outside. vcpu.runs says whether it is: counted up before VMRUN and after it, without the lock, which
 * whoever flushes has. Either the flusher sees the odd number, or the processor enters later and sees the guest's new
 * tables (both sides have a full fence between their write and their read). A kick between the count and VMRUN pends,
 * as GIF is 0, and ends that run at once.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/x86_64/smp.h"

#define STACK_BYTES      16384u
#define START_LIMIT_100NS 10000000u    /* 1 s for a processor to report */
#define INIT_SETTLE_100NS 1000u
#define FLUSH_KICK_100NS 100000u       /* 10 ms between two kicks of a processor that stays in the guest */
#define FLUSH_KICKS_MAX  3000u
#define TSS_IST          0x24          /* seven 64-bit stack pointers, from 1 */
#define IST_COUNT        7
#define TSS_BYTES        0x68
#define MSR_MTRR_CAP     0xFE          /* bits 0 to 7: how many pairs of variable ones */
#define MSR_MTRR_PAIRS   0x200
#define MSR_MTRR_DEFAULT 0x2FF
#define MTRR_MAX_PAIRS   32            /* as many as fit between the pairs and the fixed ones */

struct descriptor_register { uint16_t limit; uint64_t base; } __attribute__((packed));
struct ap_tables { uint64_t gdt[16]; uint8_t tss[TSS_BYTES]; };

static volatile uint32_t lock_word;
static volatile bool reported;
static struct descriptor_register shared_idt;
static struct ap_tables tables[LAB_MAX_VCPUS];
static uint64_t shared_cr4, shared_root;
static struct descriptor_register first_gdt;
static uint16_t first_tr;
static const uint32_t fixed_mtrrs[] = {
    0x250, 0x258, 0x259, 0x268, 0x269, 0x26A, 0x26B, 0x26C, 0x26D, 0x26E, 0x26F,
};
static uint64_t shared_mtrrs[ARRAY_SIZE(fixed_mtrrs) + 2 * MTRR_MAX_PAIRS + 1];

void lab_lock(void)
{
    while (__atomic_exchange_n(&lock_word, 1, __ATOMIC_ACQUIRE))
        while (lock_word)
            ;                          /* no PAUSE: it is slow under QEMU with a thread per processor */
}

void lab_unlock(void) { __atomic_store_n(&lock_word, 0, __ATOMIC_RELEASE); }

/* QEMU loses a kick now and then: the processor that leaves a guest takes requests off without its lock. */
static void wait_outside(const struct vcpu *v, uint64_t run)
{
    for (unsigned kicks = 0; kicks < FLUSH_KICKS_MAX; kicks++) {
        for (uint64_t until = clock_now_100ns() + FLUSH_KICK_100NS; clock_now_100ns() < until;)
            if (__atomic_load_n(&v->runs, __ATOMIC_SEQ_CST) != run)
                return;
        vcpu_kick(&lab_vcpus[v->index]);
    }
    panic("vcpu %u does not leave the guest", v->index);
}

/* Memory types must be the same on all processors; firmware sees to it, and without firmware nobody has. */
static void share_mtrrs(bool first)
{
    uint32_t pairs = (uint8_t)x86_rdmsr(MSR_MTRR_CAP);
    if (pairs > MTRR_MAX_PAIRS)
        return;
    for (uint32_t i = 0; i < ARRAY_SIZE(fixed_mtrrs) + 2 * pairs + 1; i++) {
        uint32_t msr = i < ARRAY_SIZE(fixed_mtrrs) ? fixed_mtrrs[i]
                     : i == ARRAY_SIZE(fixed_mtrrs) + 2 * pairs ? MSR_MTRR_DEFAULT
                     : MSR_MTRR_PAIRS + i - (uint32_t)ARRAY_SIZE(fixed_mtrrs);
        if (first)
            shared_mtrrs[i] = x86_rdmsr(msr);
        else if (x86_rdmsr(msr) != shared_mtrrs[i])
            x86_wrmsr(msr, shared_mtrrs[i]);
    }
}

void machine_flush_guest(uint64_t vcpus)
{
    uint64_t runs[LAB_MAX_VCPUS];
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < lab_vcpu_count; i++) {
        runs[i] = vcpus >> i & 1 ? __atomic_load_n(&lab_vcpus[i].runs, __ATOMIC_SEQ_CST) : 0;
        if (runs[i] % 2)
            vcpu_kick(&lab_vcpus[i]);
    }
    for (unsigned i = 0; i < lab_vcpu_count; i++)
        if (runs[i] % 2)
            wait_outside(&lab_vcpus[i], runs[i]);
}

/* ---- on the starting processor ---- */
static void load_tables(struct ap_tables *t)
{
    struct descriptor_register r = {.limit = first_gdt.limit, .base = (uint64_t)(uintptr_t)t->gdt};
    __asm__ volatile("lgdt %0; lidt %1" : : "m"(r), "m"(shared_idt));
    __asm__ volatile("ltr %0" : : "r"(first_tr));
}

static NORETURN void ap_main(struct vcpu *v)
{
    __asm__ volatile("mov %0, %%cr4; mov %1, %%cr3" : : "r"(shared_cr4), "r"(shared_root) : "memory");
    load_tables(&tables[v->index]);
    share_mtrrs(false);
    if (svm_init())
        panic("processor %u: no SVM", v->index);
    lab_clgi();
    v->state = VCPU_WAIT_SIPI;
    reported = true;
    vcpu_run(v);
}

/* ---- on the first ---- */
static bool make_tables(struct ap_tables *t)
{
    uint64_t *tss_descriptor = t->gdt + first_tr / 8;
    if (first_gdt.limit >= sizeof(t->gdt) || first_tr + 16u > first_gdt.limit + 1u)
        return false;
    memcpy(t->gdt, (const void *)(uintptr_t)first_gdt.base, first_gdt.limit + 1u);
    uint64_t old = (tss_descriptor[0] >> 16 & 0xFFFFFF) | (tss_descriptor[0] >> 32 & 0xFF000000);
    old |= tss_descriptor[1] << 32;
    uint64_t base = (uint64_t)(uintptr_t)t->tss;
    memcpy(t->tss, (const void *)(uintptr_t)old, TSS_BYTES);
    for (unsigned i = 0; i < IST_COUNT; i++) {
        uint64_t top;
        memcpy(&top, t->tss + TSS_IST + 8 * i, sizeof(top));
        if (top == 0)
            continue;
        uint8_t *stack = stack_alloc(STACK_BYTES);
        if (!stack)
            return false;
        top = (uint64_t)(uintptr_t)stack + STACK_BYTES;
        memcpy(t->tss + TSS_IST + 8 * i, &top, sizeof(top));
    }
    /* available 64-bit TSS, this base */
    tss_descriptor[0] = (TSS_BYTES - 1) | (base & 0xFFFFFF) << 16 | 0x89ull << 40 | (base >> 24 & 0xFF) << 56;
    tss_descriptor[1] = base >> 32;
    return true;
}

/* The lab's tables, and the first 2 MiB at their own address. */
static paddr_t make_start_tables(void)
{
    paddr_t top = page_alloc_zeroed(0), middle = page_alloc_zeroed(0), low = page_alloc_zeroed(0);
    if (pa_is_none(top) || pa_is_none(middle) || pa_is_none(low) || top.v >> 32)
        return PADDR_NONE;
    uint64_t *t = arch_phys_to_virt(top), *m = arch_phys_to_virt(middle), *l = arch_phys_to_virt(low);
    memcpy(t, arch_phys_to_virt(pa(shared_root & ~PAGE_MASK)), PAGE_BYTES);
    t[0] = middle.v | 3;
    m[0] = low.v | 3;
    l[0] = 0x83;
    return top;
}

static void wait_100ns(uint64_t n)
{
    for (uint64_t until = clock_now_100ns() + n; clock_now_100ns() < until;)
        ;
}

static bool start_one(struct vcpu *v, uint8_t *page, paddr_t start_tables)
{
    uint8_t *stack = stack_alloc(STACK_BYTES);
    if (!stack || !make_tables(&tables[v->index]) || vcpu_init(v, v->index, v->index))
        return false;
    uint64_t words[4] = {start_tables.v, (uint64_t)(uintptr_t)stack + STACK_BYTES, (uint64_t)(uintptr_t)v,
                         (uint64_t)(uintptr_t)ap_main};
    memcpy(page, lab_ap_start, (size_t)(lab_ap_end - lab_ap_start));
    memcpy(page + LAB_AP_CR3, words, sizeof(words));
    reported = false;
    arch_fence_ord();
    apic_start_processor(v->apic_id, LAB_AP_PAGE >> PAGE_SHIFT);
    for (uint64_t until = clock_now_100ns() + START_LIMIT_100NS; !reported && clock_now_100ns() < until;)
        ;
    return reported;
}

unsigned smp_start(unsigned count)
{
    __asm__ volatile("sgdt %0" : "=m"(first_gdt));
    __asm__ volatile("sidt %0" : "=m"(shared_idt));
    __asm__ volatile("str %0" : "=r"(first_tr));
    __asm__ volatile("mov %%cr4, %0" : "=r"(shared_cr4));
    __asm__ volatile("mov %%cr3, %0" : "=r"(shared_root));
    uint8_t *page = mm_map_phys(pa(LAB_AP_PAGE), PAGE_BYTES, MAP_READ | MAP_WRITE), *kept = kmalloc(PAGE_BYTES);
    paddr_t start_tables = make_start_tables();
    if (!page || !kept || pa_is_none(start_tables))
        return 1;
    share_mtrrs(true);
    memcpy(kept, page, PAGE_BYTES);     /* under firmware the page is the guest's */
    unsigned n = 1;
    for (; n < count; n++) {
        lab_vcpus[n].index = n;
        if (!start_one(&lab_vcpus[n], page, start_tables)) {
            log_warn("processor %u does not start: the guest has %u (QEMU needs -smp %u)", n, n, count);
            break;
        }
    }
    memcpy(page, kept, PAGE_BYTES);
    kfree(kept);
    mm_unmap_phys(page, PAGE_BYTES);
    wait_100ns(INIT_SETTLE_100NS);
    return n;
}
