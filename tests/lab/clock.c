/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time: the cycle counter as reference clock, one alarm of the machine's for everything the lab waits for.
 *
 * The alarm serves the nearest of the model's deadline, the lab's own devices, the tick at which commands are looked
 * for, and the profile. Who is woken compares times, and an alarm that came too early is set again.
 */
#define LOG_ROOM "lab"
#include "tests/lab/machine.h"

#define EARLY_100NS      500u            /* the alarm may come that much too early, */
#define EARLY_PART       1000u           /* and this part of its distance: its clock may be another one */
#define ALARM_MIN_100NS  20ull
#define ALARM_MAX_100NS  100000000ull    /* 10 s */
#define SECOND_100NS     10000000ull

static uint64_t counter_hz, counter_start;
static uint64_t model_deadline = UINT64_MAX, device_deadline = UINT64_MAX, next_tick = UINT64_MAX, next_sample = UINT64_MAX;
static uint64_t armed = UINT64_MAX;       /* the time the alarm was set for, */
static uint64_t fires_from;              /* and when at the earliest it may fire */
static uint64_t to_100ns;                /* (10^7 << 64) / counter_hz */

int clock_init(void)
{
    int error = machine_clock_init(&counter_hz);
    if (error)
        return error;
    counter_start = arch_counter();
    to_100ns = (SECOND_100NS << 32) / counter_hz << 32;
    to_100ns |= ((SECOND_100NS << 32) % counter_hz << 32) / counter_hz;
    if (lab_options.tick_ms)
        next_tick = clock_now_100ns();
    if (lab_options.profile_us)
        next_sample = clock_now_100ns();
    return 0;
}

uint64_t clock_counter_hz(void) { return counter_hz; }

uint64_t clock_now_100ns(void)
{
    return (uint64_t)((unsigned __int128)(arch_counter() - counter_start) * to_100ns >> 64);
}

uint64_t clock_now_us(void) { return clock_now_100ns() / 10; }
void clock_set_deadline(uint64_t when_100ns) { model_deadline = when_100ns; }
void clock_set_device_deadline(uint64_t when_100ns) { device_deadline = when_100ns; }
bool clock_due(void) { return model_deadline != UINT64_MAX && clock_now_100ns() >= model_deadline; }

bool clock_tick_due(void)
{
    uint64_t now = clock_now_100ns();
    if (now < next_tick)
        return false;
    next_tick = now + lab_options.tick_ms * 10000ull;
    return true;
}

static uint64_t nearest(void)
{
    uint64_t first = MIN(model_deadline, next_tick), second = MIN(device_deadline, next_sample);
    return MIN(first, second);
}

void clock_arm(void)
{
    uint64_t wanted = nearest(), now = clock_now_100ns();
    if (wanted == armed && (now < fires_from || wanted == UINT64_MAX))
        return;
    if (wanted == next_sample && now >= next_sample) {
        next_sample = now + lab_options.profile_us * 10ull;
        wanted = nearest();
    }
    uint64_t left = wanted > now ? MIN(wanted - now, ALARM_MAX_100NS) : 1;
    armed = wanted;
    fires_from = now + left - left / EARLY_PART;
    fires_from -= MIN(left, (uint64_t)EARLY_100NS);
    machine_alarm(MAX(left, ALARM_MIN_100NS));
}
