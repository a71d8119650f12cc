/* SPDX-License-Identifier: Apache-2.0 */
/* For the fuzz targets: the fuzzer's bytes as numbers and bitmaps, and answers to be compared. */
#ifndef MPAT_FUZZ_INPUT_H
#define MPAT_FUZZ_INPUT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mempattern.h"

/* What the fuzzer is to find: a crash that says which truth did not hold. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct input {
    const uint8_t *bytes;
    size_t n;
};

/* The next number of so many bytes; zeros follow the last byte. */
static inline uint64_t next(struct input *in, size_t n_bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n_bytes && in->n; i++, in->n--)
        value |= (uint64_t)*in->bytes++ << 8 * i;
    return value;
}

static inline uint64_t next_below(struct input *in, uint64_t below, size_t n_bytes)
{
    return next(in, n_bytes) % below;
}

/*
 * The next bitmap. Each byte is a run of words: its lowest two bits say whether they are clean, full,
 * given, or have one page dirty; the others how many there are. A byte 0 ends it: the rest is clean.
 * Bits past n_pages are whatever comes.
 */
static inline void next_bitmap(struct input *in, uint64_t *words, uint64_t n_pages)
{
    uint64_t n_words = mpat_bitmap_words(n_pages), w = 0, run;
    memset(words, 0, n_words * sizeof(uint64_t));
    while (w < n_words && (run = next(in, 1)) != 0) {
        for (uint64_t end = w + 1 + (run >> 2); w < end && w < n_words; w++) {
            switch (run & 3) {
            case 0: break;
            case 1: words[w] = ~UINT64_C(0); break;
            case 2: words[w] = next(in, 8); break;
            default: words[w] = UINT64_C(1) << next_below(in, 64, 1);
            }
        }
    }
}

#define MOST_PAGES 144000u /* of a bitmap that is kept */

/* The next bitmap, kept until the next one of the same number i; it ends at a guard page. */
static inline uint64_t *next_guarded(struct input *in, size_t i, uint64_t n_pages)
{
    static uint64_t *kept[20]; /* to map them anew for each input takes longer than all else */
    MUST(i < sizeof(kept) / sizeof(kept[0]) && n_pages <= MOST_PAGES);
    if (kept[i] == NULL)
        MUST(mpat_bitmap_alloc(MOST_PAGES, &kept[i]) == 0);
    uint64_t *words = kept[i] + mpat_bitmap_words(MOST_PAGES) - mpat_bitmap_words(n_pages);
    next_bitmap(in, words, n_pages);
    return words;
}

static inline uint32_t next_group_pages(struct input *in)
{
    static const uint32_t sizes[] = {64,  128,  192,  448,   512,
                                     576, 1024, 4096, 33280, UINT32_C(1) << 31};
    return sizes[next_below(in, sizeof(sizes) / sizeof(sizes[0]), 1)];
}

/* All that the library answered, one after the other. */
struct answers {
    uint8_t *bytes;
    size_t n, room;
};

static inline void answer(struct answers *a, const void *bytes, size_t n)
{
    if (a->room - a->n < n) {
        a->room = 2 * (a->n + n);
        a->bytes = realloc(a->bytes, a->room);
        MUST(a->bytes != NULL);
    }
    if (n)
        memcpy(a->bytes + a->n, bytes, n);
    a->n += n;
}

static inline int same_answers(const struct answers *a, const struct answers *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->bytes, b->bytes, a->n) == 0);
}

static inline void forget_answers(struct answers *a)
{
    free(a->bytes);
    *a = (struct answers){NULL, 0, 0};
}

static inline void answer_groups(struct answers *a, const mpat_stats *stats, size_t region)
{
    mpat_groups g;
    MUST(mpat_stats_groups(stats, region, &g) == 0);
    answer(a, g.dirty, g.n_groups * sizeof(*g.dirty));
    answer(a, g.redirtied, g.n_groups * sizeof(*g.redirtied));
    answer(a, g.fresh, g.n_groups * sizeof(*g.fresh));
    answer(a, g.touched, g.n_groups * sizeof(*g.touched));
    answer(a, g.active_intervals, g.n_groups * sizeof(*g.active_intervals));
    answer(a, g.streak, g.n_groups * sizeof(*g.streak));
    answer(a, g.last_active, g.n_groups * sizeof(*g.last_active));
    answer(a, g.dirty_total, g.n_groups * sizeof(*g.dirty_total));
}

static inline void answer_hot(struct answers *a, mpat_history *history, size_t region,
                              uint64_t n_pages, uint32_t depth)
{
    uint64_t *out;
    MUST(mpat_bitmap_alloc(n_pages, &out) == 0);
    for (uint32_t k = 1; k <= depth; k++) {
        uint64_t n_distinct;
        MUST(mpat_history_hot_pages(history, region, k, out) == 0);
        answer(a, out, mpat_bitmap_words(n_pages) * sizeof(uint64_t));
        MUST(mpat_history_distinct_pages(history, k, &n_distinct) == 0);
        answer(a, &n_distinct, sizeof(n_distinct));
    }
    mpat_bitmap_free(out, n_pages);
}

/* Counts exactly; sums of fractions, which depend on their order, by themselves. */
static inline void answer_windows(struct answers *a, mpat_distinct *distinct, int64_t region,
                                  double *pages)
{
    for (size_t w = 0; w < mpat_distinct_windows(distinct); w++) {
        mpat_window window;
        MUST(mpat_distinct_window(distinct, w, region, &window) == 0);
        answer(a, &window.n_intervals, sizeof(window.n_intervals));
        answer(a, &window.n_windows, sizeof(window.n_windows));
        MUST(window.pages >= 0 && window.pages_std >= 0 && window.duration_s > 0);
        *pages++ = window.pages;
        *pages++ = window.pages_std;
    }
}

static inline int alike(double a, double b)
{
    double difference = a > b ? a - b : b - a, size = a > -a ? a : -a;
    return difference <= 1e-6 + 1e-9 * size;
}

#endif
