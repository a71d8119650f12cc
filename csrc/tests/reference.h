/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of bitmaps and statistics: input patterns, and answers bit by bit. */
#ifndef MPAT_REFERENCE_H
#define MPAT_REFERENCE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mempattern.h"

static int failures;
static char context[160]; /* what was being tested */

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition) && failures++ < 20)                                                       \
            fprintf(stderr, "%s:%d: %s [%s]\n", __FILE__, __LINE__, #condition, context);          \
    } while (0)

static uint64_t random_state = 88172645463325252u;

static uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 2685821657736338717u;
}

static uint64_t random_below(uint64_t n)
{
    return random64() % n;
}

static inline void *must(void *p)
{
    if (p == NULL)
        abort();
    return p;
}

static inline int bit(const uint64_t *words, uint64_t i)
{
    return (int)(words[i / 64] >> i % 64 & 1);
}

static void set_bit(uint64_t *words, uint64_t i, int value)
{
    words[i / 64] = (words[i / 64] & ~(UINT64_C(1) << i % 64)) | (uint64_t)value << i % 64;
}

enum { ZEROS, ONES, RANDOM, SPARSE, CLUSTERED, EDGES, ONE_LINE, N_PATTERNS };

/* Fill n bits; the rest of the last word becomes garbage, which nobody may count. */
static inline void fill(uint64_t *words, uint64_t n, int pattern)
{
    uint64_t n_words = (n + 63) / 64;
    for (uint64_t w = 0; w < n_words; w++)
        words[w] = pattern == ONES ? ~UINT64_C(0) : pattern == RANDOM ? random64() : 0;
    if (pattern == SPARSE) {
        for (uint64_t i = 0; i < 1 + n / 2000; i++)
            set_bit(words, random_below(n), 1);
    } else if (pattern == CLUSTERED) {
        for (uint64_t i = 0; i < 1 + n / 5000; i++) {
            uint64_t at = random_below(n), end = at + 1 + random_below(1500);
            for (; at < end && at < n; at++)
                set_bit(words, at, 1);
        }
    } else if (pattern == EDGES) { /* runs that cross or touch every edge of words and lines */
        for (uint64_t edge = 0; edge <= n; edge += 64) {
            uint64_t kind = random64();
            if (edge < n && kind & 1)
                set_bit(words, edge, 1);
            if (edge > 0 && kind & 2)
                set_bit(words, edge - 1, 1);
        }
    } else if (pattern == ONE_LINE) {
        uint64_t line = random_below((n + 511) / 512) * 512;
        for (uint64_t i = line; i < line + 512 && i < n; i++)
            set_bit(words, i, (int)(random64() & 1));
    }
    if (n % 64)
        words[n_words - 1] |= (pattern == ZEROS ? ~UINT64_C(0) : random64()) << n % 64;
}

#endif
