/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child to attach to, and how these tests begin: those of test_process_*.c that have the kernel as it
 * is include this. Exit status of each: 0: all passed, 1: not, 77: this kernel cannot do it.
 */
#ifndef MPAT_PROCESS_CHILD_H
#define MPAT_PROCESS_CHILD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "mempattern.h"

#define PAGE 4096
#define ATTACHES 30

struct child {
    pid_t pid;
    int ready[2], go[2]; /* pipes: it says that it is set up; we say that it may end */
};

static void wait_go(const struct child *child)
{
    char byte;

    while (read(child->go[0], &byte, 1) < 0 && errno == EINTR)
        ;
}

/* The child runs `body`, whose result is its exit status. */
static struct child begin(int (*body)(const struct child *, const void *), const void *argument)
{
    struct child child;
    int status;

    if (pipe2(child.ready, O_CLOEXEC) || pipe2(child.go, O_CLOEXEC))
        abort();
    child.pid = fork();
    if (child.pid == 0) {
        close(child.ready[0]);
        close(child.go[1]);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        status = body(&child, argument);
        wait_go(&child); /* it is looked at until then */
        _exit(status);
    }
    close(child.ready[1]);
    close(child.go[0]);
    return child;
}

static void wait_ready(const struct child *child)
{
    char byte;

    CHECK(read(child->ready[0], &byte, 1) == 1);
    usleep(20000); /* into its system call */
}

static int end(struct child *child)
{
    int status = 0;

    close(child->go[1]);
    waitpid(child->pid, &status, 0);
    close(child->ready[0]);
    return status;
}

static void say_ready(const struct child *child)
{
    if (write(child->ready[1], "r", 1) != 1)
        _exit(100);
}

/* A body that is blocked until it may end. */
static inline int in_read(const struct child *child, const void *argument)
{
    char byte;

    (void)argument;
    say_ready(child);
    return read(child->go[0], &byte, 1) != 0; /* end of file, and no EINTR */
}

/* What must not change: mappings, descriptors, signal state. */
static inline char *snapshot(pid_t pid)
{
    static const char *const kept[] = {"SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "FDSize"};
    char path[64], line[512], *out = NULL;
    size_t size;
    FILE *to = open_memstream(&out, &size), *from;
    struct dirent *entry;
    DIR *fds;

    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    from = fopen(path, "re");
    while (from && fgets(line, sizeof line, from))
        fputs(line, to);
    if (from)
        fclose(from);
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    from = fopen(path, "re");
    while (from && fgets(line, sizeof line, from))
        for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
            if (strncmp(line, kept[i], strlen(kept[i])) == 0)
                fputs(line, to);
    if (from)
        fclose(from);
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    fds = opendir(path);
    while (fds && (entry = readdir(fds)) != NULL)
        fprintf(to, "fd %s\n", entry->d_name);
    if (fds)
        closedir(fds);
    fclose(to);
    return out;
}

static inline void attach_and_detach(pid_t pid)
{
    mpat_process_fault fault = {0};
    mpat_process *process;
    int error = mpat_process_open(pid, 0, &process, &fault);

    if (error)
        fprintf(stderr, "open: %s: %s\n", fault.call ? fault.call : "", strerror(-error));
    CHECK(error == 0);
    if (error == 0)
        mpat_process_close(process);
}

static inline int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Ends the program where no process can be followed. */
static void probe(void)
{
    mpat_process_fault fault = {0};
    int error = mpat_process_probe(&fault);

    if (error == -ENOTSUP || error == -ENOSYS || error == -EPERM) {
        printf("skipped: %s: %s\n", fault.call, strerror(-error));
        exit(77);
    }
    CHECK(error == 0);
}

#endif
