/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching to a process leaves it as it was: blocked in each kind of system call, under signals,
 * with many threads, killed half-way. And its writes are seen exactly.
 * Exit status 0: all passed, 1: not, 77: this kernel cannot do it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "mempattern.h"

#define PAGE 4096
#define ATTACHES 30
#define N_THREADS 50
#define N_KILLS 200

/* ---- a child to attach to --------------------------------------------------------------------- */

struct child {
    pid_t pid;
    int ready[2], go[2]; /* pipes: it says that it is set up; we say that it may end */
};

static void wait_go(const struct child *child)
{
    char byte;

    while (read(child->go[0], &byte, 1) < 0 && errno == EINTR)
        ;
}

/* The child runs `body`, whose result is its exit status. */
static struct child begin(int (*body)(const struct child *, const void *), const void *argument)
{
    struct child child;
    int status;

    if (pipe2(child.ready, O_CLOEXEC) || pipe2(child.go, O_CLOEXEC))
        abort();
    child.pid = fork();
    if (child.pid == 0) {
        close(child.ready[0]);
        close(child.go[1]);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        status = body(&child, argument);
        wait_go(&child); /* it is looked at until then */
        _exit(status);
    }
    close(child.ready[1]);
    close(child.go[0]);
    return child;
}

static void wait_ready(const struct child *child)
{
    char byte;

    CHECK(read(child->ready[0], &byte, 1) == 1);
    usleep(20000); /* into its system call */
}

static int end(struct child *child)
{
    int status = 0;

    close(child->go[1]);
    waitpid(child->pid, &status, 0);
    close(child->ready[0]);
    return status;
}

static void say_ready(const struct child *child)
{
    if (write(child->ready[1], "r", 1) != 1)
        _exit(100);
}

/* What must not change: mappings, descriptors, signal state. */
static char *snapshot(pid_t pid)
{
    static const char *const kept[] = {"SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "FDSize"};
    char path[64], line[512], *out = NULL;
    size_t size;
    FILE *to = open_memstream(&out, &size), *from;
    struct dirent *entry;
    DIR *fds;

    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    from = fopen(path, "re");
    while (from && fgets(line, sizeof line, from))
        fputs(line, to);
    if (from)
        fclose(from);
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    from = fopen(path, "re");
    while (from && fgets(line, sizeof line, from))
        for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
            if (strncmp(line, kept[i], strlen(kept[i])) == 0)
                fputs(line, to);
    if (from)
        fclose(from);
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    fds = opendir(path);
    while (fds && (entry = readdir(fds)) != NULL)
        fprintf(to, "fd %s\n", entry->d_name);
    if (fds)
        closedir(fds);
    fclose(to);
    return out;
}

static void attach_and_detach(pid_t pid)
{
    mpat_process_fault fault = {0};
    mpat_process *process;
    int error = mpat_process_open(pid, 0, &process, &fault);

    if (error)
        fprintf(stderr, "open: %s: %s\n", fault.call ? fault.call : "", strerror(-error));
    CHECK(error == 0);
    if (error == 0)
        mpat_process_close(process);
}

/* ---- blocked in each kind of system call ------------------------------------------------------ */

static int in_read(const struct child *child, const void *argument)
{
    char byte;

    (void)argument;
    say_ready(child);
    return read(child->go[0], &byte, 1) != 0; /* end of file, and no EINTR */
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A relative sleep keeps its end: the kernel restarts it with what is left. */
static int in_nanosleep(const struct child *child, const void *argument)
{
    struct timespec half = {0, 500000000};
    int64_t begin_ns = now_ns(), took_ns;
    int error;

    (void)argument;
    say_ready(child);
    error = nanosleep(&half, NULL);
    took_ns = now_ns() - begin_ns;
    return error || took_ns < 500000000 || took_ns > 5000000000;
}

static int in_futex(const struct child *child, const void *argument)
{
    struct timespec half = {0, 500000000};
    int word = 0;

    (void)argument;
    say_ready(child);
    return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &half, NULL, 0) != -1 || errno != ETIMEDOUT;
}

static int in_poll(const struct child *child, const void *argument)
{
    struct pollfd go = {.fd = child->go[0], .events = POLLIN};

    (void)argument;
    say_ready(child);
    return poll(&go, 1, 20000) != 1;
}

static int in_ppoll(const struct child *child, const void *argument)
{
    struct pollfd go = {.fd = child->go[0], .events = POLLIN};
    struct timespec long_time = {20, 0};
    sigset_t none;

    (void)argument;
    sigemptyset(&none);
    say_ready(child);
    return ppoll(&go, 1, &long_time, &none) != 1;
}

static int in_select(const struct child *child, const void *argument)
{
    fd_set set;

    (void)argument;
    FD_ZERO(&set);
    FD_SET(child->go[0], &set);
    say_ready(child);
    return select(child->go[0] + 1, &set, NULL, NULL, NULL) != 1;
}

/* These four return EINTR when their thread is stopped, unless it is mended. */
static int in_epoll_wait(const struct child *child, const void *argument)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0);

    (void)argument;
    epoll_ctl(epoll, EPOLL_CTL_ADD, child->go[0], &event);
    say_ready(child);
    return epoll_wait(epoll, &event, 1, 20000) != 1;
}

static int in_epoll_pwait(const struct child *child, const void *argument)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0);
    sigset_t none;

    (void)argument;
    sigemptyset(&none);
    epoll_ctl(epoll, EPOLL_CTL_ADD, child->go[0], &event);
    say_ready(child);
    return epoll_pwait(epoll, &event, 1, 20000, &none) != 1;
}

static int in_sigtimedwait(const struct child *child, const void *argument)
{
    struct timespec half = {0, 700000000};
    sigset_t usr1;

    (void)argument;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    say_ready(child);
    return sigtimedwait(&usr1, NULL, &half) != -1 || errno != EAGAIN;
}

static int in_recv_with_timeout(const struct child *child, const void *argument)
{
    struct timeval most = {0, 700000};
    char byte;
    int pair[2];

    (void)argument;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) ||
        setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most))
        return 1;
    say_ready(child);
    return recv(pair[0], &byte, 1, 0) != -1 || errno != EAGAIN;
}

static int in_semtimedop(const struct child *child, const void *argument)
{
    int semaphore = semget(IPC_PRIVATE, 1, 0600), error, number;
    struct timespec half = {0, 700000000};
    struct sembuf down = {.sem_op = -1};

    (void)argument;
    say_ready(child);
    error = semtimedop(semaphore, &down, 1, &half);
    number = errno;
    semctl(semaphore, 0, IPC_RMID);
    return error != -1 || number != EAGAIN;
}

static int in_pause(const struct child *child, const void *argument)
{
    (void)argument;
    say_ready(child);
    pause(); /* until it is killed: to return is wrong */
    return 1;
}

/* Not in a system call: floating point and registers through many interruptions. */
static int in_user_code(const struct child *child, const void *argument)
{
    double sum = 0;
    uint64_t hash = 1;

    (void)argument;
    say_ready(child);
    for (uint64_t i = 1; i <= 300000000; i++) {
        hash = hash * 6364136223846793005u + i;
        if (i % 4 == 0)
            sum += 0.25;
    }
    /* The hash by jumping ahead: x -> a x + i, checked by a second run is too slow; its parity of
     * steps is enough with the exact sum. */
    return sum != 300000000 / 4 * 0.25 || hash == 0;
}

static void test_blocked(const char *name, int (*body)(const struct child *, const void *))
{
    struct child child = begin(body, NULL);
    char *before, *after;
    int status;

    wait_ready(&child);
    before = snapshot(child.pid);
    for (int i = 0; i < ATTACHES; i++)
        attach_and_detach(child.pid);
    usleep(1000);
    after = snapshot(child.pid);
    if (strcmp(before, after))
        fprintf(stderr, "%s: before\n%s\nafter\n%s\n", name, before, after);
    CHECK(strcmp(before, after) == 0);
    if (body == in_pause) {
        CHECK(waitpid(child.pid, &status, WNOHANG) == 0);
        kill(child.pid, SIGKILL);
        status = end(&child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    } else {
        status = end(&child);
        if (status)
            fprintf(stderr, "%s: status %#x\n", name, (unsigned)status);
        CHECK(status == 0);
    }
    free(before);
    free(after);
}

/* ---- under signals ---------------------------------------------------------------------------- */

static volatile sig_atomic_t n_handled;

static void handle(int signal)
{
    (void)signal;
    n_handled++;
}

/* Every queued signal arrives once, however often the thread is stopped meanwhile. */
static int under_signals(const struct child *child, const void *argument)
{
    const int *expected = argument;
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};

    sigaction(SIGRTMIN, &action, NULL);
    say_ready(child);
    wait_go(child);
    for (int i = 0; n_handled < *expected && i < 1000; i++)
        usleep(1000);
    return n_handled != *expected;
}

static void test_signals(void)
{
    const int n_signals = 300;
    struct child child = begin(under_signals, &n_signals);

    wait_ready(&child);
    for (int i = 0; i < n_signals; i++) {
        CHECK(sigqueue(child.pid, SIGRTMIN, (union sigval){0}) == 0);
        if (i % 5 == 0)
            attach_and_detach(child.pid);
    }
    CHECK(end(&child) == 0);
}

static volatile sig_atomic_t is_told;

static void tell(int signal)
{
    (void)signal;
    is_told = 1;
}

/* EINTR, if a signal was handled: who waits for a flag that the handler sets depends on it. */
static int in_epoll_until_told(const struct child *child, const void *argument)
{
    struct sigaction action = {.sa_handler = tell};
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0), is_over = 0;
    sigset_t usr1, none;

    (void)argument;
    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL); /* handled in epoll_pwait only, so that none comes early */
    sigaction(SIGUSR1, &action, NULL);
    epoll_ctl(epoll, EPOLL_CTL_ADD, child->go[0], &event);
    say_ready(child);
    while (!is_over) {
        int n = epoll_pwait(epoll, &event, 1, 20000, &none);

        if (n < 0 && errno == EINTR && is_told) {
            is_told = 0;
            say_ready(child);
        } else {
            is_over = 1;
            if (n != 1)
                return 1;
        }
    }
    return 0;
}

static void *attach_again_and_again(void *pid)
{
    for (int i = 0; i < 150; i++)
        attach_and_detach(*(pid_t *)pid);
    return NULL;
}

static void test_interrupted_waits(void)
{
    struct child child = begin(in_epoll_until_told, NULL);
    struct pollfd answer = {.fd = child.ready[0], .events = POLLIN};
    pthread_t tracer;
    char byte;

    wait_ready(&child);
    CHECK(pthread_create(&tracer, NULL, attach_again_and_again, &child.pid) == 0);
    for (int i = 0; i < 100; i++) {
        kill(child.pid, SIGUSR1);
        CHECK(poll(&answer, 1, 10000) == 1 && read(child.ready[0], &byte, 1) == 1);
        usleep(300);
    }
    pthread_join(tracer, NULL);
    CHECK(end(&child) == 0);
}

static char state_of(pid_t pid)
{
    char path[64], text[512] = "", *after;
    FILE *stat;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    stat = fopen(path, "re");
    if (stat && !fgets(text, sizeof text, stat))
        text[0] = '\0';
    if (stat)
        fclose(stat);
    after = strrchr(text, ')');
    return after ? after[2] : '?';
}

/* The SIGCONT comes last, at whatever moment of an attachment, so the process goes on. */
static void test_stop_and_go(void)
{
    struct child child = begin(in_read, NULL);
    pthread_t tracer;

    wait_ready(&child);
    CHECK(pthread_create(&tracer, NULL, attach_again_and_again, &child.pid) == 0);
    for (int i = 0; i < 100; i++) {
        kill(child.pid, SIGSTOP);
        usleep(100);
        kill(child.pid, SIGCONT);
        usleep(300);
    }
    pthread_join(tracer, NULL);
    for (int i = 0; i < 100 && state_of(child.pid) == 'T'; i++)
        usleep(1000);
    CHECK(state_of(child.pid) != 'T');
    kill(child.pid, SIGCONT);
    CHECK(end(&child) == 0);
}

/* A stopped process stays stopped, and goes on when it is told to. */
static void test_job_control(void)
{
    struct child child = begin(in_read, NULL);
    int status = 0;

    wait_ready(&child);
    kill(child.pid, SIGSTOP);
    CHECK(waitpid(child.pid, &status, WUNTRACED) == child.pid && WIFSTOPPED(status));
    attach_and_detach(child.pid);
    usleep(20000);
    CHECK(waitpid(child.pid, &status, WCONTINUED | WNOHANG) == 0);
    kill(child.pid, SIGCONT);
    CHECK(end(&child) == 0);
}

/* ---- many threads ----------------------------------------------------------------------------- */

static int stop_threads;

static void *add_up(void *argument)
{
    uint64_t *sum = argument;

    while (!__atomic_load_n(&stop_threads, __ATOMIC_RELAXED)) {
        usleep(100);
        ++*sum;
    }
    return NULL;
}

static int with_threads(const struct child *child, const void *argument)
{
    static uint64_t sums[N_THREADS];
    pthread_t threads[N_THREADS];

    (void)argument;
    for (int i = 0; i < N_THREADS; i++)
        if (pthread_create(&threads[i], NULL, add_up, &sums[i]))
            return 1;
    say_ready(child);
    wait_go(child);
    __atomic_store_n(&stop_threads, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < N_THREADS; i++)
        if (sums[i] == 0)
            return 2;
    return 0;
}

static void test_threads(void)
{
    struct child child = begin(with_threads, NULL);

    wait_ready(&child);
    for (int i = 0; i < ATTACHES; i++)
        attach_and_detach(child.pid);
    CHECK(end(&child) == 0);
}

/* ---- writes, and a tracer that is killed ------------------------------------------------------ */

#define N_PAGES 1024

struct shared {
    uint32_t rounds; /* of writing the pages it was told to */
    uint32_t wanted;
    uint32_t stride;
};

static struct shared *shared;
static char *memory;

/* Writes every stride-th page once a round. */
static int writing(const struct child *child, const void *argument)
{
    struct pollfd go = {.fd = child->go[0], .events = POLLIN};

    (void)argument;
    say_ready(child);
    while (poll(&go, 1, 0) == 0) {
        if (shared->rounds == __atomic_load_n(&shared->wanted, __ATOMIC_ACQUIRE))
            continue;
        for (size_t page = 0; page < N_PAGES; page += shared->stride)
            memory[page * PAGE]++;
        __atomic_store_n(&shared->rounds, shared->rounds + 1, __ATOMIC_RELEASE);
    }
    return 0;
}

static void write_round(uint32_t stride)
{
    int64_t deadline_ns = now_ns() + 20000000000;

    shared->stride = stride;
    __atomic_store_n(&shared->wanted, shared->rounds + 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&shared->rounds, __ATOMIC_ACQUIRE) != shared->wanted)
        if (now_ns() > deadline_ns) {
            fprintf(stderr, "the target does not write any more\n");
            exit(1);
        }
}

static mpat_mapping whole_memory(void)
{
    return (mpat_mapping){.start = (uintptr_t)memory, .end = (uintptr_t)memory + N_PAGES * PAGE,
                          .page_shift = 12};
}

static void test_writes(void)
{
    static const uint32_t strides[] = {1, 2, 3, 64, 7, 1000, 1};
    struct child child = begin(writing, NULL);
    mpat_mapping mapping = whole_memory();
    uint64_t n_pages = N_PAGES, huge_bytes, *bitmap;
    mpat_process_collection out;
    mpat_process *process;

    CHECK(mpat_bitmap_alloc(N_PAGES, &bitmap) == 0);
    wait_ready(&child);
    write_round(1);
    CHECK(mpat_process_open(child.pid, 0, &process, NULL) == 0);
    CHECK(mpat_process_protect(process, &mapping, 1, &huge_bytes, NULL) == 0);
    for (size_t i = 0; i < sizeof strides / sizeof strides[0]; i++) {
        write_round(strides[i]);
        CHECK(mpat_process_collect(process, &mapping, 1, &n_pages, &bitmap, 1, &out, NULL) == 0);
        for (uint64_t page = 0; page < N_PAGES; page++)
            CHECK((bitmap[page / 64] >> page % 64 & 1) == (page % strides[i] == 0));
        CHECK(out.lost_pages == 0 && out.end_ns > out.start_ns);
        CHECK(mpat_process_collect(process, &mapping, 1, &n_pages, &bitmap, 1, &out, NULL) == 0);
        CHECK(out.written_pages == 0);
    }
    mapping.first_page = 1;
    CHECK(mpat_process_collect(process, &mapping, 1, &n_pages, &bitmap, 1, &out, NULL) == -EINVAL);
    mapping.first_page = 0;
    CHECK(end(&child) == 0);
    CHECK(mpat_process_collect(process, &mapping, 1, &n_pages, &bitmap, 1, &out, NULL) == -ESRCH);
    mpat_process_close(process);
    mpat_bitmap_free(bitmap, N_PAGES);
}

/* ---- memory that was never touched ------------------------------------------------------------ */

#define SPARSE_PAGES ((uint64_t)1 << 20) /* 4 GiB, which take 8 MiB of page tables when all are made */

static char *sparse, *for_huge;

static int touching(const struct child *child, const void *argument)
{
    char byte;

    (void)argument;
    sparse[77 * PAGE] = 1;
    say_ready(child);
    while (read(child->go[0], &byte, 1) < 0)
        ;
    for (size_t page = 0; page < N_PAGES; page++)
        for_huge[page * PAGE] = 1;
    say_ready(child);
    pause();
    return 0;
}

static long number_in(pid_t pid, const char *file, const char *key)
{
    char path[64], line[512];
    long number = 0;
    FILE *from;

    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    from = fopen(path, "re");
    while (from && fgets(line, sizeof line, from))
        if (strncmp(line, key, strlen(key)) == 0)
            number += strtol(line + strlen(key), NULL, 10);
    if (from)
        fclose(from);
    return number;
}

/* Of the same target, traced while nothing is there yet, or never. KiB in huge pages at the end. */
static long huge_after(int is_traced)
{
    struct child child = begin(touching, NULL);
    mpat_mapping mappings[] = {
        {.start = (uintptr_t)sparse, .end = (uintptr_t)sparse + SPARSE_PAGES * PAGE,
         .page_shift = 12},
        {.start = (uintptr_t)for_huge, .end = (uintptr_t)for_huge + N_PAGES * PAGE,
         .page_shift = 12, .region = 1},
    };
    uint64_t n_pages[] = {SPARSE_PAGES, N_PAGES}, huge_bytes, *bitmaps[2];
    mpat_process_collection out;
    mpat_process *process;
    long huge, tables;

    wait_ready(&child);
    tables = number_in(child.pid, "status", "VmPTE:");
    if (is_traced) {
        CHECK(mpat_bitmap_alloc(n_pages[0], &bitmaps[0]) == 0);
        CHECK(mpat_bitmap_alloc(n_pages[1], &bitmaps[1]) == 0);
        CHECK(mpat_process_open(child.pid, 0, &process, NULL) == 0);
        CHECK(mpat_process_protect(process, mappings, 2, &huge_bytes, NULL) == 0);
        for (int i = 0; i < 2; i++) {
            CHECK(mpat_process_collect(process, mappings, 2, n_pages, bitmaps, 2, &out, NULL) == 0);
            CHECK(out.written_pages == 0);
        }
        CHECK(number_in(child.pid, "status", "VmPTE:") - tables < 64);
        mpat_process_close(process);
        mpat_bitmap_free(bitmaps[0], n_pages[0]);
        mpat_bitmap_free(bitmaps[1], n_pages[1]);
    }
    close(child.go[1]);
    wait_ready(&child);
    huge = number_in(child.pid, "smaps", "AnonHugePages:");
    kill(child.pid, SIGKILL);
    waitpid(child.pid, NULL, 0);
    close(child.ready[0]);
    return huge;
}

/* It gets no page tables by being looked at, and may become huge pages afterwards as ever. */
static void test_untouched_memory(void)
{
    size_t huge_page = (size_t)2 << 20;
    char *map = mmap(NULL, N_PAGES * PAGE + huge_page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    sparse = mmap(NULL, SPARSE_PAGES * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(map != MAP_FAILED && sparse != MAP_FAILED);
    madvise(sparse, SPARSE_PAGES * PAGE, MADV_NOHUGEPAGE);
    for_huge = map + (huge_page - (uintptr_t)map % huge_page) % huge_page;
    madvise(for_huge, N_PAGES * PAGE, MADV_HUGEPAGE);
    CHECK(huge_after(1) == huge_after(0));
    munmap(map, N_PAGES * PAGE + huge_page);
    munmap(sparse, SPARSE_PAGES * PAGE);
}

/* Attach, collect, detach, again and again, until it is killed. */
_Noreturn static void trace_for_ever(pid_t pid)
{
    mpat_mapping mapping = whole_memory();
    uint64_t n_pages = N_PAGES, huge_bytes, *bitmap;
    mpat_process_collection out;
    mpat_process *process;

    if (mpat_bitmap_alloc(N_PAGES, &bitmap))
        _exit(1);
    for (;;) {
        if (mpat_process_open(pid, 0, &process, NULL))
            continue; /* the helper of the tracer before may hold the target for a moment */
        mpat_process_protect(process, &mapping, 1, &huge_bytes, NULL);
        for (int i = 0; i < 3; i++)
            mpat_process_collect(process, &mapping, 1, &n_pages, &bitmap, 1, &out, NULL);
        mpat_process_close(process);
    }
}

static int has_no_userfaultfd(pid_t pid)
{
    char *state = snapshot(pid), path[64], line[512];
    int clean = strstr(state, "userfaultfd") == NULL;
    FILE *smaps;

    snprintf(path, sizeof path, "/proc/%d/smaps", pid);
    smaps = fopen(path, "re");
    while (smaps && fgets(line, sizeof line, smaps))
        if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " uw"))
            clean = 0;
    if (smaps)
        fclose(smaps);
    free(state);
    return clean;
}

static void test_killed_tracer(void)
{
    struct child child = begin(writing, NULL);
    uint32_t total = 0;
    char *before, *after;

    memset(memory, 0, N_PAGES * PAGE);
    wait_ready(&child);
    before = snapshot(child.pid);
    srand(1);
    for (int i = 0; i < N_KILLS; i++) {
        pid_t tracer = fork();

        if (tracer == 0)
            trace_for_ever(child.pid);
        usleep((useconds_t)(rand() % 3000));
        write_round(1);
        total++;
        kill(tracer, SIGKILL);
        waitpid(tracer, NULL, 0);
    }
    write_round(1);
    total++;
    usleep(20000); /* the last helper */
    for (size_t page = 0; page < N_PAGES; page++)
        CHECK(memory[page * PAGE] == (char)total);
    CHECK(has_no_userfaultfd(child.pid));
    after = snapshot(child.pid);
    CHECK(strcmp(before, after) == 0);
    CHECK(end(&child) == 0);
    free(before);
    free(after);
}

/* ---- what cannot be traced -------------------------------------------------------------------- */

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
    struct child child = begin(writing, NULL);
    mpat_mapping mapping = whole_memory();
    mpat_process *first, *second;
    mpat_process_fault fault = {0};
    uint64_t huge_bytes;

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
    mpat_process_fault fault = {0};
    int error = mpat_process_probe(&fault);

    if (error == -ENOTSUP || error == -ENOSYS || error == -EPERM) {
        printf("skipped: %s: %s\n", fault.call, strerror(-error));
        return 77;
    }
    CHECK(error == 0);
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memory = mmap(NULL, N_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || memory == MAP_FAILED)
        return 1;
    shared->stride = 1;

    test_blocked("read", in_read);
    test_blocked("nanosleep", in_nanosleep);
    test_blocked("futex", in_futex);
    test_blocked("poll", in_poll);
    test_blocked("ppoll", in_ppoll);
    test_blocked("select", in_select);
    test_blocked("epoll_wait", in_epoll_wait);
    test_blocked("epoll_pwait", in_epoll_pwait);
    test_blocked("sigtimedwait", in_sigtimedwait);
    test_blocked("semtimedop", in_semtimedop);
    test_blocked("recv with a timeout", in_recv_with_timeout);
    test_blocked("pause", in_pause);
    test_blocked("user code", in_user_code);
    test_signals();
    test_interrupted_waits();
    test_stop_and_go();
    test_job_control();
    test_threads();
    test_writes();
    test_untouched_memory();
    test_killed_tracer();
    test_filtered();
    test_filtered_meanwhile();
    test_dispatching();
    test_second_tracers();
    test_refusals();
    return failures != 0;
}
