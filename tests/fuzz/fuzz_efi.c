/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * UEFI: the firmware's memory map with descriptors of any size, its load options and its clock.
 *
 * Must hold: the map's own bytes are all that is read and written; regions come out sorted, of known types and not more
 * than there is room for; RAM is lost only with a word about it; options are taken whole or not at all; a time is one
 * that exists or none.
 */
#include <stdlib.h>
#include <string.h>
#include "boot/efi/conf.c"
#include "boot/efi/map.c"
#include "boot/efi/time.c"
#include "tests/fuzz/fuzz.h"

static struct boot_info info;

static void map(struct input *in)
{
    size_t step = sizeof(struct efi_memory_descriptor) + in_u8(in) % 5 * 8, n = in->left / step;
    char *raw = malloc(n * step + 1);
    uint64_t ram_before = 0, ram = 0;

    memcpy(raw, in->at, n * step);
    for (size_t i = 0; i < n; i++) {           /* plausible ones, for the sums below */
        struct efi_memory_descriptor d;
        memcpy(&d, raw + i * step, sizeof(d));
        d.type %= 20;
        d.number_of_pages &= 0xFFFFFFFFFF;
        memcpy(raw + i * step, &d, sizeof(d));
        struct mm_region r = efi_region(&d);
        ram_before += r.type == MM_RAM ? r.bytes : 0;
    }
    memset(&info, 0, sizeof(info));
    map_convert(&info, raw, n * step, step);
    free(raw);
    FUZZ_CHECK(info.region_count <= BOOT_MAX_REGIONS && memchr(info.note, 0, sizeof(info.note)));
    for (unsigned i = 0; i < info.region_count; i++) {
        FUZZ_CHECK(info.regions[i].type >= MM_RAM && info.regions[i].type <= MM_MMIO);
        ram += info.regions[i].type == MM_RAM ? info.regions[i].bytes : 0;
    }
    FUZZ_CHECK(ram == ram_before || info.note[0]);
}

static void options(struct input *in)
{
    static char cmdline[BOOT_CMDLINE_BYTES], before[BOOT_CMDLINE_BYTES];
    uint8_t *copy = malloc(in->left + !in->left);
    size_t used = in_u16(in) % sizeof(cmdline);

    memset(cmdline, 'a', used);
    cmdline[used] = 0;
    memcpy(before, cmdline, used + 1);
    memcpy(copy, in->at, in->left);
    bool ok = conf_append_load_options(cmdline, sizeof(cmdline), copy, in->left);
    free(copy);
    FUZZ_CHECK(memchr(cmdline, 0, sizeof(cmdline)) && memcmp(cmdline, before, used) == 0);
    FUZZ_CHECK(ok || strcmp(cmdline, before) == 0);
}

static void run(struct input *in)
{
    struct efi_time t = {0};
    const uint8_t *bytes;

    switch (in_u8(in) % 3) {
    case 0:
        map(in);
        break;
    case 1:
        options(in);
        break;
    default:
        memcpy(&t, in->at, MIN(in->left, sizeof(t)));
        in_take(in, &bytes, sizeof(t));
        FUZZ_CHECK(efi_unix_seconds(&t) < 253402387200);       /* the year 10000, anywhere on earth */
    }
}

const struct fuzz_target fuzz_target = {.run = run};
