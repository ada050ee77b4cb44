/* SPDX-License-Identifier: BSD-2-Clause */
/* What lwIP needs of a C library that is not strings: memory, random numbers, a way to complain. */
#define LOG_ROOM "net"
#include "rt/net/port.h"
#include <string.h>
#include "lwip/opt.h"
#include "arch/cc.h"

/*
 * ---- memory: the kernel heap, with stacks of spare blocks in front ----
 *
 * Every packet takes one or two blocks: headers (up to 240 bytes) and copied datagrams (up to 2032). A word in front of
 * each block tells which stack it belongs to.
 */
#define BLOCK_HEAD    16u               /* keeps the heap's alignment */
#define NO_CLASS      2
#ifdef CANDELA_HOSTED
#define KEEP(n)       0                 /* so that the sanitizer sees what is used after it was freed */
#else
#define KEEP(n)       (n)
#endif
static struct spare { struct spare *next; } *spares[NO_CLASS];
static unsigned spare_count[NO_CLASS];
static const struct { uint16_t bytes, keep; } classes[NO_CLASS] = {{256, KEEP(256)}, {2048, KEEP(32)}};

void *net_malloc(size_t bytes)
{
    unsigned c = bytes <= classes[0].bytes - BLOCK_HEAD ? 0 : bytes <= classes[1].bytes - BLOCK_HEAD ? 1 : NO_CLASS;
    char *block;
    if (c < NO_CLASS && spares[c]) {
        block = (char *)spares[c];
        spares[c] = spares[c]->next;
        spare_count[c]--;
    } else {
        block = kmalloc(c < NO_CLASS ? classes[c].bytes : bytes + BLOCK_HEAD);
        if (!block)
            return NULL;
    }
    *(unsigned *)(void *)block = c;
    return block + BLOCK_HEAD;
}

void *net_calloc(size_t n, size_t bytes)
{
    void *p = bytes && n > SIZE_MAX / 2 / bytes ? NULL : net_malloc(n * bytes);
    if (p)
        memset(p, 0, n * bytes);
    return p;
}

void net_free(void *p)
{
    if (!p)
        return;
    char *block = (char *)p - BLOCK_HEAD;
    unsigned c = *(unsigned *)(void *)block;
    KASSERT(c <= NO_CLASS);
    if (c < NO_CLASS && spare_count[c] < classes[c].keep) {
        struct spare *s = (struct spare *)(void *)block;
        s->next = spares[c];
        spares[c] = s;
        spare_count[c]++;
        return;
    }
    kfree(block);
}

/* ---- random numbers ---- */
static uint64_t weak_state[2];          /* used only when the operator allowed it */
static bool weak;

/* Port numbers, DHCP and DNS ids ask for four bytes at a time; the generator is asked for more. */
uint32_t net_random32(void)
{
    static uint32_t words[16];
    static unsigned left;
    if (weak) {
        weak_state[1]++;
        return (uint32_t)net_siphash(weak_state, &weak_state[1], 1);
    }
    if (left == 0) {
        bool good = rt_random(words, sizeof(words));
        KASSERT(good);                  /* net_random_init looked */
        left = ARRAY_SIZE(words);
    }
    uint32_t value = words[--left];
    words[left] = 0;
    return value;
}

bool net_random_init(void)
{
    uint64_t secret[2];
    if (rt_random_ready() && rt_random(secret, sizeof(secret))) {
        net_isn_set_key(secret);
        return true;
    }
    if (!config_bool("net.weak_random", false)) {
        log_err("no random source (neither the processor's nor firmware's): TCP sequence numbers could be guessed, so the "
                "network stays down; net.weak_random=1 accepts the risk");
        return false;
    }
    log_warn("no random source: sequence numbers, ports and DNS ids can be guessed (net.weak_random=1)");
    weak_state[0] = arch_counter() * 0x9e3779b97f4a7c15ull ^ rt_now_100ns();
    weak_state[1] = arch_counter();
    weak = true;
    secret[0] = (uint64_t)net_random32() << 32 | net_random32();
    secret[1] = (uint64_t)net_random32() << 32 | net_random32();
    net_isn_set_key(secret);
    return true;
}

/* ---- strings ---- */
char *net_strncpy(char *to, const char *from, size_t bytes)
{
    size_t i = 0;
    for (; i < bytes && from[i]; i++)
        to[i] = from[i];
    for (; i < bytes; i++)
        to[i] = 0;
    return to;
}

/* ---- diagnostics ---- */
void net_diag(const char *fmt, ...)
{
    char text[160];
    va_list ap;
    va_start(ap, fmt);
    int n = kvsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    n = MIN(n, (int)sizeof(text) - 1);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        text[--n] = 0;
    if (n > 0)
        log_debug("lwIP: %s", text);
}

void net_assert_failed(const char *what, const char *file, int line) { panic("lwIP: %s (%s:%d)", what, file, line); }
