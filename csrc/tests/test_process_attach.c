/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching to a process leaves it as it was: blocked in each kind of system call, in its own code, and
 * with many threads.
 */
#include "process_child.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define N_THREADS 50

/* ---- blocked in each kind of system call ------------------------------------------------------ */

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

int main(void)
{
    probe();
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
    test_threads();
    return failures != 0;
}
