/* SPDX-License-Identifier: BSD-2-Clause */
/* The machine's clock, an MC146818 behind ports 0x70 and 0x71: the host's time of day at the start. */
#include <string.h>
#include "arch/x86_64/x86.h"
#include "tests/lab/ics.h"
#include "tests/lab/machine.h"

#define RTC_INDEX      0x70
#define RTC_DATA       0x71
#define RTC_A_UPDATING 0x80u
#define RTC_B_BINARY   0x04u
#define RTC_B_24H      0x02u
#define RTC_PM         0x80u
#define RTC_TRIES      100000u

static uint8_t rtc(uint8_t reg)
{
    x86_out8(RTC_INDEX, reg);
    return x86_in8(RTC_DATA);
}

/* The machine's clock: read until two readings agree, none of them during an update. */
uint64_t machine_unix_time(void)
{
    static const uint8_t regs[6] = {9, 8, 7, 4, 2, 0};  /* year, month, day, hour, minute, second */
    uint8_t now[6], before[6] = {0};
    uint64_t t[6];
    for (unsigned tries = 0; tries < RTC_TRIES; tries++) {
        while (rtc(10) & RTC_A_UPDATING && tries++ < RTC_TRIES)
            ;
        for (unsigned i = 0; i < ARRAY_SIZE(regs); i++)
            now[i] = rtc(regs[i]);
        if (!memcmp(now, before, sizeof(now)))
            break;
        memcpy(before, now, sizeof(now));
    }
    uint8_t mode = rtc(11);
    bool afternoon = !(mode & RTC_B_24H) && now[3] & RTC_PM;
    if (!(mode & RTC_B_24H))
        now[3] &= (uint8_t)~RTC_PM;
    for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
        t[i] = mode & RTC_B_BINARY ? now[i] : (now[i] >> 4) * 10u + (now[i] & 15u);
    if (!(mode & RTC_B_24H))
        t[3] = t[3] % 12 + (afternoon ? 12 : 0);
    t[0] += 2000;
    return unix_seconds(t);
}
