/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hypervisor: discovery, hypercalls, SynIC, reference time, timers, TLB flush, crash report, and (shmem.h, dma.h)
 * memory that the host reads or writes. Facts: TLFS.
 *
 * Every facility is probed and may be absent; what is missing costs one log line and the best fall-back is used. The
 * only things vmbus needs are the hypercall page and the SynIC (hv_can_vmbus).
 *
 * May look at: mm/, arch/, lib/, rt/rt.h. Nobody here knows VMBus.
 */
#pragma once
#include "arch/arch.h"
#include "hv/hv_wire.h"
#include "rt/rt.h"

/* Phase 1, before interrupts: finds the hypervisor, registers the guest OS id, sets up the hypercall page. False (with
 * one clear line) when there is no Hyper-V underneath; then all else of hv/ does nothing, except hv_clock_init. */
bool hv_init(void);
bool hv_present(void);
bool hv_can_vmbus(void);
const struct arch_hv_features *hv_features(void);
/* For the status page and the boot log: "Hyper-V 10.0.20348, privileges 0x.., hints 0x.." */
const char *hv_description(void);
uint32_t hv_vp_index(void);                      /* of this CPU */
/* Is memory private to this machine, and the host not to be trusted? For the bus, which decides whom to speak with;
 * what it means for memory is the affair of shmem.h and dma.h, and no driver asks. */
bool hv_isolated(void);

/* Phase 2: reference time (TSC page, reference counter, plain counter) and one-shot timer (direct stimer, message
 * stimer, local timer); registers them with rt_set_clock. Works without Hyper-V. */
void hv_clock_init(void);
uint64_t hv_reference_time_100ns(void);
/* Does the clock count reference time, so that synthetic timers understand its deadlines, and we the host's times? */
bool hv_clock_is_reference(void);

/* Phase 3: message and event pages of this CPU, SINT2. Interrupts get through afterwards. 0 or -E_*. */
int hv_synic_init(void);
void hv_synic_stop(void);
/* Message slot of VMBus's SINT: called in the event loop with a private copy of each message (already acknowledged). */
void hv_set_message_handler(void (*fn)(const struct hv_message *message));
/* Event flags: one function per flag number 1..2047, called from the INTERRUPT handler (keep it to event_raise). */
void hv_set_event_handler(uint32_t flag, void (*fn)(void *arg), void *arg);   /* NULL fn removes */
/* Polls the message slot with interrupts off: for panics and unload. */
void hv_synic_poll(void);

/* Typed hypercalls: HV_STATUS_* or, for int, 0 / -E_*. */
uint16_t hv_post_message(uint32_t connection_id, uint32_t message_type, const void *payload, uint32_t bytes);
uint16_t hv_signal_event(uint32_t connection_id, uint16_t flag);
int hv_get_vp_registers(uint32_t vp, uint8_t vtl, const uint32_t *names, struct hv_register_value *values,
                        unsigned count);
int hv_set_vp_registers(uint32_t vp, uint8_t vtl, const uint32_t *names, const struct hv_register_value *values,
                        unsigned count);
int hv_current_vtl(uint8_t *vtl);
/* TLB: installs itself with mm_set_tlb_flush when the host recommends it. */
void hv_tlb_init(void);
const char *hv_status_name(uint16_t status);

/* Crash: registers a panic reporter. Clean exit: hypercall page, SynIC, guest id given back. */
void hv_crash_init(void);
void hv_shutdown(void);

struct hv_counters {
    uint64_t hypercalls, messages_posted, messages_received, signals_sent, interrupts, post_retries, tlb_hypercalls;
};
extern struct hv_counters hv_counters;
