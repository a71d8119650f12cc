/* SPDX-License-Identifier: Apache-2.0 */
/* The part of loops.inc.h that works on bitmaps of the caller's, and stores nothing of its own. */

/* ---- what an interval did ------------------------------------------------------------------ */

struct tally {
    vec lanes, redirtied, fresh, runs; /* sums in each lane of 64 bits */
    uint64_t dirty;                    /* without what is in lanes */
};

/* Count a line's dirty pages; are there any? */
INLINED int line_dirty(struct tally *t, const uint64_t *cur)
{
#ifdef HAVE_WORDS_COUNT
    uint32_t dirty = words_count(cur);
    t->dirty += dirty;
    return dirty != 0;
#else
    t->lanes += line_lanes((const vec *)(const void *)cur);
    return line_any(cur);
#endif
}

/* One line, and whether it is not zero; before is the word in front of cur. */
INLINED int line_tally(struct tally *t, const uint64_t *cur, uint64_t before,
                       const uint64_t *prev, uint64_t *ever)
{
    const vec *c = (const vec *)(const void *)cur, *p = (const vec *)(const void *)prev;
    vec *e = (vec *)(void *)ever, bits[LINE_VECS];

    line_starts(cur, before, bits);
    t->runs += line_lanes(bits);
    if (prev != NULL) {
        for (unsigned i = 0; i < LINE_VECS; i++)
            bits[i] = c[i] & p[i];
        t->redirtied += line_lanes(bits);
    }
    if (ever != NULL) {
        vec any_fresh = c[0] & ~e[0];
        for (unsigned i = 0; i < LINE_VECS; i++) {
            bits[i] = c[i] & ~e[i];
            any_fresh |= bits[i];
        }
        if (vec_any(any_fresh)) {
            t->fresh += line_lanes(bits);
            for (unsigned i = 0; i < LINE_VECS; i++)
                e[i] |= c[i];
        }
    }
    return line_dirty(t, cur);
}

/* The words from `word` on, which are less than a line or have the last one, masked. */
static void words_tally(const struct mpat_input *in, uint64_t word, const uint64_t *prev,
                        uint64_t *ever, mpat_seen *seen)
{
    uint64_t before = word ? in->words[word - 1] : 0, any = 0;
    for (uint64_t w = word; w < in->n_words; w++) {
        uint64_t mask = w == in->n_words - 1 ? in->last_mask : ~UINT64_C(0);
        uint64_t c = in->words[w] & mask;
        seen->dirty_pages += word_count(c);
        seen->runs += word_count(c & ~(c << 1 | before >> 63));
        if (prev != NULL)
            seen->redirtied_pages += word_count(c & prev[w]);
        if (ever != NULL) {
            seen->fresh_pages += word_count(c & ~ever[w]);
            ever[w] = (ever[w] | c) & mask;
        }
        any |= c;
        before = c;
    }
    seen->active_groups += any != 0;
}

static inline uint64_t lanes_sum(const vec *v)
{
    uint64_t lanes[sizeof(vec) / sizeof(uint64_t)], sum = 0;
    memcpy(lanes, v, sizeof(lanes));
    for (unsigned i = 0; i < sizeof(vec) / sizeof(uint64_t); i++)
        sum += lanes[i];
    return sum;
}

/*
 * From so many active lines in a block on, the next one is gone through without being judged: that
 * is cheaper, and the sooner the fewer bitmaps there are.
 */
#define ALL_FROM 32
#define ALL_OF_ONE_FROM 16

INLINED void tally_lines(const struct mpat_input *in, const uint64_t *prev, uint64_t *ever,
                         mpat_seen *seen)
{
    uint64_t whole = (in->n_words - (~in->last_mask != 0)) / LINE, n_active = 0;
    uint64_t all_from = prev || ever ? ALL_FROM : ALL_OF_ONE_FROM;
    struct tally t;

    memset(&t, 0, sizeof(t));
    for (uint64_t line = 0; line < whole; line += BLOCK) {
        const uint64_t *cur = in->words + line * LINE, *p = prev ? prev + line * LINE : NULL;
        uint64_t *e = ever ? ever + line * LINE : NULL;
        uint64_t n_lines = whole - line < BLOCK ? whole - line : BLOCK;

        if (n_active >= all_from && n_lines == BLOCK) {
            n_active = 0;
            for (uint64_t w = 0; w < BLOCK_WORDS; w += LINE)
                n_active += (uint64_t)line_tally(&t, cur + w, *(cur + w - 1), p ? p + w : NULL,
                                                 e ? e + w : NULL);
        } else {
            uint64_t active = lines_any(cur, n_lines);
            n_active = word_count(active);
            FOR_BITS(i, active) {
                uint64_t w = i * LINE;
                line_tally(&t, cur + w, line + i ? *(cur + w - 1) : 0, p ? p + w : NULL,
                           e ? e + w : NULL);
            }
        }
        seen->active_groups += n_active;
    }
    seen->dirty_pages += t.dirty + lanes_sum(&t.lanes);
    seen->redirtied_pages += lanes_sum(&t.redirtied);
    seen->fresh_pages += lanes_sum(&t.fresh);
    seen->runs += lanes_sum(&t.runs);
    words_tally(in, whole * LINE, prev, ever, seen);
}

static void tally(const struct mpat_input *in, const uint64_t *prev, uint64_t *ever,
                  mpat_seen *seen)
{
    /* Each by itself, so that no line asks which bitmaps there are. */
    if (prev == NULL && ever == NULL)
        tally_lines(in, NULL, NULL, seen);
    else if (prev == NULL)
        tally_lines(in, NULL, ever, seen);
    else if (ever == NULL)
        tally_lines(in, prev, NULL, seen);
    else
        tally_lines(in, prev, ever, seen);
    if (ever == NULL)
        seen->fresh_pages = seen->dirty_pages;
}

/* ---- numbers of pages ---------------------------------------------------------------------- */

#ifndef HAVE_WORD_PAGES
/* The numbers of a word's pages, of which the first would be `page`; how many. Room for 64. */
static inline uint64_t word_pages(uint64_t word, int64_t page, int64_t *out)
{
    uint64_t n = 0;
    FOR_BITS(i, word)
        out[n++] = page + (int64_t)i;
    return n;
}
#endif

/* The same where there is room for fewer, or -1. */
static int64_t word_pages_within(uint64_t word, int64_t page, int64_t *out, uint64_t room)
{
    uint64_t n = 0;
    FOR_BITS(i, word) {
        if (n == room)
            return -1;
        out[n++] = page + (int64_t)i;
    }
    return (int64_t)n;
}

#ifndef HAVE_LINE_WORDS
/* Which of a line's words are not zero, numbered from `first` on; how many. Room for 8. */
static inline uint64_t line_words(const uint64_t *line, uint16_t first, uint16_t *at)
{
    uint64_t n = 0;
    for (uint16_t i = 0; i < LINE; i++) { /* without a branch that nobody could foresee */
        at[n] = (uint16_t)(first + i);
        n += line[i] != 0;
    }
    return n;
}
#endif

/* Where to put numbers of pages, and how many more there is room for. */
struct page_list {
    int64_t *out;
    uint64_t room;
};

/* The pages of n words; 0 if there is no room. */
static inline int words_pages(struct page_list *to, const uint64_t *words, const uint16_t *at,
                              uint64_t n, int64_t page)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t word = words[at[i]];
        int64_t first = page + 64 * (int64_t)at[i];
        int64_t more;
        if (__builtin_expect(to->room >= 64, 1)) {
            more = (int64_t)word_pages(word, first, to->out);
        } else {
            more = word_pages_within(word, first, to->out, to->room);
            if (more < 0)
                return 0;
        }
        to->out += more;
        to->room -= (uint64_t)more;
    }
    return 1;
}

static int pages(const struct mpat_input *in, int64_t *out, uint64_t room, uint64_t *n_pages)
{
    uint64_t n_lines = mpat_lines(in->n_words);
    struct page_list to = {out, room};

    for (uint64_t line = 0; line < n_lines; line += BLOCK) {
        struct block b;
        uint16_t at[BLOCK_WORDS];
        uint64_t n = 0;
        int64_t page = (int64_t)(line * LINE * 64);

        block_look(in, line, &b);
        if (b.active == 0)
            continue;
        uint64_t tail = b.tail_at == BLOCK ? 0 : b.active & UINT64_C(1) << b.tail_at;
        const uint64_t *words = in->words + line * LINE;
        FOR_BITS(i, b.active & ~tail)
            n += line_words(words + i * LINE, (uint16_t)(i * LINE), at + n);
        if (!words_pages(&to, words, at, n, page))
            return 0;
        if (tail && !words_pages(&to, b.tail, at, line_words(b.tail, 0, at),
                                 page + (int64_t)(b.tail_at * LINE * 64)))
            return 0;
    }
    *n_pages = room - to.room;
    return 1;
}
