/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal: what a kernel does for the rest of the library.
 *
 * Everything works in lines of 8 words (512 pages, one cache line). Each stored bitmap has a
 * summary with one bit a line, set where the line is not zero (of open windows: where it may not be):
 * 64 lines are judged by one word, so what stayed clean is neither read nor written, whatever the
 * group size.
 */
#ifndef MPAT_KERNELS_H
#define MPAT_KERNELS_H

#include "mempattern.h"

#define MPAT_LINE_WORDS 8u
#define MPAT_BLOCK_LINES 64u /* lines judged by one summary word */

/* Bits of the last word that stand for pages. */
static inline uint64_t mpat_last_mask(uint64_t n_pages)
{
    return n_pages % 64 ? (UINT64_C(1) << n_pages % 64) - 1 : ~UINT64_C(0);
}

static inline uint64_t mpat_lines(uint64_t n_words)
{
    return n_words / MPAT_LINE_WORDS + (n_words % MPAT_LINE_WORDS != 0);
}

/* An input bitmap: only 8-byte aligned, may end at a guard page, may have bits past its end. */
struct mpat_input {
    const uint64_t *words;
    uint64_t n_words;
    uint64_t last_mask;
};

/* A bitmap of our own: 64-byte aligned, whole lines, zero past its end. */
struct mpat_slot {
    uint64_t *words;
    uint64_t *lines; /* the summary */
};

/* One region's group arrays, 64-byte aligned and padded to whole blocks of 64 groups. */
struct mpat_group_arrays {
    uint32_t *dirty, *redirtied, *fresh, *touched, *active_intervals, *streak;
    int32_t *last_active;
    uint64_t *dirty_total;
    double *rate; /* decaying sum, see stats.c */
};

/* The fused pass over one region. prev and next are the same slot in a history of depth 1. */
struct mpat_pass {
    struct mpat_input cur;
    struct mpat_slot prev, next;
    uint64_t *ever;
    struct mpat_group_arrays groups;
    uint64_t group_words;
    double weight; /* of one dirty page in rate */
    int32_t now;   /* index of this interval */
    int stream;    /* next is too large to stay in cache: store around it */
    mpat_seen seen; /* out; zeroed by the caller */
};

/* Slots of one region in a history, all of them seen. */
struct mpat_history_view {
    const uint64_t *words, *lines;
    uint64_t words_stride, lines_stride; /* from one slot to the next */
    uint32_t n_slots;
    uint64_t n_words;
};

/*
 * A group that is a line has so few dirty pages that the sum and the sum of squares share a word,
 * the squares above: half the memory to go through, and one addition.
 */
#define MPAT_SUMS(dirty) ((uint64_t)(dirty) | (uint64_t)(uint32_t)((dirty) * (dirty)) << 32)
#define MPAT_SUMS_PAGES(sums) ((uint32_t)(sums))
#define MPAT_SUMS_SQUARES(sums) ((uint32_t)((sums) >> 32))
#define MPAT_SUMS_WINDOWS 8192u /* of 512 pages: their squares add up to 2^31 */

/*
 * Windows of one length over one region: the one that is open, and sums over those that are
 * complete. Words of lines that are not in the summary mean nothing.
 */
struct mpat_open_window {
    struct mpat_slot slot;
    uint64_t *near;  /* room for a block, while a pass is at it; all regions' */
    const uint64_t *at; /* the block's words, while a pass is at it, or NULL: in the slot */
    uint64_t *pages; /* as the group arrays: the sum of each group's dirty pages, */
    double *squares; /* and of their squares */
    uint64_t *sums;  /* both, of windows not yet in these, if a group is a line: MPAT_SUMS */
};

/* One complete window of one region. */
struct mpat_tally {
    uint64_t pages;                         /* out; zeroed by the caller, as is all */
    uint64_t group, group_end, group_dirty; /* the kernel's own, between zero and zero */
};

#define MPAT_MOST_WINDOWS 20u /* in a chain, see stats/distinct.c */

/*
 * One interval joins the windows that are open. Of each chain, where a window is twice as long as
 * the one before, the first n_complete are complete with this interval, and the next one, if there
 * is one, takes it in.
 */
struct mpat_distinct_step {
    const uint64_t *words;
    uint32_t n_complete[2];
    int is_dense; /* the kernel's own */
    struct mpat_tally single, complete[2][MPAT_MOST_WINDOWS];
};

/* Successive intervals of one region. */
struct mpat_distinct_pass {
    struct mpat_input in; /* its words are those of the step */
    uint64_t group_words;
    struct mpat_open_window *single; /* of one interval; has no slot */
    struct mpat_open_window *windows[2][MPAT_MOST_WINDOWS + 1]; /* then NULL */
    struct mpat_distinct_step *steps;
    uint32_t n_steps;
    int stream; /* windows are too large to stay in cache: store around it */
};

struct mpat_kernel {
    const char *name;
    int (*supported)(void);
    /* counts[g] for groups of group_words words */
    void (*counts)(const struct mpat_input *in, uint64_t group_words, uint32_t *counts);
    /* *seen, which is zero, = what the interval did, with groups of a line; ever |= in */
    void (*tally)(const struct mpat_input *in, const uint64_t *prev, uint64_t *ever,
                  mpat_seen *seen);
    /* out[0] to out[*n - 1] = numbers of the pages; 0, with *n left as it is, if there is no room */
    int (*pages)(const struct mpat_input *in, int64_t *out, uint64_t room, uint64_t *n);
    void (*pass)(struct mpat_pass *pass);
    /* slot = in */
    void (*append)(const struct mpat_input *in, const struct mpat_slot *slot);
    /* out = bits set in at least at_least (>= 1) of the slots */
    void (*hot)(const struct mpat_history_view *history, uint32_t at_least, uint64_t *out);
    void (*distinct)(struct mpat_distinct_pass *pass);
};

extern const struct mpat_kernel mpat_kernel_scalar;
#if defined(__x86_64__)
extern const struct mpat_kernel mpat_kernel_avx2;
#endif
#if defined(__x86_64__) || defined(MPAT_SIMDE)
extern const struct mpat_kernel mpat_kernel_avx512;
#endif
#if defined(__aarch64__) || defined(MPAT_SIMDE)
extern const struct mpat_kernel mpat_kernel_neon;
#endif

/* The kernel in use; 0, -ENOENT or -ENOTSUP. */
int mpat_kernel_get(const struct mpat_kernel **out);

#endif
