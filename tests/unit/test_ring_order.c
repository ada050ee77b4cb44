/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's ring against the host's, each on a thread of its own: vmbus/ring.c and tests/host/host_ring.c as they are.
 *
 * The guest sends numbered packets, the host sends each back. Both sleep when there is nothing to do and wake only by a
 * signal of the other side, so that one signal too few ends in a wait that is too long, and an index or a mask that is
 * seen too early in a wrong packet. How much is under way changes all the time: one packet (each is a decision about a
 * signal) up to full rings (each is one about space). Runs for CANDELA_ORDER_S seconds, two unless the environment says.
 *
 * Built with the thread sanitizer, on its own, where it runs as a program of the machine (unit.mk). Under emulation on a
 * processor that orders more than the emulated one it shows what the compiler did, and what a store that passes a later
 * load does; what else arm64 may reorder shows on arm64 machines.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "lib/errno.h"
#include "lib/lib.h"
#include "tests/host/host_internal.h"
#include "tests/unit/test.h"
#include "vmbus/ring.h"

#define PAGE         4096u
#define DATA_PAGES   2u
#define DATA_BYTES   (DATA_PAGES * PAGE)
#define RING_BYTES   (PAGE + DATA_BYTES)
#define MOST_BYTES   512u
#define MOST_ABROAD  128u
#define LOST_S       30

static uint8_t *memory[2];                       /* guest to host, host to guest; data twice, as the guest maps it */
static uint8_t *page[2][1 + DATA_PAGES];
static struct ring out, in;                      /* the guest's */
static struct host_chan channel;                 /* the host's */
static struct host host;
/* As an interrupt: two before anybody looks are one. */
static struct signal { sem_t count; bool pending; } to_guest, to_host;
static bool over;
static const char *wrong;                        /* what went wrong; the first who sees it says it */
static uint64_t guest_sleeps, host_sleeps, full_rings, packets;

/* What host_ring.c wants of the model. */
void host_violation(struct host *h UNUSED, const void *bytes UNUSED, size_t len UNUSED, const char *fmt, ...)
{
    __atomic_store_n(&wrong, fmt, __ATOMIC_RELEASE);
}
bool malice_misled(const struct host_chan *ch UNUSED, uint32_t classes UNUSED) { return false; }

static bool is_over(void) { return __atomic_load_n(&over, __ATOMIC_ACQUIRE); }
static bool is_wrong(void) { return __atomic_load_n(&wrong, __ATOMIC_ACQUIRE); }
static bool fail(const char *what)
{
    __atomic_store_n(&wrong, what, __ATOMIC_RELEASE);
    return false;
}

static void signal_to(struct signal *s)
{
    if (!__atomic_exchange_n(&s->pending, true, __ATOMIC_SEQ_CST))
        sem_post(&s->count);
}

/* False: nobody signalled for so long that nobody will. */
static bool sleep_until(struct signal *s, uint64_t *count)
{
    struct timespec t;

    (*count)++;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += LOST_S;
    if (sem_timedwait(&s->count, &t) != 0)
        return false;
    __atomic_store_n(&s->pending, false, __ATOMIC_SEQ_CST);
    return true;
}

/*
 * One side at a time, both or neither tells of each packet at once and takes its time for the next: then the other meets
 * every instant of what it does, falls asleep between any two packets, and is not always late because it was woken.
 */
enum { SLOW_HOST = 1, SLOW_GUEST = 2 };
static unsigned phase_of(uint64_t number) { return (unsigned)(number >> 12) % 4; }

static void dawdle(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    for (volatile uint32_t left = *seed >> 22; left; left--)
        ;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint32_t bytes_of(uint64_t number) { return 16 + (uint32_t)(number * 2654435761u >> 20) % (MOST_BYTES / 8 - 1) * 8; }

static void make(uint64_t number, uint8_t *to)
{
    uint32_t bytes = bytes_of(number);
    struct vmbus_packet_header d = {VMBUS_PACKET_INBAND, 2, (uint16_t)(bytes / 8), 0, number};

    memcpy(to, &d, sizeof(d));
    for (uint32_t i = sizeof(d); i < bytes; i += 8) {
        uint64_t word = (number ^ i) * 0x9e3779b97f4a7c15u;
        memcpy(to + i, &word, 8);
    }
}

static bool intact(const uint8_t *packet, uint64_t number)
{
    uint8_t expected[MOST_BYTES];

    make(number, expected);
    return memcmp(packet, expected, bytes_of(number)) == 0;
}

/* ---- the host ---- */

static bool put(const uint8_t *packet, uint32_t bytes)
{
    uint64_t trailer = (uint64_t)channel.out.index << 32;
    uint32_t room;

    if (!vring_writable(&host, &channel, &room))
        return fail("the host finds a bad read index");
    if (room <= bytes + VMBUS_PACKET_TRAILER_BYTES)
        return false;
    vring_put(&channel.out, packet, bytes);
    vring_put(&channel.out, &trailer, sizeof(trailer));
    return true;
}

/* As host_channel_io.c: what did not fit waits, and the host asks for a signal, then looks once more. */
static bool send_back(const uint8_t *packet, uint32_t bytes)
{
    if (put(packet, bytes))
        return true;
    if (vring_publish_write(&channel.out))
        signal_to(&to_guest);
    vring_want_space(&channel.out, bytes + VMBUS_PACKET_TRAILER_BYTES);
    if (!put(packet, bytes))
        return false;
    vring_want_space(&channel.out, 0);
    return true;
}

static void *serve(void *arg UNUSED)
{
    static uint8_t packet[MOST_BYTES];
    uint32_t owed = 0, available, seed = 1;

    vring_set_mask(&channel.in, 0);
    while (!is_over() && !is_wrong()) {
        if (owed && send_back(packet, owed)) {
            vring_want_space(&channel.out, 0);
            owed = 0;
        }
        bool dry = false;
        if (!owed) {
            if (!vring_readable(&host, &channel, &available))
                break;
            if (available == 0) {
                if (vring_publish_read(&channel.in))
                    signal_to(&to_guest);
                dry = channel.in.mask == 0;
                vring_set_mask(&channel.in, 0);
            } else {
                struct vmbus_packet_header d;
                vring_set_mask(&channel.in, 1);
                vring_peek(&channel.in, channel.in.index, &d, sizeof(d));
                owed = d.length8 * 8u;
                if (owed > available || owed > sizeof(packet) || owed != bytes_of(d.transaction_id)) {
                    fail("the host finds a bad packet");
                    break;
                }
                vring_peek(&channel.in, channel.in.index, packet, owed);
                channel.in.index = (channel.in.index + owed + VMBUS_PACKET_TRAILER_BYTES) % channel.in.bytes;
                if (send_back(packet, owed)) {
                    owed = 0;
                    if (phase_of(d.transaction_id) & SLOW_HOST && vring_publish_write(&channel.out))
                        signal_to(&to_guest);
                    if (phase_of(d.transaction_id) & SLOW_HOST)
                        dawdle(&seed);
                    continue;
                }
            }
        }
        if (!dry && !owed)
            continue;
        if (vring_publish_read(&channel.in))
            signal_to(&to_guest);
        if (vring_publish_write(&channel.out))
            signal_to(&to_guest);
        if (!sleep_until(&to_host, &host_sleeps) && !is_over())
            fail("the host sleeps too long: a signal of the guest's is lost");
    }
    return NULL;
}

/* ---- the guest ---- */

/* Everything that is there. True: dry, and the host will signal. */
static bool take_all(uint64_t *number, unsigned *abroad)
{
    static uint8_t packet[MOST_BYTES + 64];
    int bytes;

    while ((bytes = ring_read(&in, packet, sizeof(packet))) > 0) {
        if (!intact(packet, *number))
            return fail("the guest finds a bad packet");
        ++*number;
        --*abroad;
    }
    if (bytes < 0)
        return fail("the guest finds a bad ring");
    int dry = ring_rest(&in);
    if (dry < 0)
        return fail("the guest finds a bad write index");
    if (in.signal_due) {
        in.signal_due = false;
        signal_to(&to_host);
    }
    return dry;
}

static void work(double limit_s)
{
    uint64_t sent = 0, back = 0;
    unsigned abroad = 0;
    double end = seconds() + limit_s;
    bool more = true, draining = false, blocked = false;
    uint32_t seed = 2;

    while ((more || abroad) && !is_wrong()) {
        unsigned window = 1 + (unsigned)(sent >> 12) * 7 % MOST_ABROAD;
        if (blocked && ring_unblocked(&out))
            blocked = false;
        while (more && !draining && !blocked) {
            uint8_t *to;
            int rc = ring_reserve(&out, bytes_of(sent), &to);
            if (rc == -E_AGAIN) {
                blocked = true;
                full_rings++;
                break;
            }
            if (rc < 0) {
                fail("the guest finds a bad read index");
                return;
            }
            make(sent, to);
            ring_commit(&out, bytes_of(sent));
            sent++;
            draining = ++abroad >= window;
            if (phase_of(sent) & SLOW_GUEST && ring_signal_needed(&out) > 0)
                signal_to(&to_host);
            if (phase_of(sent) & SLOW_GUEST)
                dawdle(&seed);
        }
        if (ring_signal_needed(&out) > 0)
            signal_to(&to_host);
        bool dry = take_all(&back, &abroad);
        draining = abroad && (draining || blocked);
        if (sent % 4096 < MOST_ABROAD)
            more = seconds() < end;
        /* Nothing to do until the host says so: no second look. */
        if (dry && (abroad || blocked) && !is_wrong() && !sleep_until(&to_guest, &guest_sleeps))
            fail("the guest sleeps too long: a signal of the host's is lost");
    }
    packets = back;
    if (!is_wrong() && back != sent)
        fail("packets are missing");
}

static void open_rings(void)
{
    for (unsigned i = 0; i < 2; i++) {
        int file = memfd_create("ring", 0);
        if (file < 0 || ftruncate(file, RING_BYTES))
            abort();
        memory[i] = mmap(NULL, RING_BYTES + DATA_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mmap(memory[i], RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
        mmap(memory[i] + RING_BYTES, DATA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, PAGE);
        close(file);
        for (unsigned n = 0; n <= DATA_PAGES; n++)
            page[i][n] = memory[i] + n * PAGE;
    }
    ring_init(&out, memory[0], memory[0] + PAGE, DATA_BYTES);
    ring_init(&in, memory[1], memory[1] + PAGE, DATA_BYTES);
    channel.h = &host;
    vring_attach(&channel.in, page[0], 1 + DATA_PAGES);
    vring_attach(&channel.out, page[1], 1 + DATA_PAGES);
    sem_init(&to_guest.count, 0, 0);
    sem_init(&to_host.count, 0, 0);
}

TEST(no_signal_is_lost_between_two_processors)
{
    const char *words = getenv("CANDELA_ORDER_S");
    double limit_s = words ? atof(words) : 2;
    pthread_t thread;

    test_limit_s((unsigned)(2 * limit_s) + 120);
    open_rings();
    pthread_create(&thread, NULL, serve, NULL);
    work(limit_s);
    __atomic_store_n(&over, true, __ATOMIC_RELEASE);
    signal_to(&to_host);
    pthread_join(thread, NULL);
    printf("%llu packets there and back; the guest slept %llu times, the host %llu; the ring was full %llu times\n",
           (unsigned long long)packets, (unsigned long long)guest_sleeps, (unsigned long long)host_sleeps,
           (unsigned long long)full_rings);
    if (wrong)
        test_fail(__FILE__, __LINE__, "after %llu packets: %s", (unsigned long long)packets, wrong);
    CHECK(packets > 1000 && guest_sleeps > 100 && host_sleeps > 100 && full_rings > 10);
}

TEST_MAIN()
