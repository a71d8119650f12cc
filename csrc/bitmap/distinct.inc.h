/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of loops.inc.h that joins intervals to windows.
 *
 * A block goes through all that the intervals do to it before the next one's turn. A window that
 * one of them opened is a pointer to its words, and what has been joined stays in the cache. Only
 * windows that are open in the end are stored. Nothing is ever cleared either but summaries.
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

static inline void lines_copy(uint64_t *out, const uint64_t *in, uint64_t lines, int stream)
{
    if (~lines == 0 && !stream) {
        memcpy(out, in, BLOCK_WORDS * sizeof(uint64_t));
        return;
    }
    FOR_BITS(i, lines)
        line_copy(out + i * LINE, in + i * LINE, stream);
}

/* out = a and b; it may be either of them. */
static inline void lines_join(uint64_t *out, const struct lines *a, const struct lines *b,
                              int stream)
{
    uint64_t both = a->active & b->active;
    if (~both == 0) {
        vecs_or(out, a->words, b->words, BLOCK * LINE_VECS);
        return;
    }
    FOR_BITS(i, both)
        vecs_or(out + i * LINE, a->words + i * LINE, b->words + i * LINE, LINE_VECS);
    if (out != a->words)
        lines_copy(out, a->words, a->active & ~both, stream);
    if (out != b->words)
        lines_copy(out, b->words, b->active & ~both, stream);
}

/* ---- counting what a complete window has ------------------------------------------------------ */

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

#define AT_ONCE 8u /* lines */

/* The loop of block_count, by itself for each use of it. */
INLINED uint64_t lines_join_count(const uint64_t *words, const uint64_t *more, uint64_t *out,
                                  uint64_t *sums)
{
    uint32_t counts[BLOCK], sum = 0;
    vec lanes;

    memset(&lanes, 0, sizeof(lanes));
    for (uint64_t i = 0; i < BLOCK; i += AT_ONCE) {
        const uint64_t *at = words + i * LINE;
        if (more != NULL) {
            vecs_or(out + i * LINE, at, more + i * LINE, AT_ONCE * LINE_VECS);
            at = out + i * LINE;
        }
        if (sums != NULL) {
            lines_count(at, AT_ONCE, counts + i);
            continue;
        }
        for (uint64_t k = 0; k < AT_ONCE; k++)
            lanes += line_lanes((const vec *)(const void *)(at + k * LINE));
    }
    if (sums == NULL)
        return lanes_sum(&lanes);
    for (uint64_t i = 0; i < BLOCK; i++) {
        sums[i] += MPAT_SUMS(counts[i]);
        sum += counts[i];
    }
    return sum;
}

/*
 * Pages of a whole block, or of out = words | more, if there is more: a few lines at a time, which
 * are counted as soon as they are joined. sums: of groups of a line, if that is what there is.
 */
static uint32_t block_count(const uint64_t *words, const uint64_t *more, uint64_t *out,
                            uint64_t *sums)
{
    if (more == NULL)
        return (uint32_t)(sums ? lines_join_count(words, NULL, NULL, sums)
                               : lines_join_count(words, NULL, NULL, NULL));
    return (uint32_t)(sums ? lines_join_count(words, more, out, sums)
                           : lines_join_count(words, more, out, NULL));
}

/* The same of a block's active lines. */
INLINED uint32_t active_count(struct lines x, uint64_t *sums)
{
    uint32_t sum = 0;
    FOR_BITS(i, x.active) {
        uint32_t dirty = line_count(x.words + i * LINE);
        if (sums != NULL)
            sums[i] += MPAT_SUMS(dirty);
        sum += dirty;
    }
    return sum;
}

/* Count x in a window. If there is more, x = x and more, in out, before. */
static inline void window_count(const struct mpat_open_window *w, struct mpat_tally *t,
                                struct lines *x, const struct lines *more, uint64_t *out,
                                uint64_t first, uint64_t group_words)
{
    uint64_t block = first * LINE;
    uint64_t *sums = group_words == LINE ? w->sums + first : NULL;
    int is_simple = sums || (group_words >= BLOCK_WORDS &&
                             block % group_words + BLOCK_WORDS <= group_words);

    if (more != NULL && !(is_simple && ~(x->active & more->active) == 0)) {
        lines_join(out, x, more, 0);
        *x = (struct lines){out, x->active | more->active};
        more = NULL;
    }
    if (is_simple) {
        uint32_t sum = 0;
        if (~x->active == 0) {
            sum = block_count(x->words, more ? more->words : NULL, out, sums);
            if (more != NULL)
                x->words = out;
        } else {
            sum = sums ? active_count(*x, sums) : active_count(*x, NULL);
        }
        if (sums != NULL)
            t->pages += sum;
        else if (sum)
            window_add(w, t, group_words, block, sum);
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

static inline uint64_t *slot_words(const struct mpat_open_window *w, uint64_t block)
{
    return w->slot.words + block * BLOCK_WORDS;
}

static inline struct lines window_lines(const struct mpat_open_window *w, uint64_t block)
{
    return (struct lines){w->at ? w->at : slot_words(w, block), w->slot.lines[block]};
}

/* The window is complete with x, which becomes what it has, and begins anew. */
static inline void window_complete(struct mpat_open_window *w, struct mpat_tally *t,
                                   struct lines *x, uint64_t *out, uint64_t first,
                                   uint64_t group_words)
{
    struct lines open = window_lines(w, first / BLOCK), *more = NULL;
    if (open.active) {
        w->slot.lines[first / BLOCK] = 0;
        if (x->active)
            more = &open;
        else
            *x = open;
    }
    window_count(w, t, x, more, out, first, group_words);
}

/*
 * is_lent: are x's words an interval's, which stay as they are as long as the pass? What a pass of
 * one step has not to come back to goes to the slot at once.
 */
static inline void window_store(const struct mpat_distinct_pass *p, struct mpat_open_window *w,
                                const struct lines *x, uint64_t block, int is_lent)
{
    struct lines open = window_lines(w, block);
    if (x->active == 0)
        return;
    if (p->n_steps == 1 || (open.active && w->at == NULL)) {
        lines_join(slot_words(w, block), &open, x, p->stream);
    } else if (open.active == 0 && (is_lent || x->words == w->near)) {
        w->at = x->words;
    } else {
        lines_join(w->near, &open, x, 0);
        w->at = w->near;
    }
    if (x->active & ~open.active)
        w->slot.lines[block] = open.active | x->active;
}

static inline void windows_leave(const struct mpat_distinct_pass *p, uint64_t block)
{
    for (uint32_t c = 0; c < 2; c++) {
        for (struct mpat_open_window *const *w = p->windows[c]; *w; w++) {
            if ((*w)->at != NULL)
                lines_copy(slot_words(*w, block), (*w)->at, (*w)->slot.lines[block], p->stream);
            (*w)->at = NULL;
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

/* Of many steps, where memory is dense, one of so many blocks is looked at: the others pass for it. */
#define LOOK_EVERY 4

static inline void step_block(struct mpat_distinct_pass *p, struct mpat_distinct_step *step,
                             uint64_t first, uint64_t *room)
{
    _Alignas(64) uint64_t end[BLOCK_WORDS];
    uint64_t n_lines = mpat_lines(p->in.n_words), block = first / BLOCK;
    struct block b = {.active = ~UINT64_C(0), .tail_at = BLOCK};

    p->in.words = step->words;
    if (p->n_steps == 1 || !step->is_dense || block % LOOK_EVERY == 0 || n_lines - first <= BLOCK)
        block_look(&p->in, first, &b);
    step->is_dense = word_count(b.active) >= DENSE_FROM;
    if (b.active == 0 && !step_completes(p, step, block))
        return;
    if (step->is_dense && b.tail_at == BLOCK && n_lines - first >= BLOCK)
        b.active = ~UINT64_C(0); /* clean lines do no harm, and picking lines takes longer */

    struct lines now = {step->words + first * LINE, b.active};
    if (b.tail_at < BLOCK) {
        lines_copy(end, now.words, b.active & ~(UINT64_C(1) << b.tail_at), 0);
        memcpy(end + b.tail_at * LINE, b.tail, sizeof(b.tail));
        now.words = end;
    }
    window_count(p->single, &step->single, &now, NULL, NULL, first, p->group_words);
    for (uint32_t c = 0; c < 2; c++) {
        struct lines x = now;
        struct mpat_open_window *const *w = p->windows[c];
        for (uint32_t n = step->n_complete[c]; n > 0; n--, w++) {
            /* The last one's goes where it is kept: in the next window, which is empty. */
            uint64_t *out = n == 1 && w[1] && p->n_steps > 1 ? w[1]->near : room;
            window_complete(*w, &step->complete[c][w - p->windows[c]], &x, out, first,
                            p->group_words);
        }
        if (*w)
            window_store(p, *w, &x, block, x.words == now.words && x.words != end);
    }
}

/* To the second-level cache: the first has no room, and waits for what is asked of it. */
static inline void block_prefetch(const uint64_t *words)
{
    for (unsigned i = 0; i < BLOCK; i++)
        __builtin_prefetch(words + i * LINE, 0, 2);
}

static void distinct(struct mpat_distinct_pass *p)
{
    _Alignas(64) uint64_t room[BLOCK_WORDS];
    uint64_t n_lines = mpat_lines(p->in.n_words);

    for (uint64_t first = 0; first < n_lines; first += BLOCK) {
        for (uint32_t s = 0; s < p->n_steps; s++) {
            if (p->n_steps > 1 && n_lines - first >= 2 * BLOCK)
                block_prefetch(s + 1 < p->n_steps ? p->steps[s + 1].words + first * LINE
                                                  : p->steps[0].words + (first + BLOCK) * LINE);
            step_block(p, &p->steps[s], first, room);
        }
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
