/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netvsp_sum.c: Internet checksums, header parsing and the receive hash (RFC 1071, RFC 9293, NDIS: Toeplitz).
 *
 * Sums are 16-bit one's complement sums of big-endian words, folded and not complemented.
 */
#include "tests/host/netvsp.h"

#define ETHERTYPE_IPV4 0x0800u
#define ETHERTYPE_IPV6 0x86DDu
#define PROTOCOL_TCP   6u
#define PROTOCOL_UDP   17u

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

uint16_t netvsp_sum_add(uint16_t a, uint16_t b)
{
    uint32_t sum = (uint32_t)a + b;

    return (uint16_t)((sum & 0xFFFF) + (sum >> 16));
}

/* The sum as if p began at an even offset. Words are added as the machine loads them and swapped once at
 * the end. */
static uint16_t sum_run(const uint8_t *p, uint32_t bytes)
{
    uint64_t sum = 0;
    uint32_t word;
    uint16_t half = 0;

    for (; bytes >= 4; bytes -= 4, p += 4) {
        memcpy(&word, p, 4);
        sum += word;
    }
    if (bytes >= 2) {
        memcpy(&half, p, 2);
        sum += half;
        p += 2;
        bytes -= 2;
    }
    if (bytes != 0)
        sum += *p;                               /* the low byte of a little-endian word */
    while (sum >> 16)
        sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)(sum << 8 | sum >> 8);
}

uint16_t netvsp_sum(const struct host_seg *segs, uint32_t count, uint32_t offset, uint32_t bytes)
{
    uint16_t total = 0;
    bool odd = false;

    for (uint32_t i = 0; i < count && bytes > 0; i++) {
        uint32_t part;
        uint16_t sum;
        if (offset >= segs[i].bytes) {
            offset -= segs[i].bytes;
            continue;
        }
        part = segs[i].bytes - offset < bytes ? segs[i].bytes - offset : bytes;
        sum = sum_run(segs[i].data + offset, part);
        if (odd)
            sum = (uint16_t)(sum << 8 | sum >> 8);
        total = netvsp_sum_add(total, sum);
        odd ^= part & 1;
        bytes -= part;
        offset = 0;
    }
    return total;
}

bool netvsp_parse(const uint8_t *head, uint32_t head_bytes, uint32_t frame_bytes, struct netvsp_headers *out)
{
    uint32_t length, protocol;

    memset(out, 0, sizeof(*out));
    out->ip = 14;
    if (head_bytes < 14 + 40 && head_bytes < frame_bytes)
        return false;
    if (head_bytes >= 14 + 20 && be16(head + 12) == ETHERTYPE_IPV4) {
        length = be16(head + 16);
        out->transport = 14 + (head[14] & 15u) * 4;
        protocol = head[23];
        out->fragment = (be16(head + 20) & 0x3FFF) != 0;
        out->ipv4 = head[14] >> 4 == 4 && (head[14] & 15) >= 5;
        out->end = length == 0 ? frame_bytes : 14 + length;
    } else if (head_bytes >= 14 + 40 && be16(head + 12) == ETHERTYPE_IPV6) {
        length = be16(head + 18);
        out->transport = 14 + 40;
        protocol = head[20];
        out->ipv6 = head[14] >> 4 == 6;
        out->end = length == 0 ? frame_bytes : 14 + 40 + length;
    } else {
        return false;
    }
    if ((!out->ipv4 && !out->ipv6) || out->end > frame_bytes || out->transport > out->end ||
        out->transport > head_bytes)
        return false;
    out->tcp = protocol == PROTOCOL_TCP && out->end - out->transport >= 20 &&
               head_bytes - out->transport >= 20;
    out->udp = protocol == PROTOCOL_UDP && out->end - out->transport >= 8 && head_bytes - out->transport >= 8;
    return true;
}

uint16_t netvsp_pseudo_sum(const uint8_t *head, const struct netvsp_headers *f, uint32_t length)
{
    uint16_t protocol = f->tcp ? PROTOCOL_TCP : PROTOCOL_UDP;
    uint16_t sum = f->ipv4 ? sum_run(head + f->ip + 12, 8) : sum_run(head + f->ip + 8, 32);

    sum = netvsp_sum_add(sum, (uint16_t)(length >> 16));
    sum = netvsp_sum_add(sum, (uint16_t)length);
    return netvsp_sum_add(sum, protocol);
}

/* Toeplitz hash over addresses and, for TCP, ports, with the key the guest chose; fragments have no ports. */
bool netvsp_hash(const struct host_nic *n, const uint8_t *head, const struct netvsp_headers *f, uint32_t *hash)
{
    bool ports = f->tcp && !f->fragment &&
                 (n->rss_hash & (f->ipv4 ? NDIS_RSS_HASH_TCP_IPV4 : NDIS_RSS_HASH_TCP_IPV6));
    uint8_t input[36];
    uint32_t bytes, result = 0, window;

    if (!ports && !(n->rss_hash & (f->ipv4 ? NDIS_RSS_HASH_IPV4 : NDIS_RSS_HASH_IPV6)))
        return false;
    if (f->ipv4) {
        memcpy(input, head + f->ip + 12, 8);
        bytes = 8;
    } else {
        memcpy(input, head + f->ip + 8, 32);
        bytes = 32;
    }
    if (ports) {
        memcpy(input + bytes, head + f->transport, 4);
        bytes += 4;
    }
    window = (uint32_t)be16(n->rss_key) << 16 | be16(n->rss_key + 2);
    for (uint32_t i = 0; i < bytes; i++) {
        uint8_t next = n->rss_key[(i + 4) % NDIS_RSS_KEY_BYTES];
        for (uint32_t bit = 0; bit < 8; bit++) {
            if (input[i] & (0x80u >> bit))
                result ^= window;
            window = window << 1 | ((next >> (7 - bit)) & 1u);
        }
    }
    *hash = result;
    return true;
}
