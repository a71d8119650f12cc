/* SPDX-License-Identifier: Apache-2.0 */
/* Signals to a process that is attached to: each arrives once and interrupts what it would. */
#include "process_child.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

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

int main(void)
{
    probe();
    test_signals();
    test_interrupted_waits();
    test_stop_and_go();
    test_job_control();
    return failures != 0;
}
