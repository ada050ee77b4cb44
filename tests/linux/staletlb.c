/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For a Linux guest: does a change of a mapping reach the threads on other processors before the call returns?
 *
 *   staletlb ROUNDS
 *
 * One page is mapped anew in each round, to the next page of a file, which holds its own number; then the number is
 * published. A thread on each other processor reads the published number, then the page: what it finds there must not
 * be older. The threads make no system call, so nothing but the kernel's flush takes their old translations away.
 * Prints "staletlb: ROUNDS rounds, READS reads, STALE stale"; ends with 1 if there was a stale one.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
#define MAX_CPUS 64
#define READS_A_ROUND 50      /* the writer waits for so many of each thread, so that all have the page in use */

static const volatile uint64_t *page;
static volatile uint64_t published;
static volatile int stopping;
static struct reader { pthread_t thread; volatile uint64_t reads, stale; char apart[64]; } readers[MAX_CPUS];

static void go_to(long cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set)) {
        perror("sched_setaffinity");
        exit(2);
    }
}

static void *look(void *arg)
{
    struct reader *r = arg;
    go_to(r - readers);
    while (!stopping) {
        uint64_t number = published;
        if (*page < number)
            r->stale++;
        r->reads++;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN), rounds = argc > 1 ? atol(argv[1]) : 1000;
    uint64_t reads = 0, stale = 0;
    int file = memfd_create("pages", 0);
    if (cpus < 2 || cpus > MAX_CPUS || file < 0 || ftruncate(file, (rounds + 1) * PAGE))
        return 2;
    for (uint64_t n = 0; n <= (uint64_t)rounds; n++)
        if (pwrite(file, &n, sizeof(n), (off_t)(n * PAGE)) != sizeof(n))
            return 2;
    page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED)
        return 2;
    go_to(0);
    for (long i = 1; i < cpus; i++)
        if (pthread_create(&readers[i].thread, NULL, look, &readers[i]))
            return 2;
    for (long n = 1; n <= rounds; n++) {
        for (long i = 1; i < cpus; i++)
            for (uint64_t enough = readers[i].reads + READS_A_ROUND; readers[i].reads < enough;)
                ;
        if (mmap((void *)(uintptr_t)page, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, n * PAGE) == MAP_FAILED)
            return 2;
        published = (uint64_t)n;
    }
    stopping = 1;
    for (long i = 1; i < cpus; i++) {
        pthread_join(readers[i].thread, NULL);
        reads += readers[i].reads;
        stale += readers[i].stale;
    }
    printf("staletlb: %ld rounds, %llu reads, %llu stale\n", rounds, (unsigned long long)reads,
           (unsigned long long)stale);
    return stale != 0;
}
