/* SPDX-License-Identifier: Apache-2.0 */
/* What is decided before anything is stopped, from /proc. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#if defined(__x86_64__) && defined(__linux__)

#include "plan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILTERED_COST 16 /* any thread without a filter comes first */

static ssize_t read_file(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = read(fd, out, size - 1);
    if (n < 0)
        n = -errno;
    else
        out[n] = '\0';
    close(fd);
    return n;
}

/*
 * System calls that may give EINTR when their thread is stopped, although no signal was delivered:
 * signal(7), "Interruption of system calls and library functions by stop signals". Those of sockets
 * do so with SO_RCVTIMEO or SO_SNDTIMEO. Never close(2), which must not be made twice.
 */
static const short eintr_calls[] = {
    SYS_accept,   SYS_accept4,  SYS_connect,         SYS_epoll_pwait, SYS_epoll_wait,
    SYS_futex,    SYS_msgrcv,   SYS_msgsnd,          SYS_io_getevents, SYS_read,
    SYS_readv,    SYS_recvfrom, SYS_recvmmsg,        SYS_recvmsg,     SYS_rt_sigtimedwait,
    SYS_semop,    SYS_semtimedop, SYS_sendmmsg,      SYS_sendmsg,     SYS_sendto,
    SYS_write,    SYS_writev,   426 /* io_uring_enter */, 441 /* epoll_pwait2 */,
};

int mpat_gives_eintr(long number)
{
    for (size_t i = 0; i < sizeof eintr_calls / sizeof eintr_calls[0]; i++)
        if (eintr_calls[i] == number)
            return 1;
    return 0;
}

/*
 * How willingly we stop a thread in this state: one that waits in a system call the kernel restarts
 * by itself is best, a vCPU inside of KVM_RUN bad, one that sleeps uninterruptibly hopeless.
 */
static int cost_of(int pid, int tid)
{
    char path[64], text[512], *after;
    long number;

    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
    if (read_file(path, text, sizeof text) <= 0 || !(after = strrchr(text, ')')) || !after[1])
        return -1;
    switch (after[2]) {
    case 'Z':
    case 'X': return -1;
    case 'D': return 9;
    case 'T':
    case 't': return 8;
    default: break;
    }
    snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", pid, tid);
    if (read_file(path, text, sizeof text) <= 0)
        return 5;
    if (text[0] < '0' || text[0] > '9') /* "running" */
        return 2;
    number = strtol(text, NULL, 10);
    if (number == SYS_ioctl)
        return 7;
    return mpat_gives_eintr(number) ? 4 : 1;
}

int mpat_seccomp_mode(int pid, int tid)
{
    static const char wanted[] = "\nSeccomp:\t"; /* behind that of the groups, which may be long */
    char path[64], text[1024];
    size_t n_found = 0;
    int mode = -1, fd;
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%d/task/%d/status", pid, tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return SECCOMP_MODE_FILTER;
    while (mode < 0 && (n = read(fd, text, sizeof text)) > 0) {
        for (ssize_t i = 0; i < n && mode < 0; i++) {
            if (n_found == sizeof wanted - 1)
                mode = text[i] - '0';
            else
                n_found = text[i] == wanted[n_found] ? n_found + 1 : text[i] == '\n';
        }
    }
    close(fd);
    if (mode >= 0)
        return mode;
    return n == 0 ? SECCOMP_MODE_DISABLED : SECCOMP_MODE_FILTER; /* 0: a kernel without seccomp */
}

static int by_cost(const void *a, const void *b)
{
    return ((const struct mpat_candidate *)a)->cost - ((const struct mpat_candidate *)b)->cost;
}

static int find_candidates(int pid, struct mpat_plan *plan)
{
    char path[64];
    struct dirent *entry;
    int n_strict = 0;
    DIR *tasks;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    tasks = opendir(path);
    if (!tasks)
        return errno == ENOENT ? -ESRCH : -errno;
    while (plan->n < MPAT_MAX_CANDIDATES && (entry = readdir(tasks)) != NULL) {
        int tid = atoi(entry->d_name), cost, mode;

        if (tid <= 0 || (cost = cost_of(pid, tid)) < 0)
            continue;
        mode = mpat_seccomp_mode(pid, tid);
        if (mode == SECCOMP_MODE_STRICT) {
            n_strict++;
            continue;
        }
        plan->candidates[plan->n++] = (struct mpat_candidate){
            .tid = tid,
            .cost = mode ? cost + FILTERED_COST : cost,
            .is_filtered = mode != SECCOMP_MODE_DISABLED,
        };
    }
    closedir(tasks);
    qsort(plan->candidates, plan->n, sizeof plan->candidates[0], by_cost);
    if (plan->n == 0)
        return n_strict ? -EACCES : -ESRCH;
    return 0;
}

/* The address of a syscall instruction in [start, end) of the target, or 0. */
static uint64_t find_in(int mem, uint64_t start, uint64_t end)
{
    static const unsigned char wanted[2] = {0x0f, 0x05};
    uint64_t found = 0;
    size_t size = end - start;
    unsigned char *code;

    if (size > (1u << 20))
        size = 1u << 20;
    code = malloc(size);
    if (!code)
        return 0;
    ssize_t n = pread(mem, code, size, (off_t)start);
    if (n > 0) {
        unsigned char *at = memmem(code, (size_t)n, wanted, sizeof wanted);
        if (at)
            found = start + (uint64_t)(at - code);
    }
    free(code);
    return found;
}

/* In the vdso, which every program has; else in any code, since booting with vdso=0 is possible. */
static int find_code(int pid, struct mpat_plan *plan)
{
    char path[64], line[512];
    uint64_t elsewhere = 0;
    FILE *maps;
    int mem;

    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    mem = open(path, O_RDONLY | O_CLOEXEC);
    if (mem < 0)
        return -errno;
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    maps = fopen(path, "re");
    if (!maps) {
        int error = -errno;

        close(mem);
        return error;
    }
    while (!plan->code && fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        char permissions[8];

        if (sscanf(line, "%lx-%lx %7s", &start, &end, permissions) != 3 || permissions[2] != 'x')
            continue;
        if (strstr(line, "[vdso]"))
            plan->code = find_in(mem, start, end);
        else if (!elsewhere && !strstr(line, "[vsyscall]"))
            elsewhere = find_in(mem, start, end);
    }
    fclose(maps);
    close(mem);
    if (!plan->code)
        plan->code = elsewhere;
    return plan->code ? 0 : -ENOEXEC;
}

int mpat_plan_make(struct mpat_plan *plan, pid_t pid, const char **where)
{
    int error = find_candidates(pid, plan);

    plan->pid = pid;
    *where = error == -EACCES ? "seccomp" : "/proc/PID/task";
    if (error)
        return error;
    *where = "/proc/PID/mem";
    return find_code(pid, plan);
}

#else
typedef int mpat_plan_is_for_x86; /* ISO C wants something in a file */
#endif
