/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of a recorded VM in a pre-copy migration, as QEMU keeps them (migration/ram.c):
 * RAMBlock.bmap, what is still to send, and the dirty log behind it, which QEMU fetches at a sync
 * and clears chunk by chunk, just before it sends the first page of a chunk (RAMBlock.clear_bmap).
 *
 * Each bitmap has a summary with a bit for each line that may not be empty, so that what is clean
 * costs nothing. Memory is made to be what the guest wrote only when it matters: where the log is
 * fetched, where a part of it is cleared, and while pages of zeros are sent.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../stats/arena.h"
#include "draw.h"
#include "recording.h"

#define EDGE 1e-9 /* of an interval: so near its end is at its end */

struct bitmap {
    uint64_t *words;   /* of all lines */
    uint64_t *summary; /* a bit a line */
};

struct chunks {
    uint64_t first, n;
};

/* Where in the recording the guest is. */
struct cursor {
    uint64_t interval, turn, seed;
    double into; /* the interval */
    double due;  /* time that has passed, and whose writes have not been made */
};

struct mpat_precopy {
    mpat_busy busy;
    const mpat_recording *recording;
    uint64_t chunk_words; /* 0: a sync clears the log itself */
    struct bitmap pending; /* still to send */
    struct bitmap fetched; /* of the log: seen by the last sync, not cleared yet */
    struct bitmap fresh;   /* of the log: written since the last sync; one summary for both */
    struct bitmap written; /* since the last sync, whatever became of it */
    struct bitmap deferred;
    uint64_t *zero;        /* not written yet, and holds zeros only */
    uint8_t *uncleared;    /* chunks whose log is cleared when a page of theirs is sent */
    uint64_t n_words, n_summary;
    uint64_t pending_pages, deferred_pages, zero_pages; /* the latter two of the pending ones */
    uint64_t at;       /* the page where sending goes on: QEMU's last_seen_block and last_page */
    int written_is_old; /* it is what the last sync found */
    struct cursor cursor;
    struct mpat_odds odds[MPAT_WRITES_CLASSES]; /* for the part that is being written */
    uint8_t has_odds[MPAT_WRITES_CLASSES];
    uint64_t bytes;
    struct mpat_arena arena;
    struct chunks chunks[]; /* of each region */
};

static int popcount(uint64_t word)
{
    return __builtin_popcountll(word);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static void mark(uint64_t *summary, uint64_t line)
{
    summary[line / 64] |= UINT64_C(1) << line % 64;
}

static void unmark(uint64_t *summary, uint64_t line)
{
    summary[line / 64] &= ~(UINT64_C(1) << line % 64);
}

/* The first line from `line` on that is in the summary, or `end`. */
static uint64_t next_line(const uint64_t *summary, uint64_t line, uint64_t end)
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

static uint64_t *words_of(const struct bitmap *bitmap, uint64_t line)
{
    return bitmap->words + line * MPAT_LINE_WORDS;
}

static int is_empty(const uint64_t *words)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < MPAT_LINE_WORDS; i++)
        any |= words[i];
    return any == 0;
}

static void clear_lines(struct bitmap *bitmap, uint64_t n_lines)
{
    EACH_LINE(line, bitmap->summary, 0, n_lines)
        memset(words_of(bitmap, line), 0, MPAT_LINE_WORDS * sizeof(uint64_t));
    memset(bitmap->summary, 0, (n_lines + 63) / 64 * sizeof(uint64_t));
}

/* ---- one migration after the other ------------------------------------------------------------ */

static void take(mpat_precopy *p, struct bitmap *bitmap)
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
        p->chunks[r] = (struct chunks){n_chunks, n};
        n_chunks += n;
    }
    return n_chunks;
}

static void set_all(const mpat_precopy *p, struct bitmap *bitmap)
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
    if (__builtin_mul_overflow(recording->n_regions, sizeof(struct chunks), &bytes) ||
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

/* A moment after the end lies in the loop. */
static struct cursor cursor_at(const mpat_recording *rec, double at, uint64_t seed)
{
    double end = rec->end[rec->n_intervals], loop = rec->end[rec->loop];
    if (at >= end)
        at = loop + fmod(at - loop, end - loop);
    uint64_t low = 0, high = rec->n_intervals; /* end[low] <= at < end[high] */
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (rec->end[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return (struct cursor){.interval = low, .into = at - rec->end[low], .seed = seed};
}

int mpat_precopy_start(mpat_precopy *precopy, const uint64_t *const *zero, double at, uint64_t seed)
{
    if (precopy == NULL || !(at >= 0.0 && isfinite(at)))
        return -EINVAL;
    if (!mpat_busy_enter(&precopy->busy))
        return -EBUSY;
    restart(precopy, zero);
    precopy->cursor = cursor_at(precopy->recording, at, seed);
    mpat_busy_leave(&precopy->busy);
    return 0;
}

/* ---- the guest writes ------------------------------------------------------------------------ */

static const struct mpat_odds *odds_for(mpat_precopy *p, uint8_t class, double from, double to)
{
    if (!p->has_odds[class]) {
        p->odds[class] = mpat_odds(class, from, to);
        p->has_odds[class] = 1;
    }
    return &p->odds[class];
}

/* The guest writes what it wrote between two fractions of the current interval. */
static void write_part(mpat_precopy *p, double from, double to)
{
    const struct cursor *c = &p->cursor;
    struct mpat_lines lines = mpat_recording_lines(p->recording, c->interval);
    int whole = from == 0.0 && to == 1.0;
    uint64_t seed = mpat_mix((c->seed << 40) + (c->turn << 24) + c->interval);
    const uint64_t *word = lines.words;
    memset(p->has_odds, 0, sizeof(p->has_odds));
    for (uint64_t k = 0; k < lines.n_lines; k++) {
        uint64_t line = lines.line[k], any = 0;
        uint64_t *fresh = words_of(&p->fresh, line), *written = words_of(&p->written, line);
        uint64_t *zero = p->zero + line * MPAT_LINE_WORDS;
        const uint64_t *pending = words_of(&p->pending, line);
        const struct mpat_odds *odds = whole ? NULL : odds_for(p, lines.writes[k], from, to);
        for (unsigned rest = lines.mask[k]; rest != 0; rest &= rest - 1) {
            unsigned i = (unsigned)__builtin_ctz(rest);
            uint64_t bits = *word++, page = (line * MPAT_LINE_WORDS + i) * MPAT_WORD_PAGES;
            if (!whole)
                bits = mpat_draw(bits, page, seed, odds);
            fresh[i] |= bits;
            written[i] |= bits;
            if ((zero[i] & bits) != 0) {
                p->zero_pages -= (uint64_t)popcount(zero[i] & bits & pending[i]);
                zero[i] &= ~bits;
            }
            any |= bits;
        }
        if (any != 0) {
            mark(p->fresh.summary, line);
            mark(p->written.summary, line);
        }
    }
}

static void go_to(mpat_precopy *p, uint64_t interval)
{
    struct cursor *c = &p->cursor;
    c->interval = interval;
    c->into = 0.0;
    if (interval == p->recording->n_intervals) {
        c->interval = p->recording->loop;
        c->turn++;
    }
}

/* What is written in a turn of the loop is written after the next ones too: these are left out. */
static void skip_turns(const mpat_recording *rec, struct cursor *c)
{
    double end = rec->end[rec->n_intervals], turn = end - rec->end[rec->loop];
    double spare = c->due - (end - rec->end[c->interval] - c->into) - turn;
    if (spare >= turn) {
        double turns = floor(spare / turn);
        c->due -= turns * turn;
        c->turn += (uint64_t)fmin(turns, 0x1p32);
    }
}

static void catch_up(mpat_precopy *p)
{
    struct cursor *c = &p->cursor;
    skip_turns(p->recording, c);
    if (c->due > 0.0 && p->written_is_old) {
        clear_lines(&p->written, p->recording->all_lines);
        p->written_is_old = 0;
    }
    while (c->due > 0.0) {
        const double *end = p->recording->end;
        double length = end[c->interval + 1] - end[c->interval];
        double step = fmin(c->due, length - c->into);
        double from = c->into / length, to = (c->into + step) / length;
        write_part(p, from, to > 1.0 - EDGE ? 1.0 : to);
        c->due -= step;
        c->into += step;
        if (c->into >= length * (1.0 - EDGE))
            go_to(p, c->interval + 1);
    }
    c->due = 0.0;
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
        uint64_t log = log_word(p, w);
        p->pending_pages += (uint64_t)popcount(log & ~p->pending.words[w]);
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
    catch_up(p);
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
    catch_up(p);
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

/* ---- and sends ------------------------------------------------------------------------------- */

/* KVM_CLEAR_DIRTY_LOG clears what the last fetch returned, also where it was written again since:
 * the page's content is yet to be sent. */
static void clear_chunk(mpat_precopy *p, const struct mpat_extent *e, uint64_t chunk)
{
    uint64_t start = chunk * p->chunk_words, end = e->n_words;
    if (p->chunk_words < end - start)
        end = start + p->chunk_words;
    uint64_t first_word = e->first_line * MPAT_LINE_WORDS;
    uint64_t last_line = e->first_line + (end - 1) / MPAT_LINE_WORDS;
    start += first_word;
    end += first_word;
    catch_up(p);
    EACH_LINE(line, p->fetched.summary, start / MPAT_LINE_WORDS, last_line + 1) {
        uint64_t w = line * MPAT_LINE_WORDS, line_end = w + MPAT_LINE_WORDS;
        for (w = w < start ? start : w; w < line_end && w < end; w++) {
            p->fresh.words[w] &= ~p->fetched.words[w];
            p->fetched.words[w] = 0;
        }
        if (is_empty(words_of(&p->fresh, line)) && is_empty(words_of(&p->fetched, line)))
            unmark(p->fetched.summary, line);
    }
}

/* What one call has to spend. */
struct purse {
    double budget, page_cost, zero_cost;
    mpat_sent sent;
};

/* Sends the lowest pages of a word until the budget is reached; returns which. */
static uint64_t send_some(uint64_t bits, uint64_t zero, struct purse *purse)
{
    uint64_t taken = 0;
    for (uint64_t rest = bits; rest != 0 && purse->sent.cost < purse->budget; rest &= rest - 1) {
        uint64_t bit = rest & -rest, is_zero = (zero & bit) != 0;
        purse->sent.pages++;
        purse->sent.zero_pages += is_zero;
        purse->sent.cost += is_zero ? purse->zero_cost : purse->page_cost;
        taken |= bit;
    }
    return taken;
}

static uint64_t send_word(uint64_t bits, uint64_t zero, struct purse *purse)
{
    int n_zero = popcount(bits & zero), n = popcount(bits);
    double cost = n_zero * purse->zero_cost + (n - n_zero) * purse->page_cost;
    if (purse->sent.cost + cost > purse->budget)
        return send_some(bits, zero, purse);
    purse->sent.pages += (uint64_t)n;
    purse->sent.zero_pages += (uint64_t)n_zero;
    purse->sent.cost += cost;
    return bits;
}

/* Sends of one region from page `at` on, for less than the budget was spent; returns whether the
 * budget is reached, with `at` after the last page. */
static int send_region(mpat_precopy *p, size_t region, struct purse *purse)
{
    const struct mpat_extent *e = &p->recording->regions[region];
    uint64_t first_word = e->first_line * MPAT_LINE_WORDS, from = p->at / MPAT_WORD_PAGES;
    uint64_t seen = (UINT64_C(1) << p->at % MPAT_WORD_PAGES) - 1; /* of the first word */
    EACH_LINE(line, p->pending.summary, from / MPAT_LINE_WORDS, e->first_line + e->n_lines) {
        uint64_t start = line * MPAT_LINE_WORDS, *words = p->pending.words;
        for (uint64_t w = start < from ? from : start; w < start + MPAT_LINE_WORDS; w++) {
            uint64_t bits = words[w] & ~p->deferred.words[w] & ~(w == from ? seen : 0);
            if (bits == 0)
                continue;
            if (p->chunk_words) {
                uint64_t chunk = (w - first_word) / p->chunk_words;
                uint8_t *uncleared = &p->uncleared[p->chunks[region].first + chunk];
                if (*uncleared)
                    clear_chunk(p, e, chunk);
                *uncleared = 0;
            }
            bits = send_word(bits, p->zero[w], purse);
            words[w] &= ~bits;
            p->pending_pages -= (uint64_t)popcount(bits);
            if (purse->sent.cost >= purse->budget) {
                p->at = (w + 1) * MPAT_WORD_PAGES - (uint64_t)__builtin_clzll(bits);
                return 1;
            }
        }
        if (is_empty(words + start))
            unmark(p->pending.summary, line);
    }
    return 0;
}

static size_t region_of(const mpat_recording *rec, uint64_t page)
{
    uint64_t line = page / (MPAT_WORD_PAGES * MPAT_LINE_WORDS);
    size_t region = 0;
    while (region + 1 < rec->n_regions && line >= rec->regions[region + 1].first_line)
        region++;
    return region;
}

int mpat_precopy_send(mpat_precopy *precopy, double budget, double page_cost, double zero_cost,
                      mpat_sent *out)
{
    mpat_precopy *p = precopy;
    if (p == NULL || out == NULL || !(budget >= 0.0) ||
        !(page_cost > 0.0 && isfinite(page_cost)) || !(zero_cost > 0.0 && isfinite(zero_cost)))
        return -EINVAL;
    if (!mpat_busy_enter(&p->busy))
        return -EBUSY;
    const mpat_recording *rec = p->recording;
    struct purse purse = {budget, page_cost, zero_cost, {0}};
    size_t region = region_of(rec, p->at);
    if (p->zero_pages != 0) /* whether they are still is seen when they are sent */
        catch_up(p);
    /* Once around from where it stopped, and up to there again. */
    while (p->pending_pages != p->deferred_pages && purse.sent.cost < budget) {
        if (send_region(p, region, &purse))
            break;
        region = (region + 1) % rec->n_regions;
        p->at = rec->regions[region].first_line * MPAT_LINE_WORDS * MPAT_WORD_PAGES;
    }
    p->zero_pages -= purse.sent.zero_pages;
    *out = purse.sent;
    mpat_busy_leave(&p->busy);
    return 0;
}
