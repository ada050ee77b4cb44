/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Monitored notifications: instead of an exit per signal, a bit in a page that the hypervisor looks at now and then.
 *
 * Both pages are given to the host at contact, or none (vmbus.monitor=0). The host decides per offer whether a
 * channel has a monitor id; ids out of range are refused with the offer's other absurdities (offer.c) and never index
 * the page. Only page 2, guest to host, is used: events to us arrive as event flags whatever page 1 says. A bit that
 * is still set needs no second store: the hypervisor has not looked yet.
 */
#define LOG_ROOM "vmbus"
#include "vmbus/vmbus_internal.h"

int monitor_alloc(void)
{
    return config_bool("vmbus.monitor", true) ? shmem_alloc(&bus.monitor_pages, 2, SHMEM_LINEAR, 0) : 0;
}

void monitor_free(void)
{
    shmem_free(&bus.monitor_pages);
}

void monitor_bind(struct vmbus_channel *ch)
{
    uint32_t id = ch->offer.monitor_id;
    bool offered = (ch->offer.monitor_allocated & VMBUS_OFFER_MONITOR_ALLOCATED) != 0;

    ch->monitor.pending = NULL;
    if (!bus.monitor_pages.pages || !offered || id >= VMBUS_MONITOR_COUNT)
        return;
    uint8_t *page = (uint8_t *)bus.monitor_pages.virt + PAGE_BYTES;
    ch->monitor.pending = (uint32_t *)(void *)(page + offsetof(struct vmbus_monitor_page, groups) +
                                               id / VMBUS_MONITOR_GROUP_BITS * sizeof(struct vmbus_monitor_group));
    ch->monitor.bit = 1u << (id % VMBUS_MONITOR_GROUP_BITS);
}
