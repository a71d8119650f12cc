/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The micro VM and its guest, on the real /dev/kvm. Usage: test_microvm GUEST.ELF
 * To be linked with csrc/kvm, or built with -DMPAT_TEST_STUB_DRAIN to do without.
 * Prints a line a test; exit status 0: all passed, 1: not, 77: there is no KVM here.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <elf.h>
#include <linux/kvm.h>

#include "microvm.h"

#define PAGE 4096
#define ANY_REASON UINT32_MAX
#define LONG_NS INT64_C(60000000000)
#define MAX_SLOTS 4
#define RING_ENTRIES 1024 /* the kernel keeps more than 500 of them in reserve */

static int n_failed;

#define CHECK(condition)                                                                    \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            printf("  %s:%d: not true: %s\n", __FILE__, __LINE__, #condition);              \
            n_failed++;                                                                     \
        }                                                                                   \
    } while (0)

#define CHECK_EQUAL(got, expected)                                                          \
    do {                                                                                    \
        long long got_ = (long long)(got), expected_ = (long long)(expected);               \
        if (got_ != expected_) {                                                            \
            printf("  %s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, got_,       \
                   expected_);                                                              \
            n_failed++;                                                                     \
        }                                                                                   \
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

static int start_simple(machine *m, uint64_t n_pages, const char *cmdline)
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

static bool console_has(const machine *m, const char *text)
{
    char console[4096];
    size_t n = mpat_microvm_console(m->vm, console, sizeof console - 1);

    console[n < sizeof console ? n : sizeof console - 1] = 0;
    if (strstr(console, text))
        return true;
    printf("  the console has not \"%s\" but: %s\n", text, console);
    return false;
}

static void sleep_ms(long ms)
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

/* ---- steps --------------------------------------------------------------------------------- */

static void check_exact_steps(const char *cmdline, uint64_t writes_per_step)
{
    machine m;
    uint64_t done = 0;

    if (start_simple(&m, 300, cmdline) == 0) {
        for (uint64_t n = 1; n < 3000; n = n * 5 + 1) {
            CHECK_EQUAL(mpat_microvm_step(m.vm, n, LONG_NS), 0);
            done += n;
            CHECK_EQUAL(state_of(&m, 0).steps, done);
            CHECK_EQUAL(state_of(&m, 0).running, 0);
            CHECK_EQUAL(writes(&m), done * writes_per_step);
        }
        CHECK(console_has(&m, cmdline));
    }
    mpat_microvm_destroy(m.vm);
}

static void test_exact_steps(void)
{
    check_exact_steps("mempattern-guest pattern=idle pages=300", 0);
    check_exact_steps("mempattern-guest pattern=sweep pages=300", 1);
    check_exact_steps("mempattern-guest pattern=hotset pages=300", 1);
    check_exact_steps("mempattern-guest pattern=uniform pages=300", 1);
    check_exact_steps("mempattern-guest pattern=zipf pages=300", 1);
    check_exact_steps("mempattern-guest pattern=stride pages=300", 1);
    check_exact_steps("mempattern-guest pattern=grow pages=300", 1);
}

static void test_no_steps(void)
{
    machine m;

    if (start_simple(&m, 8, "pattern=sweep pages=8") == 0) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 0, LONG_NS), 0);
        CHECK_EQUAL(mpat_microvm_pause(m.vm), 0);
        CHECK_EQUAL(mpat_microvm_kick(m.vm), 0);
        CHECK_EQUAL(state_of(&m, 0).steps, 0);
        CHECK_EQUAL(mpat_microvm_console(m.vm, NULL, 0), 0);
    }
    mpat_microvm_destroy(m.vm);
}

static void test_sweep_and_stride_visit_every_page_once(void)
{
    static const char *const cmdlines[] = {"pattern=sweep pages=77",
                                           "pattern=stride pages=77 stride=9",
                                           "pattern=stride pages=77 stride=200"};
    for (size_t i = 0; i < 3; i++) {
        machine m;
        if (start_simple(&m, 77, cmdlines[i]) == 0) {
            CHECK_EQUAL(mpat_microvm_step(m.vm, 2 * 77, LONG_NS), 0);
            for (uint64_t page = 0; page < 77; page++)
                CHECK_EQUAL(counter(&m, 0, page), 2);
        }
        mpat_microvm_destroy(m.vm);
    }
}

static void test_grow_sweeps_further_each_lap(void)
{
    static const uint32_t laps[] = {10, 40, 70, 77, 77};
    uint32_t expected[77] = {0};
    machine m;

    if (start_simple(&m, 77, "pattern=grow pages=77 hot=10 stride=30") == 0) {
        for (size_t i = 0; i < sizeof laps / sizeof laps[0]; i++) {
            CHECK_EQUAL(mpat_microvm_step(m.vm, laps[i], LONG_NS), 0);
            for (uint64_t page = 0; page < 77; page++) {
                expected[page] += page < laps[i];
                CHECK_EQUAL(counter(&m, 0, page), expected[page]);
            }
        }
        CHECK(console_has(&m, " stride=30 hot=10\n"));
    }
    mpat_microvm_destroy(m.vm);
}

static void test_phases_keep_their_state(void)
{
    machine m;

    /* 10 steps of sweep, 10 of nothing, ...: after 35 steps the sweep has done 20. */
    if (start_simple(&m, 64, "pattern=phased a=sweep b=idle phase=10 pages=64") == 0) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 35, LONG_NS), 0);
        for (uint64_t page = 0; page < 64; page++)
            CHECK_EQUAL(counter(&m, 0, page), page < 20);
    }
    mpat_microvm_destroy(m.vm);
}

static void test_pace(void)
{
    machine m;

    if (start_simple(&m, 64, "pattern=sweep pages=64 rate=1000") == 0) {
        double begin, took;
        CHECK_EQUAL(mpat_microvm_step(m.vm, 1, LONG_NS), 0);
        begin = seconds();
        CHECK_EQUAL(mpat_microvm_step(m.vm, 300, LONG_NS), 0);
        took = seconds() - begin;
        CHECK(took > 0.25); /* slower is the host's right */
        printf("  300 steps at 1000/s took %.3f s\n", took);
    }
    mpat_microvm_destroy(m.vm);
}

static void test_end_of_steps(void)
{
    machine m;

    if (start_simple(&m, 64, "pattern=sweep pages=64 steps=100") == 0) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 60, LONG_NS), 0);
        CHECK_EQUAL(state_of(&m, 0).finished, 0);
        CHECK_EQUAL(mpat_microvm_step(m.vm, 60, LONG_NS), -ENODATA);
        CHECK_EQUAL(state_of(&m, 0).finished, 1);
        CHECK_EQUAL(state_of(&m, 0).error, 0);
        CHECK_EQUAL(state_of(&m, 0).steps, 100);
        CHECK_EQUAL(writes(&m), 100);
        CHECK(console_has(&m, "done steps=100\n"));
        CHECK_EQUAL(mpat_microvm_step(m.vm, 1, LONG_NS), -ENODATA);
        CHECK_EQUAL(mpat_microvm_resume(m.vm), 0);
        CHECK_EQUAL(mpat_microvm_pause(m.vm), 0);
    }
    mpat_microvm_destroy(m.vm);
}

static void test_timeout(void)
{
    machine m;

    if (start_simple(&m, 64, "pattern=sweep pages=64 rate=100") == 0) {
        uint64_t before;
        CHECK_EQUAL(mpat_microvm_step(m.vm, 1000000, 200 * 1000000), -ETIMEDOUT);
        CHECK_EQUAL(state_of(&m, 0).running, 0);
        before = state_of(&m, 0).steps;
        CHECK_EQUAL(writes(&m), before);
        CHECK_EQUAL(mpat_microvm_step(m.vm, 3, LONG_NS), 0);
        CHECK_EQUAL(writes(&m), before + 3);
    }
    mpat_microvm_destroy(m.vm);
}

/* ---- free running -------------------------------------------------------------------------- */

static void test_free_run_then_exact_steps(void)
{
    machine m;

    if (start_simple(&m, 500, "pattern=uniform pages=500 seed=7") == 0) {
        for (int round = 0; round < 30; round++) {
            uint64_t before;
            CHECK_EQUAL(mpat_microvm_resume(m.vm), 0);
            CHECK_EQUAL(state_of(&m, 0).running, 1);
            sleep_ms(round % 5);
            CHECK_EQUAL(mpat_microvm_kick(m.vm), 0);
            sleep_ms(round % 3);
            CHECK_EQUAL(mpat_microvm_pause(m.vm), 0);
            before = state_of(&m, 0).steps;
            CHECK_EQUAL(state_of(&m, 0).running, 0);
            CHECK_EQUAL(writes(&m), before);
            CHECK_EQUAL(mpat_microvm_step(m.vm, 17, LONG_NS), 0);
            CHECK_EQUAL(state_of(&m, 0).steps, before + 17);
            CHECK_EQUAL(writes(&m), before + 17);
        }
        CHECK(state_of(&m, 0).steps > 30 * 17);
        CHECK_EQUAL(mpat_microvm_resume(m.vm), 0);
        CHECK_EQUAL(mpat_microvm_step(m.vm, 5, LONG_NS), 0); /* pauses by itself */
        CHECK_EQUAL(writes(&m), state_of(&m, 0).steps);
        CHECK_EQUAL(mpat_microvm_resume(m.vm), 0); /* destroyed while it runs */
    }
    mpat_microvm_destroy(m.vm);
}

static void *poke(void *argument)
{
    const machine *m = argument;
    char console[256];

    for (int i = 0; i < 300; i++) {
        mpat_microvm_kick(m->vm);
        (void)state_of(m, 0);
        mpat_microvm_console(m->vm, console, sizeof console);
    }
    return NULL;
}

static void test_kicks_from_another_thread(void)
{
    uint64_t slots[] = {70, 130};
    const char *cmdlines[] = {"pattern=sweep pages=200", "pattern=idle"};
    machine m;
    pthread_t thread;

    if (start_machine(&m, MPAT_MICROVM_LOG, 2, slots, 2, cmdlines) == 0) {
        uint64_t done = 0;
        CHECK_EQUAL(pthread_create(&thread, NULL, poke, &m), 0);
        for (int i = 0; i < 50; i++) {
            CHECK_EQUAL(mpat_microvm_step(m.vm, 100, LONG_NS), 0);
            done += 100;
            CHECK_EQUAL(writes(&m), done);
        }
        pthread_join(thread, NULL);
        CHECK_EQUAL(state_of(&m, 0).steps, done);
        CHECK_EQUAL(state_of(&m, 1).steps, done);
    }
    mpat_microvm_destroy(m.vm);
}

/* A signal of the process is its own, whatever the vCPUs' threads take for their kicks. */
static void test_signals_of_the_process_stay(void)
{
    static const struct timespec now = {0, 0};
    sigset_t ours, before;
    machine m;

    sigemptyset(&ours);
    sigaddset(&ours, SIGUSR1);
    sigaddset(&ours, SIGUSR2);
    sigaddset(&ours, SIGRTMAX);
    sigprocmask(SIG_BLOCK, &ours, &before);
    if (start_simple(&m, 64, "pattern=sweep pages=64") == 0) {
        CHECK_EQUAL(mpat_microvm_resume(m.vm), 0);
        kill(getpid(), SIGUSR1);
        kill(getpid(), SIGUSR2);
        kill(getpid(), SIGRTMAX);
        for (int i = 0; i < 20; i++)
            CHECK_EQUAL(mpat_microvm_kick(m.vm), 0);
        CHECK_EQUAL(mpat_microvm_pause(m.vm), 0);
        for (int i = 0; i < 3; i++)
            CHECK(sigtimedwait(&ours, NULL, &now) > 0);
    }
    mpat_microvm_destroy(m.vm);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

static void *step_for_ever(void *argument)
{
    const machine *m = argument;

    return (void *)(intptr_t)mpat_microvm_step(m->vm, 1 << 30, -1);
}

static void test_a_step_ends_when_another_thread_resumes(void)
{
    machine m;
    pthread_t thread;
    void *result = NULL;

    if (start_simple(&m, 64, "pattern=sweep pages=64") == 0) {
        struct timespec until;
        CHECK_EQUAL(pthread_create(&thread, NULL, step_for_ever, &m), 0);
        while (state_of(&m, 0).steps == 0)
            sleep_ms(1);
        CHECK_EQUAL(mpat_microvm_resume(m.vm), 0);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 20;
        if (pthread_timedjoin_np(thread, &result, &until)) {
            CHECK(!"the step ends");
            mpat_microvm_pause(m.vm);
            pthread_join(thread, &result);
        }
        CHECK_EQUAL((intptr_t)result, -EINTR);
        CHECK_EQUAL(state_of(&m, 0).running, 1);
    }
    mpat_microvm_destroy(m.vm);
}

static void test_a_refused_reboot_changes_nothing(void)
{
    static char too_long[MPAT_MICROVM_MAX_CMDLINE + 2];
    uint64_t n_pages = 64;
    const char *cmdlines[] = {"pattern=sweep pages=64", "pattern=idle"};
    const char *wrong[] = {"pattern=idle", too_long};
    machine m;

    memset(too_long, ' ', sizeof too_long - 1);
    if (start_machine(&m, MPAT_MICROVM_LOG, 1, &n_pages, 2, cmdlines) == 0) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 10, LONG_NS), 0);
        CHECK_EQUAL(mpat_microvm_reboot(m.vm, wrong), -EINVAL);
        wrong[1] = NULL;
        CHECK_EQUAL(mpat_microvm_reboot(m.vm, wrong), -EINVAL);
        CHECK_EQUAL(mpat_microvm_reboot(m.vm, NULL), -EINVAL);
        CHECK_EQUAL(mpat_microvm_step(m.vm, 10, LONG_NS), 0);
        CHECK_EQUAL(writes(&m), 20);
        for (uint64_t page = 0; page < 20; page++)
            CHECK_EQUAL(counter(&m, 0, page), 1);
    }
    mpat_microvm_destroy(m.vm);
}

/* ---- dirty logging ------------------------------------------------------------------------- */

static void test_two_vcpus_over_odd_slots(void)
{
    uint64_t slots[] = {65, 1, 333};
    /* vCPU 0 on all 399 pages, vCPU 1 on pages 60 to 99 of them. */
    const char *cmdlines[] = {"pattern=uniform pages=399 seed=1",
                              "pattern=zipf pages=40 start=0x103c000 seed=2"};
    machine m;

    if (start_machine(&m, MPAT_MICROVM_LOG, 3, slots, 2, cmdlines) == 0) {
        uint64_t steps;
        CHECK_EQUAL(mpat_microvm_step(m.vm, 5000, LONG_NS), 0);
        CHECK_EQUAL(state_of(&m, 0).steps, 5000);
        CHECK_EQUAL(state_of(&m, 1).steps, 5000);
        /* `inc` is not locked: where both vCPUs write one page a count may be lost. */
        CHECK(writes(&m) <= 10000 && writes(&m) > 9900);
        for (size_t slot = 0; slot < 3; slot++)
            for (uint64_t page = 0; page < slots[slot]; page++)
                CHECK(counter(&m, slot, page) > 0);
        CHECK_EQUAL(mpat_microvm_resume(m.vm), 0);
        sleep_ms(20);
        CHECK_EQUAL(mpat_microvm_pause(m.vm), 0);
        steps = state_of(&m, 0).steps + state_of(&m, 1).steps;
        CHECK(steps > 10000);
        CHECK(mpat_microvm_memory(m.vm, 3) == NULL);
    }
    mpat_microvm_destroy(m.vm);
}

static bool get_dirty_log(const machine *m, size_t slot, uint64_t *bitmap)
{
    struct kvm_dirty_log log = {.slot = MPAT_MICROVM_FIRST_SLOT + (uint32_t)slot,
                                .dirty_bitmap = bitmap};

    return ioctl(mpat_microvm_vm_fd(m->vm), KVM_GET_DIRTY_LOG, &log) == 0;
}

static bool clear_dirty_log(const machine *m, size_t slot, uint64_t *bitmap)
{
    struct kvm_clear_dirty_log log = {.slot = MPAT_MICROVM_FIRST_SLOT + (uint32_t)slot,
                                      .num_pages = (uint32_t)m->slot_pages[slot],
                                      .dirty_bitmap = bitmap};

    return ioctl(mpat_microvm_vm_fd(m->vm), KVM_CLEAR_DIRTY_LOG, &log) == 0;
}

/* The log of each interval names exactly the pages whose counters moved in it. */
static void check_log(mpat_microvm_log mode)
{
    static uint64_t bitmap[16];
    static uint32_t before[2][1000];
    uint64_t slots[] = {131, 700};
    const char *cmdlines[] = {"pattern=hotset pages=831 seed=3 hot=50"};
    machine m;

    memset(before, 0, sizeof before);
    if (start_machine(&m, mode, 2, slots, 1, cmdlines) == 0) {
        bool all_set_at_first = mode == MPAT_MICROVM_INITIALLY_SET;
        for (int interval = 0; interval < 5; interval++) {
            CHECK_EQUAL(mpat_microvm_step(m.vm, 400, LONG_NS), 0);
            for (size_t slot = 0; slot < 2; slot++) {
                memset(bitmap, 0, sizeof bitmap);
                CHECK(get_dirty_log(&m, slot, bitmap));
                if (mode != MPAT_MICROVM_LOG)
                    CHECK(clear_dirty_log(&m, slot, bitmap));
                for (uint64_t page = 0; page < slots[slot]; page++) {
                    bool dirty = bitmap[page / 64] >> (page % 64) & 1;
                    uint32_t now = counter(&m, slot, page);
                    if (all_set_at_first && interval == 0)
                        CHECK(dirty);
                    else
                        CHECK_EQUAL(dirty, now != before[slot][page]);
                    before[slot][page] = now;
                }
            }
        }
    }
    mpat_microvm_destroy(m.vm);
}

static void test_log(void)
{
    check_log(MPAT_MICROVM_LOG);
    check_log(MPAT_MICROVM_MANUAL);
    check_log(MPAT_MICROVM_INITIALLY_SET);
}

/* Harvest a ring by hand; returns the entries found, whose pages it marks. */
static size_t harvest(const machine *m, struct kvm_dirty_gfn *ring, uint32_t *next, bool *dirty)
{
    size_t n = 0;

    for (;; n++, ++*next) {
        struct kvm_dirty_gfn *entry = &ring[*next % RING_ENTRIES];
        if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
            break;
        dirty[entry->offset] = true;
        __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
    }
    CHECK(ioctl(mpat_microvm_vm_fd(m->vm), KVM_RESET_DIRTY_RINGS, 0) >= 0);
    return n;
}

static void test_full_ring_without_a_drain(void)
{
    enum { N_PAGES = 3000 };
    static bool dirty[N_PAGES];
    uint64_t n_pages = N_PAGES;
    const char *cmdline = "pattern=sweep pages=3000";
    machine m;
    uint32_t next = 0;
    int n_full = 0;

    memset(dirty, 0, sizeof dirty);
    if (start_machine(&m, MPAT_MICROVM_RING, 1, &n_pages, 1, &cmdline) == 0) {
        size_t bytes = RING_ENTRIES * sizeof(struct kvm_dirty_gfn);
        struct kvm_dirty_gfn *ring =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, mpat_microvm_vcpu_fd(m.vm, 0),
                 KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);
        CHECK(ring != MAP_FAILED);
        while (ring != MAP_FAILED && state_of(&m, 0).steps < N_PAGES && n_full < 100) {
            int error = mpat_microvm_step(m.vm, N_PAGES - state_of(&m, 0).steps, LONG_NS);
            CHECK(error == 0 || error == -ENOBUFS);
            CHECK_EQUAL(state_of(&m, 0).running, 0);
            if (error == -ENOBUFS) {
                n_full++;
                CHECK_EQUAL(mpat_microvm_pause(m.vm), -ENOBUFS);
            }
            CHECK(harvest(&m, ring, &next, dirty) > 0);
        }
        CHECK(n_full > 1);
        CHECK_EQUAL(writes(&m), N_PAGES);
        for (size_t page = 0; page < N_PAGES; page++)
            CHECK(dirty[page]);
        if (ring != MAP_FAILED)
            munmap(ring, bytes);
    }
    mpat_microvm_destroy(m.vm);
}

#ifdef MPAT_TEST_STUB_DRAIN
/* Stands in for csrc/kvm where that is not linked: the "ring" it is given is the one below. */
static struct stub_ring {
    const machine *m;
    struct kvm_dirty_gfn *entries;
    uint32_t next;
    bool dirty[6000];
    int n_drains;
    int error;
} stub;

int mpat_kvm_ring_drain(mpat_kvm_ring *ring, mpat_kvm_fault *fault)
{
    (void)ring, (void)fault;
    stub.n_drains++;
    if (stub.error)
        return stub.error;
    harvest(stub.m, stub.entries, &stub.next, stub.dirty);
    return 0;
}

static void test_full_ring_is_drained(void)
{
    uint64_t n_pages = 6000;
    const char *cmdline = "pattern=sweep pages=6000";
    machine m;

    memset(&stub, 0, sizeof stub);
    if (start_machine(&m, MPAT_MICROVM_RING, 1, &n_pages, 1, &cmdline) == 0) {
        size_t bytes = RING_ENTRIES * sizeof(struct kvm_dirty_gfn);
        stub.m = &m;
        stub.entries = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                            mpat_microvm_vcpu_fd(m.vm, 0), KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);
        CHECK(stub.entries != MAP_FAILED);
        CHECK_EQUAL(mpat_microvm_set_ring(m.vm, (mpat_kvm_ring *)(void *)&stub), 0);
        CHECK_EQUAL(mpat_microvm_step(m.vm, 6000, LONG_NS), 0);
        CHECK(stub.n_drains > 3);
        CHECK_EQUAL(writes(&m), 6000);
        harvest(&m, stub.entries, &stub.next, stub.dirty);
        for (size_t page = 0; page < 6000; page++)
            CHECK(stub.dirty[page]);
        stub.error = -EOVERFLOW; /* a drain that fails ends the vCPU, not the process */
        CHECK_EQUAL(mpat_microvm_step(m.vm, 6000, LONG_NS), -EIO);
        CHECK_EQUAL(state_of(&m, 0).error, -EOVERFLOW);
        CHECK_EQUAL(state_of(&m, 0).exit_reason, KVM_EXIT_DIRTY_RING_FULL);
        munmap(stub.entries, bytes);
    }
    mpat_microvm_destroy(m.vm);
}
#else
static void test_full_ring_is_drained(void)
{
    enum { N_PAGES = 6000 };
    uint64_t n_pages = N_PAGES, *bitmap = NULL;
    const char *cmdline = "pattern=sweep pages=6000";
    mpat_memslot slot = {MPAT_MICROVM_FIRST_SLOT, N_PAGES};
    mpat_kvm_ring *ring = NULL;
    mpat_collection collection;
    mpat_kvm_fault fault;
    machine m;

    if (start_machine(&m, MPAT_MICROVM_RING, 1, &n_pages, 1, &cmdline) == 0) {
        int fd = mpat_microvm_vcpu_fd(m.vm, 0);
        CHECK_EQUAL(mpat_bitmap_alloc(N_PAGES, &bitmap), 0);
        CHECK_EQUAL(mpat_kvm_ring_open(mpat_microvm_vm_fd(m.vm), &fd, 1, &slot, 1, RING_ENTRIES,
                                       &ring, &fault), 0);
        CHECK_EQUAL(mpat_microvm_set_ring(m.vm, ring), 0);
        CHECK_EQUAL(mpat_microvm_step(m.vm, N_PAGES - 100, LONG_NS), 0);
        CHECK_EQUAL(mpat_kvm_ring_collect(ring, &bitmap, &collection, &fault), 0);
        CHECK_EQUAL(collection.lost_pages, 0);
        for (uint64_t page = 0; page < N_PAGES; page++)
            CHECK_EQUAL(bitmap[page / 64] >> (page % 64) & 1, page < N_PAGES - 100);
        CHECK_EQUAL(mpat_microvm_set_ring(m.vm, NULL), 0);
        mpat_kvm_ring_close(ring);
        mpat_bitmap_free(bitmap, N_PAGES);
    }
    mpat_microvm_destroy(m.vm);
}

/* Three vCPUs fill their rings and drain all, while this thread collects: no page is lost. */
static void test_ring_in_a_free_run(void)
{
    enum { N_PAGES = 6003, N_VCPUS = 3 };
    static uint32_t before[N_PAGES];
    uint64_t n_pages = N_PAGES, steps = 0, *bitmap = NULL;
    const char *cmdlines[N_VCPUS] = {"pattern=sweep pages=2001",
                                     "pattern=sweep pages=2001 start=0x17d1000",
                                     "pattern=sweep pages=2001 start=0x1fa2000"};
    mpat_memslot slot = {MPAT_MICROVM_FIRST_SLOT, N_PAGES};
    mpat_kvm_ring *ring = NULL;
    mpat_collection collection;
    machine m;

    memset(before, 0, sizeof before);
    if (start_machine(&m, MPAT_MICROVM_RING, 1, &n_pages, N_VCPUS, cmdlines) == 0) {
        int fds[N_VCPUS];
        for (size_t i = 0; i < N_VCPUS; i++)
            fds[i] = mpat_microvm_vcpu_fd(m.vm, i);
        CHECK_EQUAL(mpat_bitmap_alloc(N_PAGES, &bitmap), 0);
        CHECK_EQUAL(mpat_kvm_ring_open(mpat_microvm_vm_fd(m.vm), fds, N_VCPUS, &slot, 1,
                                       RING_ENTRIES, &ring, NULL), 0);
        CHECK_EQUAL(mpat_microvm_set_ring(m.vm, ring), 0);
        for (int round = 0; round < 10; round++) {
            CHECK_EQUAL(mpat_microvm_resume(m.vm), 0);
            sleep_ms(30);
            CHECK_EQUAL(mpat_microvm_kick(m.vm), 0);
            CHECK_EQUAL(mpat_microvm_pause(m.vm), 0);
            CHECK_EQUAL(mpat_kvm_ring_collect(ring, &bitmap, &collection, NULL), 0);
            CHECK_EQUAL(collection.lost_pages, 0);
            for (uint64_t page = 0; page < N_PAGES; page++) {
                uint32_t now = counter(&m, 0, page);
                CHECK_EQUAL(bitmap[page / 64] >> (page % 64) & 1, now != before[page]);
                before[page] = now;
            }
        }
        for (size_t i = 0; i < N_VCPUS; i++)
            steps += state_of(&m, i).steps;
        CHECK_EQUAL(writes(&m), steps);
        CHECK_EQUAL(mpat_microvm_set_ring(m.vm, NULL), 0);
        mpat_kvm_ring_close(ring);
        mpat_bitmap_free(bitmap, N_PAGES);
    }
    mpat_microvm_destroy(m.vm);
}
#endif

/* ---- guests that die ----------------------------------------------------------------------- */

static void check_refused(const char *cmdline, const char *said)
{
    machine m;

    if (start_simple(&m, 64, cmdline) == 0) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 1, LONG_NS), -EIO);
        CHECK_EQUAL(state_of(&m, 0).error, -EINVAL);
        CHECK_EQUAL(state_of(&m, 0).running, 0);
        CHECK_EQUAL(state_of(&m, 0).steps, 0);
        CHECK(console_has(&m, said));
        CHECK_EQUAL(mpat_microvm_step(m.vm, 1, LONG_NS), -EIO);
        CHECK_EQUAL(mpat_microvm_resume(m.vm), -EIO);
        CHECK_EQUAL(mpat_microvm_pause(m.vm), -EIO);
    }
    mpat_microvm_destroy(m.vm);
}

static void test_bad_cmdlines(void)
{
    check_refused("pattern=sweep pages=0", "error: unusable value: pages=0\n");
    check_refused("pattern=sweet", "error: unusable value: pattern=sweet\n");
    check_refused("page=12", "error: unknown key: page=12\n");
    check_refused("pages=", "error: unusable value: pages=\n");
    check_refused("pages=12x", "error: unusable value: pages=12x\n");
    check_refused("pages=0x", "error: unusable value: pages=0x\n");
    check_refused("pages=4294967296", "error: unusable value: pages=4294967296\n");
    check_refused("start=4G", "error: unusable value: start=4G\n");
    check_refused("start=1M", "error: unusable value: start=1M\n");
    check_refused("start=16777217", "error: start= must be");
    check_refused("pattern=hotset pages=10 hot=11", "error: hot= is more");
    check_refused("pattern=grow pages=10 hot=11", "error: hot= is more");
    check_refused("start=0xfffff000 pages=2", "error: start= and pages= reach past 4 GiB");
    check_refused("pattern=phased a=idle phase=10", "error: pattern=phased needs");
    check_refused("a=phased", "error: unusable value: a=phased");
}

static void test_good_cmdlines(void)
{
    machine m;

    if (start_simple(&m, 64, "/boot/a=b.elf  what = pages=0x10 pages=32 start=16m "
                             "seed=0xffFFffff") == 0) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 1, LONG_NS), 0);
        CHECK(console_has(&m, "pattern=idle pages=32 start=0x01000000 seed=4294967295 rate=0\n"));
    }
    mpat_microvm_destroy(m.vm);
}

static void test_write_outside_ram(void)
{
    const char *cmdlines[] = {"pattern=sweep pages=65", "pattern=idle"};
    uint64_t n_pages = 64;
    machine m;

    if (start_machine(&m, MPAT_MICROVM_LOG, 1, &n_pages, 2, cmdlines) == 0) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 64, LONG_NS), 0);
        CHECK_EQUAL(mpat_microvm_step(m.vm, 10, LONG_NS), -EIO);
        CHECK_EQUAL(state_of(&m, 0).error, -EFAULT);
        CHECK_EQUAL(state_of(&m, 0).exit_reason, KVM_EXIT_MMIO);
        CHECK(state_of(&m, 0).exit_rip >= 0x100000 && state_of(&m, 0).exit_rip < 0x200000);
        CHECK_EQUAL(state_of(&m, 0).steps, 64);
        CHECK_EQUAL(state_of(&m, 1).error, 0);
        CHECK_EQUAL(state_of(&m, 1).steps, 74);
        CHECK_EQUAL(writes(&m), 64);
    }
    mpat_microvm_destroy(m.vm);
}

/* ---- guests of another kind ---------------------------------------------------------------- */

/* An executable with one segment at 1 MiB, which is `code`. */
typedef struct tiny_image {
    Elf32_Ehdr header;
    Elf32_Phdr segment;
    uint8_t code[64];
} tiny_image;

static tiny_image make_tiny(const uint8_t *code, size_t n)
{
    tiny_image image = {
        .header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
                   .e_type = ET_EXEC, .e_machine = EM_386, .e_version = EV_CURRENT,
                   .e_entry = 0x100000, .e_phoff = offsetof(tiny_image, segment),
                   .e_ehsize = sizeof(Elf32_Ehdr), .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = 1},
        .segment = {.p_type = PT_LOAD, .p_offset = offsetof(tiny_image, code), .p_vaddr = 0x100000,
                    .p_paddr = 0x100000, .p_filesz = 64, .p_memsz = 64},
    };
    memcpy(image.code, code, n);
    return image;
}

static int create_tiny(const void *image, size_t bytes, mpat_microvm **vm)
{
    uint64_t n_pages = 10;
    const char *cmdline = "";
    mpat_microvm_config config = {.image = image, .image_bytes = bytes, .slot_pages = &n_pages,
                                  .n_slots = 1, .cmdlines = &cmdline, .n_vcpus = 1};

    *vm = NULL;
    return mpat_microvm_create(&config, vm);
}

static void check_tiny_dies(const uint8_t *code, size_t n, int error, uint32_t exit_reason)
{
    tiny_image image = make_tiny(code, n);
    machine m = {.n_slots = 1, .slot_pages = {10}};

    CHECK_EQUAL(create_tiny(&image, sizeof image, &m.vm), 0);
    if (m.vm) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 1, LONG_NS), -EIO);
        CHECK_EQUAL(state_of(&m, 0).error, error);
        if (exit_reason != ANY_REASON)
            CHECK_EQUAL(state_of(&m, 0).exit_reason, exit_reason);
        CHECK_EQUAL(state_of(&m, 0).steps, 0);
    }
    mpat_microvm_destroy(m.vm);
}

static void test_foreign_guests_die(void)
{
    static const uint8_t halt[] = {0xf4};
    /* lidt of an empty table; int3 */
    static const uint8_t triple_fault[] = {0x0f, 0x01, 0x1d, 0x20, 0, 0x10, 0, 0xcc};
    /* mov dx, control port; mov eax, 0x1ffffc; out dx, eax: a block that ends past boot memory */
    static const uint8_t bad_control[] = {0x66, 0xba, 0x50, 0x0d, 0xb8, 0xfc, 0xff, 0x1f, 0, 0xef};

    check_tiny_dies(halt, sizeof halt, -EIO, KVM_EXIT_HLT);
    /* KVM_EXIT_SHUTDOWN on hardware; KVM's emulator gives up with an internal error before. */
    check_tiny_dies(triple_fault, sizeof triple_fault, -EIO, ANY_REASON);
    check_tiny_dies(bad_control, sizeof bad_control, -EPROTO, KVM_EXIT_IO);
}

static void test_guest_that_never_asks(void)
{
    static const uint8_t spin[] = {0xeb, 0xfe};
    tiny_image image = make_tiny(spin, sizeof spin);
    machine m = {.n_slots = 1, .slot_pages = {10}};

    CHECK_EQUAL(create_tiny(&image, sizeof image, &m.vm), 0);
    if (m.vm) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 1, 1000000), -ETIMEDOUT);
        CHECK_EQUAL(state_of(&m, 0).running, 0);
        CHECK_EQUAL(mpat_microvm_resume(m.vm), 0);
        CHECK_EQUAL(mpat_microvm_kick(m.vm), 0);
        CHECK_EQUAL(state_of(&m, 0).running, 1);
    }
    mpat_microvm_destroy(m.vm);
}

static void check_hostile(const void *image, size_t bytes)
{
    mpat_microvm *vm;
    uint8_t *copy = malloc(bytes ? bytes : 1); /* on the heap: the sanitizer sees an overrun */

    if (!copy)
        abort();
    memcpy(copy, image, bytes);
    CHECK_EQUAL(create_tiny(copy, bytes, &vm), -EINVAL);
    CHECK(vm == NULL);
    mpat_microvm_destroy(vm);
    free(copy);
}

static void test_hostile_images(void)
{
    static const uint8_t halt[] = {0xf4};
    const tiny_image good = make_tiny(halt, sizeof halt);
    tiny_image bad;

    for (size_t n = 0; n < sizeof good; n++)
        check_hostile(&good, n);

#define HOSTILE(field, value)                  \
    do {                                       \
        bad = good;                            \
        bad.field = value;                     \
        check_hostile(&bad, sizeof bad);       \
    } while (0)

    HOSTILE(header.e_ident[0], 0);
    HOSTILE(header.e_ident[EI_CLASS], ELFCLASS64);
    HOSTILE(header.e_ident[EI_DATA], ELFDATA2MSB);
    HOSTILE(header.e_type, ET_DYN);
    HOSTILE(header.e_machine, EM_X86_64);
    HOSTILE(header.e_phentsize, 0);
    HOSTILE(header.e_phnum, 0);
    HOSTILE(header.e_phnum, 0xffff);
    HOSTILE(header.e_phoff, 0xffffffff);
    HOSTILE(header.e_entry, 0x0fffff);
    HOSTILE(header.e_entry, 0x100040);
    HOSTILE(segment.p_type, PT_NOTE);
    HOSTILE(segment.p_offset, 0xfffffff0);
    HOSTILE(segment.p_filesz, 65);
    HOSTILE(segment.p_filesz, 0xffffffff);
    HOSTILE(segment.p_memsz, 0xffffffff);
    HOSTILE(segment.p_memsz, 0x100001);
    HOSTILE(segment.p_memsz, 63);
    HOSTILE(segment.p_paddr, 0);
    HOSTILE(segment.p_paddr, 0xfffff);
    HOSTILE(segment.p_paddr, 0x1fffc1);
    HOSTILE(segment.p_paddr, 0xffffffff);
#undef HOSTILE
}

static void test_bad_configs(void)
{
    static const uint64_t too_much[] = {700000, 82339};
    static const uint64_t just_fits[] = {700000, 82336};
    static char long_cmdline[MPAT_MICROVM_MAX_CMDLINE + 2];
    uint64_t one = 1, none = 0;
    const char *cmdlines[9] = {"", "", "", "", "", "", "", "", ""};
    mpat_microvm_config good = {.image = guest, .image_bytes = guest_bytes, .slot_pages = &one,
                                .n_slots = 1, .cmdlines = cmdlines, .n_vcpus = 8};
    mpat_microvm_config config;
    mpat_microvm *vm = NULL;

#define BAD(field, value)                                       \
    do {                                                        \
        config = good;                                          \
        config.field = value;                                   \
        CHECK_EQUAL(mpat_microvm_create(&config, &vm), -EINVAL); \
        CHECK(vm == NULL);                                      \
    } while (0)

    BAD(image, NULL);
    BAD(slot_pages, NULL);
    BAD(slot_pages, &none);
    BAD(n_slots, 0);
    BAD(cmdlines, NULL);
    BAD(n_vcpus, 0);
    BAD(n_vcpus, 9);
    BAD(log, (mpat_microvm_log)4);
    BAD(log, MPAT_MICROVM_RING); /* of 0 entries */
    config = good;
    config.slot_pages = too_much;
    config.n_slots = 2;
    CHECK_EQUAL(mpat_microvm_create(&config, &vm), -EINVAL);
    config.slot_pages = just_fits;
    CHECK_EQUAL(mpat_microvm_create(&config, &vm), 0);
    mpat_microvm_destroy(vm);
    vm = NULL;
    memset(long_cmdline, ' ', sizeof long_cmdline - 1);
    cmdlines[7] = long_cmdline;
    CHECK_EQUAL(mpat_microvm_create(&good, &vm), -EINVAL);
    long_cmdline[MPAT_MICROVM_MAX_CMDLINE] = 0;
    CHECK_EQUAL(mpat_microvm_create(&good, &vm), 0);
    if (vm) { /* 8 vCPUs, and a ring set while they run */
        CHECK_EQUAL(mpat_microvm_step(vm, 3, LONG_NS), 0);
        CHECK_EQUAL(mpat_microvm_vcpu_fd(vm, 8), -EINVAL);
        CHECK_EQUAL(mpat_microvm_resume(vm), 0);
        CHECK_EQUAL(mpat_microvm_set_ring(vm, NULL), -EBUSY);
    }
    mpat_microvm_destroy(vm);
    mpat_microvm_destroy(NULL);
    CHECK_EQUAL(mpat_microvm_create(&good, NULL), -EINVAL);
    CHECK_EQUAL(mpat_microvm_create(NULL, &vm), -EINVAL);
#undef BAD
}

/* ---- all ----------------------------------------------------------------------------------- */

static int read_guest(const char *path)
{
    FILE *file = fopen(path, "rb");

    guest = malloc(1 << 20);
    if (!file || !guest) {
        perror(path);
        return 1;
    }
    guest_bytes = fread(guest, 1, 1 << 20, file);
    fclose(file);
    return 0;
}

static void run(const char *name, void (*test)(void))
{
    double begin = seconds();
    int n_failed_before = n_failed;

    test();
    printf("%s %s (%.2f s)\n", n_failed == n_failed_before ? "ok  " : "FAIL", name,
           seconds() - begin);
    fflush(stdout);
}

#define RUN(test) run(#test, test)

int main(int argc, char **argv)
{
    int kvm;

    if (argc != 2) {
        fprintf(stderr, "usage: %s GUEST.ELF\n", argv[0]);
        return 2;
    }
    kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0 || ioctl(kvm, KVM_GET_API_VERSION, 0) < 0) {
        printf("skipped: /dev/kvm: %s\n", strerror(errno));
        return 77;
    }
    close(kvm);
    if (read_guest(argv[1]))
        return 2;

    RUN(test_exact_steps);
    RUN(test_no_steps);
    RUN(test_sweep_and_stride_visit_every_page_once);
    RUN(test_grow_sweeps_further_each_lap);
    RUN(test_phases_keep_their_state);
    RUN(test_pace);
    RUN(test_end_of_steps);
    RUN(test_timeout);
    RUN(test_free_run_then_exact_steps);
    RUN(test_kicks_from_another_thread);
    RUN(test_signals_of_the_process_stay);
    RUN(test_a_step_ends_when_another_thread_resumes);
    RUN(test_a_refused_reboot_changes_nothing);
    RUN(test_two_vcpus_over_odd_slots);
    RUN(test_log);
    RUN(test_full_ring_without_a_drain);
    RUN(test_full_ring_is_drained);
#ifndef MPAT_TEST_STUB_DRAIN
    RUN(test_ring_in_a_free_run);
#endif
    RUN(test_bad_cmdlines);
    RUN(test_good_cmdlines);
    RUN(test_write_outside_ram);
    RUN(test_foreign_guests_die);
    RUN(test_guest_that_never_asks);
    RUN(test_hostile_images);
    RUN(test_bad_configs);

    free(guest);
    printf(n_failed ? "%d checks failed\n" : "all passed\n", n_failed);
    return n_failed ? 1 : 0;
}
