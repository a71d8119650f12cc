/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cannot be attached to, and is not harmed by trying; also where /proc cannot be read: linked with
 * --wrap for open.
 */
#include "process_child.h"

#include <grp.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

static int hides_status; /* the files of /proc that tell of seccomp */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);

int __wrap_open(const char *path, int flags, ...)
{
    if (hides_status && strstr(path, "/status")) {
        errno = EMFILE;
        return -1;
    }
    return __real_open(path, flags);
}

int __wrap_open64(const char *path, int flags, ...)
{
    return __wrap_open(path, flags);
}

/* Only the calls of seccomp's strict mode from here on. */
static int filtered(const struct child *child, const void *argument)
{
    static gid_t groups[1000];
    char byte;

    (void)argument;
    for (gid_t i = 0; i < 1000; i++)
        groups[i] = 1000000000 + i;
    (void)setgroups(1000, groups); /* with root's rights: a status file of many lines and long ones */
    say_ready(child);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    while (read(child->go[0], &byte, 1) > 0)
        ;
    syscall(SYS_exit, 0);
    return 1;
}

static void test_filtered(void)
{
    struct child child = begin(filtered, NULL);
    mpat_process_fault fault = {0};
    mpat_process *process;

    wait_ready(&child);
    CHECK(mpat_process_open(child.pid, 0, &process, &fault) == -EACCES);
    CHECK(strcmp(fault.call, "seccomp") == 0);
    CHECK(end(&child) == 0);
}

/* ... and the files of /proc that tell of it cannot be read: it must not be made to call. */
static void test_unknown_filter(void)
{
    struct child child = begin(filtered, NULL);
    mpat_process *process = NULL;

    wait_ready(&child);
    hides_status = 1;
    CHECK(mpat_process_open(child.pid, 0, &process, NULL) == -EACCES);
    hides_status = 0;
    CHECK(end(&child) == 0);
}

/* Unfiltered still, but not for long. */
static int filtered_soon(const struct child *child, const void *argument)
{
    useconds_t delay_us = *(const useconds_t *)argument;
    struct timespec end, now;
    char byte;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += (long)delay_us * 1000;
    say_ready(child);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while (now.tv_nsec - end.tv_nsec + (now.tv_sec - end.tv_sec) * 1000000000 < 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    while (read(child->go[0], &byte, 1) > 0)
        ;
    syscall(SYS_exit, 0);
    return 1;
}

/* A program that is attached to while it starts. It must outlive that, traced or not. */
static void test_filtered_meanwhile(void)
{
    char byte;

    for (useconds_t delay_us = 0; delay_us < 6000; delay_us += 100) {
        struct child child = begin(filtered_soon, &delay_us);
        mpat_process *process = NULL;

        CHECK(read(child.ready[0], &byte, 1) == 1);
        int error = mpat_process_open(child.pid, 0, &process, NULL);
        CHECK(error == 0 || error == -EACCES);
        mpat_process_close(process);
        usleep(delay_us); /* it has the filter, and may end */
        CHECK(end(&child) == 0);
    }
}

static volatile char dispatch_selector;

/* Its system calls would come back as SIGSYS, if it were not for the selector. */
static int dispatching(const struct child *child, const void *argument)
{
    (void)argument;
    dispatch_selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &dispatch_selector))
        return 1;
    say_ready(child);
    return 0;
}

static void test_dispatching(void)
{
    struct child child = begin(dispatching, NULL);
    mpat_process *process;

    wait_ready(&child);
    CHECK(mpat_process_open(child.pid, 0, &process, NULL) == -EAGAIN);
    CHECK(end(&child) == 0);
}

static void test_second_tracers(void)
{
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    mpat_mapping mapping = {.start = (uintptr_t)page, .end = (uintptr_t)page + PAGE,
                            .page_shift = 12};
    struct child child = begin(in_read, NULL);
    mpat_process *first, *second;
    mpat_process_fault fault = {0};
    uint64_t huge_bytes;

    CHECK(page != MAP_FAILED);
    wait_ready(&child);
    CHECK(mpat_process_open(child.pid, 0, &first, NULL) == 0);
    CHECK(mpat_process_protect(first, &mapping, 1, &huge_bytes, NULL) == 0);
    CHECK(mpat_process_open(child.pid, 0, &second, NULL) == 0);
    huge_bytes = 77;
    CHECK(mpat_process_protect(second, &mapping, 1, &huge_bytes, &fault) == -EBUSY);
    CHECK(fault.address == mapping.start && huge_bytes == 77);
    mpat_process_close(first);
    CHECK(mpat_process_protect(second, &mapping, 1, &huge_bytes, &fault) == 0);
    mpat_process_close(second);

    CHECK(ptrace(PTRACE_SEIZE, child.pid, NULL, NULL) == 0); /* a debugger */
    CHECK(mpat_process_open(child.pid, 0, &first, &fault) == -EPERM);
    CHECK(ptrace(PTRACE_INTERRUPT, child.pid, NULL, NULL) == 0);
    waitpid(child.pid, NULL, __WALL);
    CHECK(ptrace(PTRACE_DETACH, child.pid, NULL, NULL) == 0);
    CHECK(end(&child) == 0);
    munmap(page, PAGE);
}

static void test_refusals(void)
{
    mpat_process_fault fault = {0};
    mpat_process *process;
    pid_t zombie = fork();

    if (zombie == 0)
        _exit(0);
    usleep(20000);
    CHECK(mpat_process_open(zombie, 0, &process, &fault) < 0);
    waitpid(zombie, NULL, 0);
    CHECK(mpat_process_open(zombie, 0, &process, &fault) == -ESRCH);
    CHECK(mpat_process_open(2, 0, &process, &fault) < 0); /* kthreadd, or nobody */
    CHECK(mpat_process_open(0, 0, &process, &fault) == -EINVAL);
    CHECK(mpat_process_open(1, 2, &process, &fault) == -EINVAL);
    CHECK(mpat_process_open(1, 0, NULL, &fault) == -EINVAL);
}

int main(void)
{
    probe();
    test_filtered();
    test_unknown_filter();
    test_filtered_meanwhile();
    test_dispatching();
    test_second_tracers();
    test_refusals();
    return failures != 0;
}
