/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every proof needs. A proof includes a room's unchanged .c file, so that it sees static functions too, calls them
 * with values that nothing is known of but what it assumes, and proves what must hold. CBMC looks at all of them at
 * once, and at each access to memory besides. A panic, and so a failed KASSERT, fails the proof.
 *
 * PROOF_END stands last and must fail, as the only thing that does: where it holds the end is not reached, the
 * assumptions contradict each other, and everything is proved of nothing.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define assume(c)       __CPROVER_assume(c)
#define prove(c, text)  __CPROVER_assert(c, text)
/* A value of that type, any at all. */
#define ANY(type)       ({ type any_; any_; })
/* ANY(bool) would be any byte. */
static inline bool any_bool(void) { return ANY(unsigned) & 1; }

#ifdef PROOF_OF_MUTANT
#define PROOF_END       ((void)0)
#else
#define PROOF_END       prove(false, "the end is reached")
#endif
