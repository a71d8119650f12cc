/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal: bitmaps of the pages of all regions, each with a summary of one bit for each line that
 * may not be empty, so that what is clean costs nothing.
 */
#ifndef MPAT_LINES_H
#define MPAT_LINES_H

#include <string.h>

#include "../stats/history.h"

struct mpat_bitmap {
    uint64_t *words;   /* of all lines */
    uint64_t *summary; /* a bit a line */
};

static inline int popcount(uint64_t word)
{
    return __builtin_popcountll(word);
}

static inline void mark(uint64_t *summary, uint64_t line)
{
    summary[line / 64] |= UINT64_C(1) << line % 64;
}

static inline void unmark(uint64_t *summary, uint64_t line)
{
    summary[line / 64] &= ~(UINT64_C(1) << line % 64);
}

/* The first line from `line` on that is in the summary, or `end`. */
static inline uint64_t next_line(const uint64_t *summary, uint64_t line, uint64_t end)
{
    if (line >= end)
        return end;
    uint64_t word = line / 64, bits = summary[word] & UINT64_MAX << line % 64;
    while (bits == 0) {
        if (++word * 64 >= end)
            return end;
        bits = summary[word];
    }
    line = word * 64 + (uint64_t)__builtin_ctzll(bits);
    return line < end ? line : end;
}

#define EACH_LINE(line, summary, from, end)                                                        \
    for (uint64_t line = next_line(summary, from, end); line < (end);                              \
         line = next_line(summary, line + 1, end))

static inline uint64_t *words_of(const struct mpat_bitmap *bitmap, uint64_t line)
{
    return bitmap->words + line * MPAT_LINE_WORDS;
}

static inline int is_empty(const uint64_t *words)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < MPAT_LINE_WORDS; i++)
        any |= words[i];
    return any == 0;
}

static inline void clear_lines(struct mpat_bitmap *bitmap, uint64_t n_lines)
{
    EACH_LINE(line, bitmap->summary, 0, n_lines)
        memset(words_of(bitmap, line), 0, MPAT_LINE_WORDS * sizeof(uint64_t));
    memset(bitmap->summary, 0, (n_lines + 63) / 64 * sizeof(uint64_t));
}

#endif
