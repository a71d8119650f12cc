/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of loops.inc.h that joins intervals to windows.
 *
 * A span of lines goes through all that the intervals do to it before the next one's turn. A window
 * that one of them opened is a pointer to its words, and what has been joined stays in the cache.
 * Only windows that are open in the end are stored. Nothing is ever cleared either but summaries.
 */

/* Lines from `first` on: of a block, of which the last one may have fewer, or of a part of it. */
struct span {
    uint64_t first, n_lines;
    uint64_t all; /* a bit for each */
    int is_last;
};

/*
 * Where all intervals are dense. Of each as many lines are asked for while so many are worked on,
 * and processors have few more requests to memory under way.
 */
#define SHORT_SPAN 32u

/* Lines of a span; those that are not active hold anything. */
struct lines {
    const uint64_t *words;
    uint64_t active;
};

static inline void vecs_or(uint64_t *out, const uint64_t *a, const uint64_t *b, size_t n)
{
    for (size_t v = 0; v < n; v++)
        ((vec *)(void *)out)[v] = ((const vec *)(const void *)a)[v] |
                                  ((const vec *)(const void *)b)[v];
}

static inline void lines_copy(const struct span *s, uint64_t *out, const uint64_t *in,
                              uint64_t lines, int stream)
{
    if (lines == s->all && !stream) {
        memcpy(out, in, s->n_lines * LINE * sizeof(uint64_t));
        return;
    }
    FOR_BITS(i, lines)
        line_copy(out + i * LINE, in + i * LINE, stream);
}

/* out = a and b; it may be either of them. */
static inline void lines_join(const struct span *s, uint64_t *out, const struct lines *a,
                              const struct lines *b, int stream)
{
    uint64_t both = a->active & b->active;
    if (both == s->all) {
        vecs_or(out, a->words, b->words, s->n_lines * LINE_VECS);
        return;
    }
    FOR_BITS(i, both)
        vecs_or(out + i * LINE, a->words + i * LINE, b->words + i * LINE, LINE_VECS);
    if (out != a->words)
        lines_copy(s, out, a->words, a->active & ~both, stream);
    if (out != b->words)
        lines_copy(s, out, b->words, b->active & ~both, stream);
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

/* The loop of all_count, by itself for each use of it. */
INLINED uint64_t lines_join_count(uint64_t n_lines, const uint64_t *words, const uint64_t *more,
                                  uint64_t *out, uint64_t *sums)
{
    uint32_t counts[BLOCK], sum = 0;
    vec lanes;

    memset(&lanes, 0, sizeof(lanes));
    for (uint64_t i = 0; i < n_lines; i += AT_ONCE) {
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
    for (uint64_t i = 0; i < n_lines; i++) {
        sums[i] += MPAT_SUMS(counts[i]);
        sum += counts[i];
    }
    return sum;
}

/*
 * Pages of a span's lines, or of out = words | more, if there is more: a few lines at a time, which
 * are counted as soon as they are joined. sums: of groups of a line, if that is what there is.
 */
static uint32_t all_count(uint64_t n_lines, const uint64_t *words, const uint64_t *more,
                          uint64_t *out, uint64_t *sums)
{
    if (more == NULL)
        return (uint32_t)(sums ? lines_join_count(n_lines, words, NULL, NULL, sums)
                               : lines_join_count(n_lines, words, NULL, NULL, NULL));
    return (uint32_t)(sums ? lines_join_count(n_lines, words, more, out, sums)
                           : lines_join_count(n_lines, words, more, out, NULL));
}

/* The same of a span's active lines. */
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
static inline void window_count(const struct span *s, const struct mpat_open_window *w,
                                struct mpat_tally *t, struct lines *x, const struct lines *more,
                                uint64_t *out, uint64_t group_words)
{
    uint64_t start = s->first * LINE, n_words = s->n_lines * LINE;
    uint64_t *sums = group_words == LINE ? w->sums + s->first : NULL;
    int is_simple = sums || (group_words >= n_words &&
                             start % group_words + n_words <= group_words);

    if (more != NULL && !(is_simple && (x->active & more->active) == s->all)) {
        lines_join(s, out, x, more, 0);
        *x = (struct lines){out, x->active | more->active};
        more = NULL;
    }
    if (is_simple) {
        uint32_t sum = 0;
        if (x->active == s->all) {
            sum = all_count(s->n_lines, x->words, more ? more->words : NULL, out, sums);
            if (more != NULL)
                x->words = out;
        } else {
            sum = sums ? active_count(*x, sums) : active_count(*x, NULL);
        }
        if (sums != NULL)
            t->pages += sum;
        else if (sum)
            window_add(w, t, group_words, start, sum);
        return;
    }
    FOR_BITS(i, x->active) {
        const uint64_t *words = x->words + i * LINE;
        uint64_t at = start + i * LINE;
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

static inline uint64_t *slot_words(const struct span *s, const struct mpat_open_window *w)
{
    return w->slot.words + s->first * LINE;
}

static inline uint64_t slot_active(const struct span *s, const struct mpat_open_window *w)
{
    return w->slot.lines[s->first / BLOCK] >> s->first % BLOCK & s->all;
}

static inline struct lines window_lines(const struct span *s, const struct mpat_open_window *w)
{
    return (struct lines){w->at ? w->at : slot_words(s, w), slot_active(s, w)};
}

/* The window is complete with x, which becomes what it has, and begins anew. */
static inline void window_complete(const struct span *s, struct mpat_open_window *w,
                                   struct mpat_tally *t, struct lines *x, uint64_t *out,
                                   uint64_t group_words)
{
    struct lines open = window_lines(s, w), *more = NULL;
    if (open.active) {
        w->slot.lines[s->first / BLOCK] &= ~(s->all << s->first % BLOCK);
        if (x->active)
            more = &open;
        else
            *x = open;
    }
    window_count(s, w, t, x, more, out, group_words);
}

/*
 * is_lent: are x's words an interval's, which stay as they are as long as the pass? What a pass of
 * one step has not to come back to goes to the slot at once.
 */
static inline void window_store(const struct mpat_distinct_pass *p, const struct span *s,
                                struct mpat_open_window *w, const struct lines *x, int is_lent)
{
    struct lines open = window_lines(s, w);
    if (x->active == 0)
        return;
    if (p->n_steps == 1 || (open.active && w->at == NULL)) {
        lines_join(s, slot_words(s, w), &open, x, p->stream);
    } else if (open.active == 0 && (is_lent || x->words == w->near)) {
        w->at = x->words;
    } else {
        lines_join(s, w->near, &open, x, 0);
        w->at = w->near;
    }
    if (x->active & ~open.active)
        w->slot.lines[s->first / BLOCK] |= x->active << s->first % BLOCK;
}

static inline void windows_leave(const struct mpat_distinct_pass *p, const struct span *s)
{
    for (uint32_t c = 0; c < 2; c++) {
        for (struct mpat_open_window *const *w = p->windows[c]; *w; w++) {
            if ((*w)->at != NULL)
                lines_copy(s, slot_words(s, *w), (*w)->at, slot_active(s, *w), p->stream);
            (*w)->at = NULL;
        }
    }
}

/* Does the step do anything to a span where its interval is clean? */
static inline int step_completes(const struct mpat_distinct_pass *p, const struct span *s,
                                 const struct mpat_distinct_step *step)
{
    uint64_t any = 0;
    for (uint32_t c = 0; c < 2; c++) {
        for (uint32_t i = 0; i < step->n_complete[c]; i++)
            any |= slot_active(s, p->windows[c][i]);
    }
    return any != 0;
}

/* Of many steps, where memory is dense, one of so many blocks is looked at: the others pass for it. */
#define LOOK_EVERY 4

static inline void step_span(struct mpat_distinct_pass *p, const struct span *s,
                             struct mpat_distinct_step *step, uint64_t *room)
{
    _Alignas(64) uint64_t end[BLOCK_WORDS];
    const uint64_t *words = step->words + s->first * LINE;
    struct block b = {.active = s->all, .tail_at = BLOCK};
    int looks = p->n_steps == 1 || !step->is_dense || s->is_last ||
                s->first / BLOCK % LOOK_EVERY == 0;

    p->in.words = step->words;
    if (looks && s->n_lines == BLOCK)
        block_look(&p->in, s->first, &b);
    else if (looks)
        b.active = lines_any(words, s->n_lines);
    step->is_dense = word_count(b.active) * (BLOCK / DENSE_FROM) >= s->n_lines;
    if (b.active == 0 && !step_completes(p, s, step))
        return;
    if (step->is_dense && !s->is_last)
        b.active = s->all; /* clean lines do no harm, and picking lines takes longer */

    struct lines now = {words, b.active};
    if (b.tail_at < BLOCK) {
        lines_copy(s, end, now.words, b.active & ~(UINT64_C(1) << b.tail_at), 0);
        memcpy(end + b.tail_at * LINE, b.tail, sizeof(b.tail));
        now.words = end;
    }
    window_count(s, p->single, &step->single, &now, NULL, NULL, p->group_words);
    for (uint32_t c = 0; c < 2; c++) {
        struct lines x = now;
        struct mpat_open_window *const *w = p->windows[c];
        for (uint32_t n = step->n_complete[c]; n > 0; n--, w++) {
            /* The last one's goes where it is kept: in the next window, which is empty. */
            uint64_t *out = n == 1 && w[1] && p->n_steps > 1 ? w[1]->near : room;
            window_complete(s, *w, &step->complete[c][w - p->windows[c]], &x, out,
                            p->group_words);
        }
        if (*w)
            window_store(p, s, *w, &x, x.words == now.words && x.words != end);
    }
}

/* To the second-level cache: the first has no room, and waits for what is asked of it. */
static inline void lines_prefetch(const uint64_t *words, uint64_t n_lines)
{
    for (uint64_t i = 0; i < n_lines; i++)
        __builtin_prefetch(words + i * LINE, 0, 2);
}

static inline int all_dense(const struct mpat_distinct_pass *p)
{
    uint32_t n = 0;
    while (n < p->n_steps && p->steps[n].is_dense)
        n++;
    return n == p->n_steps;
}

static void distinct(struct mpat_distinct_pass *p)
{
    _Alignas(64) uint64_t room[BLOCK_WORDS];
    uint64_t n_lines = mpat_lines(p->in.n_words);

    for (uint64_t first = 0; first < n_lines; first += BLOCK) {
        struct span span = {first, BLOCK, ~UINT64_C(0), n_lines - first <= BLOCK};
        if (p->n_steps > 1 && !span.is_last && all_dense(p)) {
            span.n_lines = SHORT_SPAN;
            span.all = (UINT64_C(1) << SHORT_SPAN) - 1;
        }
        for (; span.first < first + BLOCK; span.first += span.n_lines) {
            for (uint32_t s = 0; s < p->n_steps; s++) {
                if (p->n_steps > 1 && n_lines - first >= 2 * BLOCK)
                    lines_prefetch(p->steps[s].words + (span.first + BLOCK) * LINE, span.n_lines);
                step_span(p, &span, &p->steps[s], room);
            }
            if (p->n_steps > 1)
                windows_leave(p, &span);
        }
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
