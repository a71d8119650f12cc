/* SPDX-License-Identifier: Apache-2.0 */
#include "recording.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"

#define MOST_LINES (UINT64_C(1) << 32) /* their numbers have 32 bits */
#define MOST_INTERVALS (UINT64_C(1) << 32)

static void note_bytes(mpat_recording *r)
{
    uint64_t bytes = sizeof(*r) + r->n_regions * sizeof(struct mpat_extent) +
                     r->all_lines * MPAT_LINE_WORDS * sizeof(uint64_t) +
                     (r->room_intervals + 1) * (2 * sizeof(uint64_t) + sizeof(double)) +
                     r->room_lines * (sizeof(uint32_t) + 2) + r->room_words * sizeof(uint64_t);
    atomic_store_explicit(&r->bytes, bytes, memory_order_relaxed);
}

int mpat_recording_create(const uint64_t *region_pages, size_t n_regions, mpat_recording **out)
{
    size_t bytes;
    if (mpat_regions_check(region_pages, n_regions) || out == NULL)
        return -EINVAL;
    if (__builtin_mul_overflow(n_regions, sizeof(struct mpat_extent), &bytes) ||
        __builtin_add_overflow(bytes, sizeof(mpat_recording), &bytes))
        return -ENOMEM;
    mpat_recording *r = calloc(1, bytes);
    if (r == NULL)
        return -ENOMEM;
    r->n_regions = n_regions;
    for (size_t i = 0; i < n_regions; i++) {
        struct mpat_extent *e = &r->regions[i];
        e->n_pages = region_pages[i];
        e->n_words = mpat_bitmap_words(e->n_pages);
        e->first_line = r->all_lines;
        e->n_lines = e->n_words / MPAT_LINE_WORDS + (e->n_words % MPAT_LINE_WORDS != 0);
        if (e->n_lines > MOST_LINES - r->all_lines) {
            free(r);
            return -ENOMEM;
        }
        r->all_lines += e->n_lines;
    }
    r->ever = calloc(r->all_lines, MPAT_LINE_WORDS * sizeof(uint64_t));
    r->first_line = calloc(1, sizeof(uint64_t));
    r->first_word = calloc(1, sizeof(uint64_t));
    r->end = calloc(1, sizeof(double));
    if (r->ever == NULL || r->first_line == NULL || r->first_word == NULL || r->end == NULL) {
        mpat_recording_destroy(r);
        return -ENOMEM;
    }
    note_bytes(r);
    *out = r;
    return 0;
}

void mpat_recording_destroy(mpat_recording *recording)
{
    if (recording == NULL)
        return;
    free(recording->first_line);
    free(recording->first_word);
    free(recording->end);
    free(recording->line);
    free(recording->mask);
    free(recording->writes);
    free(recording->words);
    free(recording->ever);
    free(recording);
}

/* ---- intervals come in ----------------------------------------------------------------------- */

static int grow_one(void *array, uint64_t n, size_t size)
{
    void **at = array, *larger = realloc(*at, n * size);
    if (larger == NULL)
        return -ENOMEM;
    *at = larger;
    return 0;
}

static int has_room(uint64_t needed, uint64_t *room, uint64_t *larger)
{
    *larger = needed > *room ? needed + needed / 2 : *room;
    return needed <= *room;
}

/* Room for an interval of so many lines and words. Arrays that grew stay larger if one fails. */
static int make_room(mpat_recording *r, uint64_t n_lines, uint64_t n_words)
{
    uint64_t room;
    if (!has_room(r->n_intervals + 1, &r->room_intervals, &room)) {
        if (grow_one(&r->first_line, room + 1, sizeof(*r->first_line)) ||
            grow_one(&r->first_word, room + 1, sizeof(*r->first_word)) ||
            grow_one(&r->end, room + 1, sizeof(*r->end)))
            return -ENOMEM;
        r->room_intervals = room;
    }
    if (!has_room(r->n_lines + n_lines, &r->room_lines, &room)) {
        if (grow_one(&r->line, room, sizeof(*r->line)) || grow_one(&r->mask, room, 1) ||
            grow_one(&r->writes, room, 1))
            return -ENOMEM;
        r->room_lines = room;
    }
    if (!has_room(r->n_words + n_words, &r->room_words, &room)) {
        if (grow_one(&r->words, room, sizeof(*r->words)))
            return -ENOMEM;
        r->room_words = room;
    }
    return 0;
}

/* The words of a line that are not empty; `n` of them belong to the region, the last of which may
 * have bits that are no pages. */
static uint8_t mask_of(const uint64_t *words, unsigned n, uint64_t last_mask)
{
    unsigned mask = 0;
    for (unsigned i = 0; i < n; i++)
        mask |= (unsigned)((words[i] & (i + 1 < n ? UINT64_MAX : last_mask)) != 0) << i;
    return (uint8_t)mask;
}

struct line_view {
    unsigned n;
    uint64_t last_mask;
};

static struct line_view line_view(const struct mpat_extent *e, uint64_t line)
{
    uint64_t left = e->n_words - line * MPAT_LINE_WORDS;
    if (left > MPAT_LINE_WORDS)
        return (struct line_view){MPAT_LINE_WORDS, UINT64_MAX};
    unsigned spare = (unsigned)(-e->n_pages % MPAT_WORD_PAGES);
    return (struct line_view){(unsigned)left, UINT64_MAX >> spare};
}

/* Most of a large VM is clean. */
static int is_clean(const uint64_t *words)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < MPAT_LINE_WORDS; i++)
        any |= words[i];
    return any == 0;
}

static uint8_t dirty_mask(const struct mpat_extent *e, const uint64_t *bitmap, uint64_t line)
{
    const uint64_t *words = bitmap + line * MPAT_LINE_WORDS;
    struct line_view view = line_view(e, line);
    if (view.n == MPAT_LINE_WORDS && is_clean(words))
        return 0;
    return mask_of(words, view.n, view.last_mask);
}

static void count(const mpat_recording *r, const uint64_t *const *bitmaps, uint64_t *n_lines,
                  uint64_t *n_words)
{
    *n_lines = *n_words = 0;
    for (size_t i = 0; i < r->n_regions; i++) {
        for (uint64_t line = 0; line < r->regions[i].n_lines; line++) {
            uint8_t mask = dirty_mask(&r->regions[i], bitmaps[i], line);
            *n_lines += mask != 0;
            *n_words += (uint64_t)__builtin_popcount(mask);
        }
    }
}

/* The lines of the interval before, walked along with those of this one. */
struct before {
    struct mpat_lines lines;
    uint64_t at;
    const uint64_t *words;
};

static uint8_t compare(struct before *b, uint32_t line, uint8_t mask, const uint64_t *words)
{
    int dirty = 0, redirtied = 0, before = 0;
    uint64_t old[MPAT_LINE_WORDS] = {0};
    while (b->at < b->lines.n_lines && b->lines.line[b->at] < line)
        b->words += __builtin_popcount(b->lines.mask[b->at++]);
    if (b->at < b->lines.n_lines && b->lines.line[b->at] == line) {
        const uint64_t *word = b->words;
        for (unsigned rest = b->lines.mask[b->at]; rest != 0; rest &= rest - 1)
            old[__builtin_ctz(rest)] = *word++;
    }
    for (unsigned i = 0; i < MPAT_LINE_WORDS; i++)
        before += __builtin_popcountll(old[i]);
    for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
        dirty += __builtin_popcountll(*words);
        redirtied += __builtin_popcountll(*words++ & old[__builtin_ctz(rest)]);
    }
    return mpat_writes_class(dirty, redirtied, before);
}

/* -ENOSPC: more is dirty than was when room was made for it. */
static int keep(mpat_recording *r, const struct mpat_extent *e, const uint64_t *bitmap,
                struct before *before)
{
    for (uint64_t line = 0; line < e->n_lines; line++) {
        uint8_t mask = dirty_mask(e, bitmap, line);
        if (mask == 0)
            continue;
        if (r->n_lines == r->room_lines ||
            (uint64_t)__builtin_popcount(mask) > r->room_words - r->n_words)
            return -ENOSPC;
        struct line_view view = line_view(e, line);
        uint64_t at = e->first_line + line, *kept = r->words + r->n_words;
        for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
            unsigned i = (unsigned)__builtin_ctz(rest);
            uint64_t word = bitmap[line * MPAT_LINE_WORDS + i];
            word &= i + 1 < view.n ? UINT64_MAX : view.last_mask;
            r->words[r->n_words++] = word;
            r->ever[at * MPAT_LINE_WORDS + i] |= word;
        }
        r->line[r->n_lines] = (uint32_t)at;
        r->mask[r->n_lines] = mask;
        r->writes[r->n_lines++] = compare(before, (uint32_t)at, mask, kept);
    }
    return 0;
}

/* Forget an interval that was kept in part. */
static void forget_from(mpat_recording *r, uint64_t n_lines, uint64_t n_words)
{
    const uint64_t *word = r->words;
    r->n_lines = n_lines;
    r->n_words = n_words;
    memset(r->ever, 0, r->all_lines * MPAT_LINE_WORDS * sizeof(uint64_t));
    for (uint64_t k = 0; k < n_lines; k++) {
        uint64_t *ever = r->ever + (uint64_t)r->line[k] * MPAT_LINE_WORDS;
        for (unsigned rest = r->mask[k]; rest != 0; rest &= rest - 1)
            ever[__builtin_ctz(rest)] |= *word++;
    }
}

static int keep_all(mpat_recording *r, const uint64_t *const *bitmaps)
{
    struct before before = {0};
    uint64_t n_lines = r->n_lines, n_words = r->n_words;
    int err = 0;
    if (r->n_intervals != 0)
        before.lines = mpat_recording_lines(r, r->n_intervals - 1);
    before.words = before.lines.words;
    for (size_t i = 0; i < r->n_regions && err == 0; i++)
        err = keep(r, &r->regions[i], bitmaps[i], &before);
    if (err)
        forget_from(r, n_lines, n_words);
    return err;
}

int mpat_recording_add(mpat_recording *recording, const uint64_t *const *bitmaps, double duration)
{
    mpat_recording *r = recording;
    uint64_t n_lines, n_words;
    if (r == NULL || bitmaps == NULL || !(duration > 0.0 && isfinite(duration)))
        return -EINVAL;
    for (size_t i = 0; i < r->n_regions; i++) {
        if (bitmaps[i] == NULL)
            return -EINVAL;
    }
    if (!mpat_busy_enter(&r->busy))
        return -EBUSY;
    int err = atomic_load(&r->sealed) || r->n_intervals == MOST_INTERVALS ? -EPERM : 0;
    double end = r->end[r->n_intervals] + duration;
    if (err == 0 && !(end > r->end[r->n_intervals] && isfinite(end)))
        err = -EINVAL; /* lengths so unlike that a sum does not tell them apart */
    if (err == 0) {
        count(r, bitmaps, &n_lines, &n_words);
        err = make_room(r, n_lines, n_words);
        note_bytes(r);
    }
    if (err == 0)
        err = keep_all(r, bitmaps);
    if (err == 0) {
        r->end[r->n_intervals + 1] = end;
        r->n_intervals++;
        r->first_line[r->n_intervals] = r->n_lines;
        r->first_word[r->n_intervals] = r->n_words;
    }
    mpat_busy_leave(&r->busy);
    return err;
}

int mpat_recording_seal(mpat_recording *recording, uint64_t loop)
{
    if (recording == NULL)
        return -EINVAL;
    if (!mpat_busy_enter(&recording->busy))
        return -EBUSY;
    int err = 0;
    if (atomic_load(&recording->sealed)) {
        err = -EPERM;
    } else if (loop >= recording->n_intervals) {
        err = -EINVAL;
    } else {
        recording->loop = loop;
        atomic_store(&recording->sealed, 1);
    }
    mpat_busy_leave(&recording->busy);
    return err;
}

/* ---- and are read ---------------------------------------------------------------------------- */

struct mpat_lines mpat_recording_lines(const mpat_recording *r, uint64_t interval)
{
    uint64_t line = r->first_line[interval];
    return (struct mpat_lines){
        .n_lines = r->first_line[interval + 1] - line,
        .line = r->line + line,
        .mask = r->mask + line,
        .writes = r->writes + line,
        .words = r->words + r->first_word[interval],
    };
}

int mpat_recording_read(const mpat_recording *recording, uint64_t interval, uint64_t *const *bitmaps)
{
    const mpat_recording *r = recording;
    if (r == NULL || bitmaps == NULL || !atomic_load(&r->sealed) || interval >= r->n_intervals)
        return -EINVAL;
    for (size_t i = 0; i < r->n_regions; i++) {
        if (bitmaps[i] == NULL)
            return -EINVAL;
        memset(bitmaps[i], 0, r->regions[i].n_words * sizeof(uint64_t));
    }
    struct mpat_lines lines = mpat_recording_lines(r, interval);
    const uint64_t *word = lines.words;
    size_t region = 0;
    for (uint64_t k = 0; k < lines.n_lines; k++) {
        while (lines.line[k] >= r->regions[region].first_line + r->regions[region].n_lines)
            region++;
        uint64_t line = lines.line[k] - r->regions[region].first_line;
        for (unsigned rest = lines.mask[k]; rest != 0; rest &= rest - 1)
            bitmaps[region][line * MPAT_LINE_WORDS + (unsigned)__builtin_ctz(rest)] = *word++;
    }
    return 0;
}

int mpat_recording_ever(const mpat_recording *recording, uint64_t *const *bitmaps)
{
    if (recording == NULL || bitmaps == NULL || !atomic_load(&recording->sealed))
        return -EINVAL;
    for (size_t i = 0; i < recording->n_regions; i++) {
        if (bitmaps[i] == NULL)
            return -EINVAL;
    }
    for (size_t i = 0; i < recording->n_regions; i++) {
        const struct mpat_extent *e = &recording->regions[i];
        memcpy(bitmaps[i], recording->ever + e->first_line * MPAT_LINE_WORDS,
               e->n_words * sizeof(uint64_t));
    }
    return 0;
}

uint64_t mpat_recording_bytes(const mpat_recording *recording)
{
    return atomic_load_explicit(&recording->bytes, memory_order_relaxed);
}
