/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A micro VM on the real /dev/kvm, and how its tests begin and end: test_microvm_run.c, test_microvm_log.c
 * and test_microvm_guests.c include this. Usage of each: test_microvm_... GUEST.ELF
 * Prints a line a test; exit status 0: all passed, 1: not, 77: there is no KVM here.
 */
#ifndef MPAT_MICROVM_MACHINE_H
#define MPAT_MICROVM_MACHINE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "microvm.h"

#define PAGE 4096
#define LONG_NS INT64_C(60000000000)
#define MAX_SLOTS 4
#define RING_ENTRIES 1024 /* the kernel keeps more than 500 of them in reserve */

#define CHECK_EQUAL(got, expected)                                                                 \
    do {                                                                                           \
        long long got_ = (long long)(got), expected_ = (long long)(expected);                      \
        if (got_ != expected_) {                                                                   \
            failures++;                                                                            \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, got_,       \
                    expected_);                                                                    \
        }                                                                                          \
    } while (0)

static uint8_t *guest;
static size_t guest_bytes;

/* ---- a VM to test with --------------------------------------------------------------------- */

typedef struct machine {
    mpat_microvm *vm;
    uint64_t slot_pages[MAX_SLOTS];
    size_t n_slots;
} machine;

static int start_machine(machine *m, mpat_microvm_log log, size_t n_slots,
                         const uint64_t *slot_pages, size_t n_vcpus, const char *const *cmdlines)
{
    mpat_microvm_config config = {.image = guest, .image_bytes = guest_bytes,
                                  .slot_pages = slot_pages, .n_slots = n_slots,
                                  .cmdlines = cmdlines, .n_vcpus = n_vcpus,
                                  .log = log, .ring_entries = RING_ENTRIES};
    int error;

    memcpy(m->slot_pages, slot_pages, n_slots * sizeof *slot_pages);
    m->n_slots = n_slots;
    m->vm = NULL;
    error = mpat_microvm_create(&config, &m->vm);
    CHECK_EQUAL(error, 0);
    return error;
}

static inline int start_simple(machine *m, uint64_t n_pages, const char *cmdline)
{
    return start_machine(m, MPAT_MICROVM_LOG, 1, &n_pages, 1, &cmdline);
}

static uint32_t counter(const machine *m, size_t slot, uint64_t page)
{
    const uint8_t *memory = mpat_microvm_memory(m->vm, slot);
    uint32_t value;

    memcpy(&value, memory + page * PAGE, sizeof value);
    return value;
}

/* The sum of all page counters: the page writes of all vCPUs. */
static uint64_t writes(const machine *m)
{
    uint64_t sum = 0;

    for (size_t slot = 0; slot < m->n_slots; slot++)
        for (uint64_t page = 0; page < m->slot_pages[slot]; page++)
            sum += counter(m, slot, page);
    return sum;
}

static mpat_microvm_state state_of(const machine *m, size_t vcpu)
{
    mpat_microvm_state state = {.error = 1};

    CHECK_EQUAL(mpat_microvm_get_state(m->vm, vcpu, &state), 0);
    return state;
}

static inline bool console_has(const machine *m, const char *text)
{
    char console[4096];
    size_t n = mpat_microvm_console(m->vm, console, sizeof console - 1);

    console[n < sizeof console ? n : sizeof console - 1] = 0;
    if (strstr(console, text))
        return true;
    printf("  the console has not \"%s\" but: %s\n", text, console);
    return false;
}

static inline void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- a run of tests ------------------------------------------------------------------------ */

static void read_guest(const char *path)
{
    FILE *file = fopen(path, "rb");

    guest = malloc(1 << 20);
    if (!file || !guest) {
        perror(path);
        exit(2);
    }
    guest_bytes = fread(guest, 1, 1 << 20, file);
    fclose(file);
}

static void run(const char *name, void (*test)(void))
{
    double begin = seconds();
    int failures_before = failures;

    test();
    printf("%s %s (%.2f s)\n", failures == failures_before ? "ok  " : "FAIL", name,
           seconds() - begin);
    fflush(stdout);
}

#define RUN(test) run(#test, test)

/* Ends the program where there is nothing to test with. */
static void load_guest(int argc, char **argv)
{
    int kvm;

    if (argc != 2) {
        fprintf(stderr, "usage: %s GUEST.ELF\n", argv[0]);
        exit(2);
    }
    kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0 || ioctl(kvm, KVM_GET_API_VERSION, 0) < 0) {
        printf("skipped: /dev/kvm: %s\n", strerror(errno));
        exit(77);
    }
    close(kvm);
    read_guest(argv[1]);
}

static int end(void)
{
    free(guest);
    printf(failures ? "%d checks failed\n" : "all passed\n", failures);
    return failures ? 1 : 0;
}

#endif
