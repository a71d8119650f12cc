/* SPDX-License-Identifier: Apache-2.0 */
/* A process that is attached to: its descriptors, whether it lives, and whether all this works here. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../clock.h"
#include "inject.h"
#include "process.h"

int mpat_process_fail(mpat_process_fault *fault, int error, const char *call, uint64_t address)
{
    if (fault)
        *fault = (mpat_process_fault){.call = call, .address = address};
    return error;
}

int mpat_process_is_alive(const mpat_process *p)
{
    struct pollfd ended = {.fd = p->pidfd, .events = POLLIN};
    char byte;

    /*
     * A signal makes even this poll fail, by EINTR, and says nothing of the target. 0 bytes, and no
     * error: the memory is gone, by exit or by exec (mem_rw, fs/proc/base.c).
     */
    return poll(&ended, 1, 0) != 1 && pread(p->memory, &byte, 1, (off_t)p->address) != 0;
}

/* ---- open and close ------------------------------------------------------------------------ */

static int open_proc(int pid, const char *name, int flags)
{
    char path[64];
    int fd;

    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    fd = open(path, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* A kernel thread has no memory and lists no mapping. */
static int find_some_address(int pid, uint64_t *address)
{
    char line[64] = "";
    unsigned long start;
    int fd = open_proc(pid, "maps", O_RDONLY);
    ssize_t n;

    if (fd < 0)
        return fd;
    n = read(fd, line, sizeof line - 1);
    close(fd);
    if (n < 0)
        return -errno;
    if (sscanf(line, "%lx-", &start) != 1)
        return -ENXIO;
    *address = start;
    return 0;
}

static mpat_process *make(void)
{
    mpat_process *p = calloc(1, sizeof *p);

    if (p) {
        p->uffd = p->pagemap = p->memory = p->pidfd = -1;
        atomic_flag_clear(&p->busy);
    }
    return p;
}

/* All that is needed of the target and does not touch it. */
static int open_files(mpat_process *p, int pid, mpat_process_fault *fault)
{
    struct pm_scan_arg nothing = {.size = sizeof nothing,
                                  .category_mask = PAGE_IS_WRITTEN,
                                  .return_mask = PAGE_IS_WRITTEN};
    int error;

    p->pid = pid;
    p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (p->pidfd < 0)
        return mpat_process_fail(fault, errno == EINVAL ? -ESRCH : -errno, "pidfd_open", 0);
    p->pagemap = open_proc(pid, "pagemap", O_RDONLY);
    if (p->pagemap < 0)
        return mpat_process_fail(fault, p->pagemap, "/proc/PID/pagemap", 0);
    p->memory = open_proc(pid, "mem", O_RDONLY);
    if (p->memory < 0)
        return mpat_process_fail(fault, p->memory, "/proc/PID/mem", 0);
    error = find_some_address(pid, &p->address);
    if (error)
        return mpat_process_fail(fault, error, "/proc/PID/maps", 0);
    if (ioctl(p->pagemap, PAGEMAP_SCAN, &nothing) < 0 && errno == ENOTTY)
        return mpat_process_fail(fault, -ENOTSUP, "PAGEMAP_SCAN", 0);
    return 0;
}

/* Agree with the kernel on what the descriptor is for. */
static int begin(const mpat_process *p, mpat_process_fault *fault)
{
    int error = mpat_uffd_begin(p);

    return error ? mpat_process_fail(fault, error, "UFFDIO_API", 0) : 0;
}

int mpat_process_open(int pid, uint32_t flags, mpat_process **out, mpat_process_fault *fault)
{
    mpat_process *p;
    int error;

    if (pid <= 0 || !out || (flags & ~(uint32_t)MPAT_PROCESS_KEEP_HUGE))
        return mpat_process_fail(fault, -EINVAL, "arguments", 0);
    p = make();
    if (!p)
        return mpat_process_fail(fault, -ENOMEM, "malloc", 0);
    p->keeps_huge = (flags & MPAT_PROCESS_KEEP_HUGE) != 0;
    error = open_files(p, pid, fault);
    if (!error)
        error = mpat_inject_userfaultfd(pid, p->pidfd, &p->uffd, &p->stopped_ns, fault);
    if (!error)
        error = begin(p, fault);
    if (error) {
        mpat_process_close(p);
        return error;
    }
    p->last_end_ns = mpat_now_ns();
    *out = p;
    return 0;
}

/*
 * Closing the descriptor ends the protection by itself, unless a child that was forked in the moment
 * when the target had it, too, has it still. Private mappings of files are the descriptor's alone:
 * the kernel registers them for asynchronous protection and refuses to unregister them.
 */
static void unregister_all(const mpat_process *p)
{
    unsigned long start, end;
    char path[64], *line = NULL;
    size_t size = 0;
    FILE *maps;

    snprintf(path, sizeof path, "/proc/%d/maps", p->pid);
    maps = fopen(path, "re");
    while (maps && getline(&line, &size, maps) > 0)
        if (sscanf(line, "%lx-%lx", &start, &end) == 2)
            (void)mpat_uffd_unregister(p, start, end);
    free(line);
    if (maps)
        fclose(maps);
}

void mpat_process_close(mpat_process *p)
{
    if (!p)
        return;
    if (p->uffd >= 0)
        unregister_all(p);
    for (int *fds[] = {&p->uffd, &p->pagemap, &p->memory, &p->pidfd}, i = 0; i < 4; i++)
        if (*fds[i] >= 0)
            close(*fds[i]);
    free(p);
}

int64_t mpat_process_stopped_ns(const mpat_process *p)
{
    return p->stopped_ns;
}

/* ---- does it work here? -------------------------------------------------------------------- */

/* Follow our own page through protecting, writing and scanning. */
static int follow_own_page(mpat_process *p, char *page, mpat_process_fault *fault)
{
    mpat_mapping mapping = {.start = (uintptr_t)page, .end = (uintptr_t)page + 2 * MPAT_PAGE_BYTES,
                            .page_shift = MPAT_PAGE_SHIFT};
    uint64_t bitmap, n_pages = 2, huge_bytes, *bitmaps[] = {&bitmap};
    mpat_process_collection collection;
    int error;

    page[0] = page[MPAT_PAGE_BYTES] = 1;
    error = mpat_process_protect(p, &mapping, 1, &huge_bytes, fault);
    ((volatile char *)page)[MPAT_PAGE_BYTES] = 2;
    if (!error)
        error = mpat_process_collect(p, &mapping, 1, &n_pages, bitmaps, 1, &collection, fault);
    if (!error && bitmap != 2)
        error = mpat_process_fail(fault, -EPROTO, "PAGEMAP_SCAN", 0);
    return error;
}

int mpat_process_probe(mpat_process_fault *fault)
{
    size_t bytes = (size_t)(2 * MPAT_PAGE_BYTES);
    mpat_process *p;
    char *page;
    int error;

#ifndef __x86_64__ /* our own page may work there, another process does not: inject.c */
    return mpat_process_fail(fault, -ENOTSUP, "x86-64", 0);
#endif
    if (sysconf(_SC_PAGESIZE) != (long)MPAT_PAGE_BYTES)
        return mpat_process_fail(fault, -ENOTSUP, "pages of 4 KiB", 0);
    page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return mpat_process_fail(fault, -errno, "mmap", 0);
    p = make();
    error = p ? open_files(p, getpid(), fault) : mpat_process_fail(fault, -ENOMEM, "malloc", 0);
    if (!error) {
        p->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
        error = p->uffd < 0 ? mpat_process_fail(fault, -errno, "userfaultfd", 0) : begin(p, fault);
    }
    if (!error)
        error = follow_own_page(p, page, fault);
    mpat_process_close(p);
    munmap(page, bytes);
    return error;
}
