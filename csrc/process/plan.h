/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: which thread of the target is to make the descriptor, and with which instruction. */
#ifndef MPAT_PROCESS_PLAN_H
#define MPAT_PROCESS_PLAN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MPAT_MAX_CANDIDATES 32

struct mpat_candidate {
    pid_t tid;
    int cost;      /* lower is better */
    int is_filtered; /* its system calls are, by seccomp filters that may be read */
    int is_seized; /* but does not stand still yet */
};

struct mpat_plan {
    pid_t pid;
    int pidfd;
    uint64_t code; /* address of a syscall instruction in the target */
    size_t n;
    struct mpat_candidate candidates[MPAT_MAX_CANDIDATES];
};

/*
 * Look at the process, which is not touched. *where: the file that failed. -EACCES with "seccomp":
 * all threads are in seccomp's strict mode. -ESRCH: it has no thread any more. -ENOEXEC: no syscall instruction.
 */
int mpat_plan_make(struct mpat_plan *plan, pid_t pid, const char **where);

/* Does the call with this number give EINTR when its thread is stopped without any signal? */
int mpat_gives_eintr(long number);

#endif
