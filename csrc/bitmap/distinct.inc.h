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

static inline void block_counts(const uint64_t *words, uint32_t *counts)
{
    uint64_t n = BLOCK;
    __asm__("" : "+r"(n)); /* GCC knows too much else, and warns of a loop that never runs */
    lines_count(words, n, counts);
}

static inline void window_close_group(const struct mpat_open_window *w, struct mpat_tally *t)
{
    if (t->group_dirty == 0)
        return;
    w->pages[t->group] += t->group_dirty;
    w->squares[t->group] += (double)t->group_dirty * (double)t->group_dirty;
    t->pages += t->group_dirty;
    t->group_dirty = 0;
}

/* Add pages in words from `word` on to their group, in ascending order of words. */
static inline void window_add(const struct mpat_open_window *w, struct mpat_tally *t,
                              uint64_t group_words, uint64_t word, uint32_t dirty)
{
    if (word >= t->group_end) {
        window_close_group(w, t);
        t->group = word / group_words;
        t->group_end = (t->group + 1) * group_words;
    }
    t->group_dirty += dirty;
}

/* A block where a group is a line: both of its sums by one addition. */
static inline void window_count_lines(const struct mpat_open_window *w, struct mpat_tally *t,
                                      const struct lines *x, uint64_t first)
{
    uint64_t *sums = w->sums + first;
    uint32_t sum = 0;

    if (~x->active == 0) {
        uint32_t counts[BLOCK];
        block_counts(x->words, counts);
        for (uint32_t i = 0; i < BLOCK; i++) {
            sums[i] += MPAT_SUMS(counts[i]);
            sum += counts[i];
        }
    } else {
        FOR_BITS(i, x->active) {
            uint32_t dirty = line_count(x->words + i * LINE);
            sums[i] += MPAT_SUMS(dirty);
            sum += dirty;
        }
    }
    t->pages += sum;
}

static inline uint32_t lines_sum(const struct lines *x)
{
    uint32_t counts[BLOCK], sum = 0;

    if (~x->active == 0) {
        block_counts(x->words, counts);
        for (uint32_t i = 0; i < BLOCK; i++)
            sum += counts[i];
    } else {
        FOR_BITS(i, x->active)
            sum += line_count(x->words + i * LINE);
    }
    return sum;
}

static inline void window_count(const struct mpat_open_window *w, struct mpat_tally *t,
                                const struct lines *x, uint64_t first, uint64_t group_words)
{
    uint64_t block = first * LINE;
    if (group_words == LINE) {
        window_count_lines(w, t, x, first);
        return;
    }
    if (group_words >= BLOCK_WORDS && block % group_words + BLOCK_WORDS <= group_words) {
        if (x->active)
            window_add(w, t, group_words, block, lines_sum(x));
        return;
    }
    FOR_BITS(i, x->active) {
        const uint64_t *words = x->words + i * LINE;
        uint64_t at = block + i * LINE;
        if (group_words % LINE == 0 || at % group_words + LINE <= group_words) {
            window_add(w, t, group_words, at, line_count(words));
            continue;
        }
        for (uint64_t k = 0; k < LINE; k++) {
            if (words[k])
                window_add(w, t, group_words, at + k, word_count(words[k]));
        }
    }
}

/* ---- the pass ---------------------------------------------------------------------------------- */

static inline uint64_t *window_words(const struct mpat_open_window *w, uint64_t block)
{
    return w->is_near ? w->near : w->slot.words + block * BLOCK_WORDS;
}

/* x = the window, which is complete with x and begins anew. */
static inline void window_complete(struct mpat_open_window *w, struct lines *x, uint64_t block,
                                   uint64_t *room)
{
    const uint64_t *words = window_words(w, block);
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

/* What the pass does not come back to goes to the slot at once. */
static inline void window_store(struct mpat_open_window *w, const struct lines *x, uint64_t block,
                                int is_last, int stream)
{
    uint64_t was = w->slot.lines[block];
    if (x->active == 0)
        return;
    if (was == 0)
        w->is_near = !is_last;
    uint64_t *words = window_words(w, block);
    lines_or(words, words, x->words, x->active & was);
    lines_copy(words, x->words, x->active & ~was, stream && !w->is_near);
    if (x->active & ~was)
        w->slot.lines[block] = was | x->active;
}

static inline void windows_leave(const struct mpat_distinct_pass *p, uint64_t block)
{
    for (uint32_t c = 0; c < 2; c++) {
        for (struct mpat_open_window *const *w = p->windows[c]; *w; w++) {
            if ((*w)->is_near)
                lines_copy((*w)->slot.words + block * BLOCK_WORDS, (*w)->near,
                           (*w)->slot.lines[block], p->stream);
            (*w)->is_near = 0;
        }
    }
}

/* Does the step do anything to a block where its interval is clean? */
static inline int step_completes(const struct mpat_distinct_pass *p,
                                 const struct mpat_distinct_step *step, uint64_t block)
{
    uint64_t any = 0;
    for (uint32_t c = 0; c < 2; c++) {
        for (uint32_t i = 0; i < step->n_complete[c]; i++)
            any |= p->windows[c][i]->slot.lines[block];
    }
    return any != 0;
}

static inline void step_block(struct mpat_distinct_pass *p, struct mpat_distinct_step *step,
                              uint64_t first, uint64_t *room)
{
    _Alignas(64) uint64_t end[BLOCK_WORDS];
    uint64_t n_lines = mpat_lines(p->in.n_words), block = first / BLOCK;
    struct block b;

    p->in.words = step->words;
    block_look(&p->in, first, &b);
    if (b.active == 0 && !step_completes(p, step, block))
        return;
    if (word_count(b.active) >= DENSE_FROM && b.tail_at == BLOCK && n_lines - first >= BLOCK)
        b.active = ~UINT64_C(0); /* clean lines do no harm, and picking lines takes longer */

    struct lines now = {step->words + first * LINE, b.active};
    if (b.tail_at < BLOCK) {
        lines_copy(end, now.words, b.active & ~(UINT64_C(1) << b.tail_at), 0);
        memcpy(end + b.tail_at * LINE, b.tail, sizeof(b.tail));
        now.words = end;
    }
    window_count(p->single, &step->single, &now, first, p->group_words);
    for (uint32_t c = 0; c < 2; c++) {
        struct lines x = now;
        struct mpat_open_window *const *w = p->windows[c];
        for (uint32_t i = 0; i < step->n_complete[c]; i++, w++) {
            window_complete(*w, &x, block, room);
            window_count(*w, &step->complete[c][i], &x, first, p->group_words);
        }
        if (*w)
            window_store(*w, &x, block, step + 1 == p->steps + p->n_steps, p->stream);
    }
}

static void distinct(struct mpat_distinct_pass *p)
{
    _Alignas(64) uint64_t room[BLOCK_WORDS];
    uint64_t n_lines = mpat_lines(p->in.n_words);

    for (uint64_t first = 0; first < n_lines; first += BLOCK) {
        for (uint32_t s = 0; s < p->n_steps; s++)
            step_block(p, &p->steps[s], first, room);
        if (p->n_steps > 1)
            windows_leave(p, first / BLOCK);
    }
    for (uint32_t s = 0; s < p->n_steps; s++) {
        struct mpat_distinct_step *step = &p->steps[s];
        window_close_group(p->single, &step->single);
        for (uint32_t c = 0; c < 2; c++) {
            for (uint32_t i = 0; i < step->n_complete[c]; i++)
                window_close_group(p->windows[c][i], &step->complete[c][i]);
        }
    }
    stores_done();
}
