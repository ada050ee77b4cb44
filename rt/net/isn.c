/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Initial sequence numbers of TCP connections, after RFC 6528: a clock of 4 us ticks plus a keyed hash of the four
 * numbers that name the connection. An outsider who does not know the key can guess neither where a connection's
 * numbers start nor inject data into it; reconnects from the same port still move forward.
 *
 * The hash is SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012), made for short keyed input.
 */
#include "rt/net/port.h"
#include "lwip/opt.h"
#include "lwip/ip_addr.h"
#include "net_hooks.h"

static uint64_t key[2];

void net_isn_set_key(const uint64_t secret[2])
{
    key[0] = secret[0];
    key[1] = secret[1];
}

static inline uint64_t rotl(uint64_t v, unsigned n) { return v << n | v >> (64 - n); }

static void sip_round(uint64_t v[4])
{
    v[0] += v[1]; v[1] = rotl(v[1], 13); v[1] ^= v[0]; v[0] = rotl(v[0], 32);
    v[2] += v[3]; v[3] = rotl(v[3], 16); v[3] ^= v[2];
    v[0] += v[3]; v[3] = rotl(v[3], 21); v[3] ^= v[0];
    v[2] += v[1]; v[1] = rotl(v[1], 17); v[1] ^= v[2]; v[2] = rotl(v[2], 32);
}

/* SipHash-2-4 of whole 64-bit words, little endian. */
uint64_t net_siphash(const uint64_t secret[2], const uint64_t *words, unsigned count)
{
    uint64_t v[4] = {
        secret[0] ^ 0x736f6d6570736575ull, secret[1] ^ 0x646f72616e646f6dull,
        secret[0] ^ 0x6c7967656e657261ull, secret[1] ^ 0x7465646279746573ull,
    };
    for (unsigned i = 0; i <= count; i++) {
        uint64_t m = i < count ? words[i] : (uint64_t)count * 8 << 56;   /* the last block carries the length */
        v[3] ^= m;
        sip_round(v);
        sip_round(v);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    for (unsigned i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* IPv4 addresses as IPv4-mapped IPv6 ones, so that the two families cannot collide. */
static void put_address(uint64_t words[2], const ip_addr_t *a)
{
    if (IP_IS_V6(a)) {
        const ip6_addr_t *six = ip_2_ip6(a);
        words[0] = (uint64_t)six->addr[1] << 32 | six->addr[0];
        words[1] = (uint64_t)six->addr[3] << 32 | six->addr[2];
    } else {
        words[0] = 0;
        words[1] = (uint64_t)ip_2_ip4(a)->addr << 32 | 0xffff0000u;
    }
}

u32_t net_tcp_isn(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port)
{
    uint64_t words[5];
    put_address(&words[0], local);
    put_address(&words[2], remote);
    words[4] = (uint64_t)local_port << 16 | remote_port;
    return (u32_t)net_siphash(key, words, ARRAY_SIZE(words)) + (u32_t)(rt_now_us() / 4);
}
