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
    int is_filtered; /* its system calls are, by seccomp; found anew once it stands still */
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

/*
 * SECCOMP_MODE_*: the calls we inject may be answered by SIGKILL or SIGSYS. Where it cannot be read, there
 * may be filters, which are then looked for before anything is called. Takes no memory, for a child of
 * clone(2).
 */
int mpat_seccomp_mode(int pid, int tid);

/* Does the call with this number give EINTR when its thread is stopped without any signal? */
int mpat_gives_eintr(long number);

#endif
