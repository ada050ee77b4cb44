/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The load generator behind `make bench`: does one thing as often as asked, then returns.
 *
 * The bench runs it twice with different counts and takes the difference of the lab's exact counters, so that boot,
 * DHCP and shutdown cancel out. args= is one of
 *   boot                                    nothing: the cost of coming up
 *   disk:depth=32,count=1000                random 4 KiB reads of disk0, depth in flight
 *   memory:count=60                         takes and checks memory for 60 seconds
 *   udp-rx:port=7000,count=1000             receives count datagrams
 *   udp-tx:host=10.0.2.2,port=7000,count=1000,bytes=1024
 *   tcp-rx:port=7001,count=4                receives count MiB from one connection
 *   tcp-tx:host=10.0.2.2,port=7001,count=4  sends count MiB
 */
#define LOG_ROOM "bench"
#include "apps/bench/memory.h"
#include "rt/candela.h"
#include "lwip/sockets.h"
#include <string.h>

const char app_name[] = "bench";

#define READ_BYTES     4096
#define DEPTH_MAX      256
#define TCP_CHUNK      65536
#define MIB            (1024 * 1024)

struct workload {
    char kind[16];
    char host[40];
    uint64_t port, count, depth, bytes;
};

static bool parse_number(const char *text, size_t length, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9' || *value > UINT64_MAX / 10 - 9)
            return false;
        *value = *value * 10 + (uint64_t)(text[i] - '0');
    }
    return length > 0;
}

/* One "key=value" of the argument; false names it in the log. */
static bool parse_word(struct workload *w, const char *word, size_t length)
{
    const char *equals = memchr(word, '=', length);
    size_t key = equals ? (size_t)(equals - word) : length;
    const char *value = equals ? equals + 1 : word + length;
    size_t value_length = length - (size_t)(value - word);
    struct { const char *name; uint64_t *number; } numbers[] = {
        {"port", &w->port}, {"count", &w->count}, {"depth", &w->depth}, {"bytes", &w->bytes},
    };
    if (key == 4 && !memcmp(word, "host", 4) && value_length < sizeof(w->host)) {
        memcpy(w->host, value, value_length);
        w->host[value_length] = 0;
        return true;
    }
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        if (strlen(numbers[i].name) == key && !memcmp(numbers[i].name, word, key))
            return parse_number(value, value_length, numbers[i].number);
    return false;
}

static bool parse(struct workload *w, const char *text)
{
    const char *colon = strchr(text, ':');
    size_t kind = colon ? (size_t)(colon - text) : strlen(text);

    *w = (struct workload){.host = "10.0.2.2", .port = 7000, .count = 1000, .depth = 1, .bytes = 1024};
    if (kind >= sizeof(w->kind))
        return false;
    memcpy(w->kind, text, kind);
    for (const char *word = colon; word; ) {
        const char *end = strchr(++word, ',');
        if (!parse_word(w, word, end ? (size_t)(end - word) : strlen(word))) {
            log_err("args: \"%s\" is not key=value with a key of host port count depth bytes", word);
            return false;
        }
        word = end;
    }
    if (w->depth < 1 || w->depth > DEPTH_MAX || w->bytes < 1 || w->bytes > 1472 || w->port < 1 || w->port > 65535) {
        log_err("args: depth must be 1..%d, bytes 1..1472, port 1..65535", DEPTH_MAX);
        return false;
    }
    return true;
}

/* ---- disk ---- */
static struct {
    struct blk_device *disk;
    uint64_t left, done, count, random, positions;
    int error;
    struct wait_queue finished;
    struct { struct blk_request request; struct blk_span span; } slots[DEPTH_MAX];
} disk;

static void disk_submit(struct blk_request *r)
{
    uint32_t per_read = READ_BYTES / disk.disk->sector_bytes;
    /* Linear congruential: the positions only have to be spread and the same every time. */
    disk.random = disk.random * 6364136223846793005ull + 1442695040888963407ull;
    r->op = BLK_READ;
    r->sector = (disk.random >> 20) % disk.positions * per_read;
    r->sectors = per_read;
    int error = blk_submit(disk.disk, r);
    if (error) {
        disk.error = error;
        disk.done++;
    }
}

static void disk_done(struct blk_request *r)
{
    if (r->status)
        disk.error = r->status;
    disk.done++;
    if (disk.left) {
        disk.left--;
        disk_submit(r);
    } else if (disk.done == disk.count) {
        wait_queue_wake_all(&disk.finished);
    }
}

static int run_disk(const struct workload *w)
{
    disk.disk = blk_get("disk0");
    if (!disk.disk) {
        log_err("there is no disk0 to read");
        return 1;
    }
    wait_queue_init(&disk.finished);
    disk.positions = disk.disk->sectors * disk.disk->sector_bytes / READ_BYTES;
    disk.left = disk.count = w->count;
    for (uint64_t i = 0; i < w->depth && disk.left; i++) {
        paddr_t page = page_alloc(0);
        if (pa_is_none(page)) {
            log_err("no memory for a depth of %llu", (unsigned long long)w->depth);
            return 1;
        }
        disk.slots[i].span = (struct blk_span){arch_phys_to_virt(page), READ_BYTES};
        disk.slots[i].request = (struct blk_request){.spans = &disk.slots[i].span, .span_count = 1, .done = disk_done};
        disk.left--;
        disk_submit(&disk.slots[i].request);
    }
    if (!WAIT_UNTIL(&disk.finished, disk.done == disk.count, 600000000, "the bench's reads")) {
        log_err("reads did not end: %llu of %llu", (unsigned long long)disk.done, (unsigned long long)disk.count);
        return 1;
    }
    if (disk.error)
        log_err("a read failed: %s", error_name(disk.error));
    log_info("%llu reads at depth %llu", (unsigned long long)disk.done, (unsigned long long)w->depth);
    blk_put(disk.disk);
    return disk.error != 0;
}

/* ---- network ---- */
static struct sockaddr_in address_of(const struct workload *w, bool local)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = lwip_htons((uint16_t)w->port)};
    a.sin_len = sizeof(a);
    a.sin_addr.s_addr = local ? 0 : ipaddr_addr(w->host);
    return a;
}

static int run_udp(const struct workload *w, bool receive)
{
    static char datagram[2048];
    struct sockaddr_in a = address_of(w, receive);
    int s = lwip_socket(AF_INET, SOCK_DGRAM, 0);
    uint64_t n = 0;

    if (s < 0)
        return 1;
    if (receive ? lwip_bind(s, (struct sockaddr *)&a, sizeof(a)) : lwip_connect(s, (struct sockaddr *)&a, sizeof(a)))
        return 1;
    log_info("ready");
    for (; n < w->count; n++) {
        ssize_t got = receive ? lwip_recv(s, datagram, sizeof(datagram), 0) : lwip_send(s, datagram, w->bytes, 0);
        if (got < 0)
            break;
    }
    log_info("%llu datagrams", (unsigned long long)n);
    lwip_close(s);
    return n != w->count;
}

static int run_tcp(const struct workload *w, bool receive)
{
    static char chunk[TCP_CHUNK];
    struct sockaddr_in a = address_of(w, receive);
    uint64_t want = w->count * MIB, moved = 0;
    int s = lwip_socket(AF_INET, SOCK_STREAM, 0);

    if (s < 0)
        return 1;
    if (receive) {
        int listener = s;
        if (lwip_bind(listener, (struct sockaddr *)&a, sizeof(a)) || lwip_listen(listener, 1))
            return 1;
        log_info("ready");
        s = lwip_accept(listener, NULL, NULL);
    } else if (lwip_connect(s, (struct sockaddr *)&a, sizeof(a))) {
        log_err("connect to %s port %llu failed", w->host, (unsigned long long)w->port);
        return 1;
    }
    while (moved < want) {
        size_t n = MIN(want - moved, (uint64_t)sizeof(chunk));
        ssize_t got = receive ? lwip_recv(s, chunk, n, 0) : lwip_send(s, chunk, n, 0);
        if (got <= 0)
            break;
        moved += (uint64_t)got;
    }
    log_info("%llu bytes by TCP", (unsigned long long)moved);
    lwip_close(s);
    return moved != want;
}

int app_main(int argc, char **argv)
{
    struct workload w;

    if (argc < 2 || !parse(&w, argv[1])) {
        log_err("nothing to do: args= must be boot, disk:..., udp-rx:..., udp-tx:..., tcp-rx:... or tcp-tx:...");
        return 2;
    }
    if (!strcmp(w.kind, "disk"))
        return run_disk(&w);
    if (!strcmp(w.kind, "memory"))
        return run_memory(w.count);
    if (!net_wait_ready(30000000)) {
        log_err("there is no network");
        return 1;
    }
    if (!strcmp(w.kind, "boot")) {
        boot_phase_mark("ready");        /* with the address that DHCP gave */
        return 0;
    }
    if (!strcmp(w.kind, "udp-rx") || !strcmp(w.kind, "udp-tx"))
        return run_udp(&w, !strcmp(w.kind, "udp-rx"));
    if (!strcmp(w.kind, "tcp-rx") || !strcmp(w.kind, "tcp-tx"))
        return run_tcp(&w, !strcmp(w.kind, "tcp-rx"));
    log_err("args: there is no workload \"%s\"", w.kind);
    return 2;
}
