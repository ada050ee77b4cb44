/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC. It is the guest's: mapped into it, so that EOI, TPR and the timer cost no exit. The lab uses only the
 * interrupt command register: to make an interrupt pend (fixed, edge) and to kick another CPU (NMI).
 *
 * With one vcpu the guest's page is writable and nothing is watched. With more, the page is read-only: the guest's
 * writes come here, because INIT and SIPI it sends must not reach the real CPUs, which are the lab's.
 */
#define LOG_ROOM "lab"
#include "tests/lab/x86_64/smp.h"

#define APIC_ID      0x020
#define APIC_SVR     0x0F0
#define APIC_ICR_LOW 0x300
#define APIC_ICR_HIGH 0x310
#define APIC_LVT_TIMER 0x320
#define APIC_LVT_ERROR 0x370
#define LVT_MASKED   (1u << 16)
#define SVR_RESET    0xFFu

#define ICR_FIXED    (0u << 8)
#define ICR_NMI      (4u << 8)
#define ICR_INIT     (5u << 8)
#define ICR_SIPI     (6u << 8)
#define ICR_MODE     (7u << 8)
#define ICR_PENDING  (1u << 12)
#define ICR_ASSERT   (1u << 14)
#define ICR_LEVEL    (1u << 15)
#define ICR_LOGICAL  (1u << 11)
#define ICR_SHORTHAND(icr) ((icr) >> 18 & 3)
#define INIT_100NS   10000u     /* between INIT and SIPI */
#define KICK_100NS   5000u      /* between two kicks of a processor that has not answered */
#define KICKS_MAX    2000u
#define ICR_SELF     (1u << 18)

static volatile uint8_t *apic;

uint32_t apic_read(unsigned reg) { return mmio_read32(apic + reg); }
void apic_write(unsigned reg, uint32_t v) { mmio_write32(apic + reg, v); }

int apic_init(void)
{
    apic = mm_map_phys(pa(APIC_BASE_GPA), PAGE_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE);
    return apic ? 0 : -E_NOMEM;
}

unsigned apic_own_id(void) { return apic_read(APIC_ID) >> 24; }

/* As after a hardware reset: software-disabled, everything masked. The firmware left it otherwise. */
void apic_reset(void)
{
    for (unsigned reg = APIC_LVT_TIMER; reg <= APIC_LVT_ERROR; reg += 0x10)
        apic_write(reg, LVT_MASKED);
    apic_write(APIC_SVR, SVR_RESET);
}

unsigned apic_guest_rights(void) { return MAP_READ | MAP_DEVICE | (lab_vcpu_count == 1 ? MAP_WRITE : 0u); }

static void send(unsigned apic_id, uint32_t low)
{
    uint32_t high = apic_read(APIC_ICR_HIGH);      /* the guest may be between its two writes */
    apic_write(APIC_ICR_HIGH, apic_id << 24);
    apic_write(APIC_ICR_LOW, low);
    apic_write(APIC_ICR_HIGH, high);
}

void apic_raise(struct vcpu *target, unsigned vector)
{
    if (target->apic_id == apic_own_id())
        apic_write(APIC_ICR_LOW, ICR_SELF | ICR_ASSERT | ICR_FIXED | vector);
    else
        send(target->apic_id, ICR_ASSERT | ICR_FIXED | vector);
}

/* INIT, SIPI, SIPI: the second is dropped by a processor that heard the first. */
void apic_start_processor(unsigned apic_id, unsigned vector)
{
    send(apic_id, ICR_INIT | ICR_ASSERT);
    for (uint64_t until = clock_now_100ns() + INIT_100NS; clock_now_100ns() < until;)
        ;
    send(apic_id, ICR_SIPI | ICR_ASSERT | vector);
    send(apic_id, ICR_SIPI | ICR_ASSERT | vector);
}

void vcpu_kick(struct vcpu *target) { send(target->apic_id, ICR_ASSERT | ICR_NMI); }

/* ---- the guest's writes, with more than one vcpu ---- */
static bool addressed(const struct vcpu *from, const struct vcpu *to, uint32_t low, uint32_t high)
{
    switch (ICR_SHORTHAND(low)) {
    case 1:
        return to == from;
    case 2:
        return true;
    case 3:
        return to != from;
    }
    unsigned id = high >> 24;
    return id == 0xFF || (low & ICR_LOGICAL ? (id & 1u << to->index) != 0 : id == to->apic_id);
}

/* Without the lock meanwhile: the other processor needs it to answer. */
static void kick_until_seen(struct vcpu *to)
{
    lab_unlock();
    for (unsigned n = 0; (to->init_pending || to->sipi_pending) && n < KICKS_MAX; n++) {
        vcpu_kick(to);
        for (uint64_t until = clock_now_100ns() + KICK_100NS; clock_now_100ns() < until;)
            if (!to->init_pending && !to->sipi_pending)
                break;
    }
    lab_lock();
    if (to->init_pending || to->sipi_pending)
        panic("vcpu %u does not answer", to->index);
}

void apic_guest_write(struct vcpu *v, uint32_t offset, uint32_t value)
{
    uint32_t mode = value & ICR_MODE;
    if (offset != APIC_ICR_LOW || (mode != ICR_INIT && mode != ICR_SIPI)) {
        apic_write(offset & ~0xFu, value);
        return;
    }
    if (mode == ICR_INIT && (value & ICR_LEVEL) && !(value & ICR_ASSERT))
        return;                                     /* INIT level de-assert: nothing on processors of this age */
    for (unsigned i = 0; i < lab_vcpu_count; i++) {
        struct vcpu *to = &lab_vcpus[i];
        if (!addressed(v, to, value, apic_read(APIC_ICR_HIGH)) || to == v)
            continue;
        if (mode == ICR_INIT)
            to->init_pending = true;
        else {
            to->sipi_vector = value & 0xFF;
            to->sipi_pending = true;
        }
        kick_until_seen(to);
    }
}
