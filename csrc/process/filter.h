/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: whether a thread's system call filters let a call through. */
#ifndef MPAT_PROCESS_FILTER_H
#define MPAT_PROCESS_FILTER_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/types.h>

/* What ptrace(2) is asked: glibc has an enum for it, musl has not. */
#ifdef __GLIBC__
typedef enum __ptrace_request mpat_ptrace_request;
#else
typedef int mpat_ptrace_request;
#endif

/* The first argument is not known yet. */
#define MPAT_ANY_ARGUMENT (-1L)

/* Of the instruction; the address that filters see is after it. */
#define MPAT_SYSCALL_BYTES 2

/*
 * Does the stopped thread that we trace pass through all its filters with this call, made by the
 * instruction at `code`? 0 or -EACCES, also if we may not read them (CAP_SYS_ADMIN), or do not
 * understand them. Safe after a bare clone, in one thread at a time.
 */
int mpat_filters_allow(pid_t tid, unsigned long code, long number, long argument);

/*
 * What one filter returns (SECCOMP_RET_*); SECCOMP_RET_KILL_PROCESS for what is not understood.
 * Of `call` only the first `n_known` bytes are known.
 */
unsigned mpat_filter_returns(const struct sock_filter *program, size_t n,
                             const struct seccomp_data *call, size_t n_known);

#endif
