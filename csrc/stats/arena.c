/* SPDX-License-Identifier: Apache-2.0 */
#include "arena.h"

#include <errno.h>
#include <sys/mman.h>

#define ALIGN 64u
#define HUGE_PAGE ((size_t)2 << 20)
/*
 * Arrays for the same groups are walked together. Between large ones lies an odd number of lines:
 * powers of two would put their elements of one index into the same few sets of every cache.
 */
#define SKEW_FROM ((size_t)64 << 10)
#define SKEW (5 * ALIGN)

void *mpat_arena_take(struct mpat_arena *arena, uint64_t n, size_t size)
{
    size_t at = arena->used, bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX - SKEW - (ALIGN - 1))
        bytes = SIZE_MAX;
    else
        bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN + (bytes >= SKEW_FROM ? SKEW : 0);
    if (__builtin_add_overflow(at, bytes, &arena->used))
        arena->used = SIZE_MAX; /* sticks: whatever is added to that overflows again */
    return arena->base ? arena->base + at : NULL;
}

int mpat_arena_map(struct mpat_arena *arena)
{
    size_t bytes = arena->used, spare = 0;
    if (bytes > (SIZE_MAX >> 1) - 2 * HUGE_PAGE)
        return -ENOMEM;
    if (bytes >= 2 * HUGE_PAGE) { /* whole huge pages, and room to begin at one */
        bytes = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        spare = HUGE_PAGE;
    }
    void *map = mmap(NULL, bytes + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                     0);
    if (map == MAP_FAILED)
        return -ENOMEM;
    arena->base = map;
    if (spare) {
        size_t before = (HUGE_PAGE - (uintptr_t)map % HUGE_PAGE) % HUGE_PAGE;
        arena->base += before;
        if (before)
            munmap(map, before);
        munmap(arena->base + bytes, spare - before);
        madvise(arena->base, bytes, MADV_HUGEPAGE); /* a hint: without THP it fails, harmlessly */
    }
    arena->map = arena->base;
    arena->map_bytes = bytes;
    arena->used = 0;
    return 0;
}

void mpat_arena_unmap(struct mpat_arena *arena)
{
    munmap(arena->map, arena->map_bytes);
}
