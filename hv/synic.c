/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The synthetic interrupt controller: one SINT, its message slot and its event flags. Source: TLFS, inter-partition
 * communication.
 *
 * The interrupt handler does the least that is right: it takes event flags (one handler each, which raises an event)
 * and, when the message slot is full, wakes the loop. The loop takes messages, one at a time:
 *
 *     copy the slot -> type := none -> full barrier -> if the slot said "pending": EOM
 *
 * The order matters. The host queues a message that finds the slot busy and sets "pending"; having emptied the slot
 * we must look at the flag, because only our EOM makes the host try again. The flag is therefore read after the type
 * was cleared: a host that saw the slot busy before that has set it by then. Until the slot is emptied no further
 * message comes, so nothing can overrun us; and everything is checked in the copy, never in the slot.
 *
 * Taking an interrupt orders nothing by itself on a weakly ordered processor. What the host wrote before the interrupt
 * is seen because each word that tells of it is read with acquire: the type in front of the rest of the slot, the
 * flags in front of the ring that they stand for (whose index the reader loads with acquire, too); and because the
 * interrupt controller's acknowledgement completes before the handler runs (arch_irq), so that these words are not
 * read too early: an interrupt that was consumed by a handler that still saw nothing would be a lost one. Towards the
 * host: the slot is copied before the release of its type, flags are taken by one exchange.
 *
 * The host's registers are meant everywhere. Where it is behind a paravisor, the two pages are not ours: their
 * registers hold the addresses of pages that the paravisor made for us, on the shared side, and must go on holding them
 * for the next kernel; and the paravisor is told the interrupt, too, as one that it passes on ("proxy").
 */
#define LOG_ROOM "hv"
#include "hv/hv_internal.h"
#include <string.h>

static struct {
    struct synic_page {
        paddr_t page;                  /* ours to free, or PADDR_NONE */
        uint64_t off, on;              /* address fields of the register, without and with its use */
        void *mapped;
        bool given;
    } message, event;
    struct hv_message *slot;
    uint64_t *flags;                   /* HV_EVENT_FLAGS_WORDS words */
    bool running;
} synic;

static struct {
    void (*fn)(void *arg);
    void *arg;
} flag_handlers[HV_EVENT_FLAGS_COUNT];
static unsigned flag_words;            /* words of flags that have a handler in or before them */

#define MESSAGES_PER_ROUND 64          /* then others get their turn, however fast the host refills the slot */
static void (*message_handler)(const struct hv_message *message);
static void drain_messages(void *arg);
static struct rt_event message_event = RT_EVENT_INIT(drain_messages, NULL);

/* The type is the first word of the slot: the host writes it last, we clear it last. */
static uint32_t *slot_type(void) { return (uint32_t *)(void *)synic.slot; }

/* Interrupts off: a panic may poll on top of the loop. */
static bool take_message(struct hv_message *copy)
{
    uint32_t type = __atomic_load_n(slot_type(), __ATOMIC_ACQUIRE);

    if (type == HV_MESSAGE_NONE)
        return false;
    memcpy(copy, synic.slot, sizeof(*copy));
    copy->message_type = type;
    if (copy->payload_size > HV_MESSAGE_PAYLOAD_MAX)
        copy->payload_size = HV_MESSAGE_PAYLOAD_MAX;
    __atomic_store_n(slot_type(), HV_MESSAGE_NONE, __ATOMIC_RELEASE);
    arch_fence_ord();
    if (*(volatile uint8_t *)&synic.slot->message_flags & HV_MESSAGE_FLAG_PENDING)
        arch_host_reg_write(HV_X64_MSR_EOM, 0);
    hv_counters.messages_received++;
    return true;
}

static void dispatch(const struct hv_message *message)
{
    if (message->message_type == HV_MESSAGE_TIMER_EXPIRED)
        hv_timer_message(message);
    else if (message_handler)
        message_handler(message);
}

static bool next_message(struct hv_message *copy)
{
    uint64_t irq = arch_irq_save();
    bool taken = synic.running && take_message(copy);

    arch_irq_restore(irq);
    return taken;
}

static void drain_messages(void *arg UNUSED)
{
    struct hv_message copy;

    for (unsigned n = 0; n < MESSAGES_PER_ROUND; n++) {
        if (!next_message(&copy))
            return;
        dispatch(&copy);
    }
    event_raise(&message_event);
}

void hv_synic_poll(void)
{
    drain_messages(NULL);
}

static void take_flags(void)
{
    for (unsigned w = 0; w < flag_words; w++) {
        if (!__atomic_load_n(&synic.flags[w], __ATOMIC_RELAXED))
            continue;
        /* Acquire: what the host wrote before it set the flag is seen by the handler's reader. */
        uint64_t set = __atomic_exchange_n(&synic.flags[w], 0, __ATOMIC_ACQ_REL);
        while (set) {
            unsigned flag = w * 64 + (unsigned)__builtin_ctzll(set);
            set &= set - 1;
            if (flag_handlers[flag].fn)
                flag_handlers[flag].fn(flag_handlers[flag].arg);
        }
    }
}

static void synic_interrupt(void *arg UNUSED)
{
    hv_counters.interrupts++;
    if (!synic.running)
        return;
    take_flags();
    if (__atomic_load_n(slot_type(), __ATOMIC_RELAXED) != HV_MESSAGE_NONE)
        event_raise(&message_event);
}

void hv_set_message_handler(void (*fn)(const struct hv_message *message))
{
    message_handler = fn;
}

void hv_set_event_handler(uint32_t flag, void (*fn)(void *arg), void *arg)
{
    KASSERT(flag > 0 && flag < HV_EVENT_FLAGS_COUNT);
    uint64_t irq = arch_irq_save();
    flag_handlers[flag].fn = fn;
    flag_handlers[flag].arg = arg;
    if (fn && flag / 64 >= flag_words)
        flag_words = flag / 64 + 1;
    arch_irq_restore(irq);
}

/* Keeps what the register's reserved bits hold. */
static bool write_page_register(uint32_t reg, uint64_t value)
{
    uint64_t old;

    return arch_host_reg_read(reg, &old) && arch_host_reg_write(reg, (old & HV_MSR_PAGE_PRESERVE_MASK) | value);
}

static bool write_sint(uint64_t sint)
{
    uint32_t reg = HV_X64_MSR_SINT(HV_SYNIC_SINT_VMBUS);

    return arch_host_reg_write(reg, sint) && (!hv_two_listeners() || arch_hv_reg_write(reg, sint | HV_SINT_PROXY));
}

/* Order as TLFS and every guest: pages first, then the SINT, then the switch. */
static bool enable(void)
{
    bool auto_eoi = !hv_recommends(HV_RECOMMEND_NO_AUTO_EOI);
    uint64_t sint, control;

    arch_irq_set_handler(ARCH_IRQ_VMBUS, synic_interrupt, NULL);
    arch_irq_set_eoi(ARCH_IRQ_VMBUS, !auto_eoi);
    if (!write_page_register(HV_X64_MSR_SIMP, synic.message.on) ||
        !write_page_register(HV_X64_MSR_SIEFP, synic.event.on))
        return false;
    if (!arch_host_reg_read(HV_X64_MSR_SINT(HV_SYNIC_SINT_VMBUS), &sint))
        return false;
    sint = (sint & HV_SINT_PRESERVE_MASK) | arch_irq_number(ARCH_IRQ_VMBUS) | (auto_eoi ? HV_SINT_AUTO_EOI : 0);
    if (!write_sint(sint))
        return false;
    return arch_host_reg_read(HV_X64_MSR_SCONTROL, &control) &&
           arch_host_reg_write(HV_X64_MSR_SCONTROL, control | HV_SCONTROL_ENABLE);
}

static void disable(void)
{
    uint64_t control = 0;

    synic.running = false;
    write_sint(HV_SINT_MASKED | arch_irq_number(ARCH_IRQ_VMBUS));
    write_page_register(HV_X64_MSR_SIMP, synic.message.off);
    write_page_register(HV_X64_MSR_SIEFP, synic.event.off);
    if (arch_host_reg_read(HV_X64_MSR_SCONTROL, &control))
        arch_host_reg_write(HV_X64_MSR_SCONTROL, control & ~HV_SCONTROL_ENABLE);
}

static int own_page(struct synic_page *p)
{
    p->page = page_alloc_zeroed(0);
    if (pa_is_none(p->page))
        return -E_NOMEM;
    p->mapped = arch_phys_to_virt(p->page);
    p->on = hv_gpa(p->page).v | HV_MSR_PAGE_ENABLE;
    return 0;
}

/* The shared side is mapped, whichever the register names: the host, which answers, can't point us at private pages. */
static int given_page(struct synic_page *p, uint32_t reg)
{
    uint64_t boundary = hv_state.isolation.boundary, value;

    if (!arch_host_reg_read(reg, &value))
        return -E_REFUSED;
    paddr_t page = pa(value & HV_MSR_PAGE_GPA_MASK & ~boundary);
    if (page.v == 0 || page.v >= boundary) {
        log_err("register 0x%x should hold a page of the paravisor's, and is 0x%llx", reg, (unsigned long long)value);
        return -E_REFUSED;
    }
    page.v |= boundary;
    p->mapped = vmap_pages(&page, 1, MAP_READ | MAP_WRITE | MAP_GLOBAL);
    if (!p->mapped)
        return -E_NOMEM;
    p->given = true;
    p->off = value & HV_MSR_PAGE_GPA_MASK;
    p->on = p->off | HV_MSR_PAGE_ENABLE;
    return 0;
}

static int take_page(struct synic_page *p, uint32_t reg)
{
    *p = (struct synic_page){.page = PADDR_NONE};
    return hv_two_listeners() ? given_page(p, reg) : own_page(p);
}

static void leave_page(struct synic_page *p)
{
    if (p->given)
        vunmap_pages(p->mapped, 1);
    else if (!pa_is_none(p->page))
        page_free(p->page, 0);
    *p = (struct synic_page){.page = PADDR_NONE};
}

static void leave_pages(void)
{
    leave_page(&synic.message);
    leave_page(&synic.event);
}

int hv_synic_init(void)
{
    if (!hv_can_vmbus())
        return -E_NOTSUP;
    KASSERT(!synic.running);
    synic.event = (struct synic_page){.page = PADDR_NONE};
    int rc = take_page(&synic.message, HV_X64_MSR_SIMP);
    if (rc == 0)
        rc = take_page(&synic.event, HV_X64_MSR_SIEFP);
    if (rc) {
        leave_pages();
        return rc;
    }
    struct hv_message_page *messages = synic.message.mapped;
    struct hv_event_flags_page *events = synic.event.mapped;
    synic.slot = &messages->sint[HV_SYNIC_SINT_VMBUS];
    synic.flags = (uint64_t *)(void *)&events->sint[HV_SYNIC_SINT_VMBUS];
    synic.running = true;
    if (!enable()) {
        disable();
        leave_pages();
        log_err("the host refused a SynIC register");
        return -E_REFUSED;
    }
    hv_timer_synic_ready();
    return 0;
}

void hv_synic_stop(void)
{
    if (!synic.running)
        return;
    uint64_t irq = arch_irq_save();
    disable();
    arch_irq_restore(irq);
    event_cancel(&message_event);
    leave_pages();
}
