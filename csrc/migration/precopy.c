/* SPDX-License-Identifier: Apache-2.0 */
/* A migration begins, and fetches the dirty log. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "precopy.h"

/* ---- one migration after the other ------------------------------------------------------------ */

static void take(mpat_precopy *p, struct mpat_bitmap *bitmap)
{
    bitmap->words = mpat_arena_take(&p->arena, p->n_words, sizeof(uint64_t));
    bitmap->summary = mpat_arena_take(&p->arena, p->n_summary, sizeof(uint64_t));
}

static void lay_out(mpat_precopy *p, uint64_t n_chunks)
{
    take(p, &p->pending);
    take(p, &p->fetched);
    take(p, &p->written);
    take(p, &p->deferred);
    p->fresh.words = mpat_arena_take(&p->arena, p->n_words, sizeof(uint64_t));
    p->fresh.summary = p->fetched.summary;
    p->zero = mpat_arena_take(&p->arena, p->n_words, sizeof(uint64_t));
    p->uncleared = mpat_arena_take(&p->arena, n_chunks, 1);
}

static uint64_t lay_out_chunks(mpat_precopy *p)
{
    uint64_t n_chunks = 0;
    for (size_t r = 0; r < p->recording->n_regions; r++) {
        uint64_t n_words = p->recording->regions[r].n_words;
        uint64_t n = p->chunk_words ? (n_words - 1) / p->chunk_words + 1 : 0;
        p->chunks[r] = (struct mpat_chunks){n_chunks, n};
        n_chunks += n;
    }
    return n_chunks;
}

static void set_all(const mpat_precopy *p, struct mpat_bitmap *bitmap)
{
    for (size_t r = 0; r < p->recording->n_regions; r++) {
        const struct mpat_extent *e = &p->recording->regions[r];
        uint64_t *words = words_of(bitmap, e->first_line);
        memset(words, 0xff, e->n_words * sizeof(uint64_t));
        words[e->n_words - 1] = UINT64_MAX >> -e->n_pages % MPAT_WORD_PAGES;
        for (uint64_t line = 0; line < e->n_lines; line++)
            mark(bitmap->summary, e->first_line + line);
    }
}

/* Everything is to be sent, and nothing of the log is cleared: QEMU begins with all bits set. */
static void restart(mpat_precopy *p, const uint64_t *const *zero)
{
    const mpat_recording *rec = p->recording;
    uint64_t n_chunks = 0;
    clear_lines(&p->fresh, rec->all_lines); /* and its summary, which is fetched's */
    memset(p->fetched.words, 0, p->n_words * sizeof(uint64_t));
    clear_lines(&p->written, rec->all_lines);
    clear_lines(&p->deferred, rec->all_lines);
    set_all(p, &p->pending);
    if (p->chunk_words) /* as with KVM_DIRTY_LOG_INITIALLY_SET */
        set_all(p, &p->fetched);
    p->pending_pages = p->deferred_pages = p->zero_pages = 0;
    for (size_t r = 0; r < rec->n_regions; r++) {
        const struct mpat_extent *e = &rec->regions[r];
        uint64_t *to = p->zero + e->first_line * MPAT_LINE_WORDS;
        if (zero != NULL && zero[r] != NULL) {
            memcpy(to, zero[r], e->n_words * sizeof(uint64_t));
            to[e->n_words - 1] &= UINT64_MAX >> -e->n_pages % MPAT_WORD_PAGES;
            for (uint64_t w = 0; w < e->n_words; w++)
                p->zero_pages += (uint64_t)popcount(to[w]);
        } else {
            memset(to, 0, e->n_words * sizeof(uint64_t));
        }
        p->pending_pages += e->n_pages;
        n_chunks += p->chunks[r].n;
    }
    p->has_zeros = p->zero_pages != 0;
    memset(p->uncleared, 1, n_chunks);
    p->at = 0;
    p->written_is_old = 0;
}

int mpat_precopy_create(const mpat_recording *recording, uint64_t chunk_pages, mpat_precopy **out)
{
    size_t bytes;
    if (recording == NULL || !atomic_load(&recording->sealed) || chunk_pages % MPAT_WORD_PAGES ||
        out == NULL)
        return -EINVAL;
    if (__builtin_mul_overflow(recording->n_regions, sizeof(struct mpat_chunks), &bytes) ||
        __builtin_add_overflow(bytes, sizeof(mpat_precopy), &bytes))
        return -ENOMEM;
    mpat_precopy *p = calloc(1, bytes);
    if (p == NULL)
        return -ENOMEM;
    p->recording = recording;
    p->chunk_words = chunk_pages / MPAT_WORD_PAGES;
    p->n_words = recording->all_lines * MPAT_LINE_WORDS;
    p->n_summary = (recording->all_lines + 63) / 64;
    uint64_t n_chunks = lay_out_chunks(p);
    lay_out(p, n_chunks);
    int err = mpat_arena_map(&p->arena);
    if (err) {
        free(p);
        return err;
    }
    lay_out(p, n_chunks);
    p->bytes = bytes + p->arena.map_bytes;
    restart(p, NULL);
    *out = p;
    return 0;
}

void mpat_precopy_destroy(mpat_precopy *precopy)
{
    if (precopy == NULL)
        return;
    mpat_arena_unmap(&precopy->arena);
    free(precopy);
}

uint64_t mpat_precopy_bytes(const mpat_precopy *precopy)
{
    return precopy->bytes;
}

int mpat_precopy_start(mpat_precopy *precopy, const uint64_t *const *zero, double at, uint64_t seed)
{
    if (precopy == NULL || !(at >= 0.0 && isfinite(at)))
        return -EINVAL;
    if (!mpat_busy_enter(&precopy->busy))
        return -EBUSY;
    restart(precopy, zero);
    precopy->cursor = mpat_cursor_at(precopy->recording, at, seed);
    mpat_busy_leave(&precopy->busy);
    return 0;
}

int mpat_precopy_run(mpat_precopy *precopy, double duration)
{
    if (precopy == NULL || !(duration >= 0.0 && isfinite(duration)))
        return -EINVAL;
    if (!mpat_busy_enter(&precopy->busy))
        return -EBUSY;
    precopy->cursor.due += duration;
    mpat_busy_leave(&precopy->busy);
    return 0;
}

/* ---- the migration reads --------------------------------------------------------------------- */

/* What a sync finds in one word of the log. */
static uint64_t log_word(const mpat_precopy *p, uint64_t w)
{
    return p->chunk_words ? p->fetched.words[w] | p->fresh.words[w] : p->fresh.words[w];
}

static void count_deferred(mpat_precopy *p)
{
    p->deferred_pages = 0;
    EACH_LINE(line, p->deferred.summary, 0, p->recording->all_lines) {
        for (unsigned i = 0; i < MPAT_LINE_WORDS; i++)
            p->deferred_pages +=
                (uint64_t)popcount(words_of(&p->deferred, line)[i] & words_of(&p->pending, line)[i]);
    }
}

static void sync_line(mpat_precopy *p, uint64_t line)
{
    uint64_t any = 0;
    for (uint64_t w = line * MPAT_LINE_WORDS; w < (line + 1) * MPAT_LINE_WORDS; w++) {
        uint64_t log = log_word(p, w), new = log & ~p->pending.words[w];
        if (new != 0)
            p->pending_pages += (uint64_t)popcount(new);
        p->pending.words[w] |= log;
        p->fetched.words[w] = p->chunk_words ? log : 0;
        p->fresh.words[w] = 0;
        any |= log;
    }
    if (any != 0)
        mark(p->pending.summary, line);
    if (any == 0 || !p->chunk_words)
        unmark(p->fetched.summary, line);
}

int mpat_precopy_sync(mpat_precopy *precopy, uint64_t *pending_pages)
{
    mpat_precopy *p = precopy;
    if (p == NULL || pending_pages == NULL)
        return -EINVAL;
    if (!mpat_busy_enter(&p->busy))
        return -EBUSY;
    if (p->written_is_old) /* two syncs at once: the second one finds nothing */
        clear_lines(&p->written, p->recording->all_lines);
    p->written_is_old = 0;
    mpat_precopy_catch_up(p);
    p->written_is_old = 1;
    EACH_LINE(line, p->fetched.summary, 0, p->recording->all_lines)
        sync_line(p, line);
    for (size_t r = 0; r < p->recording->n_regions; r++)
        memset(p->uncleared + p->chunks[r].first, 1, p->chunks[r].n);
    count_deferred(p);
    *pending_pages = p->pending_pages;
    mpat_busy_leave(&p->busy);
    return 0;
}

int mpat_precopy_found(mpat_precopy *precopy, uint64_t *const *bitmaps)
{
    const mpat_precopy *p = precopy;
    if (p == NULL || bitmaps == NULL)
        return -EINVAL;
    for (size_t r = 0; r < p->recording->n_regions; r++) {
        if (bitmaps[r] == NULL)
            return -EINVAL;
    }
    if (!mpat_busy_enter(&precopy->busy))
        return -EBUSY;
    for (size_t r = 0; r < p->recording->n_regions; r++) {
        const struct mpat_extent *e = &p->recording->regions[r];
        if (p->written_is_old)
            memcpy(bitmaps[r], words_of(&p->written, e->first_line), e->n_words * sizeof(uint64_t));
        else
            memset(bitmaps[r], 0, e->n_words * sizeof(uint64_t));
    }
    mpat_busy_leave(&precopy->busy);
    return 0;
}

int mpat_precopy_outstanding(mpat_precopy *precopy, uint64_t *pages, uint64_t *zero_pages)
{
    mpat_precopy *p = precopy;
    if (p == NULL || pages == NULL || zero_pages == NULL)
        return -EINVAL;
    if (!mpat_busy_enter(&p->busy))
        return -EBUSY;
    mpat_precopy_catch_up(p);
    uint64_t n = p->pending_pages;
    EACH_LINE(line, p->fetched.summary, 0, p->recording->all_lines) {
        for (uint64_t w = line * MPAT_LINE_WORDS; w < (line + 1) * MPAT_LINE_WORDS; w++)
            n += (uint64_t)popcount(log_word(p, w) & ~p->pending.words[w]);
    }
    *pages = n;
    *zero_pages = p->zero_pages; /* all pending: what is found once more was written */
    mpat_busy_leave(&p->busy);
    return 0;
}

int mpat_precopy_defer(mpat_precopy *precopy, const uint64_t *const *bitmaps)
{
    mpat_precopy *p = precopy;
    if (p == NULL)
        return -EINVAL;
    for (size_t r = 0; bitmaps != NULL && r < p->recording->n_regions; r++) {
        if (bitmaps[r] == NULL)
            return -EINVAL;
    }
    if (!mpat_busy_enter(&p->busy))
        return -EBUSY;
    clear_lines(&p->deferred, p->recording->all_lines);
    for (size_t r = 0; bitmaps != NULL && r < p->recording->n_regions; r++) {
        const struct mpat_extent *e = &p->recording->regions[r];
        for (uint64_t w = 0; w < e->n_words; w++) {
            if (bitmaps[r][w] == 0)
                continue;
            words_of(&p->deferred, e->first_line)[w] = bitmaps[r][w];
            mark(p->deferred.summary, e->first_line + w / MPAT_LINE_WORDS);
        }
    }
    count_deferred(p);
    mpat_busy_leave(&p->busy);
    return 0;
}

uint64_t mpat_precopy_deferred(const mpat_precopy *precopy)
{
    return precopy->deferred_pages;
}
