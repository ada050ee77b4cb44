/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Firmware mode, what is the same on every architecture: the handoff is found among the boot modules, and the memory
 * that it leaves to the guest is put in the guest's reach.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/handoff.h"
#include "tests/lab/lab.h"
#include "tests/lab/machine.h"

bool lab_firmware;

bool handoff_find(const struct boot_info *boot, void *handoff, size_t bytes)
{
    for (unsigned i = 0; i < boot->module_count; i++) {
        if (strcmp(boot->modules[i].name, LAB_HANDOFF_NAME) != 0)
            continue;
        memcpy(handoff, arch_phys_to_virt(boot->modules[i].start), bytes);
        lab_firmware = ((const struct lab_handoff_common *)handoff)->magic == LAB_HANDOFF_MAGIC;
    }
    return lab_firmware;
}

void handoff_guest_ram(const struct lab_handoff_common *h)
{
    for (uint32_t i = 0; i < h->range_count; i++) {
        int error = guest_ram_window(h->ranges[i].start, h->ranges[i].start, h->ranges[i].bytes);
        if (error)
            panic("guest memory %#llx: %s", (unsigned long long)h->ranges[i].start, error_name(error));
    }
    log_info("guest memory: %llu MiB in %u ranges; the lab at %#llx", (unsigned long long)(guest_ram_bytes() >> 20),
             h->range_count, (unsigned long long)h->block_start);
}
