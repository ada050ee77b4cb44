/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: vmbus/ring.c */
/*
 * The ring on its own: both ends are struct ring on the same memory, mapped twice as the guest maps it.
 *
 * "host" is the other end: the receiver of what "guest" sends and the sender of what it receives.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "lib/errno.h"
#include "tests/unit/test.h"
#include "vmbus/ring.h"

#define DATA_PAGES 2u
#define DATA_BYTES (DATA_PAGES * 4096u)

struct pair {
    uint8_t *map;
    struct ring sender, receiver;
};

static void pair_open(struct pair *p)
{
    int fd = memfd_create("ring", 0);
    size_t bytes = 4096 + DATA_BYTES;

    if (fd < 0 || ftruncate(fd, (off_t)bytes))
        abort();
    p->map = mmap(NULL, bytes + DATA_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mmap(p->map, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    mmap(p->map + bytes, DATA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 4096);
    close(fd);
    ring_init(&p->sender, p->map, p->map + 4096, DATA_BYTES);
    ring_init(&p->receiver, p->map, p->map + 4096, DATA_BYTES);
}

static void pair_close(struct pair *p)
{
    munmap(p->map, 4096 + 2 * DATA_BYTES);
}

static struct vmbus_ring_control *control(struct pair *p) { return (void *)p->map; }

/* Sends a packet of bytes (with descriptor) whose payload is made of seed. */
static int put(struct ring *r, uint32_t bytes, uint32_t seed)
{
    struct vmbus_packet_header d = {VMBUS_PACKET_INBAND, 2, (uint16_t)(bytes / 8), 0, seed};
    uint8_t *to;
    int rc = ring_reserve(r, bytes, &to);

    if (rc < 0)
        return rc;
    memcpy(to, &d, sizeof(d));
    for (uint32_t i = sizeof(d); i < bytes; i++)
        to[i] = (uint8_t)(seed * 31 + i);
    ring_commit(r, bytes);
    return 0;
}

static bool intact(const uint8_t *packet, uint32_t bytes, uint32_t seed)
{
    struct vmbus_packet_header d;

    memcpy(&d, packet, sizeof(d));
    if (d.length8 * 8u != bytes || d.transaction_id != seed || d.type != VMBUS_PACKET_INBAND)
        return false;
    for (uint32_t i = sizeof(d); i < bytes; i++) {
        if (packet[i] != (uint8_t)(seed * 31 + i))
            return false;
    }
    return true;
}

static uint8_t buffer[DATA_BYTES];

TEST(ring_empty)
{
    struct pair p;
    pair_open(&p);
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 0);
    CHECK_EQ(ring_rest(&p.receiver), 1);
    CHECK_EQ(ring_room_bytes(&p.sender), DATA_BYTES - 8);
    CHECK_EQ(control(&p)->feature_bits, VMBUS_RING_FEATURE_PENDING_SEND);
    CHECK_EQ(ring_signal_needed(&p.sender), 0);
    pair_close(&p);
}

TEST(ring_packet_and_trailer)
{
    struct pair p;
    uint64_t trailer;

    pair_open(&p);
    CHECK_EQ(put(&p.sender, 64, 7), 0);
    CHECK_EQ(put(&p.sender, 16, 8), 0);
    CHECK_EQ(control(&p)->write_index, 64 + 8 + 16 + 8);
    memcpy(&trailer, p.map + 4096 + 72 + 16, 8);
    CHECK_EQ(trailer, 72ull << 32);
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 64);
    CHECK(intact(buffer, 64, 7));
    CHECK_EQ(control(&p)->interrupt_mask, 1);
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 16);
    CHECK(intact(buffer, 16, 8));
    CHECK_EQ(control(&p)->read_index, 0);              /* published at the end of the batch */
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 0);
    CHECK_EQ(ring_rest(&p.receiver), 1);
    CHECK_EQ(control(&p)->read_index, 96);
    CHECK_EQ(control(&p)->interrupt_mask, 0);
    pair_close(&p);
}

/* Every offset of the wrap, descriptor and trailer split included. */
TEST(ring_wrap)
{
    struct pair p;
    pair_open(&p);
    for (uint32_t i = 0; i < 4 * DATA_BYTES / 8; i++) {
        uint32_t bytes = 16 + i % 61 * 8;
        CHECK_EQ(put(&p.sender, bytes, i), 0);
        CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), bytes);
        CHECK(intact(buffer, bytes, i));
        if (ring_read(&p.receiver, buffer, sizeof(buffer)) == 0)
            CHECK_EQ(ring_rest(&p.receiver), 1);
    }
    pair_close(&p);
}

TEST(ring_full_to_the_last_byte)
{
    struct pair p;
    uint32_t n = 0;

    pair_open(&p);
    /* 8192 = 63 * 128 + 120 + 8 that stay free */
    while (put(&p.sender, 120, n) == 0)
        n++;
    CHECK_EQ(n, 63);
    CHECK_EQ(p.sender.waiting_bytes, 128);
    CHECK_EQ(control(&p)->pending_send_bytes, 128);
    CHECK_EQ(put(&p.sender, 112, n), 0);               /* exactly what is left */
    CHECK_EQ(ring_room_bytes(&p.sender), 0);
    CHECK_EQ(put(&p.sender, 16, 0), -E_AGAIN);
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 120);
        CHECK(intact(buffer, 120, i));
    }
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 112);
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 0);
    pair_close(&p);
}

TEST(ring_blocked_sender_is_told_once)
{
    struct pair p;
    unsigned signals = 0, packets = 0;

    pair_open(&p);
    while (put(&p.sender, 120, 0) == 0)
        packets++;
    CHECK_EQ(put(&p.sender, 1016, 0), -E_AGAIN);       /* wants 1024 */
    CHECK(!ring_unblocked(&p.sender));
    for (; packets; packets--) {
        CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 120);
        ring_publish(&p.receiver);
        if (p.receiver.signal_due) {
            signals++;
            p.receiver.signal_due = false;
            CHECK(DATA_BYTES - (packets - 1) * 128 > 1024);
            CHECK(DATA_BYTES - packets * 128 <= 1024);
        }
    }
    CHECK_EQ(signals, 1);
    CHECK(ring_unblocked(&p.sender));
    CHECK(!ring_unblocked(&p.sender));
    CHECK_EQ(control(&p)->pending_send_bytes, 0);
    CHECK_EQ(put(&p.sender, 1016, 0), 0);
    pair_close(&p);
}

/* A drain that never runs dry still tells a waiting sender, after a quarter of the ring. */
TEST(ring_long_drain_publishes)
{
    struct pair p;

    pair_open(&p);
    while (put(&p.sender, 120, 0) == 0)
        ;
    for (unsigned i = 0; i < DATA_BYTES / 4 / 128; i++)
        CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 120);
    CHECK_EQ(control(&p)->read_index, DATA_BYTES / 4);
    CHECK(p.receiver.signal_due);
    CHECK(ring_unblocked(&p.sender));
    pair_close(&p);
}

TEST(ring_signal_only_when_needed)
{
    struct pair p;

    pair_open(&p);
    /* a batch into an empty ring: one signal, whatever its length */
    CHECK_EQ(put(&p.sender, 24, 0), 0);
    CHECK_EQ(put(&p.sender, 24, 1), 0);
    CHECK_EQ(ring_signal_needed(&p.sender), 1);
    CHECK_EQ(ring_signal_needed(&p.sender), 0);
    /* the host has not read that yet: it was told already */
    CHECK_EQ(put(&p.sender, 24, 2), 0);
    CHECK_EQ(ring_signal_needed(&p.sender), 0);
    /* the host is awake and masks */
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 24);
    CHECK_EQ(put(&p.sender, 24, 3), 0);
    CHECK_EQ(ring_signal_needed(&p.sender), 0);
    while (ring_read(&p.receiver, buffer, sizeof(buffer)))
        ;
    CHECK_EQ(ring_rest(&p.receiver), 1);
    /* it read a part of the batch and went to sleep before the rest was written */
    CHECK_EQ(put(&p.sender, 24, 4), 0);
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 24);
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 0);
    CHECK_EQ(ring_rest(&p.receiver), 1);
    CHECK_EQ(put(&p.sender, 24, 5), 0);
    CHECK_EQ(ring_signal_needed(&p.sender), 1);
    /* it read everything by itself */
    while (ring_read(&p.receiver, buffer, sizeof(buffer)))
        ;
    CHECK_EQ(ring_rest(&p.receiver), 1);
    CHECK_EQ(put(&p.sender, 24, 6), 0);
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 24);
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 0);
    CHECK_EQ(ring_rest(&p.receiver), 1);
    CHECK_EQ(ring_signal_needed(&p.sender), 0);
    pair_close(&p);
}

/* What came between the last look and the unmasking is seen by ring_rest. */
TEST(ring_rest_looks_again)
{
    struct pair p;

    pair_open(&p);
    CHECK_EQ(put(&p.sender, 24, 0), 0);
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 24);
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 0);
    CHECK_EQ(put(&p.sender, 24, 1), 0);
    CHECK_EQ(ring_signal_needed(&p.sender), 0);        /* masked */
    CHECK_EQ(ring_rest(&p.receiver), 0);
    CHECK_EQ(control(&p)->interrupt_mask, 1);
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), 24);
    pair_close(&p);
}

TEST(ring_corrupt_indices)
{
    static const uint32_t bad[] = {DATA_BYTES, DATA_BYTES + 8, 4, 12, UINT32_MAX, 0x80000000u};
    struct pair p;
    uint8_t *to;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        pair_open(&p);
        control(&p)->write_index = bad[i];
        CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), -E_PROTO);
        pair_close(&p);

        pair_open(&p);
        while (put(&p.sender, 120, 0) == 0)
            ;
        control(&p)->read_index = bad[i];
        CHECK_EQ(ring_reserve(&p.sender, 1024, &to), -E_PROTO);
        CHECK_EQ(ring_room_bytes(&p.sender), 0);
        CHECK_EQ(ring_signal_needed(&p.sender), -E_PROTO);
        CHECK(!ring_unblocked(&p.sender));
        pair_close(&p);
    }
}

TEST(ring_corrupt_packets)
{
    static const struct { uint16_t offset8, length8; } bad[] = {
        {2, 0}, {2, 1}, {0, 4}, {1, 4}, {5, 4}, {2, 9}, {2, 0xFFFF}, {0xFFFF, 0xFFFF},
    };
    struct pair p;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        pair_open(&p);
        CHECK_EQ(put(&p.sender, 64, 0), 0);
        struct vmbus_packet_header *d = (void *)(p.map + 4096);
        d->data_offset8 = bad[i].offset8;
        d->length8 = bad[i].length8;
        CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), -E_PROTO);
        pair_close(&p);
    }
    /* too short for a descriptor, and longer than the reader's buffer */
    pair_open(&p);
    control(&p)->write_index = 16;
    CHECK_EQ(ring_read(&p.receiver, buffer, sizeof(buffer)), -E_PROTO);
    pair_close(&p);
    pair_open(&p);
    CHECK_EQ(put(&p.sender, 1024, 0), 0);
    CHECK_EQ(ring_read(&p.receiver, buffer, 1016), -E_PROTO);
    pair_close(&p);
}

/* Any bytes at all in the ring and its control page: errors, never a byte outside. */
TEST(ring_random_garbage)
{
    struct pair p;

    srand(1);
    for (unsigned round = 0; round < 3000; round++) {
        uint8_t *to;
        pair_open(&p);
        for (uint32_t i = 0; i < DATA_BYTES; i++)
            p.map[4096 + i] = (uint8_t)(rand() & (round % 3 ? 0x0F : 0xFF));
        control(&p)->write_index = (uint32_t)rand() % (DATA_BYTES + 64) & (round % 2 ? ~7u : ~0u);
        control(&p)->read_index = (uint32_t)rand() % (DATA_BYTES + 64) & ~7u;
        control(&p)->pending_send_bytes = (uint32_t)rand();
        for (unsigned i = 0; i < 100; i++) {
            int rc = ring_read(&p.receiver, buffer, 2048);
            if (rc > 0)
                CHECK(rc <= 2048 && rc >= 16);
            else if (rc < 0 || ring_rest(&p.receiver) != 0)
                break;
        }
        if (ring_reserve(&p.sender, 512, &to) >= 0) {
            memset(to, 0, 512);
            ring_commit(&p.sender, 512);
            ring_signal_needed(&p.sender);
        }
        pair_close(&p);
    }
}

/*
 * Against a plain queue: random sizes, batches, drains and sleeps. The consumer sleeps when ring_rest says so and
 * wakes only by a signal; the producer waits when refused and wakes only when signal_due was set. Neither may be left
 * asleep.
 */
TEST(ring_against_a_queue)
{
    struct { uint32_t bytes, seed; } queue[DATA_BYTES / 24 + 1];
    const unsigned depth = sizeof(queue) / sizeof(queue[0]);
    unsigned head = 0, count = 0;
    uint32_t seed = 0;
    bool asleep = true, blocked = false;
    uint64_t received = 0;
    struct pair p;

    pair_open(&p);
    srand(2);
    for (unsigned step = 0; step < 300000; step++) {
        if (rand() % 2 && !blocked) {
            for (unsigned n = (unsigned)rand() % 6; n; n--) {
                uint32_t bytes = (rand() % 8 ? 16 + (uint32_t)rand() % 40 * 8 : 16 + (uint32_t)rand() % 400 * 8);
                int rc = put(&p.sender, bytes, seed);
                if (rc == -E_AGAIN) {
                    blocked = true;
                    break;
                }
                CHECK_EQ(rc, 0);
                queue[(head + count++) % depth].bytes = bytes;
                queue[(head + count - 1) % depth].seed = seed++;
            }
            int signal = ring_signal_needed(&p.sender);
            CHECK(signal >= 0);
            if (signal)
                asleep = false;
            CHECK(!asleep || count == 0);              /* no forgotten signal */
        }
        for (unsigned n = (unsigned)rand() % 8; n && !asleep; n--) {
            int rc = ring_read(&p.receiver, buffer, sizeof(buffer));
            CHECK(rc >= 0);
            if (rc) {
                CHECK(count > 0);
                CHECK_EQ(rc, queue[head].bytes);
                CHECK(intact(buffer, (uint32_t)rc, queue[head].seed));
                head = (head + 1) % depth;
                count--;
                received++;
            } else if (ring_rest(&p.receiver) == 1) {
                CHECK_EQ(count, 0);
                asleep = true;
            }
            if (p.receiver.signal_due) {
                p.receiver.signal_due = false;
                if (ring_unblocked(&p.sender))
                    blocked = false;
            }
        }
        CHECK(!(asleep && blocked));                   /* both would wait for ever */
    }
    CHECK(received > 100000);
    pair_close(&p);
}

/* ---- two threads: the fences. A lost wake-up ends in the time limit. ---- */

#define THREAD_PACKETS 200000u

static struct pair shared;
static sem_t data_signal, space_signal;

static bool sem_wait_limited(sem_t *s)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += 20;
    return sem_timedwait(s, &t) == 0;
}

static void *produce(void *arg)
{
    bool *ok = arg;

    for (uint32_t i = 0; i < THREAD_PACKETS;) {
        int rc = put(&shared.sender, 16 + i % 50 * 8, i);
        if (rc == 0)
            i++;
        if ((rc || i % 5 == 0 || i == THREAD_PACKETS) && ring_signal_needed(&shared.sender) > 0)
            sem_post(&data_signal);
        while (rc == -E_AGAIN && !ring_unblocked(&shared.sender)) {
            if (!sem_wait_limited(&space_signal))
                return NULL;
        }
    }
    *ok = true;
    return NULL;
}

static void *consume(void *arg)
{
    static uint8_t packet[4096];
    bool *ok = arg;

    for (uint32_t i = 0; i < THREAD_PACKETS;) {
        int rc = ring_read(&shared.receiver, packet, sizeof(packet));
        if (rc < 0)
            return NULL;
        if (rc > 0) {
            if (!intact(packet, 16 + i % 50 * 8, i))
                return NULL;
            i++;
        } else if (ring_rest(&shared.receiver) == 1 && !sem_wait_limited(&data_signal)) {
            return NULL;
        }
        if (shared.receiver.signal_due) {
            shared.receiver.signal_due = false;
            sem_post(&space_signal);
        }
    }
    *ok = true;
    return NULL;
}

TEST(ring_two_threads)
{
    pthread_t a, b;
    bool produced = false, consumed = false;

    pair_open(&shared);
    sem_init(&data_signal, 0, 0);
    sem_init(&space_signal, 0, 0);
    pthread_create(&a, NULL, produce, &produced);
    pthread_create(&b, NULL, consume, &consumed);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    CHECK(produced);
    CHECK(consumed);
    pair_close(&shared);
}

TEST_MAIN()
