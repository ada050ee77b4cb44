/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random numbers for protocols: ChaCha20 (RFC 8439, section 2.3) with fast key erasure.
 *
 * State is a 256-bit key. Each request runs the cipher on the key; the first 32 bytes of the key stream become the next
 * key, so that what was given out can't be computed from the state later. Seeds are added 32 bytes at a time: exclusive
 * or into the key, then one run of the cipher. The CPU's source is added at the first request and again now and then.
 */
#define LOG_ROOM "random"
#include <string.h>
#include "rt/internal.h"

#define BLOCK_BYTES      64
#define KEY_BYTES        32
#define NONCE_BYTES      12
#define SEED_MIN_BYTES   16                 /* a shorter one helps but doesn't make the generator ready */
#define RESEED_REQUESTS  4096
#define CPU_TRIES        16                 /* the CPU's source may run dry for a moment */

static uint32_t key[KEY_BYTES / 4];
static const uint32_t no_nonce[3];         /* a key serves one request only */
static bool seeded, cpu_seeded;
static unsigned requests;

static uint32_t rotate(uint32_t v, unsigned n) { return v << n | v >> (32 - n); }

static void quarter(uint32_t *x, unsigned a, unsigned b, unsigned c, unsigned d)
{
    x[a] += x[b]; x[d] = rotate(x[d] ^ x[a], 16);
    x[c] += x[d]; x[b] = rotate(x[b] ^ x[c], 12);
    x[a] += x[b]; x[d] = rotate(x[d] ^ x[a], 8);
    x[c] += x[d]; x[b] = rotate(x[b] ^ x[c], 7);
}

void chacha20_block(const uint32_t k[8], uint32_t counter, const uint32_t nonce[3], uint32_t out[16])
{
    uint32_t in[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};   /* "expand 32-byte k" */
    uint32_t x[16];
    memcpy(&in[4], k, KEY_BYTES);
    in[12] = counter;
    memcpy(&in[13], nonce, NONCE_BYTES);
    memcpy(x, in, sizeof(x));
    for (unsigned i = 0; i < 10; i++) {
        quarter(x, 0, 4, 8, 12);
        quarter(x, 1, 5, 9, 13);
        quarter(x, 2, 6, 10, 14);
        quarter(x, 3, 7, 11, 15);
        quarter(x, 0, 5, 10, 15);
        quarter(x, 1, 6, 11, 12);
        quarter(x, 2, 7, 8, 13);
        quarter(x, 3, 4, 9, 14);
    }
    for (unsigned i = 0; i < 16; i++)
        out[i] = x[i] + in[i];
}

static void key_absorb(const void *seed, size_t bytes)
{
    uint32_t block[16];
    for (const uint8_t *at = seed; bytes > 0;) {
        size_t n = MIN(bytes, (size_t)KEY_BYTES);
        for (size_t i = 0; i < n; i++)
            ((uint8_t *)key)[i] ^= at[i];
        chacha20_block(key, (uint32_t)n, no_nonce, block);
        memcpy(key, block, KEY_BYTES);
        at += n;
        bytes -= n;
    }
}

static bool cpu_random(uint64_t *value)
{
    for (unsigned i = 0; i < CPU_TRIES; i++)
        if (arch_random(value))
            return true;
    return false;
}

static void seed_from_cpu(void)
{
    uint64_t words[KEY_BYTES / 8];
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
        if (!cpu_random(&words[i]))
            return;
    if (cpu_seeded)
        key_absorb(words, sizeof(words));
    else
        rt_random_seed(words, sizeof(words), "the processor");
    cpu_seeded = true;
}

void rt_random_seed(const void *seed, size_t bytes, const char *source)
{
    key_absorb(seed, bytes);
    if (bytes >= SEED_MIN_BYTES) {
        seeded = true;
        log_info("seeded from %s, %zu bytes", source, bytes);
    }
}

bool rt_random_ready(void)
{
    if (!cpu_seeded)
        seed_from_cpu();
    return seeded;
}

bool rt_random(void *buf, size_t bytes)
{
    uint32_t block[16], next_key[KEY_BYTES / 4];
    uint8_t *out = buf;
    if (!rt_random_ready())
        return false;
    if (++requests % RESEED_REQUESTS == 0)
        seed_from_cpu();
    chacha20_block(key, 0, no_nonce, block);
    memcpy(next_key, block, KEY_BYTES);
    size_t from = KEY_BYTES;
    for (uint32_t counter = 1; bytes > 0; counter++) {
        size_t n = MIN(bytes, (size_t)BLOCK_BYTES - from);
        memcpy(out, (uint8_t *)block + from, n);
        out += n;
        bytes -= n;
        from = 0;
        if (bytes > 0)
            chacha20_block(key, counter, no_nonce, block);
    }
    memcpy(key, next_key, KEY_BYTES);
    memset(block, 0, sizeof(block));
    return true;
}
