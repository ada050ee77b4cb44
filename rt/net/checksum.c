/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Internet checksum (RFC 1071): the sum of 16-bit words in one's complement, not inverted, in the byte order of
 * memory. Words are added 64 bits at a time: one's complement addition does not care where carries are folded.
 */
#include <string.h>
#include "lib/lib.h"
#include "arch/cc.h"

#define HEADER_BYTES 40u                /* the longest, of IPv6 */

static inline uint64_t add_carry(uint64_t sum, uint64_t v)
{
    uint64_t r;
    return __builtin_add_overflow(sum, v, &r) ? r + 1 : r;
}

static inline uint16_t fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* A header is short, lies anywhere, and is summed for every packet. */
static inline uint16_t header_sum(const uint8_t *p, size_t n)
{
    uint64_t sum = 0;
    for (uint32_t word; n > 0; p += sizeof(word), n -= sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        sum += word;
    }
    return fold(sum);
}

uint16_t net_checksum(const void *data, int bytes)
{
    const uint8_t *p = data;
    size_t n = bytes > 0 ? (size_t)bytes : 0;
    uint64_t sum = 0;
    if (n <= HEADER_BYTES && n % 4 == 0)
        return header_sum(p, n);
    /* From an odd address the words lie across: sum the shifted text and swap at the end (RFC 1071, 2(B)). */
    bool odd = ((uintptr_t)p & 1) && n > 0;
    if (odd) {
        sum = (uint64_t)*p++ << 8;
        n--;
    }
    for (; ((uintptr_t)p & 7) && n >= 2; p += 2, n -= 2)
        sum += *(const uint16_t *)(const void *)p;
    for (; n >= 32; p += 32, n -= 32) {
        const uint64_t *w = (const void *)p;
        sum = add_carry(sum, w[0]);
        sum = add_carry(sum, w[1]);
        sum = add_carry(sum, w[2]);
        sum = add_carry(sum, w[3]);
    }
    for (; n >= 8; p += 8, n -= 8)
        sum = add_carry(sum, *(const uint64_t *)(const void *)p);
    for (; n >= 2; p += 2, n -= 2)
        sum = add_carry(sum, *(const uint16_t *)(const void *)p);
    if (n)
        sum = add_carry(sum, *p);
    sum = fold(sum);
    return odd ? (uint16_t)(sum << 8 | sum >> 8) : (uint16_t)sum;
}
