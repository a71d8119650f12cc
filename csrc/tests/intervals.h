/* SPDX-License-Identifier: Apache-2.0 */
/* Every interval of one region, kept for models to recount; and what comes in them. */
#ifndef MPAT_INTERVALS_H
#define MPAT_INTERVALS_H

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

/*
 * A mixture in which single lines fall idle for every number of intervals around the depth, whole
 * blocks are skipped, and everything is dirty now and then.
 */
static void next_input(uint64_t *words, uint64_t n, uint32_t t, uint32_t depth)
{
    static const int kinds[] = {SPARSE, ONE_LINE, CLUSTERED, EDGES, RANDOM, ONES};
    uint64_t die = random_below(16);
    uint32_t phase = t % (2 * depth + 5);
    if (phase > 1 && phase < depth + 3)
        fill(words, n, die < 13 ? ZEROS : ONE_LINE); /* idle for about as long as is remembered */
    else
        fill(words, n, kinds[die % 6]);
}

#endif
