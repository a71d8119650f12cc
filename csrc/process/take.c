/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking a range: it is protected again, and of what the kernel says of its pages follows which
 * were written. Linux Documentation/admin-guide/mm/pagemap.rst; fs/proc/task_mmu.c.
 */
#include <errno.h>
#include <unistd.h>

#include "process.h"

#define PROTECTED_SHIFT 21 /* HPAGE_SIZE, what pagemap_scan_hugetlb_entry compares with */

static void set_bits(uint64_t *words, uint64_t first, uint64_t n)
{
    while (n) {
        uint64_t bit = first % 64, some = 64 - bit < n ? 64 - bit : n;

        words[first / 64] |= (some == 64 ? ~UINT64_C(0) : (UINT64_C(1) << some) - 1) << bit;
        first += some;
        n -= some;
    }
}

/* Those of the mapping that lie in [start, end), be it in part. */
static uint64_t n_pages(const mpat_mapping *m, uint64_t start, uint64_t end)
{
    return ((end - 1 - m->start) >> m->page_shift) - ((start - m->start) >> m->page_shift) + 1;
}

static void note_written(struct mpat_pass *pass, const struct page_region *r)
{
    const mpat_mapping *m = pass->mapping;
    uint64_t first = (r->start - m->start) >> m->page_shift;
    uint64_t n = n_pages(m, r->start, r->end);

    set_bits(pass->words, m->first_page + first, n);
    pass->written_pages += n;
}

static int is_zero(const uint64_t *words)
{
    uint64_t any = 0;

    for (size_t i = 0; i < MPAT_PAGE_BYTES / sizeof *words; i++)
        any |= words[i];
    return any == 0;
}

/*
 * One write makes a whole huge page, of zeros but for that. (One that is protected is split by the
 * next write, and comes as small pages.) So the pages that are still zero were not written.
 */
static void note_new_huge(struct mpat_pass *pass, const struct page_region *r)
{
    uint64_t words[16 * MPAT_PAGE_BYTES / sizeof(uint64_t)];

    for (uint64_t at = r->start; at < r->end; at += sizeof words) {
        size_t bytes = r->end - at < sizeof words ? r->end - at : sizeof words;
        ssize_t n = pread(pass->process->memory, words, bytes, (off_t)at);

        for (uint64_t done = 0; done < bytes; done += MPAT_PAGE_BYTES)
            if (n != (ssize_t)bytes || !is_zero(words + done / sizeof *words))
                note_written(pass, &(struct page_region){.start = at + done,
                                                         .end = at + done + MPAT_PAGE_BYTES});
    }
}

/*
 * Was it written? An entry also lacks protection when it is empty, beside one that was touched; or
 * when the page was mapped by a first read: then it is the zero page, or a file's page that a
 * private mapping shows as it is.
 */
static int is_written(const struct mpat_pass *pass, const struct page_region *r)
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
static int take_once(struct mpat_pass *pass, uint64_t start, uint64_t end, int *missed)
{
    struct page_region *vec = pass->process->taken;
    uint64_t at = start, covered = start;

    *missed = 0;
    while (at < end) {
        int n = mpat_scan_take(pass->process, vec, MPAT_SCAN_LEN, &at, end);

        if (n < 0)
            return n;
        for (int i = 0; i < n; i++) {
            *missed |= vec[i].start > covered;
            covered = vec[i].end;
            if (!is_written(pass, &vec[i]))
                continue;
            if (!(vec[i].categories & PAGE_IS_HUGE) ||
                pass->mapping->page_shift != MPAT_PAGE_SHIFT) {
                note_written(pass, &vec[i]);
            } else {
                note_new_huge(pass, &vec[i]);
                pass->huge_bytes += vec[i].end - vec[i].start;
            }
        }
    }
    *missed |= covered < end;
    return 0;
}

/*
 * What is missed is unmapped by now, or mapped anew and not registered: then it is registered here,
 * and whatever it holds was written since. Where another userfaultfd is we cannot see, nor pages of
 * 1 GiB, which Linux (6.18, too) leaves unprotected without an error.
 */
int mpat_take(struct mpat_pass *pass, uint64_t start, uint64_t end)
{
    const mpat_mapping *m = pass->mapping;
    int missed, error = take_once(pass, start, end, &missed);

    if (error || !missed)
        return error;
    if (!pass->is_tried)
        pass->register_error = mpat_uffd_register(pass->process, m->start, m->end);
    pass->is_tried = 1;
    if (pass->register_error == -EBUSY)
        pass->lost_pages += n_pages(m, start, end);
    if (pass->register_error)
        return 0;
    error = take_once(pass, start, end, &missed);
    if (!error && missed && m->page_shift > PROTECTED_SHIFT)
        pass->lost_pages += n_pages(m, start, end);
    return error;
}

int mpat_take_around_huge(struct mpat_pass *pass, uint64_t start, uint64_t end)
{
    struct page_region huge[MPAT_N_HUGE];
    uint64_t at = start, done = start;
    int error = 0;

    while (at < end && !error) {
        int n = mpat_scan_huge(pass->process, huge, MPAT_N_HUGE, &at, end);

        if (n < 0)
            return n;
        for (int i = 0; i < n && !error; i++) {
            if (done < huge[i].start)
                error = mpat_take(pass, done, huge[i].start);
            done = huge[i].end;
            pass->lost_pages += (huge[i].end - huge[i].start) >> pass->mapping->page_shift;
        }
    }
    if (!error && done < end)
        error = mpat_take(pass, done, end);
    return error;
}
