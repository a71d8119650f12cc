/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two kernel interfaces: the ioctl PAGEMAP_SCAN on /proc/PID/pagemap, and a userfaultfd in
 * asynchronous mode. Linux Documentation/admin-guide/mm/pagemap.rst and userfaultfd.rst;
 * fs/proc/task_mmu.c.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "process.h"

/*
 * Ranges of the scan into vec; the number of them or -errno. Follow with *start until it is `end`:
 * the kernel may stop before, and says where in walk_end. But if it filled its own buffer on the way,
 * that still is where it went on, which is before the last range: then all fits, or vec is full. And
 * if it is *start, a page there cannot be protected: part of one of hugetlbfs, or, in Linux 6.18 too,
 * one of 1 GiB (pagemap_scan_hugetlb_entry, fs/proc/task_mmu.c). It went on behind that.
 */
static int scan(const mpat_process *p, struct pm_scan_arg *request, struct page_region *vec,
                uint64_t vec_len, uint64_t *start, uint64_t end)
{
    uint64_t last;
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
    last = vec && n ? vec[n - 1].end : *start;
    if (request->walk_end > *start && request->walk_end >= last)
        *start = request->walk_end;
    else
        *start = vec && (uint64_t)n == vec_len ? last : end;
    return n;
}

int mpat_scan_find(const mpat_process *p, struct page_region *vec, uint64_t vec_len,
                   uint64_t *start, uint64_t end)
{
    struct pm_scan_arg request = {.category_mask = PAGE_IS_WRITTEN,
                                  .return_mask = PAGE_IS_WRITTEN};

    return scan(p, &request, vec, vec_len, start, end);
}

int mpat_scan_pages(const mpat_process *p, struct page_region *vec, uint64_t vec_len,
                    uint64_t *start, uint64_t end)
{
    struct pm_scan_arg request = {.category_mask = PAGE_IS_WRITTEN,
                                  .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                                  .return_mask = PAGE_IS_WRITTEN};

    return scan(p, &request, vec, vec_len, start, end);
}

int mpat_scan_take(const mpat_process *p, struct page_region *vec, uint64_t vec_len,
                   uint64_t *start, uint64_t end)
{
    struct pm_scan_arg request = {.flags = PM_SCAN_WP_MATCHING,
                                  .return_mask = PAGE_IS_WRITTEN | PAGE_IS_PRESENT |
                                                 PAGE_IS_SWAPPED | PAGE_IS_FILE |
                                                 PAGE_IS_PFNZERO | PAGE_IS_HUGE};

    return scan(p, &request, vec, vec_len, start, end);
}

int mpat_scan_huge(const mpat_process *p, struct page_region *vec, uint64_t vec_len,
                   uint64_t *start, uint64_t end)
{
    struct pm_scan_arg request = {.category_mask = PAGE_IS_HUGE | PAGE_IS_PRESENT,
                                  .return_mask = PAGE_IS_HUGE};

    return scan(p, &request, vec, vec_len, start, end);
}

int mpat_scan_protect(const mpat_process *p, uint64_t start, uint64_t end)
{
    struct pm_scan_arg request = {.flags = PM_SCAN_WP_MATCHING,
                                  .category_mask = PAGE_IS_WRITTEN,
                                  .return_mask = 0};
    int n = 0;

    while (start < end && n >= 0)
        n = scan(p, &request, NULL, 0, &start, end);
    return n;
}

int mpat_uffd_begin(const mpat_process *p)
{
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED |
                                         UFFD_FEATURE_WP_HUGETLBFS_SHMEM};

    if (ioctl(p->uffd, UFFDIO_API, &api) < 0)
        return errno == EINVAL ? -ENOTSUP : -errno;
    return 0;
}

int mpat_uffd_register(const mpat_process *p, uint64_t start, uint64_t end)
{
    struct uffdio_register request = {.range = {start, end - start},
                                      .mode = UFFDIO_REGISTER_MODE_WP};

    return ioctl(p->uffd, UFFDIO_REGISTER, &request) < 0 ? -errno : 0;
}

int mpat_uffd_unregister(const mpat_process *p, uint64_t start, uint64_t end)
{
    struct uffdio_range range = {start, end - start};

    return ioctl(p->uffd, UFFDIO_UNREGISTER, &range) < 0 ? -errno : 0;
}
