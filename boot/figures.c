/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The counters of hv/ and vmbus/ as metrics. Those rooms know nothing of the runtime's list and the runtime nothing of
 * them; the room that brings both up introduces them.
 */
#include "boot/figures.h"
#include "hv/dma.h"
#include "rt/candela.h"
#include "vmbus/vmbus.h"

static void add_stats(struct vmbus_channel *ch, void *sum)
{
    struct vmbus_channel_stats *all = sum, one;
    vmbus_channel_get_stats(ch, &one);
    all->signals += one.signals;
    all->interrupts += one.interrupts;
    all->packets_out += one.packets_out;
    all->packets_in += one.packets_in;
    all->ring_full += one.ring_full;
    all->signals_refused += one.signals_refused;
}

/* Of the channels there are now; offset: of the field in struct vmbus_channel_stats. */
static uint64_t read_channels(void *offset)
{
    struct vmbus_channel_stats sum = {0};
    vmbus_for_each_channel(add_stats, &sum);
    return *(const uint64_t *)(const void *)((const char *)&sum + (uintptr_t)offset);
}

#define COUNTER(n, c, h)  {.name = "candela_" n "_total", .help = (h), .read = metric_read_u64, .arg = &(c)}
#define CHANNELS(f, h) \
    {.name = "candela_channel_" #f, .help = (h), .read = read_channels, .gauge = true, \
     .arg = (void *)offsetof(struct vmbus_channel_stats, f)}

static struct metric figures[] = {
    COUNTER("hv_hypercalls", hv_counters.hypercalls, "Hypercalls made"),
    COUNTER("hv_signals", hv_counters.signals_sent, "Signals sent to the host by hypercall"),
    COUNTER("hv_interrupts", hv_counters.interrupts, "Synthetic interrupts taken"),
    COUNTER("hv_messages_posted", hv_counters.messages_posted, "Messages posted to the host"),
    COUNTER("hv_messages_received", hv_counters.messages_received, "Messages taken from the slot"),
    COUNTER("hv_post_retries", hv_counters.post_retries, "Messages posted again because the host had no room"),
    COUNTER("hv_tlb_hypercalls", hv_counters.tlb_hypercalls, "TLB flushes done by the host"),
    {.name = "candela_hv_shared_pages", .help = "Pages shared with the host now", .read = metric_read_u64,
     .arg = &shmem_stats.pages_shared, .gauge = true},
    COUNTER("hv_leaked_pages", shmem_stats.pages_leaked, "Shared pages that the host did not give back"),
    /* Of isolated machines; 0 elsewhere. */
    COUNTER("dma_bounced", dma_stats.bounced, "Transfers that went through the bounce pool"),
    COUNTER("dma_bounced_bytes", dma_stats.bounced_bytes, "Bytes copied to and from the bounce pool"),
    COUNTER("dma_bounce_waits", dma_stats.refusals, "Transfers that found no room in the bounce pool and waited"),
    {.name = "candela_dma_bounce_pages", .help = "Pages of the bounce pool", .read = metric_read_u64,
     .arg = &dma_stats.pages, .gauge = true},
    {.name = "candela_dma_bounce_pages_lent", .help = "Pages of the bounce pool in use now", .read = metric_read_u64,
     .arg = &dma_stats.pages_lent, .gauge = true},
    COUNTER("vmbus_messages_dropped", vmbus_counters.messages_dropped, "Channel messages that made no sense"),
    COUNTER("vmbus_offers", vmbus_counters.offers, "Channels offered"),
    COUNTER("vmbus_rescinds", vmbus_counters.rescinds, "Offers withdrawn"),
    COUNTER("vmbus_ring_errors", vmbus_counters.ring_errors, "Rings that the host broke"),
    CHANNELS(signals, "Signals sent, all channels there are now"),
    CHANNELS(signals_refused, "Signals that the hypervisor refused, all channels there are now"),
    CHANNELS(interrupts, "Interrupts taken, all channels there are now"),
    CHANNELS(packets_out, "Packets sent, all channels there are now"),
    CHANNELS(packets_in, "Packets received, all channels there are now"),
    CHANNELS(ring_full, "Sends that found the ring full, all channels there are now"),
};

void figures_register(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(figures); i++)
        metric_register(&figures[i]);
}
