/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A host that changes what it said between two looks of the guest's.
 *
 * For programs whose guest is built with calls at each load and store (flip.mk): memory that the host sees is followed
 * byte by byte. Right before the guest reads a byte a second time, after it had read or written it itself and the host
 * has not written it since, the byte changes. A guest that reads everything once, into a copy, and checks and uses the
 * copy, never notices: whatever the host's rules allow must work as ever. So a program includes another one's tests, and
 * all of them hold here, too; and each change is a failure of its own that names the code which looked twice.
 *
 * Followed: what shmem_alloc gave (rings, netvsc's buffers, monitor pages, the bounce pool) and the pages of the
 * synthetic interrupt controller. Words that the protocol makes both sides look at again and again never change in tests
 * of this kind: a ring's control page, event flags, the type and the flags of a message slot, monitor pages. They do when
 * flip_wild is set: then any byte that is read again, these words included, may change to anything, as flip_seed says.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

extern bool flip_off;                        /* nothing changes while it is set; reads are followed all the same */
extern uint32_t flip_wild;                   /* one in so many second looks sees something else; 0: not this kind */
extern uint64_t flip_seed;
extern uint64_t flip_reads, flip_changes;    /* bytes of the host's that were read; that were changed */
/* Optional, with flip_wild: may the bytes of this page change? */
extern bool (*flip_may)(uint64_t page);
