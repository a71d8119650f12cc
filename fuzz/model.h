/* SPDX-License-Identifier: Apache-2.0 */
/* What all that the library says of one region is held to: plain loops over words and pages. */
#ifndef MPAT_FUZZ_MODEL_H
#define MPAT_FUZZ_MODEL_H

#include <math.h>

#include "input.h"

#define FEW_PAGES 40000u
#define MOST_WORDS (MOST_PAGES / 64)
#define MOST_INTERVALS 20u

static const uint32_t lengths[8] = {1, 2, 3, 4, 6, 8, 12, 16}; /* of windows */

/* Intervals of a second, and a half-life of one. */
struct model {
    uint64_t n_pages, n_words, n_groups, group_words;
    uint32_t group_pages, depth, t;
    const uint64_t *bitmaps[MOST_INTERVALS];
    uint64_t words[MOST_INTERVALS][MOST_WORDS]; /* without what lies past the end */
    uint64_t ever[MOST_WORDS];
    mpat_seen seen;
    uint32_t dirty[MOST_WORDS], redirtied[MOST_WORDS], fresh[MOST_WORDS], touched[MOST_WORDS];
    uint32_t active_intervals[MOST_WORDS], streak[MOST_WORDS];
    int32_t last_active[MOST_WORDS];
    uint64_t dirty_total[MOST_WORDS];
    double rates[MOST_WORDS], weight; /* of all intervals */
    uint64_t hot[16][MOST_WORDS];     /* in at least so many of the last `depth`, from 1 */
    uint64_t n_distinct[16];          /* in the last so many */
    size_t n_lengths;                 /* with a complete window, in the region and in its groups: */
    double mean[8], deviation[8], means[8][MOST_WORDS], deviations[8][MOST_WORDS];
};

static uint32_t count(uint64_t word)
{
    return (uint32_t)__builtin_popcountll(word);
}

static void model_begin(struct model *m, uint64_t n_pages, uint32_t group_pages, uint32_t depth)
{
    m->n_pages = n_pages;
    m->n_words = mpat_bitmap_words(n_pages);
    m->group_pages = group_pages;
    m->group_words = group_pages / 64;
    m->n_groups = (m->n_words + m->group_words - 1) / m->group_words;
    m->depth = depth;
    m->t = 0;
    m->weight = 0;
    memset(m->ever, 0, sizeof(m->ever));
    for (uint64_t g = 0; g < m->n_groups; g++) {
        m->touched[g] = m->active_intervals[g] = m->streak[g] = 0;
        m->dirty_total[g] = 0;
        m->last_active[g] = -1;
        m->rates[g] = 0;
    }
}

static void model_add_group(struct model *m, uint64_t g)
{
    const uint64_t *now = m->words[m->t], *before = m->t ? m->words[m->t - 1] : NULL;
    uint64_t end = (g + 1) * m->group_words < m->n_words ? (g + 1) * m->group_words : m->n_words;
    m->dirty[g] = m->redirtied[g] = m->fresh[g] = 0;
    for (uint64_t w = g * m->group_words; w < end; w++) {
        uint64_t carry = w ? now[w - 1] >> 63 : 0;
        m->dirty[g] += count(now[w]);
        m->redirtied[g] += before ? count(now[w] & before[w]) : 0;
        m->fresh[g] += count(now[w] & ~m->ever[w]);
        m->seen.runs += count(now[w] & ~(now[w] << 1 | carry));
        m->ever[w] |= now[w];
    }
    m->touched[g] += m->fresh[g];
    m->dirty_total[g] += m->dirty[g];
    m->active_intervals[g] += m->dirty[g] > 0;
    m->streak[g] = m->dirty[g] ? m->streak[g] + 1 : 0;
    if (m->dirty[g])
        m->last_active[g] = (int32_t)m->t;
    m->rates[g] = m->rates[g] / 2 + 0.5 * m->dirty[g];
    m->seen.dirty_pages += m->dirty[g];
    m->seen.redirtied_pages += m->redirtied[g];
    m->seen.fresh_pages += m->fresh[g];
    m->seen.active_groups += m->dirty[g] > 0;
}

static const uint64_t *model_add(struct model *m, const uint64_t *bitmap)
{
    m->bitmaps[m->t] = bitmap;
    memcpy(m->words[m->t], bitmap, m->n_words * sizeof(*bitmap));
    if (m->n_pages % 64)
        m->words[m->t][m->n_words - 1] &= (UINT64_C(1) << m->n_pages % 64) - 1;
    m->seen = (mpat_seen){0};
    for (uint64_t g = 0; g < m->n_groups; g++)
        model_add_group(m, g);
    m->weight = m->weight / 2 + 0.5;
    m->t++;
    return bitmap;
}

static void model_check_stats(const struct model *m, mpat_stats *stats, const mpat_seen *seen)
{
    mpat_groups g;
    double rates[MOST_WORDS];
    MUST(memcmp(seen, &m->seen, sizeof(*seen)) == 0);
    MUST(mpat_stats_groups(stats, 0, &g) == 0 && g.n_groups == m->n_groups);
#define SAME(field) MUST(memcmp(g.field, m->field, g.n_groups * sizeof(*g.field)) == 0)
    SAME(dirty);
    SAME(redirtied);
    SAME(fresh);
    SAME(touched);
    SAME(active_intervals);
    SAME(streak);
    SAME(last_active);
    SAME(dirty_total);
#undef SAME
    MUST(mpat_stats_write_rate(stats, 0, rates) == 0);
    for (uint64_t i = 0; i < g.n_groups; i++)
        MUST(alike(rates[i], m->rates[i] / m->weight));
}

static void model_check_history(const struct model *m, mpat_history *history)
{
    uint64_t *out = malloc(m->n_words * sizeof(*out)), n_distinct;
    MUST(out != NULL);
    for (uint32_t k = 1; k <= m->depth; k++) {
        MUST(mpat_history_hot_pages(history, 0, k, out) == 0);
        MUST(memcmp(out, m->hot[k - 1], m->n_words * sizeof(*out)) == 0);
        MUST(mpat_history_distinct_pages(history, k, &n_distinct) == 0);
        MUST(n_distinct == m->n_distinct[k - 1]);
    }
    free(out);
}

/* Mean and standard deviation of what the words [from, to) have in windows of n intervals. */
static void model_windows(const struct model *m, uint32_t n, uint64_t from, uint64_t to,
                          double *mean, double *deviation)
{
    uint64_t sum = 0, squares = 0, n_windows = m->t / n;
    for (uint32_t t = 0; t + n <= m->t; t += n) {
        uint64_t pages = 0;
        for (uint64_t w = from; w < to; w++) {
            uint64_t any = 0;
            for (uint32_t i = t; i < t + n; i++)
                any |= m->words[i][w];
            pages += count(any);
        }
        sum += pages;
        squares += pages * pages;
    }
    *mean = (double)sum / (double)n_windows;
    *deviation = 0;
    if (n_windows > 1)
        *deviation = sqrt((double)(n_windows * squares - sum * sum) /
                          (double)(n_windows * (n_windows - 1)));
}

/* What the histories and the windows must say at the end. */
static void model_recall(struct model *m)
{
    memset(m->n_distinct, 0, sizeof(m->n_distinct));
    for (uint64_t w = 0; w < m->n_words; w++) {
        uint64_t any = 0, at_least[17] = {0};
        for (uint32_t last = 1; last <= m->depth; last++) {
            uint64_t word = last <= m->t ? m->words[m->t - last][w] : 0;
            m->n_distinct[last - 1] += count(any |= word);
            for (uint32_t k = last; k > 1; k--)
                at_least[k] |= at_least[k - 1] & word;
            at_least[1] |= word;
        }
        for (uint32_t k = 1; k <= m->depth; k++)
            m->hot[k - 1][w] = at_least[k];
    }
    m->n_lengths = 0;
    while (m->n_lengths < 8 && lengths[m->n_lengths] <= m->t)
        m->n_lengths++;
    for (size_t l = 0; l < m->n_lengths; l++) {
        model_windows(m, lengths[l], 0, m->n_words, &m->mean[l], &m->deviation[l]);
        for (uint64_t g = 0; g < m->n_groups; g++) {
            uint64_t end = (g + 1) * m->group_words;
            model_windows(m, lengths[l], g * m->group_words, end < m->n_words ? end : m->n_words,
                          &m->means[l][g], &m->deviations[l][g]);
        }
    }
}

static void model_check_windows(const struct model *m, mpat_distinct *distinct)
{
    double means[MOST_WORDS], deviations[MOST_WORDS];
    MUST(mpat_distinct_windows(distinct) == m->n_lengths);
    for (size_t l = 0; l < m->n_lengths; l++) {
        mpat_window window;
        MUST(mpat_distinct_window(distinct, l, 0, &window) == 0);
        MUST(window.n_intervals == lengths[l] && window.n_windows == m->t / lengths[l]);
        MUST(alike(window.duration_s, lengths[l]) && alike(window.duration_std_s, 0));
        MUST(alike(window.pages, m->mean[l]) && alike(window.pages_std, m->deviation[l]));
        MUST(mpat_distinct_groups(distinct, l, 0, means, deviations) == 0);
        for (uint64_t g = 0; g < m->n_groups; g++)
            MUST(alike(means[g], m->means[l][g]) && alike(deviations[g], m->deviations[l][g]));
    }
}

#endif
