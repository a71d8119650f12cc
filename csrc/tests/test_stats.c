/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences of intervals, on every kernel, against a model that keeps and recounts everything. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "reference.h"
#include "stats_model.h"

/* ---- sequences ----------------------------------------------------------------------------- */

/* depth 0: the stats keep the previous bitmap themselves. */
static void run(const uint64_t *sizes, size_t n_regions, uint32_t group, uint32_t depth,
                uint32_t intervals, double half_life, double max_duration)
{
    struct model models[3];
    uint64_t *inputs[3];
    mpat_history *history = NULL;
    mpat_stats *stats;
    mpat_seen seen[3];
    for (size_t r = 0; r < n_regions; r++) {
        models[r] = (struct model){.n = sizes[r],
                                   .n_words = mpat_bitmap_words(sizes[r]),
                                   .group = group,
                                   .half_life = half_life};
        if (mpat_bitmap_alloc(sizes[r], &inputs[r]))
            abort();
    }
    if ((depth && mpat_history_create(sizes, n_regions, depth, &history)) ||
        mpat_stats_create(sizes, n_regions, group, half_life, history, &stats))
        abort();
    for (uint32_t t = 0; t < intervals; t++) {
        double duration = (double)(1 + random_below(1000)) / 1000 * max_duration;
        snprintf(context, sizeof(context), "%s n=%llu regions=%zu group=%u depth=%u t=%u",
                 mpat_kernel_active(), (unsigned long long)sizes[0], n_regions, group, depth, t);
        for (size_t r = 0; r < n_regions; r++) {
            next_input(inputs[r], sizes[r], t, depth ? depth : 1);
            model_add(&models[r], inputs[r], duration);
        }
        CHECK(mpat_stats_update(stats, (const uint64_t *const *)inputs, duration, seen) == 0);
        for (size_t r = 0; r < n_regions; r++) {
            check_model(&models[r], stats, r, &seen[r]);
            if (depth && (t + 2 >= intervals || t % 7 == 0))
                check_hot(&models[r], history, r, depth);
        }
        if (depth)
            check_distinct(models, n_regions, history, depth);
    }
    if (depth)
        CHECK(mpat_history_length(history) == (intervals < depth ? intervals : depth));
    mpat_stats_destroy(stats);
    mpat_history_destroy(history);
    for (size_t r = 0; r < n_regions; r++) {
        model_free(&models[r]);
        mpat_bitmap_free(inputs[r], sizes[r]);
    }
}

static void test_sequences(void)
{
    static const uint32_t groups[] = {64, 128, 192, 512, 576, 1024, 1536, 4096, 1u << 30};
    static const uint32_t depths[] = {0, 1, 2, 3, 16};
    for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
        for (size_t d = 0; d < 5; d++) {
            uint64_t sizes[3] = {4096 + random_below(1500), 1 + random_below(600), 512};
            run(sizes, 3, groups[g], depths[d], 12 + 2 * depths[d], 10.0, 4.0);
        }
    }
    /* More than a block, so that skipping by blocks and dense bookkeeping both happen. */
    uint64_t large = 3 * 32768 + 777;
    run(&large, 1, 512, 0, 10, 10.0, 4.0);
    run(&large, 1, 512, 2, 14, 10.0, 4.0);
    run(&large, 1, 1024, 2, 10, 10.0, 4.0);
    run(&large, 1, 192, 2, 10, 10.0, 4.0);
}

/* The weights over many orders of magnitude, over the change of the unit, and after it. */
static void test_rates(void)
{
    static const double cases[][2] = {{1, 1e-9},  {1, 1e-3},   {1, 1},        {1, 60},
                                      {1, 400},   {1, 1e6},    {1e-3, 1e9},   {1e9, 1e-9},
                                      {1e300, 1}, {1e-9, 1},   {1e300, 1e-9}, {3600, 1}};
    uint64_t n = 700;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        run(&n, 1, 512, 0, 40, cases[i][0], cases[i][1]);

    /* A steady rate is reported as itself, whatever the half-life, across many changes of unit. */
    uint64_t word = 0xff;
    const uint64_t *input = &word;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        mpat_stats *stats;
        mpat_seen seen;
        double rate = -1;
        uint64_t pages = 8;
        if (mpat_stats_create(&pages, 1, 512, cases[i][0], NULL, &stats))
            abort();
        CHECK(mpat_stats_write_rate(stats, 0, &rate) == 0 && rate == 0);
        for (int t = 0; t < 3000; t++) {
            CHECK(mpat_stats_update(stats, &input, cases[i][1], &seen) == 0);
            CHECK(mpat_stats_write_rate(stats, 0, &rate) == 0);
            CHECK(close_to(rate, 8 / cases[i][1]));
        }
        mpat_stats_destroy(stats);
    }
}

/* ---- regions too large for the cache, where stores go around it ------------------------------ */

#define LARGE_PAGES ((UINT64_C(34) << 20) + 12345) /* a bitmap of more than 4 MiB */

/* Everything the statistics say after a few intervals, mixed into one number. */
static uint64_t mix(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        uint32_t v;
        memcpy(&v, p + i, 4);
        hash = (hash ^ v) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    return hash;
}

static uint64_t large_outcome(void)
{
    uint64_t n = LARGE_PAGES, n_words = mpat_bitmap_words(n), hash = 0, *input;
    uint64_t saved = random_state;
    mpat_history *history;
    mpat_stats *stats;
    mpat_groups g;
    mpat_seen seen;
    if (mpat_bitmap_alloc(n, &input) || mpat_history_create(&n, 1, 3, &history) ||
        mpat_stats_create(&n, 1, 512, 1.0, history, &stats))
        abort();
    random_state = 4711;
    for (int t = 0; t < 7; t++) {
        for (uint64_t w = 0; w < n_words; w++) {
            /* Density by stretches of the region: all, none, and a few lines of a block. */
            uint64_t kind = (w >> 14) + (uint64_t)t * 5, pick = kind % 7;
            input[w] = pick == 0   ? random64()
                       : pick == 1 ? (w & 7) == kind % 8 && random_below(3) == 0 ? random64() : 0
                       : pick == 2 ? random_below(200) == 0
                                   : 0;
        }
        const uint64_t *in = input;
        CHECK(mpat_stats_update(stats, &in, 1.0, &seen) == 0);
        CHECK(mpat_stats_groups(stats, 0, &g) == 0);
        hash = mix(hash, &seen, sizeof(seen));
        hash = mix(hash, g.dirty, g.n_groups * 4);
        hash = mix(hash, g.redirtied, g.n_groups * 4);
        hash = mix(hash, g.fresh, g.n_groups * 4);
        hash = mix(hash, g.touched, g.n_groups * 4);
        hash = mix(hash, g.streak, g.n_groups * 4);
        hash = mix(hash, g.last_active, g.n_groups * 4);
        hash = mix(hash, g.dirty_total, g.n_groups * 8);
    }
    for (uint32_t k = 1; k <= 3; k++) {
        CHECK(mpat_history_hot_pages(history, 0, k, input) == 0);
        hash = mix(hash, input, n_words * 8);
    }
    mpat_stats_destroy(stats);
    mpat_history_destroy(history);
    mpat_bitmap_free(input, n);
    random_state = saved;
    return hash;
}

/* The plain kernel, which has no such stores, is the reference. */
static void test_large(const char *name)
{
    static uint64_t expected;
    snprintf(context, sizeof(context), "%s large", name);
    if (expected == 0) {
        CHECK(mpat_kernel_use("scalar") == 0);
        expected = large_outcome();
        CHECK(mpat_kernel_use(name) == 0);
    }
    CHECK(large_outcome() == expected);
}

/*
 * A line that was dirty in the interval to be forgotten only, while 8 of its block are: more than go
 * through out of order, and fewer than are worked on all together.
 */
static void test_large_forgets(const char *name)
{
    const uint64_t n = LARGE_PAGES, line = 13 * 8;
    uint64_t n_words = mpat_bitmap_words(n), *input;
    mpat_history *history;
    mpat_stats *stats;
    mpat_seen seen;
    snprintf(context, sizeof(context), "%s large, forgets", name);
    if (mpat_bitmap_alloc(n, &input) || mpat_history_create(&n, 1, 2, &history) ||
        mpat_stats_create(&n, 1, 512, 1.0, history, &stats))
        abort();
    for (int t = 0; t < 4; t++) {
        const uint64_t *in = input;
        memset(input, 0, n_words * sizeof(*input));
        for (uint64_t w = 0; t == 2 && w < 8 * 8; w++)
            input[w] = 1;
        input[line] = t == 0 || t == 3;
        CHECK(mpat_stats_update(stats, &in, 1.0, &seen) == 0);
        CHECK(seen.redirtied_pages == 0);
        if (t == 2) {
            CHECK(mpat_history_hot_pages(history, 0, 1, input) == 0);
            CHECK(input[0] == 1 && input[line] == 0);
        }
    }
    mpat_stats_destroy(stats);
    mpat_history_destroy(history);
    mpat_bitmap_free(input, n);
}

/* ---- errors -------------------------------------------------------------------------------- */

/* So short against the half-life that their quotient is 0: nothing decays, and the mean is exact. */
static void test_rate_of_next_to_no_time(void)
{
    uint64_t n = 64, word = 1;
    const uint64_t *input = &word;
    mpat_stats *stats;
    mpat_seen seen;
    double rate = 0;
    snprintf(context, sizeof(context), "next to no time");
    CHECK(mpat_stats_create(&n, 1, 64, 1e308, NULL, &stats) == 0);
    CHECK(mpat_stats_update(stats, &input, 0x1p-70, &seen) == 0);
    CHECK(mpat_stats_write_rate(stats, 0, &rate) == 0 && rate == 0x1p70);
    mpat_stats_destroy(stats);
}

static void test_errors(void)
{
    uint64_t sizes[2] = {100, 0}, other[2] = {100, 101}, two[2] = {0, 0}, huge = UINT64_MAX;
    const uint64_t *input[2] = {two, two}, *hole[2] = {two, NULL};
    mpat_history *history = NULL, *none = NULL;
    mpat_stats *stats = NULL, *no_stats = NULL;
    mpat_seen seen[2] = {{.runs = 77}, {.runs = 77}};
    mpat_groups groups;
    double rate;
    snprintf(context, sizeof(context), "errors");

    CHECK(mpat_history_create(sizes, 2, 1, &none) == -EINVAL);
    CHECK(mpat_history_create(sizes, 0, 1, &none) == -EINVAL);
    CHECK(mpat_history_create(NULL, 1, 1, &none) == -EINVAL);
    CHECK(mpat_history_create(other, 2, 0, &none) == -EINVAL);
    CHECK(mpat_history_create(other, 2, 256, &none) == -EINVAL);
    CHECK(mpat_history_create(other, 2, 1, NULL) == -EINVAL);
    CHECK(mpat_history_create(&huge, 1, 255, &none) == -ENOMEM);
    huge = UINT64_C(1) << 52;
    CHECK(mpat_history_create(&huge, 1, 2, &none) == -ENOMEM);
    CHECK(none == NULL);

    static const struct {
        uint32_t group;
        double half_life;
    } bad[] = {{0, 1}, {63, 1}, {100, 1}, {512, 0}, {512, -1}, {512, 9e-10}, {512, INFINITY}, {512, NAN}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(mpat_stats_create(other, 2, bad[i].group, bad[i].half_life, NULL, &no_stats) ==
              -EINVAL);
    CHECK(mpat_stats_create(sizes, 2, 64, 1, NULL, &no_stats) == -EINVAL);
    CHECK(mpat_stats_create(other, 0, 64, 1, NULL, &no_stats) == -EINVAL);
    CHECK(mpat_stats_create(NULL, 1, 64, 1, NULL, &no_stats) == -EINVAL);
    CHECK(mpat_stats_create(other, 1, 64, 1, NULL, NULL) == -EINVAL);
    CHECK(mpat_stats_create(&huge, 1, 64, 1, NULL, &no_stats) == -ENOMEM);

    CHECK(mpat_history_create(other, 2, 3, &history) == 0);
    CHECK(mpat_history_hot_pages(history, 2, 1, two) == -EINVAL);
    CHECK(mpat_history_hot_pages(history, 0, 0, two) == -EINVAL);
    CHECK(mpat_history_hot_pages(history, 0, 4, two) == -EINVAL);
    CHECK(mpat_history_hot_pages(history, 0, 1, NULL) == -EINVAL);
    CHECK(mpat_history_distinct_pages(history, 0, two) == -EINVAL);
    CHECK(mpat_history_distinct_pages(history, 4, two) == -EINVAL);
    CHECK(mpat_history_distinct_pages(history, 1, NULL) == -EINVAL);
    CHECK(mpat_history_distinct_pages(NULL, 1, two) == -EINVAL && two[0] == 0);
    CHECK(mpat_history_update(history, hole) == -EINVAL && mpat_history_length(history) == 0);
    CHECK(mpat_history_update(history, NULL) == -EINVAL);
    /* A history that does not fit, then one that does, then one that is taken. */
    CHECK(mpat_stats_create(other, 1, 64, 1, history, &no_stats) == -EINVAL);
    CHECK(mpat_stats_create((uint64_t[]){100, 102}, 2, 64, 1, history, &no_stats) == -EINVAL);
    CHECK(mpat_stats_create(other, 2, 64, 1, history, &stats) == 0);
    CHECK(mpat_stats_create(other, 2, 64, 1, history, &no_stats) == -EINVAL);
    CHECK(mpat_history_update(history, input) == -EPERM);
    CHECK(no_stats == NULL);

    static const double bad_durations[] = {0, -1, INFINITY, NAN};
    for (size_t i = 0; i < 4; i++)
        CHECK(mpat_stats_update(stats, input, bad_durations[i], seen) == -EINVAL);
    CHECK(mpat_stats_update(stats, NULL, 1, seen) == -EINVAL);
    CHECK(mpat_stats_update(stats, hole, 1, seen) == -EINVAL);
    CHECK(mpat_stats_update(stats, input, 1, NULL) == -EINVAL);
    CHECK(mpat_stats_update(NULL, input, 1, seen) == -EINVAL);
    CHECK(seen[0].runs == 77 && mpat_history_length(history) == 0);
    CHECK(mpat_stats_update(stats, input, 1e308, seen) == 0);
    CHECK(mpat_stats_update(stats, input, 1e308, seen) == -EOVERFLOW); /* no such time */
    CHECK(mpat_history_length(history) == 1);
    CHECK(mpat_stats_groups(stats, 2, &groups) == -EINVAL);
    CHECK(mpat_stats_groups(stats, 0, NULL) == -EINVAL);
    CHECK(mpat_stats_write_rate(stats, 2, &rate) == -EINVAL);
    CHECK(mpat_stats_bytes(stats) > 0 && mpat_history_bytes(history) > 0);
    mpat_stats_destroy(stats);
    mpat_history_destroy(history);
    mpat_stats_destroy(NULL);
    mpat_history_destroy(NULL);

    /* A history that has seen something cannot be given away. */
    CHECK(mpat_history_create(other, 2, 3, &history) == 0);
    CHECK(mpat_history_update(history, input) == 0);
    CHECK(mpat_stats_create(other, 2, 64, 1, history, &no_stats) == -EINVAL);
    mpat_history_destroy(history);
}

/* ---- two threads on one object -------------------------------------------------------------- */

struct shared {
    mpat_stats *stats;
    mpat_history *history;
    const uint64_t *input;
    atomic_int counted, refused, wrong;
};

static void *hammer(void *arg)
{
    struct shared *s = arg;
    uint64_t out[16];
    for (int i = 0; i < 2000; i++) {
        mpat_seen seen;
        int err = mpat_stats_update(s->stats, &s->input, 1.0, &seen);
        atomic_fetch_add(err ? &s->refused : &s->counted, 1);
        if (err != 0 && err != -EBUSY)
            atomic_fetch_add(&s->wrong, 1);
        if (err == 0 && seen.dirty_pages != 3)
            atomic_fetch_add(&s->wrong, 1);
        err = mpat_history_hot_pages(s->history, 0, 1, out);
        if (err != 0 && err != -EBUSY)
            atomic_fetch_add(&s->wrong, 1);
    }
    return NULL;
}

static void test_threads(void)
{
    uint64_t n = 1000, words[16] = {5, 0, 0, 1};
    struct shared s = {.input = words};
    pthread_t threads[3];
    mpat_groups groups;
    snprintf(context, sizeof(context), "threads");
    if (mpat_history_create(&n, 1, 4, &s.history) ||
        mpat_stats_create(&n, 1, 512, 1, s.history, &s.stats))
        abort();
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, hammer, &s);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    /* What was refused left no trace, what was counted counted once. */
    CHECK(mpat_stats_groups(s.stats, 0, &groups) == 0);
    CHECK(s.wrong == 0 && s.counted > 0 && s.counted + s.refused == 6000);
    CHECK(groups.active_intervals[0] == (uint32_t)s.counted);
    CHECK(groups.dirty_total[0] == 3 * (uint64_t)s.counted);
    mpat_stats_destroy(s.stats);
    mpat_history_destroy(s.history);
}

int main(void)
{
    test_errors();
    test_rate_of_next_to_no_time();
    const char *name;
    for (size_t i = 0; (name = mpat_kernel_available(i)) != NULL; i++) {
        CHECK(mpat_kernel_use(name) == 0);
        test_sequences();
        test_rates();
        test_threads();
        test_large(name);
        test_large_forgets(name);
        printf("test_stats: %s: %s\n", name, failures ? "FAILED" : "ok");
    }
    return failures != 0;
}
