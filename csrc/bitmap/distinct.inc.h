/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of loops.inc.h that joins intervals to windows.
 *
 * A block goes through all that an interval does to it while it is in the first-level cache: what
 * has been joined stays there and is never written back. Only the window that is still open in the
 * end stores it. Nothing is ever cleared either but summaries: the first store to a line is a copy.
 */

/* Lines of one block; those that are not active hold anything. */
struct lines {
    const uint64_t *words;
    uint64_t active;
};

#define LINE_VECS (LINE * sizeof(uint64_t) / sizeof(vec))

static inline void vecs_or(uint64_t *out, const uint64_t *a, const uint64_t *b, size_t n)
{
    for (size_t v = 0; v < n; v++)
        ((vec *)(void *)out)[v] = ((const vec *)(const void *)a)[v] |
                                  ((const vec *)(const void *)b)[v];
}

/* out may be a or b. */
static inline void lines_or(uint64_t *out, const uint64_t *a, const uint64_t *b, uint64_t lines)
{
    if (~lines == 0) {
        vecs_or(out, a, b, BLOCK * LINE_VECS);
        return;
    }
    FOR_BITS(i, lines)
        vecs_or(out + i * LINE, a + i * LINE, b + i * LINE, LINE_VECS);
}

static inline void lines_copy(uint64_t *out, const uint64_t *in, uint64_t lines, int stream)
{
    if (~lines == 0 && !stream) {
        memcpy(out, in, BLOCK_WORDS * sizeof(uint64_t));
        return;
    }
    FOR_BITS(i, lines)
        line_copy(out + i * LINE, in + i * LINE, stream);
}

/* ---- counting what a complete window has ------------------------------------------------------ */

static inline void window_close_group(struct mpat_open_window *w)
{
    if (w->group_dirty == 0)
        return;
    w->pages[w->group] += w->group_dirty;
    w->squares[w->group] += (double)w->group_dirty * (double)w->group_dirty;
    w->complete_pages += w->group_dirty;
    w->group_dirty = 0;
}

/* Add pages in words from `word` on to their group, in ascending order of words. */
static inline void window_add(struct mpat_open_window *w, uint64_t group_words, uint64_t word,
                              uint32_t dirty)
{
    if (word >= w->group_end) {
        window_close_group(w);
        w->group = word / group_words;
        w->group_end = (w->group + 1) * group_words;
    }
    w->group_dirty += dirty;
}

/* A block where a group is a line. */
static inline void window_count_lines(struct mpat_open_window *w, const struct lines *x,
                                      uint64_t first)
{
    uint64_t *pages = w->pages + first;
    double *squares = w->squares + first;
    uint32_t sum = 0;

    if (~x->active == 0) {
        uint32_t counts[BLOCK];
        uint64_t n = BLOCK;
        __asm__("" : "+r"(n)); /* GCC knows too much else, and warns of a loop that never runs */
        lines_count(x->words, n, counts);
        for (uint32_t i = 0; i < BLOCK; i++) {
            pages[i] += counts[i];
            squares[i] += (double)(int32_t)(counts[i] * counts[i]);
            sum += counts[i];
        }
    } else {
        FOR_BITS(i, x->active) {
            uint32_t dirty = line_count(x->words + i * LINE);
            pages[i] += dirty;
            squares[i] += (double)(int32_t)(dirty * dirty);
            sum += dirty;
        }
    }
    w->complete_pages += sum;
}

static inline void window_count(struct mpat_open_window *w, const struct lines *x, uint64_t first,
                                uint64_t group_words)
{
    if (group_words == LINE) {
        window_count_lines(w, x, first);
        return;
    }
    FOR_BITS(i, x->active) {
        const uint64_t *words = x->words + i * LINE;
        uint64_t at = (first + i) * LINE;
        if (group_words % LINE == 0 || at % group_words + LINE <= group_words) {
            window_add(w, group_words, at, line_count(words));
            continue;
        }
        for (uint64_t k = 0; k < LINE; k++) {
            if (words[k])
                window_add(w, group_words, at + k, word_count(words[k]));
        }
    }
}

/* ---- the pass ---------------------------------------------------------------------------------- */

/* x = the window, which is complete with x and begins anew. */
static inline void window_complete(struct mpat_open_window *w, struct lines *x, uint64_t block,
                                   uint64_t *room)
{
    const uint64_t *words = w->slot.words + block * BLOCK_WORDS;
    uint64_t was = w->slot.lines[block];

    if (was == 0)
        return;
    w->slot.lines[block] = 0;
    if (x->active == 0) {
        *x = (struct lines){words, was}; /* they stay as they are until the next interval */
        return;
    }
    lines_or(room, words, x->words, was & x->active);
    lines_copy(room, words, was & ~x->active, 0);
    if (x->words != room)
        lines_copy(room, x->words, x->active & ~was, 0);
    *x = (struct lines){room, was | x->active};
}

static inline void window_store(struct mpat_open_window *w, const struct lines *x, uint64_t block,
                                int stream)
{
    uint64_t *words = w->slot.words + block * BLOCK_WORDS;
    uint64_t was = w->slot.lines[block];

    lines_or(words, words, x->words, x->active & was);
    lines_copy(words, x->words, x->active & ~was, stream);
    if (x->active & ~was)
        w->slot.lines[block] = was | x->active;
}

static void distinct(const struct mpat_distinct_pass *p)
{
    _Alignas(64) uint64_t room[BLOCK_WORDS], end[BLOCK_WORDS];
    uint64_t n_lines = mpat_lines(p->in.n_words);

    for (uint64_t first = 0, block = 0; first < n_lines; first += BLOCK, block++) {
        struct block b;
        block_look(&p->in, first, &b);
        uint64_t any = b.active;
        for (uint32_t c = 0; c < 2; c++) {
            for (uint32_t i = 0; i < p->n_complete[c]; i++)
                any |= p->windows[c][i]->slot.lines[block];
        }
        if (any == 0)
            continue;

        struct lines now = {p->in.words + first * LINE, b.active};
        if (b.tail_at < BLOCK) {
            lines_copy(end, now.words, b.active & ~(UINT64_C(1) << b.tail_at), 0);
            memcpy(end + b.tail_at * LINE, b.tail, sizeof(b.tail));
            now.words = end;
        }
        window_count(p->single, &now, first, p->group_words);
        for (uint32_t c = 0; c < 2; c++) {
            struct lines x = now;
            struct mpat_open_window *const *w = p->windows[c];
            for (uint32_t i = 0; i < p->n_complete[c]; i++, w++) {
                window_complete(*w, &x, block, room);
                window_count(*w, &x, first, p->group_words);
            }
            if (*w)
                window_store(*w, &x, block, p->stream);
        }
    }
    window_close_group(p->single);
    for (uint32_t c = 0; c < 2; c++) {
        for (uint32_t i = 0; i < p->n_complete[c]; i++)
            window_close_group(p->windows[c][i]);
    }
    stores_done();
}
