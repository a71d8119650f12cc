/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GroupStats, DirtyHistory and DistinctPages in C under any order of updates, breaks and regions that
 * grow, come and go: what follows must say exactly what new objects do that had these regions from
 * the first interval on, and that another kernel computes.
 */
#include <errno.h>

#include "input.h"

#define MOST_REGIONS 3u
#define MOST_INTERVALS 20u
#define MOST_REGION_PAGES 9000u

struct state {
    size_t n_regions;
    uint64_t pages[MOST_REGIONS];
    uint32_t group_pages, depth, t;
    int has_distinct;
    uint64_t *kept[MOST_INTERVALS][MOST_REGIONS]; /* as the regions are now */
    double durations[MOST_INTERVALS];
    int broken[MOST_INTERVALS]; /* before it */
    mpat_history *history;
    mpat_stats *stats;
    mpat_distinct *distinct;
};

static void make(struct state *s)
{
    MUST(mpat_history_create(s->pages, s->n_regions, s->depth, &s->history) == 0);
    MUST(mpat_stats_create(s->pages, s->n_regions, s->group_pages, 0.5, s->history, &s->stats) == 0);
    if (s->has_distinct)
        MUST(mpat_distinct_create(s->pages, s->n_regions, s->group_pages, &s->distinct) == 0);
}

static void destroy(struct state *s)
{
    mpat_stats_destroy(s->stats);
    mpat_history_destroy(s->history);
    mpat_distinct_destroy(s->distinct);
}

static void update(struct state *s, uint32_t t, mpat_seen *seen)
{
    const uint64_t *const *bitmaps = (const uint64_t *const *)s->kept[t];
    if (s->broken[t] && s->has_distinct)
        MUST(mpat_distinct_break(s->distinct) == 0);
    MUST(mpat_stats_update(s->stats, bitmaps, s->durations[t], seen) == 0);
    if (s->has_distinct)
        MUST(mpat_distinct_update(s->distinct, bitmaps, s->durations[t]) == 0);
}

static void interval(struct state *s, struct input *in, int is_broken)
{
    mpat_seen seen[MOST_REGIONS];
    if (s->t == MOST_INTERVALS)
        return;
    s->durations[s->t] = 0.001 * (double)(1 + next(in, 1));
    s->broken[s->t] = is_broken;
    for (size_t r = 0; r < s->n_regions; r++) {
        MUST(mpat_bitmap_alloc(s->pages[r], &s->kept[s->t][r]) == 0);
        next_bitmap(in, s->kept[s->t][r], s->pages[r]);
    }
    update(s, s->t, seen);
    s->t++;
}

/* The kept bitmaps of the old regions as those of the new ones. */
static void move(struct state *s, const uint64_t *pages, size_t n_regions, const mpat_origin *origins)
{
    for (uint32_t t = 0; t < s->t; t++) {
        uint64_t *moved[MOST_REGIONS] = {NULL};
        for (size_t r = 0; r < n_regions; r++) {
            MUST(mpat_bitmap_alloc(pages[r], &moved[r]) == 0);
            if (origins[r].region < 0)
                continue;
            size_t from = (size_t)origins[r].region;
            for (uint64_t i = 0; i < s->pages[from]; i++) {
                uint64_t to = origins[r].page + i;
                moved[r][to / 64] |= (s->kept[t][from][i / 64] >> i % 64 & 1) << to % 64;
            }
        }
        for (size_t r = 0; r < s->n_regions; r++)
            mpat_bitmap_free(s->kept[t][r], s->pages[r]);
        memcpy(s->kept[t], moved, sizeof(moved));
    }
}

/* Anything at all that the fuzzer says: who refuses it must refuse it in all three, or know why. */
static void follow(struct state *s, struct input *in)
{
    uint64_t pages[MOST_REGIONS];
    mpat_origin origins[MOST_REGIONS];
    size_t n_regions = 1 + next_below(in, MOST_REGIONS, 1);
    for (size_t r = 0; r < n_regions; r++) {
        uint64_t how = next(in, 1);
        origins[r].region = (int64_t)(how & 3) - (how & 4 ? 1 : 0);
        origins[r].page = how >> 3 & 3 ? (how >> 3 & 3) * s->group_pages : next_below(in, 3, 1) * 64;
        pages[r] = 1 + next_below(in, MOST_REGION_PAGES, 2);
        if (how & 0x80 && origins[r].region >= 0 && (size_t)origins[r].region < s->n_regions)
            pages[r] = s->pages[origins[r].region] + origins[r].page + pages[r] % 100;
    }
    mpat_stats *stats = NULL;
    mpat_history *history = NULL;
    mpat_distinct *distinct = NULL;
    if (s->has_distinct) { /* the strictest of the three, so first */
        int err = mpat_distinct_follow(s->distinct, pages, n_regions, origins, &distinct);
        MUST(err == 0 || err == -EINVAL);
        if (err)
            return;
    }
    int err = mpat_stats_follow(s->stats, pages, n_regions, origins, &history, &stats);
    MUST(err == 0 || (err == -EINVAL && !s->has_distinct));
    if (err)
        return;
    uint64_t none = 0;
    const uint64_t *old[MOST_REGIONS] = {&none, &none, &none};
    mpat_seen seen[MOST_REGIONS];
    MUST(mpat_stats_update(s->stats, old, 1.0, seen) == -ESTALE);
    MUST(mpat_history_update(s->history, old) == -EPERM ||
         mpat_history_update(s->history, old) == -ESTALE);
    destroy(s);
    s->stats = stats;
    s->history = history;
    s->distinct = distinct;
    move(s, pages, n_regions, origins);
    s->n_regions = n_regions;
    memcpy(s->pages, pages, sizeof(pages));
}

static void answer_all(struct state *s, struct answers *a, double *fractions)
{
    for (size_t r = 0; r < s->n_regions; r++) {
        answer_groups(a, s->stats, r);
        answer_hot(a, s->history, r, s->pages[r], s->depth);
        if (s->has_distinct)
            answer_windows(a, s->distinct, (int64_t)r, fractions + 32 * r);
    }
    if (s->has_distinct)
        answer_windows(a, s->distinct, -1, fractions + 32 * MOST_REGIONS);
}

static void compare(struct state *s)
{
    struct state again = *s;
    struct answers found = {0}, expected = {0};
    double found_fractions[32 * (MOST_REGIONS + 1)] = {0};
    double expected_fractions[32 * (MOST_REGIONS + 1)] = {0};
    mpat_seen seen[MOST_REGIONS];
    answer_all(s, &found, found_fractions);
    mpat_kernel_use("scalar");
    again.distinct = NULL;
    make(&again);
    for (uint32_t t = 0; t < s->t; t++)
        update(&again, t, seen);
    answer_all(&again, &expected, expected_fractions);
    MUST(same_answers(&found, &expected));
    for (size_t f = 0; f < sizeof(found_fractions) / sizeof(double); f++)
        MUST(alike(found_fractions[f], expected_fractions[f]));
    for (size_t r = 0; r < s->n_regions; r++) {
        uint64_t n_groups = (s->pages[r] + s->group_pages - 1) / s->group_pages;
        double *rates = calloc(2 * n_groups, sizeof(double));
        MUST(rates != NULL);
        MUST(mpat_stats_write_rate(s->stats, r, rates) == 0);
        MUST(mpat_stats_write_rate(again.stats, r, rates + n_groups) == 0);
        for (uint64_t g = 0; g < n_groups; g++)
            MUST(alike(rates[g], rates[n_groups + g]));
        free(rates);
    }
    destroy(&again);
    forget_answers(&found);
    forget_answers(&expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    static const uint32_t group_sizes[] = {64, 192, 512, 1024};
    struct input in = {bytes, n_bytes};
    struct state s = {0};
    uint64_t kind = next(&in, 1);
    mpat_kernel_use(mpat_kernel_available(0));
    s.n_regions = 1 + kind % MOST_REGIONS;
    s.group_pages = group_sizes[kind >> 2 & 3];
    s.has_distinct = (int)(kind >> 4 & 1);
    s.depth = 1 + (uint32_t)(kind >> 5);
    for (size_t r = 0; r < s.n_regions; r++)
        s.pages[r] = 1 + next_below(&in, MOST_REGION_PAGES, 2);
    make(&s);
    for (int calls = 0; in.n && calls < 60; calls++) {
        uint64_t what = next(&in, 1);
        if (what % 4 == 3)
            follow(&s, &in);
        else
            interval(&s, &in, what % 16 == 4);
    }
    compare(&s);
    destroy(&s);
    for (uint32_t t = 0; t < s.t; t++) {
        for (size_t r = 0; r < s.n_regions; r++)
            mpat_bitmap_free(s.kept[t][r], s.pages[r]);
    }
    return 0;
}
