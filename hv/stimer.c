/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one-shot timer of the event loop. Source: TLFS, synthetic timers.
 *
 *   direct     stimer 0 raises its own vector
 *   message    stimer 0 sends a message to VMBus's SINT; possible once the SynIC runs, before that the local timer is
 *   local      the CPU's own timer, also when the clock is not reference time, which is what stimers compare with
 *
 * Arming costs an exit, so the hardware is left alone when it will fire soon enough anyway: a later deadline than the
 * armed one is only remembered, and the early interrupt arms the rest. Where the CPU's own timer needs no exit (arm64)
 * it is the first choice. Configuration: hv.stimer, hv.stimer_direct=0.
 */
#define LOG_ROOM "hv"
#include "hv/hv_internal.h"

static enum { TIMER_NONE, TIMER_DIRECT, TIMER_MESSAGE, TIMER_LOCAL } mode;
static bool message_possible, local_started;
static uint64_t wanted = RT_FOREVER;   /* what the loop asked for last */
static uint64_t armed = RT_FOREVER;    /* what the hardware will do */

static void start_local(void);

/* Interrupts off. */
static void program(uint64_t deadline)
{
    armed = deadline;
    if (mode == TIMER_DIRECT || mode == TIMER_MESSAGE) {
        /* A count in the past fires at once; 0 would stop the timer. */
        if (arch_hv_reg_write(HV_X64_MSR_STIMER_COUNT(0), deadline ? deadline : 1))
            return;
        log_warn("the host no longer takes deadlines for the synthetic timer");
        message_possible = false;
        start_local();
    }
    if (mode == TIMER_LOCAL) {
        uint64_t now = hv_reference_time_100ns();
        arch_timer_arm(deadline > now ? deadline - now : 1);
    }
}

static void expired(void)
{
    armed = RT_FOREVER;
    if (wanted == RT_FOREVER)
        return;
    hv_clock_resync();
    if (wanted > hv_reference_time_100ns()) {
        program(wanted);
        return;
    }
    wanted = RT_FOREVER;
    rt_timer_interrupt();
}

static void timer_interrupt(void *arg UNUSED)
{
    expired();
}

void hv_timer_arm(uint64_t deadline_100ns)
{
    uint64_t irq = arch_irq_save();

    wanted = deadline_100ns;
    if (wanted < armed)
        program(wanted);
    arch_irq_restore(irq);
}

/* Runs in the event loop, with the message already taken from its slot. */
void hv_timer_message(const struct hv_message *message)
{
    const struct hv_timer_payload *payload = (const void *)message->payload;

    if (mode != TIMER_MESSAGE || message->payload_size < sizeof(*payload) || payload->timer_index != 0)
        return;
    uint64_t irq = arch_irq_save();
    expired();
    arch_irq_restore(irq);
}

static bool stimer_config(uint64_t config)
{
    return arch_hv_reg_write(HV_X64_MSR_STIMER_COUNT(0), 0) && arch_hv_reg_write(HV_X64_MSR_STIMER_CONFIG(0), 0) &&
           arch_hv_reg_write(HV_X64_MSR_STIMER_CONFIG(0), config);
}

static void start_local(void)
{
    arch_irq_set_handler(ARCH_IRQ_TIMER, timer_interrupt, NULL);
    int rc = arch_timer_init(hv_apic_frequency(), hv_reference_time_100ns);
    local_started = rc == 0;
    mode = rc == 0 ? TIMER_LOCAL : TIMER_NONE;
    if (rc && !message_possible)
        log_err("no timer at all: %s; waits end only when something else happens", error_name(rc));
}

void hv_timer_init(void)
{
    bool asked = config_bool("hv.stimer", !ARCH_LOCAL_TIMER_BEST), direct = config_bool("hv.stimer_direct", true);
    bool stimer = asked && hv_state.present && hv_clock_is_reference() && hv_access(HV_ACCESS_STIMER);

    mode = TIMER_NONE;
    wanted = armed = RT_FOREVER;
    message_possible = local_started = false;
    if (stimer && direct && hv_feature(HV_FEATURE_STIMER_DIRECT)) {
        arch_irq_set_handler(ARCH_IRQ_STIMER, timer_interrupt, NULL);
        if (stimer_config(HV_STIMER_AUTO_ENABLE | HV_STIMER_DIRECT |
                          (uint64_t)arch_irq_number(ARCH_IRQ_STIMER) << HV_STIMER_VECTOR_SHIFT)) {
            mode = TIMER_DIRECT;
            return;
        }
        log_warn("the host refused a direct synthetic timer");
    }
    message_possible = stimer && !hv_two_listeners();   /* a paravisor's timer writes to a page that we do not read */
    start_local();
}

void hv_timer_synic_ready(void)
{
    if (!message_possible || mode == TIMER_MESSAGE)
        return;
    if (!stimer_config(HV_STIMER_AUTO_ENABLE | (uint64_t)HV_SYNIC_SINT_VMBUS << HV_STIMER_SINT_SHIFT)) {
        message_possible = false;
        log_warn("the host refused a synthetic timer; timer: %s", hv_timer_name());
        return;
    }
    uint64_t irq = arch_irq_save();
    if (local_started)
        arch_timer_stop();
    mode = TIMER_MESSAGE;
    if (wanted != RT_FOREVER)
        program(wanted);
    arch_irq_restore(irq);
    log_info("timer: %s", hv_timer_name());
}

const char *hv_timer_name(void)
{
    static const char *const names[] = {"none", "synthetic, direct", "synthetic, by message", "local"};
    return names[mode];
}

/* Back to the local timer if there was one, so that the last waits before power-off still end. */
void hv_timer_stop(void)
{
    if (mode != TIMER_DIRECT && mode != TIMER_MESSAGE)
        return;
    uint64_t irq = arch_irq_save();
    stimer_config(0);
    mode = local_started ? TIMER_LOCAL : TIMER_NONE;
    message_possible = false;
    if (wanted != RT_FOREVER)
        program(wanted);
    arch_irq_restore(irq);
}
