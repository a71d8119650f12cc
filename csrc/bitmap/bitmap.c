/* SPDX-License-Identifier: Apache-2.0 */
/* Bitmaps that end at a guard page, and what is in bitmaps of the caller's. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "KVM bitmaps are read as native words");

/* THP pays from a few of its pages on; below, rounding would only waste memory. */
#define HUGE_FROM ((size_t)4 << 20)

uint64_t mpat_bitmap_words(uint64_t n_pages)
{
    return n_pages / 64 + (n_pages % 64 != 0);
}

/* Bytes mapped for the words, without the guard page; 0 when that overflows. */
static size_t mapped_bytes(uint64_t n_pages, size_t page)
{
    size_t bytes;
    if (__builtin_mul_overflow(mpat_bitmap_words(n_pages), sizeof(uint64_t), &bytes) ||
        bytes > (SIZE_MAX >> 1) - 2 * page)
        return 0;
    return (bytes + page - 1) / page * page;
}

int mpat_bitmap_alloc(uint64_t n_pages, uint64_t **out)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (n_pages == 0 || out == NULL)
        return -EINVAL;
    size_t bytes = mapped_bytes(n_pages, page);
    if (bytes == 0)
        return -ENOMEM;
    char *base = mmap(NULL, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                      0);
    if (base == MAP_FAILED)
        return -ENOMEM;
    if (mprotect(base + bytes, page, PROT_NONE) != 0) {
        munmap(base, bytes + page);
        return -ENOMEM;
    }
    if (bytes >= HUGE_FROM)
        madvise(base, bytes, MADV_HUGEPAGE); /* a hint: without THP it fails, harmlessly */
    *out = (uint64_t *)(void *)(base + bytes) - mpat_bitmap_words(n_pages);
    return 0;
}

void mpat_bitmap_free(uint64_t *bitmap, uint64_t n_pages)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (bitmap == NULL)
        return;
    size_t bytes = mapped_bytes(n_pages, page);
    munmap((char *)(bitmap + mpat_bitmap_words(n_pages)) - bytes, bytes + page);
}

int mpat_group_counts(const uint64_t *bitmap, uint64_t n_pages, uint32_t group_pages,
                      uint32_t *counts)
{
    const struct mpat_kernel *kernel;
    if (bitmap == NULL || counts == NULL || n_pages == 0 || group_pages == 0 || group_pages % 64)
        return -EINVAL;
    int err = mpat_kernel_get(&kernel);
    if (err)
        return err;
    const struct mpat_input in = {bitmap, mpat_bitmap_words(n_pages), mpat_last_mask(n_pages)};
    kernel->counts(&in, group_pages / 64, counts);
    return 0;
}

int mpat_bitmap_seen(const uint64_t *bitmap, const uint64_t *previous, uint64_t *ever,
                     uint64_t n_pages, mpat_seen *seen)
{
    const struct mpat_kernel *kernel;
    if (bitmap == NULL || seen == NULL || n_pages == 0)
        return -EINVAL;
    int err = mpat_kernel_get(&kernel);
    if (err)
        return err;
    const struct mpat_input in = {bitmap, mpat_bitmap_words(n_pages), mpat_last_mask(n_pages)};
    mpat_seen found = {0};
    kernel->tally(&in, previous, ever, &found);
    *seen = found;
    return 0;
}

int mpat_bitmap_pages(const uint64_t *bitmap, uint64_t n_pages, int64_t *pages, uint64_t room,
                      uint64_t *n_dirty)
{
    const struct mpat_kernel *kernel;
    if (bitmap == NULL || (pages == NULL && room) || n_dirty == NULL || n_pages == 0 ||
        n_pages > INT64_MAX)
        return -EINVAL;
    int err = mpat_kernel_get(&kernel);
    if (err)
        return err;
    const struct mpat_input in = {bitmap, mpat_bitmap_words(n_pages), mpat_last_mask(n_pages)};
    return kernel->pages(&in, pages, room, n_dirty) ? 0 : -ENOSPC;
}
