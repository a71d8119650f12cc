/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loops of a kernel, compiled once per instruction set. The file that includes this defines,
 * for its instruction set,
 *
 *   vec                 a vector of 64-bit words, 8-byte aligned, with the bitwise operators
 *   vec_any(v)          is it not zero
 *   word_count(w)       bits set in a word
 *   line_any(p)         is a line not zero; p 8-byte aligned
 *   block_any(p)        the same for the 64 lines of a block, a bit each
 *   line_count(p)       bits set in a line; p 8-byte aligned
 *   line_lanes(v)       the same, as a sum in each word of a vec; v: the line as vecs
 *   words_count(p)      may be defined with HAVE_WORDS_COUNT: line_count without vectors, for loops
 *                       that keep these busy
 *   lines_count(p, n, counts)     the same for n lines
 *   line_starts(p, before, starts)   the bits that begin a run, as vecs; before: the word in front
 *   line_fuse(...)      below
 *   line_clear(p, stream)         zero a line; around the cache if stream
 *   line_copy(out, in, stream)    out 64-byte aligned
 *   stores_done()       make streaming stores visible
 *   book_block(...)     may be defined with HAVE_BOOK_BLOCK, else the plain one below
 *   word_pages(...), line_words(...)   likewise, else the plain ones in bitmap.inc.h
 *
 * and then KERNEL_NAME, KERNEL_SUPPORTED for the table entry.
 */
#include <string.h>

/*
 * uint64_t line_fuse(const uint64_t *cur, const uint64_t *prev, uint64_t *next, uint64_t *ever,
 *                    uint64_t before, int stream)
 *
 * One line: next = cur, ever |= cur where that changes it; before is the word in front of cur. It
 * returns its four counts, which are at most 512, in 16 bits each:
 */
#define DIRTY(packed) ((uint32_t)(packed)&0xffff)
#define REDIRTIED(packed) ((uint32_t)((packed) >> 16) & 0xffff)
#define FRESH(packed) ((uint32_t)((packed) >> 32) & 0xffff)
#define RUNS(packed) ((uint32_t)((packed) >> 48))
#define PACK(dirty, redirtied, fresh, runs)                                                        \
    ((uint64_t)(dirty) | (uint64_t)(redirtied) << 16 | (uint64_t)(fresh) << 32 |                   \
     (uint64_t)(runs) << 48)

#define LINE MPAT_LINE_WORDS
#define BLOCK MPAT_BLOCK_LINES
#define BLOCK_WORDS ((uint64_t)BLOCK * LINE)
#define LINE_VECS (LINE * sizeof(uint64_t) / sizeof(vec))

/* So that sums stay in registers, and a null pointer given as such costs nothing. */
#define INLINED static inline __attribute__((always_inline))

/* From so many of 64 groups on it is cheaper to keep the books of all of them with vectors. */
#define DENSE_FROM 16
/* And from memory all in order is faster than many in part. */
#define IN_ORDER_FROM 8

/* Visit the set bits of a word, lowest first. */
#define FOR_BITS(i, bits)                                                                          \
    for (uint64_t bits_ = (bits), i; bits_ && (i = (uint64_t)__builtin_ctzll(bits_), 1);           \
         bits_ &= bits_ - 1)

/* One block of an input: where to read its lines, and which of them are not zero. */
struct block {
    uint64_t first; /* line */
    uint64_t active, was, old; /* now, in the previous interval, in the one to be forgotten */
    uint64_t work;       /* lines to go through: the active ones, or all */
    uint64_t tail_at;    /* the line that must be read from tail; BLOCK if none */
    uint64_t tail[LINE]; /* the last line, if short, with what is past the end cleared */
};

/* block_any of n lines, if they are fewer than a block's. */
static inline uint64_t lines_any(const uint64_t *words, uint64_t n)
{
    uint64_t active = 0;
    if (n == BLOCK)
        return block_any(words);
    for (uint64_t i = 0; i < n; i++)
        active |= (uint64_t)line_any(words + i * LINE) << i;
    return active;
}

/*
 * Only whole lines are read in place. The last one is copied when it is short, so that nothing
 * past the end of the input is read and nothing past the last page is counted or stored.
 */
static inline void block_look(const struct mpat_input *in, uint64_t first, struct block *b)
{
    const uint64_t *words = in->words + first * LINE;
    uint64_t left = in->n_words - first * LINE;
    uint64_t whole = BLOCK, active = 0;

    b->first = first;
    b->tail_at = BLOCK;
    if (__builtin_expect(left <= BLOCK_WORDS, 0)) {
        whole = left / LINE;
        if (left % LINE || ~in->last_mask) {
            uint64_t short_words = left % LINE ? left % LINE : LINE;
            whole = (left - short_words) / LINE;
            memset(b->tail, 0, sizeof(b->tail));
            memcpy(b->tail, words + whole * LINE, short_words * sizeof(uint64_t));
            b->tail[short_words - 1] &= in->last_mask;
            b->tail_at = whole;
            active = (uint64_t)line_any(b->tail) << whole;
        }
    }
    b->active = b->work = active | lines_any(words, whole);
}

static inline const uint64_t *block_line(const struct mpat_input *in, const struct block *b,
                                         uint64_t i)
{
    return i == b->tail_at ? b->tail : in->words + (b->first + i) * LINE;
}

/* ---- counts -------------------------------------------------------------------------------- */

static inline uint32_t count_words(const uint64_t *words, uint64_t n)
{
    uint32_t count = 0;
    for (; n >= LINE; n -= LINE, words += LINE)
        count += line_count(words);
    for (uint64_t i = 0; i < n; i++)
        count += word_count(words[i]);
    return count;
}

static void counts(const struct mpat_input *in, uint64_t group_words, uint32_t *out)
{
    /* The last word is masked, so its group is counted apart. */
    uint64_t last = (in->n_words - 1) / group_words, at = last * group_words;
    if (group_words == LINE) {
        lines_count(in->words, last, out);
    } else {
        const uint64_t *words = in->words;
        for (uint64_t g = 0; g < last; g++, words += group_words)
            out[g] = count_words(words, group_words);
    }
    out[last] = count_words(in->words + at, in->n_words - 1 - at) +
                word_count(in->words[in->n_words - 1] & in->last_mask);
}

/* ---- the fused pass ------------------------------------------------------------------------ */

/* The group whose pages are being counted, and where its words end: 0 before the first one. */
struct open_group {
    uint64_t group, end;
    uint32_t dirty, redirtied, fresh;
};

static inline void group_close(struct mpat_pass *p, struct open_group *o)
{
    const struct mpat_group_arrays *a = &p->groups;
    uint64_t g = o->group;

    if (o->end == 0)
        return;
    a->dirty[g] = o->dirty;
    a->redirtied[g] = o->redirtied;
    a->fresh[g] = o->fresh;
    if (o->dirty == 0) {
        a->streak[g] = 0;
        return;
    }
    a->touched[g] += o->fresh;
    a->active_intervals[g]++;
    a->streak[g]++;
    a->last_active[g] = p->now;
    a->dirty_total[g] += o->dirty;
    a->rate[g] += p->weight * o->dirty;
    p->seen.dirty_pages += o->dirty;
    p->seen.redirtied_pages += o->redirtied;
    p->seen.fresh_pages += o->fresh;
    p->seen.active_groups++;
}

/* Add counts of pages in words from `word` on to their group, in ascending order of words. */
static inline void group_add(struct mpat_pass *p, struct open_group *o, uint64_t word,
                             uint64_t packed)
{
    if (word >= o->end) {
        group_close(p, o);
        o->group = word / p->group_words;
        o->end = (o->group + 1) * p->group_words;
        o->dirty = o->redirtied = o->fresh = 0;
    }
    o->dirty += DIRTY(packed);
    o->redirtied += REDIRTIED(packed);
    o->fresh += FRESH(packed);
}

/* A line that has several groups: word by word. */
static void line_split(struct mpat_pass *p, struct open_group *o, uint64_t word,
                       const uint64_t *cur, uint64_t before)
{
    uint64_t n = p->cur.n_words - word < LINE ? p->cur.n_words - word : LINE;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t c = cur[i], w = word + i;
        uint64_t redirtied = c & p->prev.words[w], fresh = c & ~p->ever[w];
        group_add(p, o, w, PACK(word_count(c), word_count(redirtied), word_count(fresh), 0));
        p->seen.runs += word_count(c & ~(c << 1 | before >> 63));
        p->next.words[w] = c;
        if (fresh)
            p->ever[w] |= c;
        before = c;
    }
}

#ifndef HAVE_BOOK_BLOCK
/* Everything that follows from dirty and fresh, for 64 groups. */
static inline void book_block(const struct mpat_pass *p, uint64_t first)
{
    const struct mpat_group_arrays *a = &p->groups;
    for (uint64_t g = first; g < first + BLOCK; g++) {
        uint32_t dirty = a->dirty[g], is_active = dirty != 0;
        a->touched[g] += a->fresh[g];
        a->active_intervals[g] += is_active;
        a->streak[g] = (a->streak[g] + 1) & -is_active;
        a->last_active[g] = is_active ? p->now : a->last_active[g];
        a->dirty_total[g] += dirty;
        a->rate[g] += p->weight * dirty;
    }
}
#endif

/* Only then may its work be more than the active lines. */
static inline int is_dense(const struct mpat_pass *p, const struct block *b)
{
    return p->group_words == LINE && word_count(b->active | b->was) >= DENSE_FROM;
}

/* A block where a group is a line and many are active. */
static inline void block_dense(struct mpat_pass *p, const struct block *b)
{
    const struct mpat_group_arrays *a = &p->groups;
    uint64_t sum = 0; /* 64 counts of at most 512 still fit 16 bits */

    if (~b->work) {
        memset(a->dirty + b->first, 0, BLOCK * sizeof(uint32_t));
        memset(a->redirtied + b->first, 0, BLOCK * sizeof(uint32_t));
        memset(a->fresh + b->first, 0, BLOCK * sizeof(uint32_t));
    }
    FOR_BITS(i, b->work) {
        uint64_t g = b->first + i, w = g * LINE;
        uint64_t packed = line_fuse(block_line(&p->cur, b, i), p->prev.words + w,
                                    p->next.words + w, p->ever + w,
                                    w ? p->cur.words[w - 1] : 0, p->stream);
        a->dirty[g] = DIRTY(packed);
        a->redirtied[g] = REDIRTIED(packed);
        a->fresh[g] = FRESH(packed);
        sum += packed;
    }
    book_block(p, b->first);
    p->seen.dirty_pages += DIRTY(sum);
    p->seen.redirtied_pages += REDIRTIED(sum);
    p->seen.fresh_pages += FRESH(sum);
    p->seen.runs += RUNS(sum);
    p->seen.active_groups += (uint64_t)word_count(b->active);
}

/* Any group size. */
static void block_any_groups(struct mpat_pass *p, const struct block *b, struct open_group *o)
{
    FOR_BITS(i, b->active | b->was) {
        uint64_t w = (b->first + i) * LINE;
        int one_group = p->group_words % LINE == 0 || w % p->group_words + LINE <= p->group_words;
        const uint64_t *cur = block_line(&p->cur, b, i);
        uint64_t before = w ? p->cur.words[w - 1] : 0;

        if (!one_group) {
            line_split(p, o, w, cur, before);
        } else if (b->active >> i & 1) {
            uint64_t packed = line_fuse(cur, p->prev.words + w, p->next.words + w, p->ever + w,
                                        before, p->stream);
            group_add(p, o, w, packed);
            p->seen.runs += RUNS(packed);
        } else {
            group_add(p, o, w, 0);
        }
    }
}

/* Always inlined: GCC drops calls of a function that only prefetches, as having no effect. */
#define FETCHES static inline __attribute__((always_inline))

FETCHES void fetch(const void *p)
{
    __builtin_prefetch(p, 0, 3);
}

FETCHES void fetch_to_write(const void *p)
{
    __builtin_prefetch(p, 1, 3);
}

/* Ask for all that a block's lines will need: a scattered few the hardware cannot foresee. */
FETCHES void block_fetch(const struct mpat_pass *p, const struct block *b)
{
    const struct mpat_group_arrays *a = &p->groups;
    FOR_BITS(i, b->active) {
        fetch(p->prev.words + (b->first + i) * LINE);
        fetch_to_write(p->ever + (b->first + i) * LINE);
    }
    if (!p->stream) {
        FOR_BITS(i, b->active | b->old)
            fetch_to_write(p->next.words + (b->first + i) * LINE);
    }
    if (p->group_words != LINE)
        return;
    FOR_BITS(i, b->active | b->was) {
        uint64_t g = b->first + i;
        fetch_to_write(a->dirty + g);
        fetch_to_write(a->redirtied + g);
        fetch_to_write(a->fresh + g);
        fetch_to_write(a->streak + g);
        if (b->active >> i & 1) {
            fetch_to_write(a->touched + g);
            fetch_to_write(a->active_intervals + g);
            fetch_to_write(a->last_active + g);
            fetch_to_write(a->dirty_total + g);
            fetch_to_write(a->rate + g);
        }
    }
}

/*
 * What a line that is clean now needs: its slot cleared if the interval that is forgotten had
 * dirtied it, its groups' last counts and streak reset if the previous one had; nothing else.
 */
static void block_work(struct mpat_pass *p, const struct block *b, struct open_group *open)
{
    if (is_dense(p, b))
        block_dense(p, b);
    else
        block_any_groups(p, b, open);
    FOR_BITS(i, b->old & ~b->work)
        line_clear(p->next.words + (b->first + i) * LINE, p->stream);
    p->next.lines[b->first / BLOCK] = b->active;
}

/*
 * A block with few active lines waits, while what it needs is fetched, until the next one with any
 * has been looked at. A dense one is worked on at once: it streams, and waiting would only push it
 * out of the first-level cache.
 */
static void pass(struct mpat_pass *p)
{
    struct open_group open = {0};
    struct block blocks[2], *b = &blocks[0], *waiting = NULL;
    uint64_t n_lines = mpat_lines(p->cur.n_words);

    for (uint64_t first = 0; first < n_lines; first += BLOCK) {
        block_look(&p->cur, first, b);
        b->was = p->prev.lines[first / BLOCK];
        b->old = p->next.lines[first / BLOCK];
        if ((b->active | b->was | b->old) == 0)
            continue;
        int dense = word_count(b->active) >= (p->stream ? IN_ORDER_FROM : DENSE_FROM);
        if (!dense)
            block_fetch(p, b);
        else if (p->stream && n_lines - first >= BLOCK && is_dense(p, b))
            b->work = ~UINT64_C(0);
        if (waiting)
            block_work(p, waiting, &open);
        if (dense) {
            block_work(p, b, &open);
            waiting = NULL;
        } else {
            waiting = b;
            b = &blocks[b == &blocks[0]];
        }
    }
    if (waiting)
        block_work(p, waiting, &open);
    group_close(p, &open);
    stores_done();
}

#include "bitmap.inc.h"
#include "history.inc.h"
#include "distinct.inc.h"

const struct mpat_kernel KERNEL_SYMBOL = {
    .name = KERNEL_NAME,
    .supported = KERNEL_SUPPORTED,
    .counts = counts,
    .tally = tally,
    .pages = pages,
    .pass = pass,
    .append = append,
    .hot = hot,
    .distinct = distinct,
};
