/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target MIB HUGE ASLEEP BUSY < FILE: a process to trace. It holds so much memory, all populated, of
 * huge pages (1) or none (0), and then has so many threads asleep, and as many busy. These write to
 * memory, page by page, and look at the clock: the first word of the file, which is mapped, is the
 * largest gap in ns that one of them saw since somebody set it to 0.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define BUSY_PAGES 256

static _Atomic uint64_t *largest_gap;

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void *sleeps(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void *is_busy(void *unused)
{
    static _Thread_local char memory[BUSY_PAGES * PAGE];
    uint64_t before = now_ns();

    for (unsigned i = 0;; i++) {
        uint64_t now = now_ns(), gap = now - before, largest = *largest_gap;

        memory[i % BUSY_PAGES * PAGE]++;
        before = now;
        while (gap > largest && !atomic_compare_exchange_weak(largest_gap, &largest, gap))
            ;
    }
    return unused;
}

int main(int argc, char **argv)
{
    size_t bytes = argc > 1 ? strtoul(argv[1], NULL, 10) << 20 : 0;
    int huge = argc > 2 && atoi(argv[2]);
    int n_asleep = argc > 3 ? atoi(argv[3]) : 1, n_busy = argc > 4 ? atoi(argv[4]) : 0;
    void *(*last)(void *) = n_busy ? is_busy : sleeps;
    pthread_t thread;
    char *memory;

    largest_gap = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, STDIN_FILENO, 0);
    if (largest_gap == MAP_FAILED)
        return 1;
    if (bytes) {
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || madvise(memory, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) ||
            madvise(memory, bytes, MADV_POPULATE_WRITE))
            return 1;
    }
    /* This thread is the last of them. */
    for (int i = 0; i < n_asleep + n_busy - 1; i++)
        if (pthread_create(&thread, NULL, i < n_asleep ? sleeps : is_busy, NULL))
            return 1;
    puts("ready");
    fflush(stdout);
    last(NULL);
    return 0;
}
