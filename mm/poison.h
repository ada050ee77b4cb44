/* SPDX-License-Identifier: BSD-2-Clause */
/* In sanitized hosted builds free memory is marked, so that a use after free or beyond an object's end is caught. */
#pragma once
#include <stddef.h>

#ifdef __SANITIZE_ADDRESS__
void __asan_poison_memory_region(const volatile void *start, size_t bytes);
void __asan_unpoison_memory_region(const volatile void *start, size_t bytes);
#define POISON_REDZONE_BYTES 16u
/* The marks cost an eighth of what they cover: of something very large only the beginning gets them. */
#define POISON_MAX_BYTES ((size_t)1 << 20)
static inline void mem_poison(const void *p, size_t bytes)
{
    __asan_poison_memory_region(p, bytes < POISON_MAX_BYTES ? bytes : POISON_MAX_BYTES);
}
static inline void mem_unpoison(const void *p, size_t bytes) { __asan_unpoison_memory_region(p, bytes); }
#else
#define POISON_REDZONE_BYTES 0u
static inline void mem_poison(const void *p, size_t bytes) { (void)p, (void)bytes; }
static inline void mem_unpoison(const void *p, size_t bytes) { (void)p, (void)bytes; }
#endif
