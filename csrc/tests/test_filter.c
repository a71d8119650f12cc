/* SPDX-License-Identifier: Apache-2.0 */
/* What a seccomp filter will do to a call, as we reckon it, is what the kernel then does. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#if defined(__x86_64__)
#include "../process/filter.c"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define N_PROGRAMS 400
#define N_MOST 12
#define NOBODYS_CALL 900 /* the kernel says ENOSYS, if the filter lets it come so far */

static uint32_t pick(const uint32_t *from, size_t n)
{
    return from[(size_t)rand() % n];
}

/* Jumps stay inside, as the kernel demands; the last one returns. */
static size_t make_program(struct sock_filter *program)
{
    static const uint32_t jumps[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
    static const uint32_t offsets[] = {0, 4, 16, 20};
    static const uint32_t values[] = {0, 1, NOBODYS_CALL, AUDIT_ARCH_X86_64, 0xff, 7, 1u << 31};
    size_t n = 2 + (size_t)rand() % (N_MOST - 2);

    for (size_t at = 0; at < n; at++) {
        struct sock_filter *it = &program[at];
        unsigned ahead = (unsigned)(n - 1 - at);
        int kind = at == n - 1 ? 0 : at == 0 ? 1 : rand() % 8;

        *it = (struct sock_filter){.k = pick(values, 7)};
        if (kind == 0) {
            it->code = BPF_RET | BPF_K;
            it->k = rand() % 4 ? SECCOMP_RET_ERRNO | (100 + (unsigned)at) : SECCOMP_RET_ALLOW;
        } else if (kind <= 2) {
            it->code = BPF_LD | BPF_W | BPF_ABS;
            it->k = pick(offsets, 4);
        } else if (kind == 3) {
            it->code = BPF_ALU | BPF_AND | BPF_K;
        } else if (kind == 4) {
            it->code = BPF_JMP | BPF_JA;
            it->k = (unsigned)rand() % ahead;
        } else {
            it->code = (unsigned short)(BPF_JMP | BPF_K | pick(jumps, 4));
            it->jt = (unsigned char)((unsigned)rand() % ahead);
            it->jf = (unsigned char)((unsigned)rand() % ahead);
        }
    }
    return n;
}

/* The error number that a child got which made the call under the filter; 0 if it was refused. */
static int what_happens(const struct sock_filter *program, size_t n, long argument)
{
    volatile int *said = mmap(NULL, sizeof *said, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct sock_fprog filter = {.len = (unsigned short)n, .filter = (struct sock_filter *)program};
    pid_t child = fork();
    int result;

    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
            *said = -1;
        else
            *said = syscall(NOBODYS_CALL, argument) < 0 ? errno : -2;
        for (;;) /* it may be unable to leave */
            ;
    }
    while (*said == 0)
        ;
    result = *said;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    munmap((void *)said, sizeof *said);
    return result;
}

static void test_the_kernel_agrees(void)
{
    struct sock_filter program[N_MOST];
    int n_allowed = 0, n_refused = 0;

    srand(1);
    for (int i = 0; i < N_PROGRAMS; i++) {
        static const uint32_t arguments[] = {0, 1, 7, 0x101};
        size_t n = make_program(program);
        uint32_t argument = pick(arguments, 4);
        struct seccomp_data call = {
            .nr = NOBODYS_CALL, .arch = AUDIT_ARCH_X86_64, .args = {argument}};
        unsigned action = mpat_filter_returns(program, n, &call, sizeof call);
        int is_allowed = action == SECCOMP_RET_ALLOW;
        int expected = is_allowed ? ENOSYS : (int)(action & SECCOMP_RET_DATA);

        n_allowed += is_allowed;
        n_refused += !is_allowed;
        CHECK(is_allowed || (action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO);
        CHECK(what_happens(program, n, argument) == expected);
    }
    CHECK(n_allowed > 30 && n_refused > 30);
}

static void test_what_is_not_known_is_forbidden(void)
{
    const struct seccomp_data call = {.nr = 1};
    const size_t n_known = offsetof(struct seccomp_data, args);
    struct sock_filter program[] = {
        {.code = BPF_LD | BPF_W | BPF_ABS, .k = (unsigned)n_known}, /* an argument */
        {.code = BPF_RET | BPF_K, .k = SECCOMP_RET_ALLOW},
    };

    CHECK(mpat_filter_returns(program, 2, &call, n_known) == SECCOMP_RET_KILL_PROCESS);
    CHECK(mpat_filter_returns(program, 2, &call, sizeof call) == SECCOMP_RET_ALLOW);
    program[0] = (struct sock_filter){.code = BPF_MISC | BPF_TAX};
    CHECK(mpat_filter_returns(program, 2, &call, sizeof call) == SECCOMP_RET_KILL_PROCESS);
    program[0] = (struct sock_filter){.code = BPF_JMP | BPF_JA, .k = 1u << 31};
    CHECK(mpat_filter_returns(program, 2, &call, sizeof call) == SECCOMP_RET_KILL_PROCESS);
    CHECK(mpat_filter_returns(program, 0, &call, sizeof call) == SECCOMP_RET_KILL_PROCESS);
}

int main(void)
{
    test_the_kernel_agrees();
    test_what_is_not_known_is_forbidden();
    return failures != 0;
}
#else
int main(void)
{
    return 77;
}
#endif
