/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Native figures of one ring: the time to write a packet and to read it again, on the build machine.
 *
 * The two ends are two struct ring over one memory, mapped as shmem.c maps it (data twice in succession). Beside them
 * memcpy_16384_ns: the same bytes copied in and out through a buffer, which is what no ring can avoid. Each figure is the
 * best of several rounds: other work on the machine only ever makes a round slower.
 * Prints one JSON object a line, as `make bench` does.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "vmbus/ring.h"

#define RING_BYTES (512u * 1024)
#define ROUNDS     25

static uint8_t source[16384] __attribute__((aligned(RING_READ_ALIGN)));
static uint8_t sink[16384 + 16 + RING_READ_ALIGN] __attribute__((aligned(RING_READ_ALIGN)));

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint8_t *map_twice(void)
{
    int fd = memfd_create("ring", 0);
    uint8_t *base = mmap(NULL, 4096 + 2 * RING_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (fd < 0 || base == MAP_FAILED || ftruncate(fd, 4096 + RING_BYTES))
        die("memory for the ring");
    if (mmap(base, 4096 + RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
        mmap(base + 4096 + RING_BYTES, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 4096) == MAP_FAILED)
        die("mapping the ring twice");
    return base;
}

static double ring_round(struct ring *sender, struct ring *receiver, uint32_t payload, unsigned count)
{
    uint32_t bytes = payload + 16;
    struct vmbus_packet_header header = {.type = VMBUS_PACKET_INBAND, .data_offset8 = 2, .length8 = (uint16_t)(bytes / 8)};
    uint64_t start = now_ns();

    for (unsigned i = 0; i < count; i++) {
        uint8_t *where;
        if (ring_reserve(sender, bytes, &where) < 0)
            die("the ring is full");
        header.transaction_id = i;
        memcpy(where, &header, sizeof(header));
        memcpy(where + sizeof(header), source, payload);
        ring_commit(sender, bytes);
        if (ring_read(receiver, sink + ring_read_offset(receiver), sizeof(sink) - RING_READ_ALIGN) != (int)bytes)
            die("the packet did not come back");
        ring_publish(receiver);
    }
    return (double)(now_ns() - start) / count;
}

static double copy_round(uint8_t *middle, uint32_t bytes, unsigned count)
{
    uint64_t start = now_ns();

    for (unsigned i = 0; i < count; i++) {
        uint8_t *through = middle + (size_t)i * bytes % (RING_BYTES - bytes);
        memcpy(through, source, bytes);
        __asm__ volatile("" : : : "memory");
        memcpy(sink, through, bytes);
        __asm__ volatile("" : : : "memory");
    }
    return (double)(now_ns() - start) / count;
}

static void print(const char *figure, double ns)
{
    printf("{\"figure\": \"%s\", \"system\": \"candela\", \"arch\": \"native\", \"value\": %.1f, \"unit\": \"ns\"}\n", figure, ns);
}

int main(void)
{
    static const uint32_t payloads[] = {64, 1500 / 8 * 8 + 8, 16384};
    static const char *const names[] = {"ring_64_ns", "ring_1500_ns", "ring_16384_ns"};
    uint8_t *base = map_twice();
    struct ring sender, receiver;
    double best[4] = {1e9, 1e9, 1e9, 1e9};

    memset(source, 0x5A, sizeof(source));
    ring_init(&sender, base, base + 4096, RING_BYTES);
    ring_init(&receiver, base, base + 4096, RING_BYTES);
    /* Interleaved, so that ratios are of one run. */
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < 3; i++) {
            double ns = ring_round(&sender, &receiver, payloads[i], 4000);
            best[i] = ns < best[i] ? ns : best[i];
        }
        double ns = copy_round(base + 4096, 16384, 4000);
        best[3] = ns < best[3] ? ns : best[3];
    }
    for (unsigned i = 0; i < 3; i++)
        print(names[i], best[i]);
    print("memcpy_16384_ns", best[3]);
    return 0;
}
