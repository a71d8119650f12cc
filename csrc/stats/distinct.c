/* SPDX-License-Identifier: Apache-2.0 */
/* Distinct pages by window. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "distinct.h"

#define MOST_SECONDS 1e100 /* their squares are far from overflow */
#define MOST_STEPS 16u     /* a batch: a block of each, and of what they leave open, in cache */

static uint32_t intervals_of(size_t length)
{
    if (length == 0)
        return 1;
    return length % 2 ? UINT32_C(2) << (length - 1) / 2 : UINT32_C(3) << (length - 2) / 2;
}

/* How many of a chain's windows are complete with the interval at that position, from 1. */
static uint32_t complete_at(uint64_t position, uint32_t chain)
{
    if (chain == 1 && position % 3)
        return 0;
    uint32_t n = (uint32_t)__builtin_ctzll(chain ? position / 3 : position) + chain;
    return n < CHAIN_LENGTH(chain) ? n : CHAIN_LENGTH(chain);
}

static void moments_add(struct moments *m, uint64_t n, double x)
{
    double off = x - m->mean;
    m->mean += off / (double)n;
    m->squares += off * (x - m->mean);
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

/* ---- intervals --------------------------------------------------------------------------------- */

/* Before words of two sums overflow. */
static void empty_sums(const mpat_distinct *d, size_t region, struct mpat_open_window *w)
{
    for (size_t g = 0; w->sums != NULL && g < groups_of(d, region); g++) {
        if (w->sums[g] == 0) /* keep what was never written unbacked */
            continue;
        w->pages[g] += MPAT_SUMS_PAGES(w->sums[g]);
        w->squares[g] += MPAT_SUMS_SQUARES(w->sums[g]);
        w->sums[g] = 0;
    }
}

/* Successive intervals that go through the windows together. */
struct batch {
    size_t n;
    const double *durations_s;
    uint64_t single[MOST_STEPS], complete[MOST_STEPS][2][MPAT_MOST_WINDOWS]; /* of all regions */
    struct mpat_distinct_step steps[MOST_STEPS];
};

/* One region's pages in its complete windows, in their order, on the record. */
static void record_region(mpat_distinct *d, size_t r, struct batch *batch)
{
    uint64_t n_windows[N_LENGTHS];
    for (size_t i = 0; i < N_LENGTHS; i++)
        n_windows[i] = d->lengths[i] != NULL ? d->lengths[i]->n_windows : 0;
    for (size_t s = 0; s < batch->n; s++) {
        const struct mpat_distinct_step *step = &batch->steps[s];
        moments_add(&d->lengths[0]->regions[r].pages, ++n_windows[0], (double)step->single.pages);
        batch->single[s] += step->single.pages;
        for (uint32_t c = 0; c < 2; c++) {
            for (uint32_t i = 0; i < step->n_complete[c]; i++) {
                size_t length = LENGTH_OF(c, i);
                uint64_t pages = step->complete[c][i].pages;
                moments_add(&d->lengths[length]->regions[r].pages, ++n_windows[length],
                            (double)pages);
                batch->complete[s][c][i] += pages;
            }
        }
    }
}

/* A complete window of all regions together, which lasted so many seconds. */
static void record(const mpat_distinct *d, struct length *l, uint64_t pages, double seconds)
{
    uint64_t n = ++l->n_windows;
    moments_add(&l->pages, n, (double)pages);
    moments_add(&l->seconds, n, seconds);
    for (size_t r = 0; r < d->n_regions && n % MPAT_SUMS_WINDOWS == 0; r++)
        empty_sums(d, r, &l->regions[r].window);
}

static void record_step(mpat_distinct *d, const struct batch *batch, size_t s)
{
    double duration_s = batch->durations_s[s];
    size_t most = 1;
    d->position++;
    d->observed += duration_s;
    record(d, d->lengths[0], batch->single[s], duration_s);
    for (uint32_t c = 0; c < 2; c++) {
        double seconds = duration_s;
        for (uint32_t i = 0; i < CHAIN_LENGTH(c); i++) {
            struct length *l = d->lengths[LENGTH_OF(c, i)];
            seconds += l->open_s;
            if (i == batch->steps[s].n_complete[c]) {
                l->open_s = seconds;
                break;
            }
            l->open_s = 0;
            record(d, l, batch->complete[s][c][i], seconds);
            most = most > LENGTH_OF(c, i) ? most : LENGTH_OF(c, i) + 1;
        }
    }
    if (most > mpat_distinct_windows(d))
        atomic_store_explicit(&d->n_complete, most, memory_order_relaxed);
}

static void update_batch(mpat_distinct *d, const struct mpat_kernel *kernel,
                         const uint64_t *const *bitmaps, const double *durations_s, size_t n)
{
    struct batch batch;
    batch.n = n;
    batch.durations_s = durations_s;
    for (size_t s = 0; s < n; s++) {
        batch.single[s] = 0;
        memset(batch.complete[s], 0, sizeof(batch.complete[s]));
    }
    for (size_t r = 0; r < d->n_regions; r++) {
        struct mpat_distinct_pass pass = {
            .in.n_words = mpat_bitmap_words(d->region_pages[r]),
            .in.last_mask = mpat_last_mask(d->region_pages[r]),
            .group_words = d->group_words,
            .single = &d->lengths[0]->regions[r].window,
            .steps = batch.steps,
            .n_steps = (uint32_t)n,
            .stream = d->streams,
        };
        for (uint32_t c = 0; c < 2; c++) {
            for (uint32_t i = 0; i < CHAIN_LENGTH(c) && d->lengths[LENGTH_OF(c, i)] != NULL; i++)
                pass.windows[c][i] = &d->lengths[LENGTH_OF(c, i)]->regions[r].window;
        }
        for (size_t s = 0; s < n; s++) {
            struct mpat_distinct_step *step = &batch.steps[s];
            step->words = bitmaps[s * d->n_regions + r];
            step->single = (struct mpat_tally){0};
            step->is_dense = 0;
            for (uint32_t c = 0; c < 2; c++) {
                step->n_complete[c] = complete_at(d->position + s + 1, c);
                memset(step->complete[c], 0, step->n_complete[c] * sizeof(step->complete[c][0]));
            }
        }
        kernel->distinct(&pass);
        record_region(d, r, &batch);
    }
    for (size_t s = 0; s < n; s++)
        record_step(d, &batch, s);
}

static int update(mpat_distinct *d, const uint64_t *const *bitmaps, const double *durations_s,
                  size_t n)
{
    const struct mpat_kernel *kernel;
    double observed = d->observed;
    if (d->followed)
        return -ESTALE;
    for (size_t s = 0; s < n; s++)
        observed += durations_s[s];
    if (observed > MOST_SECONDS)
        return -EOVERFLOW;
    int err = mpat_kernel_get(&kernel);
    for (size_t s = 0; s < n; s++) {
        for (uint32_t c = 0; c < 2 && err == 0; c++) {
            uint32_t n_complete = complete_at(d->position + s + 1, c);
            if (n_complete < CHAIN_LENGTH(c)) /* the window that stays open */
                err = mpat_distinct_reach(d, LENGTH_OF(c, n_complete));
        }
    }
    if (err)
        return err;
    for (size_t s = 0; s < n; s += MOST_STEPS)
        update_batch(d, kernel, bitmaps + s * d->n_regions, durations_s + s,
                     n - s < MOST_STEPS ? n - s : MOST_STEPS);
    return 0;
}

int mpat_distinct_update_all(mpat_distinct *distinct, const uint64_t *const *bitmaps,
                             const double *durations_s, size_t n)
{
    size_t n_bitmaps;
    if (distinct == NULL || bitmaps == NULL || durations_s == NULL ||
        __builtin_mul_overflow(n, distinct->n_regions, &n_bitmaps))
        return -EINVAL;
    for (size_t s = 0; s < n; s++) {
        if (!isfinite(durations_s[s]) || durations_s[s] <= 0)
            return -EINVAL;
    }
    for (size_t i = 0; i < n_bitmaps; i++) {
        if (bitmaps[i] == NULL)
            return -EINVAL;
    }
    if (!mpat_busy_enter(&distinct->busy))
        return -EBUSY;
    int err = update(distinct, bitmaps, durations_s, n);
    mpat_busy_leave(&distinct->busy);
    return err;
}

int mpat_distinct_update(mpat_distinct *distinct, const uint64_t *const *bitmaps, double duration_s)
{
    return mpat_distinct_update_all(distinct, bitmaps, &duration_s, 1);
}

int mpat_distinct_break(mpat_distinct *distinct)
{
    if (distinct == NULL)
        return -EINVAL;
    if (!mpat_busy_enter(&distinct->busy))
        return -EBUSY;
    int err = distinct->followed ? -ESTALE : 0;
    for (size_t i = 1; i < N_LENGTHS && err == 0; i++) {
        struct length *l = distinct->lengths[i];
        if (l == NULL)
            continue;
        l->open_s = 0;
        for (size_t r = 0; r < distinct->n_regions; r++) {
            uint64_t *lines = l->regions[r].window.slot.lines;
            uint64_t n_lines = mpat_lines(mpat_bitmap_words(distinct->region_pages[r]));
            for (uint64_t block = 0; block * MPAT_BLOCK_LINES < n_lines; block++) {
                if (lines[block]) /* keep what was never written unbacked */
                    lines[block] = 0;
            }
        }
    }
    if (err == 0)
        distinct->position = 0;
    mpat_busy_leave(&distinct->busy);
    return err;
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
