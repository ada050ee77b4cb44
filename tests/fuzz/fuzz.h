/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzing the guest's own rooms with libFuzzer, the address and the undefined-behaviour sanitizer.
 *
 * A target is one file, fuzz_NAME.c. Its prose says what an attacker controls and what must never happen. Common to all:
 * no memory error, no undefined behaviour, no panic and no failed assertion (all end the process, which libFuzzer calls
 * a finding), no wait beyond the target's limit of virtual time, and no leak: what the target counts is as before.
 *
 * An execution is one fuzz_target.run in a machine that is set back to how fuzz_target.setup left it: the rooms' and the
 * model's variables, the guest's memory and page tables, virtual time (snapshot.c). So an execution depends on its
 * input alone, and a finding can be repeated.
 *
 * The model of the host (tests/host) is the good host; lies.h changes what it says on its way to the guest.
 */
#pragma once
#include "lib/lib.h"
#include "mm/mm.h"
#include "rt/rt.h"

struct input { const uint8_t *at; size_t left; };

struct fuzz_target {
    void (*setup)(void);                       /* once; NULL: the target keeps no state, nothing is set back */
    void (*run)(struct input *in);
    uint32_t limit_s;                          /* of virtual time for one execution */
};
extern const struct fuzz_target fuzz_target;

/* Whether this execution also looks at what is left when its devices are gone, and whether the guest serves new ones:
 * one in four, by the bytes of its input, and all of them under FUZZ_THOROUGH=1. */
extern bool fuzz_thorough;

/* Ends the process as a finding. */
NORETURN void fuzz_fail(const char *file, int line, const char *what);
#define FUZZ_CHECK(c) do { if (!(c)) fuzz_fail(__FILE__, __LINE__, #c); } while (0)

/* The model's memory, part of what is set back; set as hv_host_calloc and hv_host_free by fuzz_boot. */
void *arena_calloc(size_t count, size_t bytes);
void arena_free(void *p);

/* ---- reading an input: what is not there reads as zero ---- */
static inline size_t in_take(struct input *in, const uint8_t **bytes, size_t wanted)
{
    size_t n = MIN(wanted, in->left);
    *bytes = in->at;
    in->at += n;
    in->left -= n;
    return n;
}

static inline uint64_t in_number(struct input *in, size_t bytes)
{
    const uint8_t *p;
    uint64_t v = 0;
    __builtin_memcpy(&v, in->at, in->left < bytes ? in->left : bytes);
    in_take(in, &p, bytes);
    return v;
}
static inline uint8_t in_u8(struct input *in) { return (uint8_t)in_number(in, 1); }
static inline uint16_t in_u16(struct input *in) { return (uint16_t)in_number(in, 2); }
static inline uint32_t in_u32(struct input *in) { return (uint32_t)in_number(in, 4); }
static inline uint64_t in_u64(struct input *in) { return in_number(in, 8); }
