/* SPDX-License-Identifier: Apache-2.0 */
/* How a micro VM runs: by exact steps, freely, and told so by several threads. */
#include "microvm_machine.h"

#include <pthread.h>
#include <signal.h>

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

int main(int argc, char **argv)
{
    load_guest(argc, argv);
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
    return end();
}
