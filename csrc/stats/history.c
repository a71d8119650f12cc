/* SPDX-License-Identifier: Apache-2.0 */
/* The last bitmaps of every region. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "history.h"

#define MAX_DEPTH 255u

struct region {
    uint64_t n_pages, n_words;
    uint64_t words_stride, lines_stride; /* from one slot to the next */
    uint64_t *words, *lines;
};

struct mpat_history {
    mpat_busy busy;
    int owned;    /* by a stats */
    int followed; /* by another history */
    uint32_t depth;
    uint32_t head;           /* slot of the next interval */
    _Atomic uint32_t length; /* read without entering */
    int streams;
    size_t n_regions;
    uint64_t bytes;
    struct mpat_arena arena;
    struct region regions[];
};

int mpat_regions_check(const uint64_t *region_pages, size_t n_regions)
{
    if (region_pages == NULL || n_regions == 0)
        return -EINVAL;
    for (size_t r = 0; r < n_regions; r++) {
        if (region_pages[r] == 0)
            return -EINVAL;
    }
    return 0;
}

int mpat_origin_check(const mpat_origin *origin, uint64_t old_pages, uint64_t new_pages,
                      uint64_t step)
{
    uint64_t page = origin->page;
    return page % step || page > new_pages || old_pages > new_pages - page ? -EINVAL : 0;
}

/* Measure the arrays, or, once the arena is mapped, place them. */
static void lay_out(mpat_history *h)
{
    for (size_t r = 0; r < h->n_regions; r++) {
        struct region *region = &h->regions[r];
        /* Below 2^58 * 2^8 words: at worst the arena is what overflows. */
        uint64_t words = region->words_stride * h->depth, lines = region->lines_stride * h->depth;
        region->words = mpat_arena_take(&h->arena, words, sizeof(uint64_t));
        region->lines = mpat_arena_take(&h->arena, lines, sizeof(uint64_t));
    }
}

int mpat_history_create(const uint64_t *region_pages, size_t n_regions, uint32_t depth,
                        mpat_history **out)
{
    size_t bytes;
    if (mpat_regions_check(region_pages, n_regions) || depth < 1 || depth > MAX_DEPTH ||
        out == NULL)
        return -EINVAL;
    if (__builtin_mul_overflow(n_regions, sizeof(struct region), &bytes) ||
        __builtin_add_overflow(bytes, sizeof(mpat_history), &bytes))
        return -ENOMEM;
    mpat_history *h = calloc(1, bytes);
    if (h == NULL)
        return -ENOMEM;

    uint64_t slot_bytes = 0;
    h->depth = depth;
    h->n_regions = n_regions;
    for (size_t r = 0; r < n_regions; r++) {
        struct region *region = &h->regions[r];
        region->n_pages = region_pages[r];
        region->n_words = mpat_bitmap_words(region_pages[r]);
        uint64_t n_lines = mpat_lines(region->n_words);
        region->words_stride = n_lines * MPAT_LINE_WORDS;
        region->lines_stride = (n_lines + MPAT_BLOCK_LINES - 1) / MPAT_BLOCK_LINES;
        slot_bytes += region->n_words * sizeof(uint64_t);
    }
    lay_out(h);
    int err = mpat_arena_map(&h->arena);
    if (err) {
        free(h);
        return err;
    }
    lay_out(h);
    h->streams = depth > 1 && slot_bytes >= MPAT_STREAM_FROM;
    h->bytes = bytes + h->arena.map_bytes;
    *out = h;
    return 0;
}

void mpat_history_destroy(mpat_history *history)
{
    if (history == NULL)
        return;
    mpat_arena_unmap(&history->arena);
    free(history);
}

int mpat_history_enter(mpat_history *history)
{
    return mpat_busy_enter(&history->busy);
}

void mpat_history_leave(mpat_history *history)
{
    mpat_busy_leave(&history->busy);
}

static struct mpat_slot slot_at(const struct region *region, uint64_t slot)
{
    return (struct mpat_slot){region->words + slot * region->words_stride,
                              region->lines + slot * region->lines_stride};
}

void mpat_history_slots(const mpat_history *history, size_t region, struct mpat_slot *prev,
                        struct mpat_slot *next)
{
    uint64_t head = history->head, last = (head ? head : history->depth) - 1;
    *prev = slot_at(&history->regions[region], last);
    *next = slot_at(&history->regions[region], head);
}

void mpat_history_advance(mpat_history *history)
{
    uint32_t length = atomic_load_explicit(&history->length, memory_order_relaxed);
    history->head = history->head + 1 < history->depth ? history->head + 1 : 0;
    if (length < history->depth)
        atomic_store_explicit(&history->length, length + 1, memory_order_relaxed);
}

int mpat_history_streams(const mpat_history *history)
{
    return history->streams;
}

int mpat_history_attach(mpat_history *history, const uint64_t *region_pages, size_t n_regions)
{
    if (!mpat_history_enter(history))
        return -EBUSY;
    int fits = !history->owned && mpat_history_length(history) == 0 &&
               history->n_regions == n_regions;
    for (size_t r = 0; fits && r < n_regions; r++)
        fits = history->regions[r].n_pages == region_pages[r];
    if (fits)
        history->owned = 1;
    mpat_history_leave(history);
    return fits ? 0 : -EINVAL;
}

static int append(mpat_history *history, const uint64_t *const *bitmaps)
{
    const struct mpat_kernel *kernel;
    if (history->owned)
        return -EPERM;
    if (history->followed)
        return -ESTALE;
    int err = mpat_kernel_get(&kernel);
    if (err)
        return err;
    for (size_t r = 0; r < history->n_regions; r++) {
        const struct region *region = &history->regions[r];
        struct mpat_input in = {bitmaps[r], region->n_words, mpat_last_mask(region->n_pages)};
        struct mpat_slot prev, next;
        mpat_history_slots(history, r, &prev, &next);
        kernel->append(&in, &next);
    }
    mpat_history_advance(history);
    return 0;
}

int mpat_history_update(mpat_history *history, const uint64_t *const *bitmaps)
{
    if (history == NULL || bitmaps == NULL)
        return -EINVAL;
    for (size_t r = 0; r < history->n_regions; r++) {
        if (bitmaps[r] == NULL)
            return -EINVAL;
    }
    if (!mpat_history_enter(history))
        return -EBUSY;
    int err = append(history, bitmaps);
    mpat_history_leave(history);
    return err;
}

int mpat_history_hot_pages(mpat_history *history, size_t region, uint32_t at_least, uint64_t *out)
{
    const struct mpat_kernel *kernel;
    if (history == NULL || out == NULL || region >= history->n_regions || at_least < 1 ||
        at_least > history->depth)
        return -EINVAL;
    int err = mpat_kernel_get(&kernel);
    if (err)
        return err;
    if (!mpat_history_enter(history))
        return -EBUSY;
    const struct region *g = &history->regions[region];
    /* Slots fill from the first on: those seen are the first `length`, in any order. */
    const struct mpat_history_view view = {g->words,        g->lines,
                                           g->words_stride, g->lines_stride,
                                           mpat_history_length(history), g->n_words};
    kernel->hot(&view, at_least, out);
    mpat_history_leave(history);
    return 0;
}

/* Set pages of one region in the given slots; what no slot has is not read. */
static uint64_t count_distinct(const struct region *g, const uint32_t *slots, uint32_t n_slots,
                               const struct mpat_kernel *kernel)
{
    uint64_t sum = 0;
    for (uint64_t block = 0; block < g->lines_stride; block++) {
        _Alignas(64) uint64_t words[MPAT_BLOCK_LINES * MPAT_LINE_WORDS];
        uint64_t any = 0, n_words = 0;
        uint32_t count;
        for (uint32_t s = 0; s < n_slots; s++)
            any |= g->lines[slots[s] * g->lines_stride + block];
        for (; any; any &= any - 1) {
            uint64_t line = (uint64_t)__builtin_ctzll(any), *out = words + n_words;
            memset(out, 0, MPAT_LINE_WORDS * sizeof(*out));
            for (uint32_t s = 0; s < n_slots; s++) {
                if (g->lines[slots[s] * g->lines_stride + block] >> line & 1) {
                    const uint64_t *in = g->words + slots[s] * g->words_stride +
                                         (block * MPAT_BLOCK_LINES + line) * MPAT_LINE_WORDS;
                    for (uint32_t i = 0; i < MPAT_LINE_WORDS; i++)
                        out[i] |= in[i];
                }
            }
            n_words += MPAT_LINE_WORDS;
        }
        if (n_words == 0)
            continue;
        const struct mpat_input in = {words, n_words, ~UINT64_C(0)};
        kernel->counts(&in, MPAT_BLOCK_LINES * MPAT_LINE_WORDS, &count);
        sum += count;
    }
    return sum;
}

int mpat_history_distinct_pages(mpat_history *history, uint32_t last, uint64_t *out)
{
    const struct mpat_kernel *kernel;
    uint32_t slots[MAX_DEPTH], n = 0;
    uint64_t sum = 0;
    if (history == NULL || out == NULL || last < 1 || last > history->depth)
        return -EINVAL;
    int err = mpat_kernel_get(&kernel);
    if (err)
        return err;
    if (!mpat_history_enter(history))
        return -EBUSY;
    uint32_t length = mpat_history_length(history), slot = history->head;
    while (n < last && n < length) {
        slot = (slot ? slot : history->depth) - 1;
        slots[n++] = slot;
    }
    for (size_t r = 0; r < history->n_regions; r++)
        sum += count_distinct(&history->regions[r], slots, n, kernel);
    mpat_history_leave(history);
    *out = sum;
    return 0;
}

int mpat_history_check_origins(const mpat_history *history, const uint64_t *region_pages,
                               size_t n_regions, const mpat_origin *origins, uint64_t step)
{
    if (mpat_regions_check(region_pages, n_regions) || origins == NULL)
        return -EINVAL;
    for (size_t r = 0; r < n_regions; r++) {
        int64_t old = origins[r].region;
        if (old == -1)
            continue;
        if (old < -1 || old >= (int64_t)history->n_regions ||
            mpat_origin_check(&origins[r], history->regions[old].n_pages, region_pages[r], step))
            return -EINVAL;
    }
    return 0;
}

void mpat_slot_copy(const struct mpat_slot *from, const struct mpat_slot *to, uint64_t n_words,
                    uint64_t shift)
{
    uint64_t n_lines = mpat_lines(n_words);
    for (uint64_t block = 0; block * MPAT_BLOCK_LINES < n_lines; block++) {
        for (uint64_t left = from->lines[block]; left; left &= left - 1) {
            uint64_t line = block * MPAT_BLOCK_LINES + (uint64_t)__builtin_ctzll(left);
            for (uint64_t w = line * MPAT_LINE_WORDS; w < (line + 1) * MPAT_LINE_WORDS; w++) {
                uint64_t at = w + shift, to_line = at / MPAT_LINE_WORDS;
                if (from->words[w] == 0) /* among them the words past the region's end */
                    continue;
                to->words[at] = from->words[w];
                to->lines[to_line / MPAT_BLOCK_LINES] |= UINT64_C(1) << to_line % MPAT_BLOCK_LINES;
            }
        }
    }
}

int mpat_history_succeed(mpat_history *history, const uint64_t *region_pages, size_t n_regions,
                         const mpat_origin *origins, mpat_history **out)
{
    mpat_history *next;
    uint32_t length = mpat_history_length(history);
    int err = mpat_history_create(region_pages, n_regions, history->depth, &next);
    if (err)
        return err;
    for (size_t r = 0; r < n_regions; r++) {
        for (uint32_t s = 0; origins[r].region >= 0 && s < length; s++) {
            const struct region *old = &history->regions[origins[r].region];
            struct mpat_slot from = slot_at(old, s), to = slot_at(&next->regions[r], s);
            mpat_slot_copy(&from, &to, old->n_words, origins[r].page / 64);
        }
    }
    next->head = history->head;
    next->length = length;
    next->owned = history->owned;
    history->followed = 1;
    *out = next;
    return 0;
}

int mpat_history_follow(mpat_history *history, const uint64_t *region_pages, size_t n_regions,
                        const mpat_origin *origins, mpat_history **out)
{
    if (history == NULL || out == NULL ||
        mpat_history_check_origins(history, region_pages, n_regions, origins, 64))
        return -EINVAL;
    if (!mpat_history_enter(history))
        return -EBUSY;
    int err = history->owned ? -EPERM : history->followed ? -ESTALE : 0;
    if (err == 0)
        err = mpat_history_succeed(history, region_pages, n_regions, origins, out);
    mpat_history_leave(history);
    return err;
}

uint32_t mpat_history_length(const mpat_history *history)
{
    return atomic_load_explicit(&history->length, memory_order_relaxed);
}

uint64_t mpat_history_bytes(const mpat_history *history)
{
    return history->bytes;
}
