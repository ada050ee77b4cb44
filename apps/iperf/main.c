/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Measures and checks the network.
 *
 *   5001  iperf 2 server (lwIP's lwiperf): iperf -c ADDRESS [-r | -d]
 *   5002  source: send a line with a number N, receive N bytes of the pattern below, then the end of the stream
 *   5003  sink: send anything and close your side, receive "N bytes, crc32 XXXXXXXX, M ms" and the end of the stream
 *   5004  UDP echo: every datagram comes back to its sender
 *
 * The pattern repeats after 65521 bytes; byte j of a period is (j * j + 7 * j) mod 256. The checksum is the CRC-32 of
 * zip and zlib. Source, sink and echo use plain sockets on tasks, one task per connection: they are examples, too.
 *
 * iperf.clients=16: connections of source and sink at once.
 */
#define LOG_ROOM "iperf"
#include <string.h>
#include "rt/candela.h"
#include "rt/net/net.h"
#include "lwip/apps/lwiperf.h"
#include "lwip/sockets.h"

#define SOURCE_PORT     5002
#define SINK_PORT       5003
#define ECHO_PORT       5004
#define PERIOD_BYTES    65521
#define CHUNK_BYTES     32768
#define READ_LIMIT_MS   60000
#define ADDRESS_WAIT_US 30000000

const char app_name[] = "iperf";

struct client { int socket; void (*serve)(int socket); };

static unsigned clients, clients_max;
static uint8_t pattern[PERIOD_BYTES + CHUNK_BYTES];
static uint32_t crc_table[256];

static void make_tables(void)
{
    for (unsigned j = 0; j < sizeof(pattern); j++) {
        unsigned k = j % PERIOD_BYTES;
        pattern[j] = (uint8_t)(k * k + 7 * k);
    }
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (unsigned bit = 0; bit < 8; bit++)
            v = v & 1 ? v >> 1 ^ 0xedb88320u : v >> 1;
        crc_table[i] = v;
    }
}

static uint32_t crc32(uint32_t crc, const uint8_t *p, size_t bytes)
{
    crc = ~crc;
    while (bytes--)
        crc = crc >> 8 ^ crc_table[(crc ^ *p++) & 0xff];
    return ~crc;
}

/* ---- source ---- */
/* Reads "N\n"; false when it is anything else. */
static bool read_number(int socket, uint64_t *n)
{
    *n = 0;
    for (unsigned digits = 0; digits <= 15; digits++) {
        char c;
        if (lwip_recv(socket, &c, 1, 0) != 1)
            return false;
        if (c == '\r')
            continue;
        if (c == '\n')
            return digits > 0;
        if (c < '0' || c > '9')
            return false;
        *n = *n * 10 + (uint64_t)(c - '0');
    }
    return false;
}

static void serve_source(int socket)
{
    uint64_t bytes, sent = 0;
    if (!read_number(socket, &bytes)) {
        log_warn("source: not a number of bytes");
        return;
    }
    while (sent < bytes) {
        size_t n = (size_t)MIN(bytes - sent, (uint64_t)CHUNK_BYTES);
        ssize_t done = lwip_send(socket, pattern + sent % PERIOD_BYTES, n, 0);
        if (done <= 0) {
            log_warn("source: the client left after %llu of %llu bytes", (unsigned long long)sent,
                     (unsigned long long)bytes);
            return;
        }
        sent += (uint64_t)done;
    }
    log_info("source: %llu bytes", (unsigned long long)sent);
}

/* ---- sink ---- */
static void serve_sink(int socket)
{
    uint64_t total = 0, start = rt_now_ms();
    uint32_t crc = 0;
    ssize_t n;
    char text[80];
    uint8_t *buffer = kmalloc(CHUNK_BYTES);
    if (!buffer) {
        log_warn("sink: out of memory");
        return;
    }
    while ((n = lwip_recv(socket, buffer, CHUNK_BYTES, 0)) > 0) {
        crc = crc32(crc, buffer, (size_t)n);
        total += (uint64_t)n;
    }
    kfree(buffer);
    ksnprintf(text, sizeof(text), "%llu bytes, crc32 %08x, %llu ms\n", (unsigned long long)total, crc,
              (unsigned long long)(rt_now_ms() - start));
    log_info("sink: %.*s", (int)strlen(text) - 1, text);
    lwip_send(socket, text, strlen(text), 0);
}

/* ---- connections ---- */
static void client_task(void *arg)
{
    struct client *c = arg;
    int limit_ms = READ_LIMIT_MS;
    struct timeval limit = {.tv_sec = limit_ms / 1000};
    lwip_setsockopt(c->socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    lwip_setsockopt(c->socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    c->serve(c->socket);
    lwip_close(c->socket);
    kfree(c);
    clients--;
}

static int listen_on(int type, uint16_t port)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = lwip_htons(port)};
    int s = lwip_socket(AF_INET6, type, 0);
    if (s < 0 || lwip_bind(s, (struct sockaddr *)&any, sizeof(any)) || (type == SOCK_STREAM && lwip_listen(s, 8))) {
        log_err("port %u can't be used (errno %d)", port, errno);
        if (s >= 0)
            lwip_close(s);
        return -1;
    }
    return s;
}

static void accept_loop(int listener, const char *name, void (*serve)(int socket))
{
    while (listener >= 0) {
        int s = lwip_accept(listener, NULL, NULL);
        if (s < 0) {
            task_sleep_us(100000);      /* out of sockets or memory: it passes */
            continue;
        }
        struct client *c = clients < clients_max ? kmalloc(sizeof(*c)) : NULL;
        if (c) {
            *c = (struct client){s, serve};
            if (task_spawn(name, client_task, c, 0)) {
                clients++;
                continue;
            }
            kfree(c);
        }
        log_warn("%s: too many connections (iperf.clients=%u) or out of memory", name, clients_max);
        lwip_close(s);
    }
}

static void source_task(void *arg)
{
    (void)arg;
    accept_loop(listen_on(SOCK_STREAM, SOURCE_PORT), "source", serve_source);
}

static void sink_task(void *arg)
{
    (void)arg;
    accept_loop(listen_on(SOCK_STREAM, SINK_PORT), "sink", serve_sink);
}

static void echo_task(void *arg)
{
    static uint8_t datagram[65536];
    int s = listen_on(SOCK_DGRAM, ECHO_PORT);
    (void)arg;
    while (s >= 0) {
        struct sockaddr_storage from;
        socklen_t from_bytes = sizeof(from);
        ssize_t n = lwip_recvfrom(s, datagram, sizeof(datagram), 0, (struct sockaddr *)&from, &from_bytes);
        if (n >= 0)
            lwip_sendto(s, datagram, (size_t)n, 0, (struct sockaddr *)&from, from_bytes);
    }
}

/* ---- iperf ---- */
static void report(void *arg, enum lwiperf_report_type type, const ip_addr_t *local, u16_t local_port,
                   const ip_addr_t *remote, u16_t remote_port, u32_t bytes, u32_t ms, u32_t kbit_per_s)
{
    static const char *const names[] = {"received", "sent", "aborted", "aborted: data error", "aborted: transmit error",
                                        "aborted by the client"};
    (void)arg;
    (void)local;
    (void)local_port;
    log_info("iperf %s:%u: %s, %u bytes in %u ms, %u kbit/s", ipaddr_ntoa(remote), remote_port,
             (unsigned)type < ARRAY_SIZE(names) ? names[type] : "ended", bytes, ms, kbit_per_s);
}

int app_main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    clients_max = (unsigned)config_number("iperf.clients", 16, 1, 48);
    if (!net_is_up()) {
        log_err("the network is down: nothing to measure");
        return -E_NOTSUP;
    }
    if (!nic_get_index(0)) {
        log_err("no network interface: nothing to measure");
        return -E_NOENT;
    }
    make_tables();
    if (!lwiperf_start_tcp_server(IP_ADDR_ANY, LWIPERF_TCP_PORT_DEFAULT, report, NULL)) {
        log_err("the iperf server could not start");
        return -E_NOMEM;
    }
    if (!task_spawn("source", source_task, NULL, 0) || !task_spawn("sink", sink_task, NULL, 0) ||
        !task_spawn("echo", echo_task, NULL, 0)) {
        log_err("no memory for the tasks");
        return -E_NOMEM;
    }
    if (!net_wait_ready(ADDRESS_WAIT_US))
        log_warn("no address yet (link down, or no DHCP answer)");
    log_info("on %s: iperf 2 at port %u, source %u, sink %u, UDP echo %u", net_address_text(), LWIPERF_TCP_PORT_DEFAULT,
             SOURCE_PORT, SINK_PORT, ECHO_PORT);
    struct wait_queue for_ever;
    wait_queue_init(&for_ever);
    for (;;)
        wait_queue_sleep(&for_ever, RT_FOREVER, "clients");
}
