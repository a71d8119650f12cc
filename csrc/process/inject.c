/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A userfaultfd works on the memory of the process that called userfaultfd(2), so the target has to
 * call it, once, and then close(2): we take a duplicate of the descriptor in between.
 *
 * One thread is stopped by PTRACE_INTERRUPT, which sends no signal. It executes a `syscall`
 * instruction that it has anyway (in the vdso), so nothing is written to its memory. Its registers
 * are put back while it stands in a second interrupt-stop: only on the way out of such a stop does
 * the kernel restart an interrupted system call (arch_do_signal_or_restart), and only the original
 * registers say that there was one.
 *
 * Whoever dies between the two stops leaves the thread in foreign code. So a child of ours does it,
 * which nobody knows: a SIGKILL for us does not reach it, and it needs a few hundred microseconds.
 *
 * Linux Documentation and man pages: ptrace(2), pidfd_getfd(2), userfaultfd(2);
 * kernel/signal.c, kernel/ptrace.c, arch/x86/kernel/signal.c.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "inject.h"

#include <errno.h>

#if defined(__x86_64__) && defined(__linux__)

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../clock.h"
#include "abi.h"
#include "filter.h"
#include "plan.h"

#define STOP_TIMEOUT_NS 200000000 /* for a thread that sleeps uninterruptibly */
#define RUN_TIMEOUT_NS 2000000000 /* for one that has begun: it cannot be left */
#define WAIT_NS 1000000
#define ROUNDS 5                  /* a thread may be in a critical section, but not for long */
#define USER_CODE_64 0x33         /* its selector; 0x23 is 32-bit code */
#define SYSCALL_INSTRUCTION 0x050f
#define UFFD_FLAGS (O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)
#define KERNEL_SIGSET_BYTES 8
#define ERESTARTNOHAND 514L /* include/linux/errno.h */
#define ERESTART_RESTARTBLOCK 516L
#define GET_RSEQ_CONFIGURATION 0x420f
#define GET_SYSCALL_DISPATCH 0x4211

/* ---- in the child: only calls that are safe after a bare clone ------------------------------- */

struct report {
    int error;
    int has_begun; /* a thread was sent elsewhere, and is back */
    const char *call; /* the same string in parent and child */
    int64_t stopped_ns;
};

struct stopped {
    pid_t tid;
    struct user_regs_struct registers;
    uint64_t mask; /* signals */
    int must_not_resume; /* restart_syscall(2) could be its end */
};

static int64_t trace(long request, pid_t tid, unsigned long address, void *data)
{
    return ptrace((mpat_ptrace_request)request, tid, (void *)address, data) < 0 ? -errno : 0;
}

/*
 * The next stop's status; -ETIMEDOUT, or -ESRCH if the thread is gone. SIGCHLD, which is blocked,
 * tells of a stop: while we sleep the thread has the processor, and on waking we have it before
 * others that are busy. Spinning on a busy machine made the stop many times as long.
 */
static int next_stop(pid_t tid, int64_t timeout_ns)
{
    int64_t deadline = mpat_now_ns() + timeout_ns;
    sigset_t of_children;
    int status;

    sigemptyset(&of_children);
    sigaddset(&of_children, SIGCHLD);
    for (;;) {
        pid_t got = waitpid(tid, &status, __WALL | WNOHANG);

        if (got == tid)
            return WIFSTOPPED(status) ? status : -ESRCH;
        if (got < 0 && errno != EINTR)
            return -ESRCH;
        int64_t left_ns = deadline - mpat_now_ns();
        if (left_ns < 0)
            return -ETIMEDOUT;
        sigtimedwait(&of_children, NULL, &(struct timespec){.tv_nsec = WAIT_NS});
    }
}

static int is_interrupt_stop(int status)
{
    return status >> 16 == PTRACE_EVENT_STOP;
}

static int is_syscall_stop(int status)
{
    return WSTOPSIG(status) == (SIGTRAP | 0x80);
}

/* A signal that the thread's own code caused: it must not run on from there. */
static int is_fault(int status)
{
    int signal = WSTOPSIG(status);

    return !is_interrupt_stop(status) &&
           (signal == SIGSEGV || signal == SIGSYS || signal == SIGILL || signal == SIGBUS);
}

/*
 * Let it run on until the wanted kind of stop. All signals are blocked but SIGKILL and SIGSTOP; a
 * SIGSTOP is handed on at once, so that a SIGCONT after it finds it done, and detaching brings back
 * a stop that still stands. -ETIMEDOUT: it was frozen (cgroups), and stands in another stop now.
 */
static int run_until(pid_t tid, long request, int (*is_wanted)(int))
{
    int signal = 0;

    for (;;) {
        int error = (int)trace(request, tid, 0, (void *)(long)signal), status;

        if (error)
            return error;
        signal = 0;
        status = next_stop(tid, RUN_TIMEOUT_NS);
        if (status == -ETIMEDOUT) { /* a frozen thread still obeys this; it must not be left */
            trace(PTRACE_INTERRUPT, tid, 0, NULL);
            status = next_stop(tid, INT64_MAX / 2);
            return status < 0 ? status : -ETIMEDOUT;
        }
        if (status < 0)
            return status;
        if (is_wanted(status))
            return 0;
        if (is_fault(status))
            return -EIO;
        if (!is_interrupt_stop(status) && !is_syscall_stop(status))
            signal = WSTOPSIG(status);
    }
}

/* Execute one system call; the thread stands in its exit-stop afterwards. Its result or -errno. */
static int64_t call(const struct stopped *s, uint64_t code, long number, long argument)
{
    struct user_regs_struct registers = s->registers;
    int error;

    registers.rip = code;
    registers.rax = (unsigned long)number;
    registers.rdi = (unsigned long)argument;
    registers.orig_rax = ~0ul; /* it does not come from a system call: nothing to restart */
    error = (int)trace(PTRACE_SETREGS, s->tid, 0, &registers);
    for (int edge = 0; edge < 2 && !error; edge++) /* entry, exit */
        error = run_until(s->tid, PTRACE_SYSCALL, is_syscall_stop);
    if (!error)
        error = (int)trace(PTRACE_GETREGS, s->tid, 0, &registers);
    return error ? error : (int64_t)registers.rax;
}

/*
 * In an rseq critical section? The kernel would not abort it, as a preemption must, once it had
 * seen the thread elsewhere (kernel/rseq.c, rseq_ip_fixup).
 */
static int in_critical_section(pid_t tid)
{
    struct { /* struct ptrace_rseq_configuration, Linux 5.13 */
        uint64_t rseq_abi_pointer;
        uint32_t rseq_abi_size, signature, flags, pad;
    } rseq;
    long section;

    if (trace(GET_RSEQ_CONFIGURATION, tid, sizeof rseq, &rseq) || !rseq.rseq_abi_pointer)
        return 0;
    errno = 0; /* rseq_cs is at 8 in struct rseq */
    section = ptrace(PTRACE_PEEKDATA, tid, (void *)(rseq.rseq_abi_pointer + 8), NULL);
    return errno != 0 || section != 0;
}

/* Are its system calls turned into SIGSYS (prctl PR_SET_SYSCALL_USER_DISPATCH, as Wine does)? */
static int dispatches(pid_t tid)
{
    struct { /* struct ptrace_sud_config, Linux 6.4 */
        uint64_t mode, selector, offset, length;
    } dispatch;

    return trace(GET_SYSCALL_DISPATCH, tid, sizeof dispatch, &dispatch) == 0 && dispatch.mode != 0;
}

/*
 * A call that gave EINTR for our stop alone: let the kernel decide on the way out of this stop, as
 * it does for other calls. It is made again, or is EINTR after all if a handler is to run.
 */
static void undo_eintr(struct user_regs_struct *registers)
{
    if ((long)registers->orig_rax >= 0 && (long)registers->rax == -EINTR &&
        mpat_gives_eintr((long)registers->orig_rax))
        registers->rax = (unsigned long)-ERESTARTNOHAND;
}

/*
 * A call with a timeout, such as poll(2), goes on after a stop by restart_syscall(2), which the
 * thread's filters judge, too. Where they may not let it through, the call is made again instead,
 * with its whole timeout: that one they let through before.
 */
static void remake(struct user_regs_struct *registers)
{
    if ((long)registers->rax == -ERESTART_RESTARTBLOCK)
        registers->rax = (unsigned long)-ERESTARTNOHAND;
}

/* From an interrupt-stop: everything back, and go on. */
static void release(const struct stopped *s)
{
    struct user_regs_struct registers = s->registers;
    uint64_t mask = s->mask;

    undo_eintr(&registers);
    if (s->must_not_resume)
        remake(&registers);
    trace(PTRACE_SETREGS, s->tid, 0, &registers);
    trace(PTRACE_SETSIGMASK, s->tid, KERNEL_SIGSET_BYTES, &mask);
    trace(PTRACE_DETACH, s->tid, 0, NULL);
}

/* The thread stands still in an interrupt-stop. -ETIMEDOUT: not yet; it stays seized. */
static int interrupt(struct mpat_candidate *candidate, struct report *report)
{
    pid_t tid = candidate->tid;
    int error = 0;

    if (!candidate->is_seized) {
        report->call = "PTRACE_SEIZE";
        error = (int)trace(PTRACE_SEIZE, tid, 0, (void *)PTRACE_O_TRACESYSGOOD);
        if (error)
            return error;
        candidate->is_seized = 1;
        report->call = "PTRACE_INTERRUPT";
        error = (int)trace(PTRACE_INTERRUPT, tid, 0, NULL);
    }
    while (!error) {
        int status = next_stop(tid, STOP_TIMEOUT_NS);

        if (status < 0)
            return status;
        if (is_interrupt_stop(status))
            break;
        /* A signal was on its way already: it is delivered as if we were not there. */
        error = (int)trace(PTRACE_CONT, tid, 0, (void *)(long)WSTOPSIG(status));
    }
    return error;
}

/* Would its filters let it make the calls that we want of it? */
static int check_filters(const struct mpat_plan *plan, pid_t tid, struct report *report)
{
    int error = mpat_filters_allow(tid, plan->code, SYS_userfaultfd, UFFD_FLAGS);

    report->call = "seccomp";
    return error ? error : mpat_filters_allow(tid, plan->code, SYS_close, MPAT_ANY_ARGUMENT);
}

/* May the stopped thread be sent elsewhere? -EAGAIN: not this one, or not now. */
static int check(const struct mpat_plan *plan, const struct mpat_candidate *candidate,
                 const struct stopped *s, struct report *report)
{
    char path[64];

    report->call = "32-bit code";
    if ((s->registers.cs & 0xffff) != USER_CODE_64)
        return -ENOEXEC;
    /* Its number may be another process's by now; and the code another program's. */
    snprintf(path, sizeof path, "/proc/%d/task/%d", plan->pid, s->tid);
    errno = 0;
    if (access(path, F_OK) || in_critical_section(s->tid) || dispatches(s->tid) ||
        (ptrace(PTRACE_PEEKTEXT, s->tid, (void *)plan->code, NULL) & 0xffff) !=
            SYSCALL_INSTRUCTION)
        return -EAGAIN;
    return candidate->is_filtered ? check_filters(plan, s->tid, report) : 0;
}

/* Stop the thread and block its signals. On failure it goes on as it was. */
static int stop(const struct mpat_plan *plan, struct mpat_candidate *candidate, struct stopped *s,
                struct report *report)
{
    uint64_t all = ~UINT64_C(0);
    int error = interrupt(candidate, report);

    if (error)
        return error;
    candidate->is_seized = 0;
    *s = (struct stopped){.tid = candidate->tid};
    error = (int)trace(PTRACE_GETREGS, s->tid, 0, &s->registers);
    if (!error)
        error = (int)trace(PTRACE_GETSIGMASK, s->tid, KERNEL_SIGSET_BYTES, &s->mask);
    if (error) /* killed meanwhile */
        return error;
    /* Read anew: programs come to be filtered while they start, and so while they are attached to. */
    candidate->is_filtered = mpat_seccomp_mode(plan->pid, s->tid) != SECCOMP_MODE_DISABLED;
    s->must_not_resume = candidate->is_filtered &&
                         mpat_filters_allow(s->tid, s->registers.rip - MPAT_SYSCALL_BYTES,
                                            SYS_restart_syscall, MPAT_ANY_ARGUMENT) != 0;
    error = check(plan, candidate, s, report);
    if (!error)
        error = (int)trace(PTRACE_SETSIGMASK, s->tid, KERNEL_SIGSET_BYTES, &all);
    if (error)
        release(s);
    return error;
}

/* The stopped thread makes the descriptor, we take it, it closes its own. */
static int make_userfaultfd(const struct stopped *s, const struct mpat_plan *plan, struct report *report)
{
    int64_t theirs = call(s, plan->code, SYS_userfaultfd, UFFD_FLAGS), closed;
    int ours;

    report->call = "userfaultfd";
    if (theirs < 0)
        return (int)theirs;
    ours = (int)syscall(SYS_pidfd_getfd, plan->pidfd, (int)theirs, 0);
    if (ours < 0) {
        ours = -errno;
        report->call = "pidfd_getfd";
    }
    closed = call(s, plan->code, SYS_close, (long)theirs);
    if (closed < 0 && ours >= 0) {
        report->call = "close";
        close(ours);
        ours = (int)closed;
    }
    return ours;
}

static int inject(const struct mpat_plan *plan, struct mpat_candidate *candidate, struct report *report)
{
    struct stopped stopped;
    int64_t begin_ns = mpat_now_ns();
    int error = stop(plan, candidate, &stopped, report), fd;

    if (error)
        return error;
    report->has_begun = 1;
    fd = make_userfaultfd(&stopped, plan, report);
    /* Stop once more, before any instruction, where the kernel still decides about restarting. */
    trace(PTRACE_INTERRUPT, stopped.tid, 0, NULL);
    run_until(stopped.tid, PTRACE_CONT, is_interrupt_stop);
    release(&stopped);
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

    signal(SIGCHLD, SIG_DFL); /* ignored, it would not be sent; see next_stop */
    setsid(); /* a SIGKILL for the tracer's process group is not for us */
    for (size_t i = 0; i < ROUNDS * plan->n && !report.has_begun; i++) {
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
