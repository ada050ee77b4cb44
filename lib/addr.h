/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address kinds as types, so that mixing them does not compile.
 *
 *   paddr_t  what the memory map speaks of and page tables hold
 *   vaddr_t  what the CPU dereferences
 *   gpa_t    what is told to the host; differs from paddr_t in an isolated VM, where
 *            shared pages are named by either side of shared_gpa_boundary
 *
 * All three are 64 bits on both architectures.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct { uint64_t v; } paddr_t;
typedef struct { uint64_t v; } vaddr_t;
typedef struct { uint64_t v; } gpa_t;

#define PAGE_SHIFT 12
#define PAGE_BYTES 4096ull
#define PAGE_MASK  (PAGE_BYTES - 1)

/* No page of RAM is ever handed out at physical address 0, so it serves as "none". */
#define PADDR_NONE ((paddr_t){0})

static inline paddr_t pa(uint64_t v) { return (paddr_t){v}; }
static inline vaddr_t va(uint64_t v) { return (vaddr_t){v}; }
static inline vaddr_t va_of(const void *p) { return (vaddr_t){(uint64_t)(uintptr_t)p}; }
static inline void *va_ptr(vaddr_t a) { return (void *)(uintptr_t)a.v; }
static inline bool pa_is_none(paddr_t a) { return a.v == 0; }
static inline paddr_t pa_add(paddr_t a, uint64_t n) { return (paddr_t){a.v + n}; }
static inline vaddr_t va_add(vaddr_t a, uint64_t n) { return (vaddr_t){a.v + n}; }
