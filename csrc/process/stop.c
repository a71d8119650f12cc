/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread is stopped by PTRACE_INTERRUPT, which sends no signal. It executes a `syscall`
 * instruction that it has anyway (in the vdso), so nothing is written to its memory. Its registers
 * are put back while it stands in a second interrupt-stop: only on the way out of such a stop does
 * the kernel restart an interrupted system call (arch_do_signal_or_restart), and only the original
 * registers say that there was one.
 *
 * Linux man pages: ptrace(2); kernel/signal.c, kernel/ptrace.c, arch/x86/kernel/signal.c.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#if defined(__x86_64__) && defined(__linux__)

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../clock.h"
#include "filter.h"
#include "stop.h"

#define STOP_TIMEOUT_NS 200000000 /* for a thread that sleeps uninterruptibly */
#define RUN_TIMEOUT_NS 2000000000 /* for one that has begun: it cannot be left */
#define WAIT_NS 1000000
#define USER_CODE_64 0x33         /* its selector; 0x23 is 32-bit code */
#define SYSCALL_INSTRUCTION 0x050f
#define KERNEL_SIGSET_BYTES 8
#define ERESTARTNOHAND 514L /* include/linux/errno.h */
#define ERESTART_RESTARTBLOCK 516L
#define GET_RSEQ_CONFIGURATION 0x420f
#define GET_SYSCALL_DISPATCH 0x4211

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

int64_t mpat_stopped_call(const struct mpat_stopped *s, uint64_t code, long number, long argument)
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
static void let_go(const struct mpat_stopped *s)
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
static int interrupt(struct mpat_candidate *candidate, const char **what)
{
    pid_t tid = candidate->tid;
    int error = 0;

    if (!candidate->is_seized) {
        *what = "PTRACE_SEIZE";
        error = (int)trace(PTRACE_SEIZE, tid, 0, (void *)PTRACE_O_TRACESYSGOOD);
        if (error)
            return error;
        candidate->is_seized = 1;
        *what = "PTRACE_INTERRUPT";
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
static int check_filters(const struct mpat_plan *plan, pid_t tid, const char **what)
{
    int error = mpat_filters_allow(tid, plan->code, SYS_userfaultfd, MPAT_UFFD_FLAGS);

    *what = "seccomp";
    return error ? error : mpat_filters_allow(tid, plan->code, SYS_close, MPAT_ANY_ARGUMENT);
}

/* May the stopped thread be sent elsewhere? -EAGAIN: not this one, or not now. */
static int check(const struct mpat_plan *plan, const struct mpat_candidate *candidate,
                 const struct mpat_stopped *s, const char **what)
{
    char path[64];

    *what = "32-bit code";
    if ((s->registers.cs & 0xffff) != USER_CODE_64)
        return -ENOEXEC;
    /* Its number may be another process's by now; and the code another program's. */
    snprintf(path, sizeof path, "/proc/%d/task/%d", plan->pid, s->tid);
    errno = 0;
    if (access(path, F_OK) || in_critical_section(s->tid) || dispatches(s->tid) ||
        (ptrace(PTRACE_PEEKTEXT, s->tid, (void *)plan->code, NULL) & 0xffff) !=
            SYSCALL_INSTRUCTION)
        return -EAGAIN;
    return candidate->is_filtered ? check_filters(plan, s->tid, what) : 0;
}

int mpat_stop(const struct mpat_plan *plan, struct mpat_candidate *candidate,
              struct mpat_stopped *s, const char **what)
{
    uint64_t all = ~UINT64_C(0);
    int error = interrupt(candidate, what);

    if (error)
        return error;
    candidate->is_seized = 0;
    *s = (struct mpat_stopped){.tid = candidate->tid};
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
    error = check(plan, candidate, s, what);
    if (!error)
        error = (int)trace(PTRACE_SETSIGMASK, s->tid, KERNEL_SIGSET_BYTES, &all);
    if (error)
        let_go(s);
    return error;
}

void mpat_release(const struct mpat_stopped *s)
{
    /* Stop once more, before any instruction, where the kernel still decides about restarting. */
    trace(PTRACE_INTERRUPT, s->tid, 0, NULL);
    run_until(s->tid, PTRACE_CONT, is_interrupt_stop);
    let_go(s);
}

#endif
