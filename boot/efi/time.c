/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The firmware's time of day as Unix time. Source: UEFI Specification 2.10, section 8.3.
 *
 * A time without a zone is taken for UTC, which is what most systems keep in that clock; the host's own word, when it
 * comes, counts more anyway.
 */
#include "boot/efi/boot_efi.h"

#define DAYS_TO_1970 719468           /* from the first of March of the year 0 */

uint64_t efi_unix_seconds(const struct efi_time *t)
{
    bool zoned = t->time_zone >= -1440 && t->time_zone <= 1440;
    if (t->year < 1970 || t->year > 9999 || t->month < 1 || t->month > 12 || t->day < 1 || t->day > 31 ||
        t->hour > 23 || t->minute > 59 || t->second > 59 || !(zoned || t->time_zone == EFI_UNSPECIFIED_TIMEZONE))
        return 0;
    int64_t year = t->month <= 2 ? t->year - 1 : t->year, month = t->month <= 2 ? t->month + 9 : t->month - 3;
    int64_t days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + t->day - 1 - DAYS_TO_1970;
    int64_t seconds = days * 86400 + t->hour * 3600 + t->minute * 60 + t->second + (zoned ? t->time_zone * 60 : 0);
    return seconds > 0 ? (uint64_t)seconds : 0;
}
