/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seccomp filters are read from the kernel and executed here, before the thread makes the call that
 * they would judge. They are classic BPF without memory that lasts: what they return depends on the
 * call alone (Linux Documentation/userspace-api/seccomp_filter.rst, ptrace(2)
 * PTRACE_SECCOMP_GET_FILTER). Of their instructions those are known that libseccomp makes; a filter
 * with others forbids, as far as we know.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#if defined(__x86_64__) && defined(__linux__)

#include "filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define GET_FILTER 0x420c     /* PTRACE_SECCOMP_GET_FILTER */

unsigned mpat_filter_returns(const struct sock_filter *program, size_t n,
                             const struct seccomp_data *call, size_t n_known)
{
    uint32_t a = 0;

    for (size_t at = 0; at < n; at++) { /* jumps go forwards only */
        const struct sock_filter *it = &program[at];

        switch (it->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            if (it->k > n_known - sizeof a)
                return SECCOMP_RET_KILL_PROCESS;
            memcpy(&a, (const char *)call + it->k, sizeof a);
            break;
        case BPF_ALU | BPF_AND | BPF_K: a &= it->k; break;
        case BPF_JMP | BPF_JA: at += it->k; break;
        case BPF_JMP | BPF_JEQ | BPF_K: at += a == it->k ? it->jt : it->jf; break;
        case BPF_JMP | BPF_JGT | BPF_K: at += a > it->k ? it->jt : it->jf; break;
        case BPF_JMP | BPF_JGE | BPF_K: at += a >= it->k ? it->jt : it->jf; break;
        case BPF_JMP | BPF_JSET | BPF_K: at += a & it->k ? it->jt : it->jf; break;
        case BPF_RET | BPF_K: return it->k;
        default: return SECCOMP_RET_KILL_PROCESS;
        }
    }
    return SECCOMP_RET_KILL_PROCESS;
}

int mpat_filters_allow(pid_t tid, unsigned long code, long number, long argument)
{
    static struct sock_filter program[BPF_MAXINSNS];
    struct seccomp_data call = {
        .nr = (int)number,
        .arch = AUDIT_ARCH_X86_64,
        .instruction_pointer = code + MPAT_SYSCALL_BYTES,
        .args = {argument == MPAT_ANY_ARGUMENT ? 0 : (uint64_t)argument},
    };
    size_t n_known = offsetof(struct seccomp_data, args);

    if (argument != MPAT_ANY_ARGUMENT)
        n_known += sizeof call.args[0];
    for (unsigned long i = 0;; i++) {
        long n = ptrace((mpat_ptrace_request)GET_FILTER, tid, (void *)i, NULL);

        if (n < 0 && errno == ENOENT && i > 0)
            return 0;
        if (n < 0 || n > BPF_MAXINSNS ||
            ptrace((mpat_ptrace_request)GET_FILTER, tid, (void *)i, program) != n)
            return -EACCES;
        unsigned action = mpat_filter_returns(program, (size_t)n, &call, n_known);
        if (action != SECCOMP_RET_ALLOW && action != SECCOMP_RET_LOG)
            return -EACCES;
    }
}

#else
typedef int mpat_filter_is_for_x86; /* ISO C wants something in a file */
#endif
