/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every kernel against the scalar one: group counts, the fused pass, the history and its hot pages,
 * windows. Built a second time with the kernels that this machine lacks, through SIMDe. Bitmaps end
 * at a guard page.
 */
#include "input.h"

#define MOST_PAGES 40000u
#define MOST_INTERVALS 10u

static const uint32_t group_sizes[] = {64, 128, 192, 448, 512, 576, 1024, 4096, 33280, 1u << 31};
#define N_GROUP_SIZES (sizeof(group_sizes) / sizeof(group_sizes[0]))

static void answer_all(struct input in, struct answers *a, double *fractions)
{
    uint64_t n_pages = 1 + next_below(&in, MOST_PAGES, 2), *words;
    uint32_t group_pages = group_sizes[next_below(&in, N_GROUP_SIZES, 1)];
    uint32_t depth = 1 + (uint32_t)next_below(&in, 16, 1);
    uint64_t n_groups = (n_pages + group_pages - 1) / group_pages;
    uint32_t *counts = malloc(n_groups * sizeof(*counts));
    double *rates = malloc(n_groups * sizeof(*rates));
    mpat_history *history;
    mpat_stats *stats;
    mpat_distinct *distinct;
    mpat_seen seen;
    MUST(counts != NULL && rates != NULL && mpat_bitmap_alloc(n_pages, &words) == 0);
    MUST(mpat_history_create(&n_pages, 1, depth, &history) == 0);
    MUST(mpat_stats_create(&n_pages, 1, group_pages, 1.0, history, &stats) == 0);
    MUST(mpat_distinct_create(&n_pages, 1, group_pages, &distinct) == 0);
    for (uint32_t t = 0; in.n && t < MOST_INTERVALS; t++) {
        next_bitmap(&in, words, n_pages);
        const uint64_t *bitmap = words;
        MUST(mpat_group_counts(words, n_pages, group_pages, counts) == 0);
        answer(a, counts, n_groups * sizeof(*counts));
        MUST(mpat_stats_update(stats, &bitmap, 1.0, &seen) == 0);
        answer(a, &seen, sizeof(seen));
        answer_groups(a, stats, 0);
        MUST(mpat_distinct_update(distinct, &bitmap, 1.0) == 0);
    }
    answer_hot(a, history, 0, n_pages, depth);
    answer_windows(a, distinct, 0, fractions);
    MUST(mpat_stats_write_rate(stats, 0, rates) == 0);
    for (uint64_t g = 0; g < n_groups; g++)
        fractions[63] += rates[g];
    mpat_distinct_destroy(distinct);
    mpat_stats_destroy(stats);
    mpat_history_destroy(history);
    mpat_bitmap_free(words, n_pages);
    free(counts);
    free(rates);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    struct answers expected = {0};
    double expected_fractions[64] = {0};
    const char *name;
    struct input in = {bytes, n_bytes};
    MUST(mpat_kernel_use("scalar") == 0);
    answer_all(in, &expected, expected_fractions);
    for (size_t i = 0; (name = mpat_kernel_available(i)) != NULL; i++) {
        struct answers found = {0};
        double fractions[64] = {0};
        MUST(mpat_kernel_use(name) == 0);
        answer_all(in, &found, fractions);
        MUST(same_answers(&found, &expected));
        for (int f = 0; f < 64; f++)
            MUST(alike(fractions[f], expected_fractions[f]));
        forget_answers(&found);
    }
    forget_answers(&expected);
    return 0;
}
