/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal: what was written in each interval of a recording, as its lines that are not empty.
 *
 * The pages of all regions lie in one row of lines, each region beginning at a line. Of a line only
 * the words that are not empty are kept: a page written here and there costs 14 bytes, and a whole
 * line 70 instead of 64.
 */
#ifndef MPAT_RECORDING_H
#define MPAT_RECORDING_H

#include "../stats/history.h"

#define MPAT_WORD_PAGES 64u

struct mpat_extent {
    uint64_t n_pages, n_words;
    uint64_t first_line, n_lines;
};

/* Lines of one interval, in order; line i has the words of mask[i], which follow each other. */
struct mpat_lines {
    uint64_t n_lines;
    const uint32_t *line;
    const uint8_t *mask;
    const uint8_t *writes; /* MPAT_WRITES_CLASSES: how often its pages were written, see draw.h */
    const uint64_t *words;
};

struct mpat_recording {
    mpat_busy busy;
    atomic_int sealed;
    uint64_t n_intervals, n_lines, n_words; /* kept so far */
    uint64_t room_intervals, room_lines, room_words;
    _Atomic uint64_t bytes; /* reserved: asked for while it grows */
    uint64_t *first_line, *first_word; /* of each interval, and past the last one */
    double *end;                       /* of each interval, after a 0 */
    uint32_t *line;
    uint8_t *mask, *writes;
    uint64_t *words;
    uint64_t *ever;  /* pages written in any interval, by line */
    uint64_t loop;   /* the interval that follows the last one */
    uint64_t all_lines;
    size_t n_regions;
    struct mpat_extent regions[];
};

struct mpat_lines mpat_recording_lines(const struct mpat_recording *recording, uint64_t interval);

#endif
