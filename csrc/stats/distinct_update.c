/* SPDX-License-Identifier: Apache-2.0 */
/* Distinct pages by window: an interval goes through the windows, or a break between intervals. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "distinct.h"

#define MOST_SECONDS 1e100 /* their squares are far from overflow */
#define MOST_STEPS 16u     /* a batch: a block of each, and of what they leave open, in cache */

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
