/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls by which a process is followed, made to fail: the first, the second, ... of a whole
 * trace is interrupted by a signal or does not come to its end, which changes nothing, or fails, which
 * loses nothing in silence; and clocks that stand still or jump. Linked with --wrap for these calls.
 * Exit status 0: all passed, 1: not, 77: this kernel cannot do it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../process/abi.h"
#include "check.h"
#include "mempattern.h"

#define PAGE ((size_t)4096)
#define N_PAGES ((size_t)1 << 14)
#define GIGABYTE ((uintptr_t)1 << 30)
#define FEW 4096 /* pages from one that is written to the next */
#define MANY 11  /* just not taken together: more ranges than one scan returns */

/* ---- calls that fail --------------------------------------------------------------------------- */

static long until_fault = -1; /* calls; -1: none fails */
#define SHORT 0 /* no error, but half of what was asked for */
static int fault_error, has_failed; /* in this process, and not in the one that attaches */

static int fails(void)
{
    if (until_fault < 0 || until_fault-- > 0)
        return 0;
    errno = fault_error;
    return has_failed = 1;
}

int __real_ioctl(int fd, unsigned long request, void *argument);
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
pid_t __real_waitpid(pid_t pid, int *status, int options);
int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

/* As include/uapi/linux/fs.h has it: walk_end is before end where a scan has stopped earlier. */
static int scan_half(int fd, struct pm_scan_arg *request)
{
    uint64_t end = request->end, half = (end - request->start) / PAGE / 2 * PAGE;
    int n;

    if (half == 0)
        return __real_ioctl(fd, PAGEMAP_SCAN, request);
    request->end = request->start + half;
    n = __real_ioctl(fd, PAGEMAP_SCAN, request);
    if (n >= 0 && (request->vec_len == 0 || (uint64_t)n < request->vec_len))
        request->walk_end = request->end;
    request->end = end;
    return n;
}

static int cannot_protect;

/* As the kernel does where it cannot protect a page: it says that it stopped there, and goes on. */
static int skip_page(struct pm_scan_arg *request)
{
    request->walk_end = request->start;
    return 0;
}

int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
    if (cannot_protect && request == PAGEMAP_SCAN &&
        ((struct pm_scan_arg *)argument)->flags & PM_SCAN_WP_MATCHING)
        return skip_page(argument);
    if (request != PAGEMAP_SCAN || !fails())
        return __real_ioctl(fd, request, argument);
    return fault_error == SHORT ? scan_half(fd, argument) : -1;
}

/* These are interrupted only. */
static int is_interrupted(void)
{
    return fault_error == EINTR && fails();
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    return is_interrupted() ? -1 : __real_poll(fds, n, timeout);
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
    return is_interrupted() ? -1 : __real_recvmsg(fd, message, flags);
}

pid_t __wrap_waitpid(pid_t pid, int *status, int options)
{
    return is_interrupted() ? -1 : __real_waitpid(pid, status, options);
}

static time_t jump_s;   /* of CLOCK_MONOTONIC */
static int stands_still;
static struct timespec stood;

/* Nothing asks for the time of day, which can be set back. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    CHECK(clock == CLOCK_MONOTONIC);
    if (stands_still)
        *now = stood;
    else if (__real_clock_gettime(clock, now))
        return -1;
    now->tv_sec += jump_s;
    return 0;
}

/* ---- a child that writes when it is told to ---------------------------------------------------- */

static char *memory;
static size_t *apart; /* shared */
static int tell[2], told[2];
static pid_t child;

static void write_pages(void)
{
    for (size_t page = 0; page < N_PAGES; page += *apart)
        memory[page * PAGE]++;
}

static void begin_child(void)
{
    char byte;

    if (pipe(tell) || pipe(told))
        abort();
    child = fork();
    if (child)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(tell[1]);
    while (read(tell[0], &byte, 1) == 1) {
        write_pages();
        if (write(told[1], &byte, 1) != 1)
            _exit(1);
    }
    _exit(0);
}

static void let_it_write(void)
{
    char byte = 'w';

    CHECK(write(tell[1], &byte, 1) == 1 && read(told[0], &byte, 1) == 1);
}

/* ---- a whole trace ----------------------------------------------------------------------------- */

static uint64_t bitmap[N_PAGES / 64];
static mpat_process_collection last;

static size_t n_written(void)
{
    return (N_PAGES - 1) / *apart + 1;
}

static size_t n_dirty(void)
{
    size_t n = 0;

    for (size_t i = 0; i < N_PAGES / 64; i++)
        n += (size_t)__builtin_popcountll(bitmap[i]);
    return n;
}

static int is_exact(void)
{
    for (size_t page = 0; page < N_PAGES; page++)
        if ((bitmap[page / 64] >> page % 64 & 1) != (page % *apart == 0))
            return 0;
    return 1;
}

static int collect(mpat_process *process)
{
    mpat_mapping mapping = {.start = (uintptr_t)memory,
                            .end = (uintptr_t)memory + N_PAGES * PAGE,
                            .page_shift = 12};
    uint64_t n_pages = N_PAGES, *bitmaps[] = {bitmap};

    return mpat_process_collect(process, &mapping, 1, &n_pages, bitmaps, 1, &last, NULL);
}

static int protect(mpat_process *process)
{
    mpat_mapping mapping = {.start = (uintptr_t)memory,
                            .end = (uintptr_t)memory + N_PAGES * PAGE,
                            .page_shift = 12};
    uint64_t huge_bytes;

    return mpat_process_protect(process, &mapping, 1, &huge_bytes, NULL);
}

static mpat_process *attach(void)
{
    mpat_process *process = NULL;
    int error = mpat_process_open((int)child, 0, &process, NULL);

    CHECK(error == 0);
    if (!error)
        error = protect(process);
    CHECK(error == 0 || (fault_error == EIO && error == -EIO));
    if (error) {
        mpat_process_close(process);
        return NULL;
    }
    return process;
}

/* The process that attaches was waited for; no other has this way to end. */
static int has_no_helper(void)
{
    return __real_waitpid(-1, NULL, (int)__WCLONE | WNOHANG) < 0 && errno == ECHILD;
}

static void change_nothing(long n)
{
    mpat_process *process;

    until_fault = n;
    process = attach();
    CHECK(has_no_helper());
    if (process) {
        CHECK(collect(process) == 0 && n_dirty() == 0); /* what it had written before is protected */
        let_it_write();
        CHECK(collect(process) == 0);
        CHECK(is_exact() && last.lost_pages == 0 && last.written_pages == n_written());
    }
    mpat_process_close(process);
}

static void interrupt(long n)
{
    fault_error = EINTR;
    change_nothing(n);
}

static void cut_short(long n)
{
    fault_error = SHORT;
    change_nothing(n);
}

static void fail(long n)
{
    mpat_process *process;

    fault_error = EIO;
    until_fault = n;
    process = attach();
    if (process) {
        let_it_write();
        if (collect(process) != 0) {
            CHECK(collect(process) == 0);
            CHECK(n_dirty() + last.lost_pages >= n_written() && last.lost_pages <= n_written());
        }
        until_fault = -1;
        let_it_write(); /* and then all is well again */
        CHECK(collect(process) == 0 && is_exact() && last.lost_pages == 0);
    }
    mpat_process_close(process);
}

/* The first call, and each `step` further. */
static void for_each_call(const char *name, void (*trace)(long), size_t pages_apart, long step)
{
    long n = 0;

    *apart = pages_apart;
    do {
        has_failed = 0;
        trace(n);
        until_fault = -1;
        n += step;
    } while (has_failed && !failures);
    CHECK(n > 5);
    printf("test_process_faults: %s: %ld calls: %s\n", name, n, failures ? "FAILED" : "ok");
}

/* As of hugetlbfs, with the memory in it; of which only the size matters here. */
static int collect_gigabyte(mpat_process *process)
{
    uint64_t n_pages = 1, *bitmaps[] = {bitmap};
    mpat_mapping mapping = {.start = (uintptr_t)memory, .end = (uintptr_t)memory + GIGABYTE,
                            .page_shift = 30};

    return mpat_process_collect(process, &mapping, 1, &n_pages, bitmaps, 1, &last, NULL);
}

static void test_pages_that_cannot_be_protected(void)
{
    mpat_process *process = attach();

    alarm(20); /* it went round and round */
    cannot_protect = 1;
    let_it_write();
    CHECK(protect(process) == 0 && collect(process) == 0);
    CHECK(collect_gigabyte(process) == 0 && (bitmap[0] & 1 || last.lost_pages > 0));
    cannot_protect = 0;
    alarm(0);
    CHECK(collect(process) == 0 && is_exact());
    mpat_process_close(process);
    printf("test_process_faults: cannot be protected: %s\n", failures ? "FAILED" : "ok");
}

/* ---- clocks ------------------------------------------------------------------------------------ */

static void test_clocks(void)
{
    mpat_process *process = attach();
    int64_t before_ns;

    CHECK(collect(process) == 0);
    before_ns = last.end_ns;
    jump_s = 3600; /* the tracer, or its whole machine, stood still */
    let_it_write();
    CHECK(collect(process) == 0 && is_exact());
    CHECK(last.start_ns == before_ns && last.end_ns - last.start_ns >= INT64_C(3600000000000));
    CHECK(__real_clock_gettime(CLOCK_MONOTONIC, &stood) == 0);
    stands_still = 1;
    stood.tv_sec++;
    for (int i = 0; i < 3; i++) {
        before_ns = last.end_ns;
        CHECK(collect(process) == 0);
        CHECK(last.start_ns == before_ns && last.end_ns > last.start_ns);
    }
    CHECK(last.end_ns == before_ns + 1);
    before_ns = last.end_ns;
    CHECK(protect(process) == 0 && collect(process) == 0 && last.start_ns > before_ns);
    stands_still = 0;
    jump_s = 0;
    mpat_process_close(process);
    printf("test_process_faults: clocks: %s\n", failures ? "FAILED" : "ok");
}

/* While it stands still, it writes nothing; and it is there, all the same. */
static void test_stopped(void)
{
    mpat_process *process = attach();
    int status;

    let_it_write();
    CHECK(collect(process) == 0 && is_exact());
    kill(child, SIGSTOP);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    CHECK(collect(process) == 0 && n_dirty() == 0);
    kill(child, SIGCONT);
    let_it_write();
    CHECK(collect(process) == 0 && is_exact() && last.lost_pages == 0);
    mpat_process_close(process);
    printf("test_process_faults: stopped: %s\n", failures ? "FAILED" : "ok");
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (mpat_process_probe(NULL)) {
        printf("skipped: a process cannot be followed here\n");
        return 77;
    }
    memory = mmap(NULL, 2 * GIGABYTE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return 1;
    memory += -(uintptr_t)memory % GIGABYTE;
    if (mprotect(memory, N_PAGES * PAGE, PROT_READ | PROT_WRITE) || madvise(memory, N_PAGES * PAGE, MADV_NOHUGEPAGE))
        return 1;
    apart = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (apart == MAP_FAILED)
        return 1;
    *apart = FEW;
    begin_child();
    let_it_write();
    for_each_call("interrupted", interrupt, FEW, 1);
    for_each_call("failed", fail, FEW, 1);
    for_each_call("short", cut_short, FEW, 1);
    for_each_call("short, in one range", cut_short, 1, 1);
    for_each_call("interrupted, with many ranges", interrupt, MANY, 1100);
    for_each_call("failed, with many ranges", fail, MANY, 1100);
    for_each_call("short, with many ranges", cut_short, MANY, 300);
    test_pages_that_cannot_be_protected();
    test_clocks();
    test_stopped();
    close(tell[1]);
    waitpid(child, NULL, 0);
    return failures != 0;
}
