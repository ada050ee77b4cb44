/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between the files of hv/ only: what discovery found, the three hypercall primitives, and the hooks by which clock,
 * timer and SynIC meet.
 *
 * Registers are named by their x86_64 MSR number everywhere in hv/; an architecture without MSRs translates the number
 * inside arch_hv_reg_read/write.
 */
#pragma once
#include "hv/hv.h"

/* VP indices that a sparse processor set can name: 64 banks of 64. */
#define HV_VP_BANKS 64u

/* What isolation.c made of leaf 0x4000000C. */
struct hv_isolation {
    bool isolated;                     /* memory is private to us, and the host is not trusted */
    uint8_t type;                      /* enum hv_isolation_type */
    bool paravisor;
    uint64_t boundary;                 /* shared_gpa_boundary; 0: shared pages keep their addresses */
    struct arch_isolation_rules rules;
};

struct hv_state {
    bool present;                      /* discovery succeeded */
    bool hypercalls;                   /* guest OS id accepted and hypercall page in place */
    bool shareable;                    /* memory that the host must see can be shown to it */
    struct hv_isolation isolation;
    struct arch_hv_features features;
    uint64_t guest_os_id;
    uint64_t online[HV_VP_BANKS];      /* bit n of word b: VP 64b+n runs our kernel */
    unsigned online_count;
};
extern struct hv_state hv_state;

static inline bool hv_access(uint32_t bit) { return (hv_state.features.features[0] & bit) != 0; }
static inline bool hv_privilege(uint32_t bit) { return (hv_state.features.features[1] & bit) != 0; }
static inline bool hv_feature(uint32_t bit) { return (hv_state.features.features[3] & bit) != 0; }
static inline bool hv_recommends(uint32_t bit) { return (hv_state.features.hints[0] & bit) != 0; }
/* Is the host behind a paravisor, which serves the ordinary registers and calls itself? */
static inline bool hv_two_listeners(void) { return hv_state.isolation.rules.two_listeners; }
static inline gpa_t hv_gpa(paddr_t p) { return (gpa_t){p.v}; }

/* Adds a VP to those that remote TLB flushes must reach. */
void hv_vp_online(uint32_t vp);

/* ---- hypercall.c: one page per CPU, lower half input, upper half output ---- */
#define HV_CALL_HALF 2048u
/* Elements that fit into a half behind a fixed part. */
#define HV_CALL_ELEMENTS(fixed_bytes, element_bytes) ((HV_CALL_HALF - (fixed_bytes)) / (element_bytes))

int hv_hypercall_init(void);           /* this CPU's page and, once, the hypercall page. 0 or -E_* */
void hv_hypercall_stop(void);
/*
 * The halves of this CPU's page. Fill the input, call, read the output before anything else may call: nothing in
 * between may block or log. Interrupt handlers make no hypercalls in memory, so interrupts may stay on.
 */
void *hv_call_input(void);
const void *hv_call_output(void);
/* Simple call with the input half; varhead: 8-byte units of variable header. Returns HV_STATUS_*. */
uint16_t hv_call(uint16_t code, uint16_t varhead, bool output);
/*
 * Rep call over count elements, continued where the host stopped half-way (HV_STATUS_TIMEOUT, or success with fewer
 * repetitions). *done, if given, is how many elements were processed; it is right on failure too.
 */
uint16_t hv_call_rep(uint16_t code, uint16_t varhead, unsigned count, bool output, unsigned *done);

/* ---- clock.c ---- */
/* For clocks that interpolate between readings of the reference counter: read it now. */
void hv_clock_resync(void);
/* Frequency of the local timer's input from the host, 0 when it does not tell. */
uint64_t hv_apic_frequency(void);

/* ---- stimer.c ---- */
void hv_timer_init(void);
const char *hv_timer_name(void);
void hv_timer_arm(uint64_t deadline_100ns);
void hv_timer_synic_ready(void);       /* message mode becomes possible */
void hv_timer_message(const struct hv_message *message);
void hv_timer_stop(void);
