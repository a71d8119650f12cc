/* SPDX-License-Identifier: Apache-2.0 */
/* Per-group access statistics. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "history.h"

/*
 * Write rates, decayed without touching idle groups. With half-life h, an interval of duration d
 * and n dirty pages whose end is `age` ago adds n/d * weight(d) * 2^(-age/h), where weight(t) is
 * the integral of 2^(-age/h) over the last t seconds; the mean is the sum of that divided by the
 * weight of all the observed time. Instead of shrinking every sum as time passes, sums are kept in
 * a unit that shrinks: `grown` seconds after the unit was set, a page adds 2^(grown/h) times more.
 */
#define MIN_HALF_LIFE 1e-9 /* seconds: far from where its reciprocal is infinite */
#define MAX_GROWTH 500.0 /* half-lives; 2^500 times any number of pages is far from overflow */

struct region {
    uint64_t n_pages;
    size_t n_groups;
    uint64_t *ever;
    struct mpat_group_arrays groups;
};

struct mpat_stats {
    mpat_busy busy;
    int owns_history;
    int followed; /* by other statistics */
    mpat_history *history;
    size_t n_regions;
    uint64_t group_words;
    double half_life, observed, grown; /* seconds */
    int32_t intervals;
    uint64_t bytes;
    struct mpat_arena arena;
    struct region regions[];
};

/* In seconds times ln 2. */
static double weight(double t, double half_life)
{
    double a = t / half_life * M_LN2;
    /* The linear part alone is exact for such small a, and cannot lose them to underflow. */
    return a < 1e-17 ? t * M_LN2 : half_life * -expm1(-a);
}

/* Measure the arrays, or, once the arena is mapped, place them. */
static void lay_out(mpat_stats *s)
{
    struct mpat_arena *arena = &s->arena;
    for (size_t r = 0; r < s->n_regions; r++) {
        struct region *region = &s->regions[r];
        struct mpat_group_arrays *a = &region->groups;
        uint64_t words = mpat_bitmap_words(region->n_pages);
        /* Kernels keep the books of whole blocks of groups. */
        uint64_t n = ((words - 1) / s->group_words / MPAT_BLOCK_LINES + 1) * MPAT_BLOCK_LINES;

        region->n_groups = (size_t)((words - 1) / s->group_words + 1);
        words = mpat_lines(words) * MPAT_LINE_WORDS;
        region->ever = mpat_arena_take(arena, words, sizeof(uint64_t));
        a->dirty = mpat_arena_take(arena, n, sizeof(*a->dirty));
        a->redirtied = mpat_arena_take(arena, n, sizeof(*a->redirtied));
        a->fresh = mpat_arena_take(arena, n, sizeof(*a->fresh));
        a->touched = mpat_arena_take(arena, n, sizeof(*a->touched));
        a->active_intervals = mpat_arena_take(arena, n, sizeof(*a->active_intervals));
        a->streak = mpat_arena_take(arena, n, sizeof(*a->streak));
        a->last_active = mpat_arena_take(arena, n, sizeof(*a->last_active));
        a->dirty_total = mpat_arena_take(arena, n, sizeof(*a->dirty_total));
        a->rate = mpat_arena_take(arena, n, sizeof(*a->rate));
    }
}

/* The object with its arrays, without a history. */
static int allocate(const uint64_t *region_pages, size_t n_regions, uint64_t group_words,
                    mpat_stats **out)
{
    size_t bytes;
    if (__builtin_mul_overflow(n_regions, sizeof(struct region), &bytes) ||
        __builtin_add_overflow(bytes, sizeof(mpat_stats), &bytes))
        return -ENOMEM;
    mpat_stats *s = calloc(1, bytes);
    if (s == NULL)
        return -ENOMEM;
    s->n_regions = n_regions;
    s->group_words = group_words;
    for (size_t r = 0; r < n_regions; r++)
        s->regions[r].n_pages = region_pages[r];
    lay_out(s);
    int err = mpat_arena_map(&s->arena);
    if (err) {
        free(s);
        return err;
    }
    lay_out(s);
    s->bytes = bytes + s->arena.map_bytes;
    for (size_t r = 0; r < n_regions; r++) {
        struct region *region = &s->regions[r];
        memset(region->groups.last_active, 0xff, region->n_groups * sizeof(int32_t)); /* -1 */
    }
    *out = s;
    return 0;
}

int mpat_stats_create(const uint64_t *region_pages, size_t n_regions, uint32_t group_pages,
                      double half_life_s, mpat_history *history, mpat_stats **out)
{
    mpat_stats *s;
    if (mpat_regions_check(region_pages, n_regions) || group_pages == 0 || group_pages % 64 ||
        !isfinite(half_life_s) || half_life_s < MIN_HALF_LIFE || out == NULL)
        return -EINVAL;
    int err = allocate(region_pages, n_regions, group_pages / 64, &s);
    if (err)
        return err;
    s->half_life = half_life_s;
    s->owns_history = history == NULL;
    if (history == NULL)
        err = mpat_history_create(region_pages, n_regions, 1, &history);
    else
        err = mpat_history_attach(history, region_pages, n_regions);
    if (err) {
        mpat_arena_unmap(&s->arena);
        free(s);
        return err;
    }
    s->history = history;
    if (s->owns_history)
        s->bytes += mpat_history_bytes(history);
    *out = s;
    return 0;
}

void mpat_stats_destroy(mpat_stats *stats)
{
    if (stats == NULL)
        return;
    /* A history from outside stays ours: it may be gone already, and is not looked at. */
    if (stats->owns_history)
        mpat_history_destroy(stats->history);
    mpat_arena_unmap(&stats->arena);
    free(stats);
}

/* Let `seconds` pass; the unit is set anew before it becomes too small. */
static void pass_time(mpat_stats *s, double seconds)
{
    s->observed += seconds;
    s->grown += seconds;
    if (s->grown / s->half_life <= MAX_GROWTH)
        return;
    double shrink = exp2(-s->grown / s->half_life); /* to zero, after a very long time */
    for (size_t r = 0; r < s->n_regions; r++) {
        double *rate = s->regions[r].groups.rate;
        for (size_t g = 0; g < s->regions[r].n_groups; g++) {
            if (rate[g] != 0) /* keep what was never written unbacked */
                rate[g] *= shrink;
        }
    }
    s->grown = 0;
}

static int update(mpat_stats *s, const uint64_t *const *bitmaps, double duration_s, mpat_seen *seen)
{
    const struct mpat_kernel *kernel;
    if (s->followed)
        return -ESTALE;
    if (s->intervals == INT32_MAX || !isfinite(s->observed + duration_s))
        return -EOVERFLOW;
    int err = mpat_kernel_get(&kernel);
    if (err)
        return err;
    pass_time(s, duration_s);
    double page = weight(duration_s, s->half_life) / duration_s * exp2(s->grown / s->half_life);
    for (size_t r = 0; r < s->n_regions; r++) {
        const struct region *region = &s->regions[r];
        struct mpat_pass pass = {
            .cur.words = bitmaps[r],
            .cur.n_words = mpat_bitmap_words(region->n_pages),
            .cur.last_mask = mpat_last_mask(region->n_pages),
            .ever = region->ever,
            .groups = region->groups,
            .group_words = s->group_words,
            .weight = page,
            .now = s->intervals,
            .stream = mpat_history_streams(s->history),
        };
        mpat_history_slots(s->history, r, &pass.prev, &pass.next);
        kernel->pass(&pass);
        seen[r] = pass.seen;
    }
    mpat_history_advance(s->history);
    s->intervals++;
    return 0;
}

int mpat_stats_update(mpat_stats *stats, const uint64_t *const *bitmaps, double duration_s,
                      mpat_seen *seen)
{
    if (stats == NULL || bitmaps == NULL || seen == NULL || !isfinite(duration_s) ||
        duration_s <= 0)
        return -EINVAL;
    for (size_t r = 0; r < stats->n_regions; r++) {
        if (bitmaps[r] == NULL)
            return -EINVAL;
    }
    if (!mpat_busy_enter(&stats->busy))
        return -EBUSY;
    int err = -EBUSY;
    if (mpat_history_enter(stats->history)) {
        err = update(stats, bitmaps, duration_s, seen);
        mpat_history_leave(stats->history);
    }
    mpat_busy_leave(&stats->busy);
    return err;
}

#define COPY(to, from, n) memcpy(to, from, (n) * sizeof(*(from)))

/* Copy a region to its place in a larger one. Groups that were never active stay unbacked. */
static void copy_region(const struct region *from, const struct region *to, uint64_t shift,
                        uint64_t group_words)
{
    const struct mpat_group_arrays *a = &from->groups, *b = &to->groups;
    uint64_t n_words = mpat_bitmap_words(from->n_pages);

    for (uint64_t g = 0, end; g < from->n_groups; g = end) {
        end = g + 1;
        if (a->last_active[g] < 0)
            continue;
        while (end < from->n_groups && a->last_active[end] >= 0)
            end++;
        uint64_t n = end - g, at = g + shift;
        COPY(b->dirty + at, a->dirty + g, n);
        COPY(b->redirtied + at, a->redirtied + g, n);
        COPY(b->fresh + at, a->fresh + g, n);
        COPY(b->touched + at, a->touched + g, n);
        COPY(b->active_intervals + at, a->active_intervals + g, n);
        COPY(b->streak + at, a->streak + g, n);
        COPY(b->last_active + at, a->last_active + g, n);
        COPY(b->dirty_total + at, a->dirty_total + g, n);
        COPY(b->rate + at, a->rate + g, n);
        uint64_t word = g * group_words, stop = end * group_words;
        stop = stop < n_words ? stop : n_words;
        COPY(to->ever + at * group_words, from->ever + word, stop - word);
    }
}

/* Between enter and leave, of the history too. */
static int succeed(mpat_stats *s, const uint64_t *region_pages, size_t n_regions,
                   const mpat_origin *origins, mpat_stats **out)
{
    mpat_stats *next;
    if (s->followed)
        return -ESTALE;
    int err = allocate(region_pages, n_regions, s->group_words, &next);
    if (err)
        return err;
    err = mpat_history_succeed(s->history, region_pages, n_regions, origins, &next->history);
    if (err) {
        mpat_stats_destroy(next); /* it has no history yet */
        return err;
    }
    for (size_t r = 0; r < n_regions; r++) {
        if (origins[r].region >= 0)
            copy_region(&s->regions[origins[r].region], &next->regions[r],
                        origins[r].page / 64 / s->group_words, s->group_words);
    }
    next->owns_history = s->owns_history;
    if (next->owns_history)
        next->bytes += mpat_history_bytes(next->history);
    next->half_life = s->half_life;
    next->observed = s->observed;
    next->grown = s->grown;
    next->intervals = s->intervals;
    s->followed = 1;
    *out = next;
    return 0;
}

int mpat_stats_follow(mpat_stats *stats, const uint64_t *region_pages, size_t n_regions,
                      const mpat_origin *origins, mpat_history **history, mpat_stats **out)
{
    if (stats == NULL || out == NULL || (history == NULL) != stats->owns_history ||
        mpat_history_check_origins(stats->history, region_pages, n_regions, origins,
                                   stats->group_words * 64))
        return -EINVAL;
    if (!mpat_busy_enter(&stats->busy))
        return -EBUSY;
    int err = -EBUSY;
    if (mpat_history_enter(stats->history)) {
        err = succeed(stats, region_pages, n_regions, origins, out);
        mpat_history_leave(stats->history);
    }
    if (err == 0 && history != NULL)
        *history = (*out)->history;
    mpat_busy_leave(&stats->busy);
    return err;
}

int mpat_stats_groups(const mpat_stats *stats, size_t region, mpat_groups *out)
{
    if (stats == NULL || out == NULL || region >= stats->n_regions)
        return -EINVAL;
    const struct mpat_group_arrays *a = &stats->regions[region].groups;
    *out = (mpat_groups){
        .n_groups = stats->regions[region].n_groups,
        .dirty = a->dirty,
        .redirtied = a->redirtied,
        .fresh = a->fresh,
        .touched = a->touched,
        .active_intervals = a->active_intervals,
        .streak = a->streak,
        .last_active = a->last_active,
        .dirty_total = a->dirty_total,
    };
    return 0;
}

int mpat_stats_write_rate(mpat_stats *stats, size_t region, double *out)
{
    if (stats == NULL || out == NULL || region >= stats->n_regions)
        return -EINVAL;
    if (!mpat_busy_enter(&stats->busy))
        return -EBUSY;
    const struct region *g = &stats->regions[region];
    double unit = 0;
    if (stats->intervals > 0)
        unit = exp2(-stats->grown / stats->half_life) / weight(stats->observed, stats->half_life);
    for (size_t i = 0; i < g->n_groups; i++)
        out[i] = g->groups.rate[i] * unit;
    mpat_busy_leave(&stats->busy);
    return 0;
}

uint64_t mpat_stats_bytes(const mpat_stats *stats)
{
    return stats->bytes;
}
