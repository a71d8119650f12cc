/* SPDX-License-Identifier: Apache-2.0 */
/* What the statistics are compared with: one region, every interval kept and recounted. */
#ifndef MPAT_STATS_MODEL_H
#define MPAT_STATS_MODEL_H

#include <math.h>

#include "intervals.h"

static uint32_t model_dirty(const struct model *m, uint32_t t, uint64_t from, uint64_t to)
{
    uint32_t count = 0;
    for (uint64_t i = from; i < to; i++)
        count += (uint32_t)bit(m->bitmap[t], i);
    return count;
}

/* The definition: the mean of the intervals' rates, weighted by the integral of 2^(-age/h). */
static double model_rate(const struct model *m, const uint32_t *dirty)
{
    double age = 0, sum = 0, weights = 0;
    for (uint32_t t = m->t; t-- > 0;) {
        double d = m->duration[t];
        double weight = exp2(-age / m->half_life) * -expm1(-d / m->half_life * M_LN2);
        sum += weight * dirty[t] / d;
        weights += weight;
        age += d;
    }
    return weights > 0 ? sum / weights : 0;
}

static int close_to(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fabs(b) + 1e-290;
}

static void check_model(const struct model *m, mpat_stats *stats, size_t region,
                        const mpat_seen *seen)
{
    mpat_groups g;
    mpat_seen sum = {0};
    uint32_t now = m->t - 1;
    CHECK(mpat_stats_groups(stats, region, &g) == 0);
    CHECK(g.n_groups == (m->n + m->group - 1) / m->group);
    double *rate = must(malloc(g.n_groups * sizeof(*rate)));
    CHECK(mpat_stats_write_rate(stats, region, rate) == 0);
    for (uint64_t i = 0; i < g.n_groups; i++) {
        uint64_t from = i * m->group, to = from + m->group < m->n ? from + m->group : m->n;
        uint32_t dirty[MAX_INTERVALS], redirtied = 0, fresh = 0, touched = 0, active = 0;
        uint64_t total = 0;
        int32_t last = -1;
        for (uint32_t t = 0; t <= now; t++) {
            dirty[t] = model_dirty(m, t, from, to);
            total += dirty[t];
            active += dirty[t] > 0;
            last = dirty[t] ? (int32_t)t : last;
        }
        uint32_t streak = 0;
        while (streak <= now && dirty[now - streak])
            streak++;
        for (uint64_t page = from; page < to; page++) {
            int before = 0, cur = bit(m->bitmap[now], page);
            for (uint32_t t = 0; t < now; t++)
                before |= bit(m->bitmap[t], page);
            redirtied += (uint32_t)(cur && now > 0 && bit(m->bitmap[now - 1], page));
            fresh += (uint32_t)(cur && !before);
            touched += (uint32_t)(cur | before);
            sum.runs += (uint64_t)(cur && (page == 0 || !bit(m->bitmap[now], page - 1)));
        }
        CHECK(g.dirty[i] == dirty[now]);
        CHECK(g.redirtied[i] == redirtied);
        CHECK(g.fresh[i] == fresh);
        CHECK(g.touched[i] == touched);
        CHECK(g.active_intervals[i] == active);
        CHECK(g.streak[i] == streak);
        CHECK(g.last_active[i] == last);
        CHECK(g.dirty_total[i] == total);
        CHECK(close_to(rate[i], model_rate(m, dirty)));
        sum.dirty_pages += dirty[now];
        sum.redirtied_pages += redirtied;
        sum.fresh_pages += fresh;
        sum.active_groups += dirty[now] > 0;
    }
    CHECK(seen->dirty_pages == sum.dirty_pages);
    CHECK(seen->redirtied_pages == sum.redirtied_pages);
    CHECK(seen->fresh_pages == sum.fresh_pages);
    CHECK(seen->active_groups == sum.active_groups);
    CHECK(seen->runs == sum.runs);
    free(rate);
}

static void check_hot(const struct model *m, mpat_history *history, size_t region, uint32_t depth)
{
    uint64_t *out = must(malloc(m->n_words * sizeof(uint64_t)));
    for (uint32_t k = 1; k <= depth; k++) {
        CHECK(mpat_history_hot_pages(history, region, k, out) == 0);
        for (uint64_t i = 0; i < m->n_words * 64; i++) {
            uint32_t hits = 0;
            for (uint32_t t = m->t > depth ? m->t - depth : 0; i < m->n && t < m->t; t++)
                hits += (uint32_t)bit(m->bitmap[t], i);
            CHECK(bit(out, i) == (hits >= k));
        }
    }
    free(out);
}

/* Pages of the region dirty in at least one of the last intervals. */
static uint64_t model_distinct(const struct model *m, uint32_t last)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < m->n; i++) {
        int any = 0;
        for (uint32_t t = m->t > last ? m->t - last : 0; t < m->t; t++)
            any |= bit(m->bitmap[t], i);
        sum += (uint64_t)any;
    }
    return sum;
}

static void check_distinct(const struct model *models, size_t n_regions, mpat_history *history,
                           uint32_t depth)
{
    for (uint32_t last = 1; last <= depth; last++) {
        uint64_t sum = 0, out;
        for (size_t r = 0; r < n_regions; r++)
            sum += model_distinct(&models[r], last);
        CHECK(mpat_history_distinct_pages(history, last, &out) == 0 && out == sum);
    }
}

#endif
