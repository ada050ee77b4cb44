/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The load generator of `make bench` on Linux: the network workloads of apps/bench/main.c by plain sockets.
 *
 *   linux_load udp-rx PORT COUNT [BATCH]          receives COUNT datagrams
 *   linux_load udp-tx HOST PORT COUNT [BATCH]     sends COUNT of 1024 bytes
 *   linux_load tcp-rx PORT COUNT                  receives COUNT MiB from one connection
 *   linux_load tcp-tx HOST PORT COUNT             sends COUNT MiB
 *
 * Calls recv and send, as an ordinary program does; with BATCH recvmmsg and sendmmsg for up to so many datagrams at
 * once. Says "ready" when the other side may begin. Built statically, so that it runs in an initramfs.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define DATAGRAM_BYTES 1024
#define TCP_CHUNK      65536
#define BATCH_MAX      64
#define MIB            (1l << 20)

static char data[TCP_CHUNK];

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int open_socket(int type, bool receive, const char *host, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int s = socket(AF_INET, type, 0), on = 1;
    a.sin_addr.s_addr = receive ? INADDR_ANY : inet_addr(host);
    if (s < 0)
        return -1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (receive ? bind(s, (struct sockaddr *)&a, sizeof(a)) : connect(s, (struct sockaddr *)&a, sizeof(a)))
        return -1;
    return s;
}

static long move_datagrams(int s, bool receive, long count, unsigned batch)
{
    static char many[BATCH_MAX][2 * DATAGRAM_BYTES];
    struct mmsghdr messages[BATCH_MAX] = {0};
    struct iovec pieces[BATCH_MAX];
    long n = 0;

    for (unsigned i = 0; i < BATCH_MAX; i++) {
        pieces[i] = (struct iovec){many[i], receive ? sizeof(many[i]) : DATAGRAM_BYTES};
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    while (n < count) {
        unsigned most = count - n < batch ? (unsigned)(count - n) : batch;
        long got;
        if (batch > 1)
            got = receive ? recvmmsg(s, messages, most, MSG_WAITFORONE, NULL) : sendmmsg(s, messages, most, 0);
        else
            got = (receive ? recv(s, data, sizeof(data), 0) : send(s, data, DATAGRAM_BYTES, 0)) < 0 ? -1 : 1;
        if (got < 0)
            break;
        n += got;
    }
    return n;
}

static long move_stream(int s, bool receive, long want)
{
    long moved = 0;
    while (moved < want) {
        size_t n = want - moved < TCP_CHUNK ? (size_t)(want - moved) : TCP_CHUNK;
        ssize_t got = receive ? recv(s, data, n, 0) : send(s, data, n, 0);
        if (got <= 0)
            break;
        moved += got;
    }
    return moved;
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "";
    bool tcp = !strncmp(kind, "tcp-", 4), receive = !strcmp(kind, "udp-rx") || !strcmp(kind, "tcp-rx");
    int next = receive ? 2 : 3;
    if (argc < next + 2) {
        fprintf(stderr, "usage: linux_load udp-rx|tcp-rx PORT COUNT | udp-tx|tcp-tx HOST PORT COUNT, UDP: [BATCH]\n");
        return 2;
    }
    int port = atoi(argv[next]);
    long count = atol(argv[next + 1]);
    unsigned batch = argc > next + 2 ? (unsigned)atoi(argv[next + 2]) : 1;
    if (batch > BATCH_MAX)
        batch = BATCH_MAX;
    setvbuf(stdout, NULL, _IOLBF, 0);

    int s = open_socket(tcp ? SOCK_STREAM : SOCK_DGRAM, receive, argv[2], port);
    if (s < 0)
        return fail(kind);
    if (!tcp) {
        puts("ready");
        long n = move_datagrams(s, receive, count, batch);
        printf("%ld datagrams\n", n);
        return n != count;
    }
    if (receive) {
        if (listen(s, 1))
            return fail("listen");
        puts("ready");
        s = accept(s, NULL, NULL);
    }
    long n = move_stream(s, receive, count * MIB);
    printf("%ld bytes by TCP\n", n);
    return n != count * MIB;
}
