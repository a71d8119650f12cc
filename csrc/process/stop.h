/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal: a thread of the target that stands still, by ptrace(2), to make system calls for us.
 * All of this is safe after a bare clone; whoever exits lets go of the threads it had stopped, but not
 * as they were. SIGCHLD must be blocked, and not ignored.
 */
#ifndef MPAT_PROCESS_STOP_H
#define MPAT_PROCESS_STOP_H

#include <fcntl.h>
#include <sys/user.h>

#include "abi.h"
#include "plan.h"

/* What a stopped thread is to call userfaultfd(2) with. */
#define MPAT_UFFD_FLAGS (O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)

struct mpat_stopped {
    pid_t tid;
    struct user_regs_struct registers;
    uint64_t mask; /* signals */
    int must_not_resume; /* restart_syscall(2) could be its end */
};

/*
 * Stop the thread and block its signals. On failure it goes on as it was, and *what is the call
 * that failed. -EAGAIN: not this thread, or not now. -ETIMEDOUT: not yet, it stays seized. -ESRCH:
 * it is gone. -ENOEXEC, -EACCES: it is 32-bit code, or its filters do not let userfaultfd and close
 * through.
 */
int mpat_stop(const struct mpat_plan *plan, struct mpat_candidate *candidate,
              struct mpat_stopped *stopped, const char **what);

/*
 * Have it execute one system call, by the instruction at `code`; it stands in its exit-stop
 * afterwards. The result or -errno.
 */
int64_t mpat_stopped_call(const struct mpat_stopped *stopped, uint64_t code, long number,
                          long argument);

/* It goes on from where it was stopped first. */
void mpat_release(const struct mpat_stopped *stopped);

#endif
