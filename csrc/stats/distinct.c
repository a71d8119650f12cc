/* SPDX-License-Identifier: Apache-2.0 */
/* Distinct pages by window: their arrays, and reading them. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "distinct.h"

static uint32_t intervals_of(size_t length)
{
    if (length == 0)
        return 1;
    return length % 2 ? UINT32_C(2) << (length - 1) / 2 : UINT32_C(3) << (length - 2) / 2;
}

static double deviation(double squares, uint64_t n)
{
    return n > 1 && squares > 0 ? sqrt(squares / (double)(n - 1)) : 0;
}

/* ---- memory ------------------------------------------------------------------------------------ */

/* Measure the arrays, or, once the arena is mapped, place them. Single intervals are never open. */
static void lay_out(const mpat_distinct *d, struct length *l, int has_slots)
{
    uint64_t *near = NULL;
    if (has_slots)
        near = mpat_arena_take(&l->arena, MPAT_BLOCK_LINES * MPAT_LINE_WORDS, sizeof(*near));
    for (size_t r = 0; r < d->n_regions; r++) {
        struct mpat_open_window *w = &l->regions[r].window;
        uint64_t n_lines = mpat_lines(mpat_bitmap_words(d->region_pages[r]));
        uint64_t n_blocks = (n_lines + MPAT_BLOCK_LINES - 1) / MPAT_BLOCK_LINES;
        /* Kernels keep the books of whole blocks of groups. */
        uint64_t n_groups = (groups_of(d, r) + MPAT_BLOCK_LINES - 1) / MPAT_BLOCK_LINES *
                            MPAT_BLOCK_LINES;
        w->near = near;
        if (has_slots) {
            w->slot.words = mpat_arena_take(&l->arena, n_lines * MPAT_LINE_WORDS,
                                            sizeof(*w->slot.words));
            w->slot.lines = mpat_arena_take(&l->arena, n_blocks, sizeof(*w->slot.lines));
        }
        w->pages = mpat_arena_take(&l->arena, n_groups, sizeof(*w->pages));
        w->squares = mpat_arena_take(&l->arena, n_groups, sizeof(*w->squares));
        if (d->group_words == MPAT_LINE_WORDS)
            w->sums = mpat_arena_take(&l->arena, n_groups, sizeof(*w->sums));
    }
}

int mpat_distinct_reach(mpat_distinct *d, size_t length)
{
    size_t bytes;
    if (d->lengths[length] != NULL)
        return 0;
    if (__builtin_mul_overflow(d->n_regions, sizeof(struct region), &bytes) ||
        __builtin_add_overflow(bytes, sizeof(struct length), &bytes))
        return -ENOMEM;
    struct length *l = calloc(1, bytes);
    if (l == NULL)
        return -ENOMEM;
    lay_out(d, l, length > 0);
    int err = mpat_arena_map(&l->arena);
    if (err) {
        free(l);
        return err;
    }
    lay_out(d, l, length > 0);
    l->bytes = bytes + l->arena.map_bytes;
    d->lengths[length] = l;
    atomic_fetch_add_explicit(&d->bytes, l->bytes, memory_order_relaxed);
    return 0;
}

int mpat_distinct_create(const uint64_t *region_pages, size_t n_regions, uint32_t group_pages,
                         mpat_distinct **out)
{
    size_t bytes;
    uint64_t window_bytes = 0;
    if (mpat_regions_check(region_pages, n_regions) || group_pages == 0 || group_pages % 64 ||
        out == NULL)
        return -EINVAL;
    if (__builtin_mul_overflow(n_regions, sizeof(*region_pages), &bytes) ||
        __builtin_add_overflow(bytes, sizeof(mpat_distinct), &bytes))
        return -ENOMEM;
    mpat_distinct *d = calloc(1, bytes);
    if (d == NULL)
        return -ENOMEM;
    d->group_words = group_pages / 64;
    d->n_regions = n_regions;
    d->bytes = bytes;
    memcpy(d->region_pages, region_pages, n_regions * sizeof(*region_pages));
    for (size_t r = 0; r < n_regions; r++)
        window_bytes += mpat_bitmap_words(region_pages[r]) * sizeof(uint64_t);
    d->streams = window_bytes >= MPAT_STREAM_FROM;
    int err = mpat_distinct_reach(d, 0);
    if (err) {
        free(d);
        return err;
    }
    *out = d;
    return 0;
}

void mpat_distinct_destroy(mpat_distinct *distinct)
{
    if (distinct == NULL)
        return;
    for (size_t i = 0; i < N_LENGTHS; i++) {
        if (distinct->lengths[i] != NULL) {
            mpat_arena_unmap(&distinct->lengths[i]->arena);
            free(distinct->lengths[i]);
        }
    }
    free(distinct);
}

/* ---- reading ----------------------------------------------------------------------------------- */

size_t mpat_distinct_windows(const mpat_distinct *distinct)
{
    return atomic_load_explicit(&distinct->n_complete, memory_order_relaxed);
}

int mpat_distinct_window(mpat_distinct *distinct, size_t window, int64_t region, mpat_window *out)
{
    if (distinct == NULL || out == NULL || window >= mpat_distinct_windows(distinct) ||
        region < -1 || region >= (int64_t)distinct->n_regions)
        return -EINVAL;
    if (!mpat_busy_enter(&distinct->busy))
        return -EBUSY;
    const struct length *l = distinct->lengths[window];
    const struct moments *pages = region < 0 ? &l->pages : &l->regions[region].pages;
    *out = (mpat_window){
        .n_intervals = intervals_of(window),
        .n_windows = l->n_windows,
        .duration_s = l->seconds.mean,
        .duration_std_s = deviation(l->seconds.squares, l->n_windows),
        .pages = pages->mean,
        .pages_std = deviation(pages->squares, l->n_windows),
    };
    mpat_busy_leave(&distinct->busy);
    return 0;
}

int mpat_distinct_groups(mpat_distinct *distinct, size_t window, size_t region, double *pages,
                         double *pages_std)
{
    if (distinct == NULL || pages == NULL || pages_std == NULL ||
        window >= mpat_distinct_windows(distinct) || region >= distinct->n_regions)
        return -EINVAL;
    if (!mpat_busy_enter(&distinct->busy))
        return -EBUSY;
    const struct length *l = distinct->lengths[window];
    const struct mpat_open_window *w = &l->regions[region].window;
    double n = (double)l->n_windows;
    for (size_t g = 0; g < groups_of(distinct, region); g++) {
        uint64_t sums = w->sums != NULL ? w->sums[g] : 0;
        double sum = (double)(w->pages[g] + MPAT_SUMS_PAGES(sums));
        double squares = w->squares[g] + MPAT_SUMS_SQUARES(sums);
        pages[g] = sum / n;
        pages_std[g] = deviation(squares - sum * sum / n, l->n_windows);
    }
    mpat_busy_leave(&distinct->busy);
    return 0;
}

uint64_t mpat_distinct_bytes(const mpat_distinct *distinct)
{
    return atomic_load_explicit(&distinct->bytes, memory_order_relaxed);
}
