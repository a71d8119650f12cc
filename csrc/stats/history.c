/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of the last bitmaps of every region. */
#include <errno.h>
#include <stdlib.h>

#include "arena.h"
#include "history.h"

/* Streaming stores pay where a slot is evicted before the next interval reads it back. */
#define STREAM_FROM ((uint64_t)4 << 20)

struct region {
    uint64_t n_pages, n_words;
    uint64_t words_stride, lines_stride; /* from one slot to the next */
    uint64_t *words, *lines;
};

struct mpat_history {
    mpat_busy busy;
    int owned; /* by a stats */
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
    if (mpat_regions_check(region_pages, n_regions) || depth < 1 || depth > 255 || out == NULL)
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
    h->streams = depth > 1 && slot_bytes >= STREAM_FROM;
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

void mpat_history_slots(const mpat_history *history, size_t region, struct mpat_slot *prev,
                        struct mpat_slot *next)
{
    const struct region *g = &history->regions[region];
    uint64_t head = history->head, last = (head ? head : history->depth) - 1;
    prev->words = g->words + last * g->words_stride;
    prev->lines = g->lines + last * g->lines_stride;
    next->words = g->words + head * g->words_stride;
    next->lines = g->lines + head * g->lines_stride;
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
    const struct mpat_ring_view ring = {g->words,        g->lines,
                                        g->words_stride, g->lines_stride,
                                        mpat_history_length(history), g->n_words};
    kernel->hot(&ring, at_least, out);
    mpat_history_leave(history);
    return 0;
}

uint32_t mpat_history_length(const mpat_history *history)
{
    return atomic_load_explicit(&history->length, memory_order_relaxed);
}

uint64_t mpat_history_bytes(const mpat_history *history)
{
    return history->bytes;
}
