/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A userfaultfd works on the memory of the process that called userfaultfd(2), so the target has to
 * call it, once, and then close(2): we take a duplicate of the descriptor in between.
 *
 * stop.c has one thread stand still for that. Whoever dies meanwhile leaves it in foreign code. So
 * a child of ours does it, which nobody knows: a SIGKILL for us does not reach it, and it needs a
 * few hundred microseconds.
 *
 * Linux man pages: pidfd_getfd(2), userfaultfd(2), clone(2).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "inject.h"

#include <errno.h>

#if defined(__x86_64__) && defined(__linux__)

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../clock.h"
#include "stop.h"

#define ROUNDS 5 /* a thread may be in a critical section, but not for long */
#define ROUND_NS 1000000

/* ---- in the child: only calls that are safe after a bare clone ------------------------------- */

struct report {
    int error;
    int has_begun; /* a thread was sent elsewhere, and is back */
    const char *call; /* the same string in parent and child */
    int64_t stopped_ns;
};

/* The stopped thread makes the descriptor, we take it, it closes its own. */
static int make_userfaultfd(const struct mpat_stopped *s, const struct mpat_plan *plan,
                            struct report *report)
{
    int64_t theirs = mpat_stopped_call(s, plan->code, SYS_userfaultfd, MPAT_UFFD_FLAGS), closed;
    int ours;

    report->call = "userfaultfd";
    if (theirs < 0)
        return (int)theirs;
    ours = (int)syscall(SYS_pidfd_getfd, plan->pidfd, (int)theirs, 0);
    if (ours < 0) {
        ours = -errno;
        report->call = "pidfd_getfd";
    }
    closed = mpat_stopped_call(s, plan->code, SYS_close, (long)theirs);
    if (closed < 0 && ours >= 0) {
        report->call = "close";
        close(ours);
        ours = (int)closed;
    }
    return ours;
}

static int inject(const struct mpat_plan *plan, struct mpat_candidate *candidate,
                  struct report *report)
{
    struct mpat_stopped stopped;
    int64_t begin_ns = mpat_now_ns();
    int error = mpat_stop(plan, candidate, &stopped, &report->call), fd;

    if (error)
        return error;
    report->has_begun = 1;
    fd = make_userfaultfd(&stopped, plan, report);
    mpat_release(&stopped);
    report->stopped_ns += mpat_now_ns() - begin_ns;
    return fd;
}

static void send_report(int socket, const struct report *report, int fd)
{
    struct iovec data = {(void *)(uintptr_t)report, sizeof *report};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};

    if (fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    sendmsg(socket, &message, MSG_NOSIGNAL);
}

_Noreturn static void child_main(struct mpat_plan *plan, int socket)
{
    struct report report = {0};
    int result = -ESRCH;

    signal(SIGCHLD, SIG_DFL); /* ignored, it would not be sent; see stop.h */
    setsid(); /* a SIGKILL for the tracer's process group is not for us */
    for (size_t i = 0; i < ROUNDS * plan->n && !report.has_begun; i++) {
        if (i && i % plan->n == 0) /* a thread that is let go runs on only when it is left alone */
            nanosleep(&(struct timespec){.tv_nsec = ROUND_NS}, NULL);
        result = inject(plan, &plan->candidates[i % plan->n], &report);
        if (result != -EAGAIN && result != -ETIMEDOUT && result != -ESRCH)
            break;
    }
    report.error = result < 0 ? result : 0;
    send_report(socket, &report, result);
    _exit(0);
}

/* ---- the parent ------------------------------------------------------------------------------ */

static int receive_report(int socket, struct report *report, int *fd)
{
    struct iovec data = {report, sizeof *report};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t n;

    do
        n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof *report)
        return -EPIPE; /* the child was killed */
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (report->error)
        return report->error;
    if (!header || header->cmsg_type != SCM_RIGHTS)
        return -EMFILE;
    memcpy(fd, CMSG_DATA(header), sizeof *fd);
    return 0;
}

static int run_child(struct mpat_plan *plan, int *uffd, struct report *report)
{
    sigset_t all, before;
    int sockets[2], error = 0;
    long child;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return -errno;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the child keeps it */
    /* A bare clone without an exit signal: no handler and no wait() of our host hears of it. */
    child = syscall(SYS_clone, 0, NULL, NULL, NULL, NULL);
    if (child == 0) {
        close(sockets[0]);
        child_main(plan, sockets[1]);
    }
    if (child < 0)
        error = -errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(sockets[1]);
    if (!error) {
        error = receive_report(sockets[0], report, uffd);
        while (waitpid((pid_t)child, NULL, (int)__WCLONE) < 0 && errno == EINTR)
            ;
    }
    close(sockets[0]);
    return error;
}

int mpat_inject_userfaultfd(int pid, int pidfd, int *uffd, int64_t *stopped_ns,
                            mpat_process_fault *fault)
{
    struct mpat_plan plan = {.pidfd = pidfd};
    struct report report = {0};
    int error = mpat_plan_make(&plan, pid, &report.call);

    if (!error)
        error = run_child(&plan, uffd, &report);
    *stopped_ns = report.stopped_ns;
    if (error && fault)
        *fault = (mpat_process_fault){.call = report.call};
    return error;
}

#else

int mpat_inject_userfaultfd(int pid, int pidfd, int *uffd, int64_t *stopped_ns,
                            mpat_process_fault *fault)
{
    (void)pid, (void)pidfd, (void)uffd, (void)stopped_ns;
    if (fault)
        *fault = (mpat_process_fault){.call = "x86-64"};
    return -ENOTSUP;
}

#endif
