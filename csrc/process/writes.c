/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another process's writes: its memory is write-protected by a userfaultfd in asynchronous mode,
 * where the kernel itself resolves the fault of a write and remembers it in the page table entry.
 * PAGEMAP_SCAN finds those entries and protects them again. The target never waits for us, and the
 * end of our descriptor is the end of it all.
 *
 * Linux Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst; fs/proc/task_mmu.c.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"
#include "inject.h"

#define PAGE_SHIFT 12
#define PAGE ((uint64_t)1 << PAGE_SHIFT)
#define FOUND_LEN 1024
#define TAKEN_LEN 1024
#define N_HUGE 64

/*
 * Written pages this near each other are taken by one call: it costs about as much as looking at so
 * many clean pages in between, each of which KVM must map anew if it is a guest's.
 */
#define JOIN_BYTES (8 * PAGE)

struct mpat_process {
    int uffd, pagemap, memory, pidfd;
    int keeps_huge;
    uint64_t address; /* of some mapped byte */
    atomic_flag busy;
    int64_t stopped_ns;
    int64_t last_end_ns;
    uint64_t lost_pages;
    struct page_region found[FOUND_LEN], taken[TAKEN_LEN];
};

static int fail(mpat_process_fault *fault, int error, const char *call, uint64_t address)
{
    if (fault)
        *fault = (mpat_process_fault){.call = call, .address = address};
    return error;
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int is_alive(const mpat_process *p)
{
    struct pollfd ended = {.fd = p->pidfd, .events = POLLIN};
    char byte;

    /* 0 bytes, and no error: the memory is gone, by exit or by exec (mem_rw, fs/proc/base.c). */
    return poll(&ended, 1, 0) == 0 && pread(p->memory, &byte, 1, (off_t)p->address) != 0;
}

/* ---- the two kernel interfaces ---------------------------------------------------------------- */

/*
 * Ranges of the scan into vec; the number of them or -errno. Follow with *start until it is `end`:
 * walk_end may be stale when all fits, and short of the last range when not.
 */
static int scan(const mpat_process *p, struct pm_scan_arg *request, struct page_region *vec,
                uint64_t vec_len, uint64_t *start, uint64_t end)
{
    int n;

    request->size = sizeof *request;
    request->start = *start;
    request->end = end;
    request->walk_end = 0;
    request->vec = (uintptr_t)vec;
    request->vec_len = vec_len;
    do
        n = ioctl(p->pagemap, PAGEMAP_SCAN, request);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    if (vec_len == 0 || (uint64_t)n < vec_len) {
        *start = end;
    } else {
        uint64_t last = vec[n - 1].end;
        *start = request->walk_end > last ? request->walk_end : last;
    }
    return n;
}

/*
 * Page table entries without protection, empty ones as well: where nothing was ever touched there is
 * no table, and nothing is found. Without other categories the kernel looks at one bit only.
 */
static int find(const mpat_process *p, struct page_region *vec, uint64_t *start, uint64_t end)
{
    struct pm_scan_arg request = {.category_mask = PAGE_IS_WRITTEN,
                                  .return_mask = PAGE_IS_WRITTEN};

    return scan(p, &request, vec, FOUND_LEN, start, end);
}

/*
 * Protect all pages of the range and say what each was before, atomically for each. Entries that
 * were empty get a marker, so that they are not found again.
 */
static int take(const mpat_process *p, struct page_region *vec, uint64_t *start, uint64_t end)
{
    struct pm_scan_arg request = {.flags = PM_SCAN_WP_MATCHING,
                                  .return_mask = PAGE_IS_WRITTEN | PAGE_IS_PRESENT |
                                                 PAGE_IS_SWAPPED | PAGE_IS_FILE |
                                                 PAGE_IS_PFNZERO | PAGE_IS_HUGE};

    return scan(p, &request, vec, TAKEN_LEN, start, end);
}

/* What is huge in the range now. */
static int find_huge(const mpat_process *p, struct page_region *vec, uint64_t vec_len,
                     uint64_t *start, uint64_t end)
{
    struct pm_scan_arg request = {.category_mask = PAGE_IS_HUGE | PAGE_IS_PRESENT,
                                  .return_mask = PAGE_IS_HUGE};

    return scan(p, &request, vec, vec_len, start, end);
}

/* The same without a word about what they were. */
static int protect(const mpat_process *p, uint64_t start, uint64_t end)
{
    struct pm_scan_arg request = {.flags = PM_SCAN_WP_MATCHING,
                                  .category_mask = PAGE_IS_WRITTEN,
                                  .return_mask = 0};

    return scan(p, &request, NULL, 0, &start, end);
}

static int register_range(const mpat_process *p, uint64_t start, uint64_t end)
{
    struct uffdio_register request = {.range = {start, end - start},
                                      .mode = UFFDIO_REGISTER_MODE_WP};

    return ioctl(p->uffd, UFFDIO_REGISTER, &request) < 0 ? -errno : 0;
}

static int shake_hands(const mpat_process *p, mpat_process_fault *fault)
{
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED |
                                         UFFD_FEATURE_WP_HUGETLBFS_SHMEM};

    if (ioctl(p->uffd, UFFDIO_API, &api) < 0)
        return fail(fault, errno == EINVAL ? -ENOTSUP : -errno, "UFFDIO_API", 0);
    return 0;
}

/* ---- open and close --------------------------------------------------------------------------- */

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

    p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (p->pidfd < 0)
        return fail(fault, errno == EINVAL ? -ESRCH : -errno, "pidfd_open", 0);
    p->pagemap = open_proc(pid, "pagemap", O_RDONLY);
    if (p->pagemap < 0)
        return fail(fault, p->pagemap, "/proc/PID/pagemap", 0);
    p->memory = open_proc(pid, "mem", O_RDONLY);
    if (p->memory < 0)
        return fail(fault, p->memory, "/proc/PID/mem", 0);
    error = find_some_address(pid, &p->address);
    if (error)
        return fail(fault, error, "/proc/PID/maps", 0);
    if (ioctl(p->pagemap, PAGEMAP_SCAN, &nothing) < 0 && errno == ENOTTY)
        return fail(fault, -ENOTSUP, "PAGEMAP_SCAN", 0);
    return 0;
}

int mpat_process_open(int pid, uint32_t flags, mpat_process **out, mpat_process_fault *fault)
{
    mpat_process *p;
    int error;

    if (pid <= 0 || !out || (flags & ~(uint32_t)MPAT_PROCESS_KEEP_HUGE))
        return fail(fault, -EINVAL, "arguments", 0);
    p = make();
    if (!p)
        return fail(fault, -ENOMEM, "malloc", 0);
    p->keeps_huge = (flags & MPAT_PROCESS_KEEP_HUGE) != 0;
    error = open_files(p, pid, fault);
    if (!error)
        error = mpat_inject_userfaultfd(pid, p->pidfd, &p->uffd, &p->stopped_ns, fault);
    if (!error)
        error = shake_hands(p, fault);
    if (error) {
        mpat_process_close(p);
        return error;
    }
    p->last_end_ns = now_ns();
    *out = p;
    return 0;
}

void mpat_process_close(mpat_process *p)
{
    if (!p)
        return;
    for (int *fds[] = {&p->uffd, &p->pagemap, &p->memory, &p->pidfd}, i = 0; i < 4; i++)
        if (*fds[i] >= 0)
            close(*fds[i]);
    free(p);
}

int64_t mpat_process_stopped_ns(const mpat_process *p)
{
    return p->stopped_ns;
}

/* ---- collect ---------------------------------------------------------------------------------- */

/* One collection of one mapping. */
struct pass {
    mpat_process *process;
    const mpat_mapping *mapping;
    uint64_t *words; /* of its region */
    int is_registered; /* all of it, and not only what it was when it was first seen */
    uint64_t written_pages, huge_bytes, lost_pages;
};

static void set_bits(uint64_t *words, uint64_t first, uint64_t n)
{
    while (n) {
        uint64_t bit = first % 64, some = 64 - bit < n ? 64 - bit : n;

        words[first / 64] |= (some == 64 ? ~UINT64_C(0) : (UINT64_C(1) << some) - 1) << bit;
        first += some;
        n -= some;
    }
}

static void note_written(struct pass *pass, const struct page_region *r)
{
    const mpat_mapping *m = pass->mapping;
    uint64_t first = (r->start - m->start) >> m->page_shift;
    uint64_t n = ((r->end - 1 - m->start) >> m->page_shift) - first + 1;

    set_bits(pass->words, m->first_page + first, n);
    pass->written_pages += n;
}

/*
 * Was it written? An entry also lacks protection when it is empty, beside one that was touched; or
 * when the page was mapped by a first read: then it is the zero page, or a file's page that a
 * private mapping shows as it is.
 */
static int is_written(const struct pass *pass, const struct page_region *r)
{
    if (!(r->categories & PAGE_IS_WRITTEN) || (r->categories & PAGE_IS_PFNZERO) ||
        !(r->categories & (PAGE_IS_PRESENT | PAGE_IS_SWAPPED)))
        return 0;
    return !(pass->mapping->flags & MPAT_MAPPING_PRIVATE_FILE) || !(r->categories & PAGE_IS_FILE);
}

/*
 * Protect [start, end) again and note what was written. *missed: some of it was not reported,
 * although all that is registered is.
 */
static int take_once(struct pass *pass, uint64_t start, uint64_t end, int *missed)
{
    struct page_region *vec = pass->process->taken;
    uint64_t at = start, covered = start;

    *missed = 0;
    while (at < end) {
        int n = take(pass->process, vec, &at, end);

        if (n < 0)
            return n;
        for (int i = 0; i < n; i++) {
            *missed |= vec[i].start > covered;
            covered = vec[i].end;
            if (is_written(pass, &vec[i]))
                note_written(pass, &vec[i]);
            if (vec[i].categories & PAGE_IS_HUGE && vec[i].categories & PAGE_IS_WRITTEN)
                pass->huge_bytes += vec[i].end - vec[i].start;
        }
    }
    *missed |= covered < end;
    return 0;
}

/*
 * What is missed is unmapped by now, or mapped anew and not registered: then it is registered here,
 * and whatever it holds was written since. What cannot be registered is left out, as from the
 * start.
 */
static int take_range(struct pass *pass, uint64_t start, uint64_t end)
{
    const mpat_mapping *m = pass->mapping;
    int missed, error = take_once(pass, start, end, &missed);

    if (error || !missed || pass->is_registered)
        return error;
    pass->is_registered = 1;
    if (register_range(pass->process, m->start, m->end))
        return 0;
    return take_once(pass, start, end, &missed);
}

/* The same around huge pages, which stay unprotected, and so unknown, rather than being split. */
static int take_around_huge(struct pass *pass, uint64_t start, uint64_t end)
{
    struct page_region huge[N_HUGE];
    uint64_t at = start, done = start;
    int error = 0;

    while (at < end && !error) {
        int n = find_huge(pass->process, huge, N_HUGE, &at, end);

        if (n < 0)
            return n;
        for (int i = 0; i < n && !error; i++) {
            if (done < huge[i].start)
                error = take_range(pass, done, huge[i].start);
            done = huge[i].end;
            pass->lost_pages += (huge[i].end - huge[i].start) >> pass->mapping->page_shift;
        }
    }
    if (!error && done < end)
        error = take_range(pass, done, end);
    return error;
}

static int collect_mapping(struct pass *pass)
{
    mpat_process *p = pass->process;
    const mpat_mapping *m = pass->mapping;
    int keeps_huge = p->keeps_huge && m->page_shift == PAGE_SHIFT;
    uint64_t at = m->start;

    while (at < m->end) {
        int n = find(p, p->found, &at, m->end), error = n < 0 ? n : 0;

        for (int i = 0; i < n && !error;) {
            uint64_t start = p->found[i].start, end = p->found[i].end;

            while (++i < n && p->found[i].start - end <= JOIN_BYTES)
                end = p->found[i].end;
            error = keeps_huge ? take_around_huge(pass, start, end) : take_range(pass, start, end);
        }
        if (error)
            return error;
    }
    return 0;
}

static int check_mappings(const mpat_mapping *mappings, size_t n_mappings,
                          const uint64_t *region_pages, size_t n_regions,
                          mpat_process_fault *fault)
{
    for (size_t i = 0; i < n_mappings; i++) {
        const mpat_mapping *m = &mappings[i];
        uint64_t page = UINT64_C(1) << m->page_shift;

        if (m->start >= m->end || m->page_shift < PAGE_SHIFT || m->page_shift > 40 ||
            m->start % page || m->end % page || m->region >= n_regions ||
            m->first_page > region_pages[m->region] ||
            (m->end - m->start) >> m->page_shift > region_pages[m->region] - m->first_page)
            return fail(fault, -EINVAL, "mapping", m->start);
    }
    return 0;
}

static int count_huge(const mpat_process *p, const mpat_mapping *m, uint64_t *bytes)
{
    struct page_region huge[N_HUGE];
    uint64_t at = m->start;

    while (at < m->end) {
        int n = find_huge(p, huge, N_HUGE, &at, m->end);

        if (n < 0)
            return n;
        for (int i = 0; i < n; i++)
            *bytes += huge[i].end - huge[i].start;
    }
    return 0;
}

/* Only where there are page tables: markers for all the rest would take memory from the target. */
static int protect_mapping(mpat_process *p, const mpat_mapping *m)
{
    uint64_t at = m->start;

    while (at < m->end) {
        int n = find(p, p->found, &at, m->end), error = n < 0 ? n : 0;

        for (int i = 0; i < n && !error; i++)
            error = protect(p, p->found[i].start, p->found[i].end);
        if (error < 0)
            return error;
    }
    return 0;
}

static int protect_all(mpat_process *p, const mpat_mapping *mappings, size_t n_mappings,
                       uint64_t *huge_bytes, mpat_process_fault *fault)
{
    for (size_t i = 0; i < n_mappings; i++) {
        const mpat_mapping *m = &mappings[i];
        uint64_t huge = 0;
        int error = m->page_shift == PAGE_SHIFT ? count_huge(p, m, &huge) : 0;

        *huge_bytes += huge;
        if (huge && p->keeps_huge)
            return fail(fault, -EEXIST, "huge pages", m->start);
        if (!error)
            error = register_range(p, m->start, m->end);
        /* It went since the maps were read, is of a kind the kernel excludes, or of a file that
         * the target may not write to anyway. */
        if (error == -ENOMEM || error == -EINVAL || error == -EPERM)
            continue;
        if (error)
            return fail(fault, error, "UFFDIO_REGISTER", m->start);
        error = protect_mapping(p, m);
        if (error)
            return fail(fault, error, "PAGEMAP_SCAN", m->start);
    }
    return is_alive(p) ? 0 : fail(fault, -ESRCH, "exit", 0);
}

int mpat_process_protect(mpat_process *p, const mpat_mapping *mappings, size_t n_mappings,
                         uint64_t *huge_bytes, mpat_process_fault *fault)
{
    int error;

    if (!p || (!mappings && n_mappings) || !huge_bytes)
        return fail(fault, -EINVAL, "arguments", 0);
    if (atomic_flag_test_and_set(&p->busy))
        return fail(fault, -EBUSY, "protect", 0);
    *huge_bytes = 0;
    error = protect_all(p, mappings, n_mappings, huge_bytes, fault);
    p->last_end_ns = now_ns();
    atomic_flag_clear(&p->busy);
    return error;
}

static int collect_all(mpat_process *p, const mpat_mapping *mappings, size_t n_mappings,
                       uint64_t *const *bitmaps, mpat_process_collection *out,
                       mpat_process_fault *fault)
{
    for (size_t i = 0; i < n_mappings; i++) {
        const mpat_mapping *m = &mappings[i];
        struct pass pass = {.process = p, .mapping = m, .words = bitmaps[m->region]};
        int error = collect_mapping(&pass);

        out->lost_pages += pass.lost_pages;
        out->huge_bytes += pass.huge_bytes;
        out->written_pages += pass.written_pages;
        if (error)
            return fail(fault, error, "PAGEMAP_SCAN", m->start);
    }
    return is_alive(p) ? 0 : fail(fault, -ESRCH, "exit", 0);
}

int mpat_process_collect(mpat_process *p, const mpat_mapping *mappings, size_t n_mappings,
                         const uint64_t *region_pages, uint64_t *const *bitmaps, size_t n_regions,
                         mpat_process_collection *out, mpat_process_fault *fault)
{
    int64_t begin_ns = now_ns();
    mpat_process_collection now = {0};
    int error;

    if (!p || (!mappings && n_mappings) || !region_pages || !bitmaps || !out)
        return fail(fault, -EINVAL, "arguments", 0);
    error = check_mappings(mappings, n_mappings, region_pages, n_regions, fault);
    if (error)
        return error;
    if (atomic_flag_test_and_set(&p->busy))
        return fail(fault, -EBUSY, "collect", 0);
    for (size_t r = 0; r < n_regions; r++)
        memset(bitmaps[r], 0, mpat_bitmap_words(region_pages[r]) * sizeof(uint64_t));
    error = collect_all(p, mappings, n_mappings, bitmaps, &now, fault);
    if (error) {
        p->lost_pages += now.written_pages; /* taken, and not handed on */
    } else {
        now.start_ns = p->last_end_ns;
        now.end_ns = p->last_end_ns = now_ns();
        now.collect_ns = now.end_ns - begin_ns;
        now.lost_pages += p->lost_pages;
        p->lost_pages = 0;
        *out = now;
    }
    atomic_flag_clear(&p->busy);
    return error;
}

/* ---- does it work here? ----------------------------------------------------------------------- */

/* Follow our own page through protecting, writing and scanning. */
static int follow_own_page(mpat_process *p, char *page, mpat_process_fault *fault)
{
    mpat_mapping mapping = {.start = (uintptr_t)page, .end = (uintptr_t)page + 2 * PAGE,
                            .page_shift = PAGE_SHIFT};
    uint64_t bitmap, n_pages = 2, huge_bytes, *bitmaps[] = {&bitmap};
    mpat_process_collection collection;
    int error;

    page[0] = page[PAGE] = 1;
    error = mpat_process_protect(p, &mapping, 1, &huge_bytes, fault);
    ((volatile char *)page)[PAGE] = 2;
    if (!error)
        error = mpat_process_collect(p, &mapping, 1, &n_pages, bitmaps, 1, &collection, fault);
    if (!error && bitmap != 2)
        error = fail(fault, -EPROTO, "PAGEMAP_SCAN", 0);
    return error;
}

int mpat_process_probe(mpat_process_fault *fault)
{
    size_t bytes = (size_t)(2 * PAGE);
    mpat_process *p;
    char *page;
    int error;

    if (sysconf(_SC_PAGESIZE) != (long)PAGE)
        return fail(fault, -ENOTSUP, "pages of 4 KiB", 0);
    page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return fail(fault, -errno, "mmap", 0);
    p = make();
    error = p ? open_files(p, getpid(), fault) : fail(fault, -ENOMEM, "malloc", 0);
    if (!error) {
        p->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
        error = p->uffd < 0 ? fail(fault, -errno, "userfaultfd", 0) : shake_hands(p, fault);
    }
    if (!error)
        error = follow_own_page(p, page, fault);
    mpat_process_close(p);
    munmap(page, bytes);
    return error;
}
