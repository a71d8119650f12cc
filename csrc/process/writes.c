/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another process's writes: its memory is write-protected by a userfaultfd in asynchronous mode,
 * where the kernel itself resolves the fault of a write and remembers it in the page table entry.
 * PAGEMAP_SCAN finds those entries and protects them again. The target never waits for us, and the
 * end of our descriptor is the end of it all.
 *
 * A range goes through three scans, each over what the one before it returned: what has no
 * protection, a bit of each entry; of that the pages, since most of it may be memory that was never
 * touched; and taking these, after which they are protected again.
 *
 * Linux Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst; fs/proc/task_mmu.c.
 */
#include <errno.h>
#include <string.h>

#include "../clock.h"
#include "process.h"

/*
 * Written pages this near each other are taken by one call: it costs about as much as looking at so
 * many clean pages in between, each of which KVM must map anew if it is a guest's.
 */
#define JOIN_BYTES (8 * MPAT_PAGE_BYTES)

/* What is done with a range of pages that have no protection: 0 or -errno. */
typedef int visit(struct mpat_pass *pass, uint64_t start, uint64_t end);

/* One range of vec[i] and those near it that follow. Returns the index of the next one. */
static int join(const struct page_region *vec, int i, int n, uint64_t *start, uint64_t *end)
{
    *start = vec[i].start;
    do
        *end = vec[i++].end;
    while (i < n && vec[i].start - *end <= JOIN_BYTES);
    return i;
}

/* Visit the pages of [at, end) that have no protection, those near each other together. */
static int visit_pages(struct mpat_pass *pass, uint64_t at, uint64_t end, visit *what)
{
    struct page_region *vec = pass->process->pages;

    while (at < end) {
        int n = mpat_scan_pages(pass->process, vec, MPAT_SCAN_LEN, &at, end);
        int error = n < 0 ? n : 0;

        for (int i = 0; i < n && !error;) {
            uint64_t first, last;

            i = join(vec, i, n, &first, &last);
            error = what(pass, first, last);
        }
        if (error)
            return error;
    }
    return 0;
}

static int visit_mapping(struct mpat_pass *pass, visit *what)
{
    mpat_process *p = pass->process;
    uint64_t at = pass->mapping->start, end = pass->mapping->end;

    while (at < end) {
        int n = mpat_scan_find(p, p->found, MPAT_SCAN_LEN, &at, end), error = n < 0 ? n : 0;

        for (int i = 0; i < n && !error;) {
            uint64_t first, last;

            i = join(p->found, i, n, &first, &last);
            error = visit_pages(pass, first, last, what);
        }
        if (error)
            return error;
    }
    return 0;
}

static int collect_mapping(struct mpat_pass *pass)
{
    int keeps_huge = pass->process->keeps_huge && pass->mapping->page_shift == MPAT_PAGE_SHIFT;

    return visit_mapping(pass, keeps_huge ? mpat_take_around_huge : mpat_take);
}

/* ---- protect and collect -------------------------------------------------------------------- */

static int is_valid(const mpat_mapping *m, const uint64_t *region_pages, size_t n_regions)
{
    uint64_t page;

    if (m->page_shift < MPAT_PAGE_SHIFT || m->page_shift > 40) /* before anything is shifted by it */
        return 0;
    page = UINT64_C(1) << m->page_shift;
    return m->start < m->end && m->start % page == 0 && m->end % page == 0 &&
           m->region < n_regions && m->first_page <= region_pages[m->region] &&
           (m->end - m->start) >> m->page_shift <= region_pages[m->region] - m->first_page;
}

static int check_mappings(const mpat_mapping *mappings, size_t n_mappings,
                          const uint64_t *region_pages, size_t n_regions,
                          mpat_process_fault *fault)
{
    for (size_t i = 0; i < n_mappings; i++)
        if (!is_valid(&mappings[i], region_pages, n_regions))
            return mpat_process_fail(fault, -EINVAL, "mapping", mappings[i].start);
    return 0;
}

static int count_huge(const mpat_process *p, const mpat_mapping *m, uint64_t *bytes)
{
    struct page_region huge[MPAT_N_HUGE];
    uint64_t at = m->start;

    while (at < m->end) {
        int n = mpat_scan_huge(p, huge, MPAT_N_HUGE, &at, m->end);

        if (n < 0)
            return n;
        for (int i = 0; i < n; i++)
            *bytes += huge[i].end - huge[i].start;
    }
    return 0;
}

static int protect_range(struct mpat_pass *pass, uint64_t start, uint64_t end)
{
    return mpat_scan_protect(pass->process, start, end);
}

static int protect_all(mpat_process *p, const mpat_mapping *mappings, size_t n_mappings,
                       uint64_t *huge_bytes, mpat_process_fault *fault)
{
    for (size_t i = 0; i < n_mappings; i++) {
        const mpat_mapping *m = &mappings[i];
        uint64_t huge = 0;
        int error = m->page_shift == MPAT_PAGE_SHIFT ? count_huge(p, m, &huge) : 0;

        *huge_bytes += huge;
        if (huge && p->keeps_huge)
            return mpat_process_fail(fault, -EEXIST, "huge pages", m->start);
        if (!error)
            error = mpat_uffd_register(p, m->start, m->end);
        /* It went since the maps were read, is of a kind the kernel excludes, or of a file that
         * the target may not write to anyway. */
        if (error == -ENOMEM || error == -EINVAL || error == -EPERM)
            continue;
        if (error)
            return mpat_process_fail(fault, error, "UFFDIO_REGISTER", m->start);
        error = visit_mapping(&(struct mpat_pass){.process = p, .mapping = m}, protect_range);
        if (error)
            return mpat_process_fail(fault, error, "PAGEMAP_SCAN", m->start);
    }
    return mpat_process_is_alive(p) ? 0 : mpat_process_fail(fault, -ESRCH, "exit", 0);
}

int mpat_process_protect(mpat_process *p, const mpat_mapping *mappings, size_t n_mappings,
                         uint64_t *huge_bytes, mpat_process_fault *fault)
{
    uint64_t huge = 0;
    int error;

    if (!p || (!mappings && n_mappings) || !huge_bytes)
        return mpat_process_fail(fault, -EINVAL, "arguments", 0);
    if (atomic_flag_test_and_set(&p->busy))
        return mpat_process_fail(fault, -EBUSY, "protect", 0);
    error = protect_all(p, mappings, n_mappings, &huge, fault);
    p->last_end_ns = mpat_end_ns(p->last_end_ns);
    if (!error)
        *huge_bytes = huge;
    atomic_flag_clear(&p->busy);
    return error;
}

static int collect_all(mpat_process *p, const mpat_mapping *mappings, size_t n_mappings,
                       uint64_t *const *bitmaps, mpat_process_collection *out,
                       mpat_process_fault *fault)
{
    for (size_t i = 0; i < n_mappings; i++) {
        const mpat_mapping *m = &mappings[i];
        struct mpat_pass pass = {.process = p, .mapping = m, .words = bitmaps[m->region]};
        int error = collect_mapping(&pass);

        out->lost_pages += pass.lost_pages;
        out->huge_bytes += pass.huge_bytes;
        out->written_pages += pass.written_pages;
        if (error)
            return mpat_process_fail(fault, error, "PAGEMAP_SCAN", m->start);
    }
    return mpat_process_is_alive(p) ? 0 : mpat_process_fail(fault, -ESRCH, "exit", 0);
}

int mpat_process_collect(mpat_process *p, const mpat_mapping *mappings, size_t n_mappings,
                         const uint64_t *region_pages, uint64_t *const *bitmaps, size_t n_regions,
                         mpat_process_collection *out, mpat_process_fault *fault)
{
    int64_t begin_ns = mpat_now_ns();
    mpat_process_collection now = {0};
    int error;

    if (!p || (!mappings && n_mappings) || !region_pages || !bitmaps || !out)
        return mpat_process_fail(fault, -EINVAL, "arguments", 0);
    error = check_mappings(mappings, n_mappings, region_pages, n_regions, fault);
    if (error)
        return error;
    if (atomic_flag_test_and_set(&p->busy))
        return mpat_process_fail(fault, -EBUSY, "collect", 0);
    for (size_t r = 0; r < n_regions; r++)
        memset(bitmaps[r], 0, mpat_bitmap_words(region_pages[r]) * sizeof(uint64_t));
    error = collect_all(p, mappings, n_mappings, bitmaps, &now, fault);
    if (error) {
        p->lost_pages += now.written_pages; /* taken, and not handed on */
    } else {
        now.start_ns = p->last_end_ns;
        now.end_ns = p->last_end_ns = mpat_end_ns(now.start_ns);
        now.collect_ns = now.end_ns - begin_ns;
        now.lost_pages += p->lost_pages;
        p->lost_pages = 0;
        *out = now;
    }
    atomic_flag_clear(&p->busy);
    return error;
}
