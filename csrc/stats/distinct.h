/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: distinct pages by window, and what is kept of the windows of each length. */
#ifndef MPAT_DISTINCT_H
#define MPAT_DISTINCT_H

#include "arena.h"
#include "history.h"

/*
 * Lengths are numbered: 1, 2, 3, 4, 6, 8, ... intervals are 0, 1, 2, 3, 4, 5, ... Above the first
 * they are two chains, of 2^j (odd) and of 3 * 2^j (even), in each of which a window is two of the
 * one before; the chains' first ones are two intervals and three.
 */
#define N_LENGTHS (2 * MPAT_MOST_WINDOWS)
#define CHAIN_LENGTH(chain) (MPAT_MOST_WINDOWS - (chain))
#define LENGTH_OF(chain, i) (2 * (i) + 1 + (chain))

/* Mean and sum of squared deviations of a number that is told one by one (Welford, 1962). */
struct moments {
    double mean, squares;
};

struct region {
    struct mpat_open_window window;
    struct moments pages;
};

/* The windows of one length. */
struct length {
    uint64_t n_windows;
    double open_s; /* of the open window, up to now */
    struct moments seconds, pages; /* pages: of all regions together */
    uint64_t bytes;
    struct mpat_arena arena;
    struct region regions[];
};

struct mpat_distinct {
    mpat_busy busy;
    int followed; /* by another object */
    int streams;  /* do open windows go around the cache? */
    uint64_t group_words;
    uint64_t position; /* intervals since the start or the last break */
    double observed;   /* seconds */
    _Atomic size_t n_complete; /* lengths with a complete window; read without entering, */
    _Atomic uint64_t bytes;    /* as is this */
    struct length *lengths[N_LENGTHS]; /* NULL: not needed yet */
    size_t n_regions;
    uint64_t region_pages[];
};

static inline size_t groups_of(const mpat_distinct *d, size_t region)
{
    return (size_t)((mpat_bitmap_words(d->region_pages[region]) - 1) / d->group_words + 1);
}

/* Make the arrays of a length, if they are not there yet. 0 or -ENOMEM. */
int mpat_distinct_reach(mpat_distinct *distinct, size_t length);

#endif
