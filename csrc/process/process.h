/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the process source: what attach.c (a process and its descriptors), scan.c (the two kernel
 * interfaces), take.c (which pages of a range were written) and writes.c (protecting and collecting)
 * share.
 */
#ifndef MPAT_PROCESS_PROCESS_H
#define MPAT_PROCESS_PROCESS_H

#include <stdatomic.h>
#include <stdint.h>

#include "abi.h"
#include "mempattern.h"

#define MPAT_PAGE_SHIFT 12
#define MPAT_PAGE_BYTES ((uint64_t)1 << MPAT_PAGE_SHIFT)
#define MPAT_SCAN_LEN 1024 /* ranges that one scan returns */

struct mpat_process {
    int pid;
    int uffd, pagemap, memory, pidfd;
    int keeps_huge;
    uint64_t address; /* of some mapped byte */
    atomic_flag busy;
    int64_t stopped_ns;
    int64_t last_end_ns;
    uint64_t lost_pages;
    struct page_region found[MPAT_SCAN_LEN], pages[MPAT_SCAN_LEN], taken[MPAT_SCAN_LEN];
};

/* Fill the fault (which may be NULL) and pass the error on. */
int mpat_process_fail(mpat_process_fault *fault, int error, const char *call, uint64_t address);

/* Neither ended nor executing another program. */
int mpat_process_is_alive(const mpat_process *process);

/* ---- scan.c -------------------------------------------------------------------------------- */

/*
 * Scans of [*start, end): up to vec_len ranges into vec; how many, or -errno. *start moves on; the
 * scan is over when it is `end`.
 */

/*
 * What has no protection, also where there is no page: fast, as the kernel looks at one bit of a
 * page table entry only. Changes nothing.
 */
int mpat_scan_find(const mpat_process *process, struct page_region *vec, uint64_t vec_len,
                   uint64_t *start, uint64_t end);

/* Pages that have no protection. Changes nothing. */
int mpat_scan_pages(const mpat_process *process, struct page_region *vec, uint64_t vec_len,
                    uint64_t *start, uint64_t end);

/* What is mapped by huge pages. Changes nothing. */
int mpat_scan_huge(const mpat_process *process, struct page_region *vec, uint64_t vec_len,
                   uint64_t *start, uint64_t end);

/*
 * Protect all of the range and say what each page was before, atomically for each. Where there was
 * no page the kernel puts a marker, and makes page tables for it: only for ranges that have pages.
 */
int mpat_scan_take(const mpat_process *process, struct page_region *vec, uint64_t vec_len,
                   uint64_t *start, uint64_t end);

/* The same without a word about what they were: 0 or -errno. */
int mpat_scan_protect(const mpat_process *process, uint64_t start, uint64_t end);

/* Agree with the kernel on asynchronous write protection. -ENOTSUP: it has none. */
int mpat_uffd_begin(const mpat_process *process);

/* What lies in the range is to be followed from now on, or not any more: 0 or -errno. */
int mpat_uffd_register(const mpat_process *process, uint64_t start, uint64_t end);
int mpat_uffd_unregister(const mpat_process *process, uint64_t start, uint64_t end);

/* ---- take.c -------------------------------------------------------------------------------- */

#define MPAT_N_HUGE 64 /* ranges of huge pages that one scan returns */

/* One collection of one mapping. */
struct mpat_pass {
    mpat_process *process;
    const mpat_mapping *mapping;
    uint64_t *words; /* of its region */
    int is_tried, register_error; /* registering all of it, and not what it was at first */
    uint64_t written_pages, huge_bytes, lost_pages;
};

/* Protect [start, end) of the mapping again and note what was written: 0 or -errno. */
int mpat_take(struct mpat_pass *pass, uint64_t start, uint64_t end);

/* The same around huge pages, which stay unprotected, and so unknown, rather than being split. */
int mpat_take_around_huge(struct mpat_pass *pass, uint64_t start, uint64_t end);

#endif
