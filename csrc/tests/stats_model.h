/* SPDX-License-Identifier: Apache-2.0 */
/* The model that test_stats.c compares with: one region, every interval kept and recounted. */
#ifndef MPAT_STATS_MODEL_H
#define MPAT_STATS_MODEL_H

#include <math.h>

#include "reference.h"

#define MAX_INTERVALS 64

struct model {
    uint64_t n, n_words;
    uint32_t group;
    uint32_t t; /* intervals so far */
    double half_life;
    double duration[MAX_INTERVALS];
    uint64_t *bitmap[MAX_INTERVALS];
};

static void model_add(struct model *m, const uint64_t *words, double duration)
{
    m->bitmap[m->t] = must(malloc(m->n_words * sizeof(uint64_t)));
    memcpy(m->bitmap[m->t], words, m->n_words * sizeof(uint64_t));
    m->duration[m->t++] = duration;
}

static void model_free(struct model *m)
{
    while (m->t > 0)
        free(m->bitmap[--m->t]);
}

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

#endif
