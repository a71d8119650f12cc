/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal: which pages of an interval are written in a part of it.
 *
 * Pages of a line are written at random moments, so often that they come back in the next interval
 * as they came back from the one before. Then a page written in an interval at all was first
 * written before the fraction x of it with the probability (1 - exp(-n x)) / (1 - exp(-n)).
 */
#ifndef MPAT_DRAW_H
#define MPAT_DRAW_H

#include <math.h>
#include <stdint.h>

#define MPAT_WRITES_CLASSES 256u
/* A page that comes back in every interval is written this often in one, at least. */
#define MPAT_MOST_WRITES 7.0

/* The class of a line by the pages dirty in it, those that were in the interval before too, and
 * those dirty in that: of two unlike intervals, the smaller one bounds what can be in both. */
static inline uint8_t mpat_writes_class(int dirty, int redirtied, int before)
{
    int least = before != 0 && before < dirty ? before : dirty;
    double back = (double)redirtied / least;
    double writes = back < 1.0 ? fmin(-log1p(-back), MPAT_MOST_WRITES) : MPAT_MOST_WRITES;
    return (uint8_t)lround(writes / MPAT_MOST_WRITES * (MPAT_WRITES_CLASSES - 1));
}

/* Thresholds of two hashes, for the pages of a line. */
struct mpat_odds {
    uint64_t before; /* the first write was before the part */
    uint64_t within; /* or in the part at the latest */
    uint64_t again;  /* having been written before, it is written in the part once more */
};

static inline uint64_t mpat_threshold(double probability)
{
    return probability >= 1.0 ? UINT64_MAX : (uint64_t)(probability * 0x1p64);
}

static inline struct mpat_odds mpat_odds(uint8_t writes_class, double from, double to)
{
    double writes = writes_class * (MPAT_MOST_WRITES / (MPAT_WRITES_CLASSES - 1));
    if (writes_class == 0)
        return (struct mpat_odds){mpat_threshold(from), mpat_threshold(to), 0};
    double all = -expm1(-writes);
    return (struct mpat_odds){mpat_threshold(-expm1(-writes * from) / all),
                              mpat_threshold(-expm1(-writes * to) / all),
                              mpat_threshold(-expm1(-writes * (to - from)))};
}

/* splitmix64's finalizer: https://prng.di.unimi.it/splitmix64.c */
static inline uint64_t mpat_mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Of a word whose first page is `page`: with one seed, the parts of an interval make up the whole. */
static inline uint64_t mpat_draw(uint64_t bits, uint64_t page, uint64_t seed,
                                 const struct mpat_odds *odds)
{
    uint64_t chosen = 0;
    for (uint64_t rest = bits; rest != 0; rest &= rest - 1) {
        uint64_t bit = rest & -rest, number = page + (uint64_t)__builtin_ctzll(rest);
        uint64_t hash = mpat_mix(seed + number * UINT64_C(0x9e3779b97f4a7c15));
        int first_before = hash < odds->before;
        if (first_before ? mpat_mix(hash ^ odds->within) < odds->again : hash < odds->within)
            chosen |= bit;
    }
    return chosen;
}

#endif
