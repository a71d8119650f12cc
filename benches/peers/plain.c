/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each piece of work as a plain loop over words with __builtin_popcountll, built with
 * -O3 -march=native. A group is 8 words, and n_words a multiple of that.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { GROUP = 8, N_INTERVALS = 12, N_LENGTHS = 7, N_DIGITS = 5 };

static inline unsigned count(uint64_t word)
{
    return (unsigned)__builtin_popcountll(word);
}

void plain_counts(const uint64_t *words, size_t n_words, uint32_t *counts)
{
    for (size_t g = 0; g < n_words / GROUP; g++) {
        uint64_t n = 0;
        for (size_t i = 0; i < GROUP; i++)
            n += count(words[g * GROUP + i]);
        counts[g] = (uint32_t)n;
    }
}

/* seen: dirty, redirtied, fresh. */
void plain_overlap(const uint64_t *words, const uint64_t *last, uint64_t *restrict ever,
                   size_t n_words, uint64_t *seen)
{
    uint64_t dirty = 0, redirtied = 0, fresh = 0;
    for (size_t i = 0; i < n_words; i++) {
        dirty += count(words[i]);
        redirtied += count(words[i] & last[i]);
        fresh += count(words[i] & ~ever[i]);
        ever[i] |= words[i];
    }
    seen[0] = dirty;
    seen[1] = redirtied;
    seen[2] = fresh;
}

uint64_t plain_runs(const uint64_t *words, size_t n_words)
{
    uint64_t n = count(words[0] & ~(words[0] << 1));
    for (size_t i = 1; i < n_words; i++)
        n += count(words[i] & ~(words[i] << 1 | words[i - 1] >> 63));
    return n;
}

/* Returns how many; pages == NULL: only that. */
uint64_t plain_pages(const uint64_t *words, size_t n_words, int64_t *pages)
{
    uint64_t n = 0;
    if (pages == NULL) {
        for (size_t i = 0; i < n_words; i++)
            n += count(words[i]);
        return n;
    }
    for (size_t i = 0; i < n_words; i++)
        for (uint64_t word = words[i]; word; word &= word - 1)
            pages[n++] = (int64_t)(64 * i) + __builtin_ctzll(word);
    return n;
}

/* One row a length: 1, 2, 3, 4, 6, 8, 12 intervals. */
static const struct {
    unsigned n_windows, n_parts, of;
} LENGTHS[N_LENGTHS] = {{12, 1, 0}, {6, 2, 0}, {4, 3, 0}, {3, 2, 1}, {2, 2, 2}, {1, 2, 3}, {1, 2, 4}};

/*
 * One group: into totals and squares the sums over its windows, of each length, of their pages and
 * of these squared.
 */
static inline void group_windows(const uint64_t *const *intervals, size_t at, uint64_t *totals,
                                 uint64_t *squares)
{
    uint64_t open[N_LENGTHS][N_INTERVALS][GROUP];
#pragma GCC unroll 12
    for (unsigned w = 0; w < N_INTERVALS; w++)
        memcpy(open[0][w], intervals[w] + at, sizeof(open[0][w]));
#pragma GCC unroll 7
    for (unsigned row = 0; row < N_LENGTHS; row++) {
        uint64_t total = 0, square = 0;
#pragma GCC unroll 12
        for (unsigned w = 0; w < LENGTHS[row].n_windows; w++) {
            uint64_t n = 0, *to = open[row][w];
            for (unsigned part = 0; row > 0 && part < LENGTHS[row].n_parts; part++) {
                const uint64_t *from = open[LENGTHS[row].of][LENGTHS[row].n_parts * w + part];
                for (unsigned i = 0; i < GROUP; i++)
                    to[i] = part ? to[i] | from[i] : from[i];
            }
            for (unsigned i = 0; i < GROUP; i++)
                n += count(to[i]);
            total += n;
            square += n * n;
        }
        totals[row] = total;
        squares[row] = square;
    }
}

void plain_windows(const uint64_t *const *intervals, size_t n_words, uint64_t *sums)
{
    uint64_t totals[N_LENGTHS], squares[N_LENGTHS];
    memset(sums, 0, sizeof(totals));
    for (size_t at = 0; at < n_words; at += GROUP) {
        group_windows(intervals, at, totals, squares);
        for (unsigned row = 0; row < N_LENGTHS; row++)
            sums[row] += totals[row];
    }
}

/* sums, squares: N_LENGTHS rows of one entry a group. */
void plain_group_windows(const uint64_t *const *intervals, size_t n_words, uint64_t *sums,
                         uint64_t *squares)
{
    uint64_t total[N_LENGTHS], square[N_LENGTHS];
    size_t n_groups = n_words / GROUP;
    for (size_t g = 0; g < n_groups; g++) {
        group_windows(intervals, g * GROUP, total, square);
        for (unsigned row = 0; row < N_LENGTHS; row++) {
            sums[row * n_groups + g] = total[row];
            squares[row * n_groups + g] = square[row];
        }
    }
}

/* found = in k of the intervals or more, of which there are fewer than 32: by binary counters. */
void plain_hot(const uint64_t *const *intervals, size_t n_intervals, unsigned k, size_t n_words,
               uint64_t *restrict found)
{
    for (size_t at = 0; at < n_words; at += GROUP) {
        uint64_t digits[N_DIGITS][GROUP] = {{0}}, more[GROUP] = {0};
        for (size_t n = 0; n < n_intervals; n++)
            for (unsigned i = 0; i < GROUP; i++) {
                uint64_t carry = intervals[n][at + i];
                for (unsigned d = 0; d < N_DIGITS; d++) {
                    uint64_t digit = digits[d][i];
                    digits[d][i] = digit ^ carry;
                    carry &= digit;
                }
            }
        for (unsigned d = 0; d < N_DIGITS; d++)
            for (unsigned i = 0; i < GROUP; i++)
                more[i] = (k - 1) >> d & 1 ? digits[d][i] & more[i] : digits[d][i] | more[i];
        memcpy(found + at, more, sizeof(more));
    }
}

/* The arrays of mpat_groups, and the sums that write rates are made from. */
struct plain_groups {
    uint32_t *dirty, *redirtied, *fresh, *touched, *active_intervals, *streak;
    int32_t *last_active;
    uint64_t *dirty_total;
    double *rate;
};

/* seen: dirty, redirtied, fresh pages, active groups, runs. */
void plain_update(const uint64_t *words, uint64_t *restrict last, uint64_t *restrict ever,
                  size_t n_words, int32_t number, double decay, const struct plain_groups *to,
                  uint64_t *seen)
{
    uint64_t before = 0;
    memset(seen, 0, 5 * sizeof(*seen));
    for (size_t g = 0; g < n_words / GROUP; g++) {
        uint64_t dirty = 0, redirtied = 0, fresh = 0, runs = 0;
        for (size_t i = g * GROUP; i < (g + 1) * GROUP; i++) {
            dirty += count(words[i]);
            redirtied += count(words[i] & last[i]);
            fresh += count(words[i] & ~ever[i]);
            runs += count(words[i] & ~(words[i] << 1 | before >> 63));
            before = words[i];
            last[i] = words[i];
            ever[i] |= words[i];
        }
        to->dirty[g] = (uint32_t)dirty;
        to->redirtied[g] = (uint32_t)redirtied;
        to->fresh[g] = (uint32_t)fresh;
        to->touched[g] += (uint32_t)fresh;
        to->active_intervals[g] += dirty > 0;
        to->streak[g] = dirty > 0 ? to->streak[g] + 1 : 0;
        if (dirty)
            to->last_active[g] = number;
        to->dirty_total[g] += dirty;
        to->rate[g] = to->rate[g] * decay + (double)dirty;
        seen[0] += dirty;
        seen[1] += redirtied;
        seen[2] += fresh;
        seen[3] += dirty > 0;
        seen[4] += runs;
    }
}
