/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of a VM in a pre-copy migration, as QEMU keeps them (migration/ram.c): RAMBlock.bmap,
 * what is still to send, and the dirty log behind it, which QEMU fetches at a sync and clears chunk
 * by chunk, just before it sends the first page of a chunk (RAMBlock.clear_bmap).
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../stats/arena.h"
#include "../stats/history.h"

#define WORD_PAGES 64u

/* A page that comes back in every interval is written this often in one, at least. */
#define MOST_WRITES 7.0

struct region {
    uint64_t n_pages, n_words, n_chunks;
    uint64_t *pending; /* still to send */
    uint64_t *fetched; /* of the log: seen by the last sync, not cleared yet */
    uint64_t *fresh;   /* of the log: written since the last sync */
    uint64_t *zero;    /* never written, and holds zeros only */
    uint8_t *uncleared; /* chunks whose log is cleared when a page of theirs is sent */
};

struct mpat_precopy {
    mpat_busy busy;
    uint64_t chunk_words; /* 0: a sync clears the log itself */
    uint64_t pending_pages;
    size_t at_region; /* where sending goes on: QEMU's last_seen_block and last_page */
    uint64_t at_page;
    size_t n_regions;
    uint64_t bytes;
    struct mpat_arena arena;
    struct region regions[];
};

static uint64_t last_mask(uint64_t n_pages)
{
    return n_pages % WORD_PAGES ? (UINT64_C(1) << n_pages % WORD_PAGES) - 1 : UINT64_MAX;
}

static uint64_t word_mask(const struct region *g, uint64_t word)
{
    return word + 1 < g->n_words ? UINT64_MAX : last_mask(g->n_pages);
}

static void lay_out(mpat_precopy *p)
{
    for (size_t r = 0; r < p->n_regions; r++) {
        struct region *g = &p->regions[r];
        g->pending = mpat_arena_take(&p->arena, g->n_words, sizeof(uint64_t));
        g->fetched = mpat_arena_take(&p->arena, g->n_words, sizeof(uint64_t));
        g->fresh = mpat_arena_take(&p->arena, g->n_words, sizeof(uint64_t));
        g->zero = mpat_arena_take(&p->arena, g->n_words, sizeof(uint64_t));
        g->uncleared = mpat_arena_take(&p->arena, g->n_chunks, 1);
    }
}

/* Everything is to be sent, and nothing of the log is cleared: QEMU begins with all bits set. */
static void restart(mpat_precopy *p, const uint64_t *const *zero)
{
    p->pending_pages = 0;
    p->at_region = 0;
    p->at_page = 0;
    for (size_t r = 0; r < p->n_regions; r++) {
        struct region *g = &p->regions[r];
        size_t bytes = g->n_words * sizeof(uint64_t);
        memset(g->pending, 0xff, bytes);
        g->pending[g->n_words - 1] = last_mask(g->n_pages);
        if (p->chunk_words) /* as with KVM_DIRTY_LOG_INITIALLY_SET */
            memcpy(g->fetched, g->pending, bytes);
        else
            memset(g->fetched, 0, bytes);
        memset(g->fresh, 0, bytes);
        memset(g->uncleared, 1, g->n_chunks);
        if (zero != NULL && zero[r] != NULL)
            memcpy(g->zero, zero[r], bytes);
        else
            memset(g->zero, 0, bytes);
        p->pending_pages += g->n_pages;
    }
}

int mpat_precopy_create(const uint64_t *region_pages, size_t n_regions, uint64_t chunk_pages,
                        mpat_precopy **out)
{
    size_t bytes;
    if (mpat_regions_check(region_pages, n_regions) || chunk_pages % WORD_PAGES || out == NULL)
        return -EINVAL;
    if (__builtin_mul_overflow(n_regions, sizeof(struct region), &bytes) ||
        __builtin_add_overflow(bytes, sizeof(mpat_precopy), &bytes))
        return -ENOMEM;
    mpat_precopy *p = calloc(1, bytes);
    if (p == NULL)
        return -ENOMEM;
    p->chunk_words = chunk_pages / WORD_PAGES;
    p->n_regions = n_regions;
    for (size_t r = 0; r < n_regions; r++) {
        struct region *g = &p->regions[r];
        g->n_pages = region_pages[r];
        g->n_words = mpat_bitmap_words(region_pages[r]);
        g->n_chunks = p->chunk_words ? (g->n_words + p->chunk_words - 1) / p->chunk_words : 0;
    }
    lay_out(p);
    int err = mpat_arena_map(&p->arena);
    if (err) {
        free(p);
        return err;
    }
    lay_out(p);
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

int mpat_precopy_start(mpat_precopy *precopy, const uint64_t *const *zero)
{
    if (precopy == NULL)
        return -EINVAL;
    if (!mpat_busy_enter(&precopy->busy))
        return -EBUSY;
    restart(precopy, zero);
    mpat_busy_leave(&precopy->busy);
    return 0;
}

/* ---- the guest writes ------------------------------------------------------------------------ */

/* Most of a large VM is clean: of clean lines just the bitmap is read. */
static int is_clean(const uint64_t *words, uint64_t n_words)
{
    uint64_t any = 0;
    for (uint64_t i = 0; i < n_words; i++)
        any |= words[i];
    return any == 0;
}

static void write_all(const struct region *g, const uint64_t *bitmap)
{
    uint64_t last = g->n_words - 1, w = 0;
    for (; w + MPAT_LINE_WORDS <= last; w += MPAT_LINE_WORDS) {
        if (is_clean(bitmap + w, MPAT_LINE_WORDS))
            continue;
        for (unsigned i = 0; i < MPAT_LINE_WORDS; i++) {
            g->fresh[w + i] |= bitmap[w + i];
            g->zero[w + i] &= ~bitmap[w + i];
        }
    }
    for (; w < last; w++) {
        g->fresh[w] |= bitmap[w];
        g->zero[w] &= ~bitmap[w];
    }
    g->fresh[last] |= bitmap[last] & last_mask(g->n_pages);
    g->zero[last] &= ~bitmap[last];
}

/* splitmix64's finalizer: https://prng.di.unimi.it/splitmix64.c */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Thresholds of two hashes, for the pages of one line. */
struct odds {
    uint64_t before; /* the first write was before the part */
    uint64_t within; /* or in the part at the latest */
    uint64_t again;  /* having been written before, it is written in the part once more */
};

static uint64_t threshold(double probability)
{
    return probability >= 1.0 ? UINT64_MAX : (uint64_t)(probability * 0x1p64);
}

/*
 * Pages of a line are written at random moments, so often that they come back in the next interval
 * as they came back from the one before. Then a page written in an interval at all was first
 * written before the fraction x of it with the probability (1 - exp(-n x)) / (1 - exp(-n)).
 */
static struct odds odds_of(uint64_t dirty, uint64_t redirtied, double from, double to)
{
    double back = (double)redirtied / (double)dirty;
    double writes = back < 1.0 ? fmin(-log1p(-back), MOST_WRITES) : MOST_WRITES;
    if (writes < 1e-6)
        return (struct odds){threshold(from), threshold(to), 0};
    double all = -expm1(-writes);
    return (struct odds){threshold(-expm1(-writes * from) / all),
                         threshold(-expm1(-writes * to) / all),
                         threshold(-expm1(-writes * (to - from)))};
}

static uint64_t choose(uint64_t bits, uint64_t page, uint64_t seed, const struct odds *odds)
{
    uint64_t chosen = 0;
    for (uint64_t rest = bits; rest != 0; rest &= rest - 1) {
        uint64_t bit = rest & -rest;
        uint64_t hash = mix(seed + (page + (uint64_t)__builtin_ctzll(rest)) * 0x9e3779b97f4a7c15u);
        int first_before = hash < odds->before;
        if (first_before ? mix(hash ^ odds->within) < odds->again : hash < odds->within)
            chosen |= bit;
    }
    return chosen;
}

static void write_part(const struct region *g, const uint64_t *bitmap, const uint64_t *previous,
                       double from, double to, uint64_t seed)
{
    for (uint64_t start = 0; start < g->n_words; start += MPAT_LINE_WORDS) {
        uint64_t end = start + MPAT_LINE_WORDS < g->n_words ? start + MPAT_LINE_WORDS : g->n_words;
        uint64_t dirty = 0, redirtied = 0, before = 0;
        if (is_clean(bitmap + start, end - start))
            continue;
        for (uint64_t w = start; w < end; w++) {
            uint64_t bits = bitmap[w] & word_mask(g, w);
            dirty += (uint64_t)__builtin_popcountll(bits);
            if (previous != NULL) {
                redirtied += (uint64_t)__builtin_popcountll(bits & previous[w]);
                before += (uint64_t)__builtin_popcountll(previous[w] & word_mask(g, w));
            }
        }
        /* Of two unlike intervals, the smaller one bounds what can be in both. */
        uint64_t least = before != 0 && before < dirty ? before : dirty;
        struct odds odds = odds_of(least, redirtied, from, to);
        for (uint64_t w = start; w < end; w++) {
            uint64_t chosen =
                choose(bitmap[w] & word_mask(g, w), w * WORD_PAGES, seed, &odds);
            g->fresh[w] |= chosen;
            g->zero[w] &= ~chosen;
        }
    }
}

int mpat_precopy_write(mpat_precopy *precopy, const uint64_t *const *bitmaps,
                       const uint64_t *const *previous, double from, double to, uint64_t seed)
{
    if (precopy == NULL || bitmaps == NULL || !(from >= 0.0 && from <= to && to <= 1.0))
        return -EINVAL;
    for (size_t r = 0; r < precopy->n_regions; r++) {
        if (bitmaps[r] == NULL || (previous != NULL && previous[r] == NULL))
            return -EINVAL;
    }
    if (!mpat_busy_enter(&precopy->busy))
        return -EBUSY;
    for (size_t r = 0; r < precopy->n_regions; r++) {
        if (from == 0.0 && to == 1.0)
            write_all(&precopy->regions[r], bitmaps[r]);
        else if (from < to)
            write_part(&precopy->regions[r], bitmaps[r], previous ? previous[r] : NULL, from, to,
                       mix(seed + r));
    }
    mpat_busy_leave(&precopy->busy);
    return 0;
}

/* ---- the migration reads --------------------------------------------------------------------- */

static uint64_t sync_region(const mpat_precopy *p, struct region *g)
{
    uint64_t added = 0;
    for (uint64_t w = 0; w < g->n_words; w++) {
        uint64_t log = g->fetched[w] | g->fresh[w];
        added += (uint64_t)__builtin_popcountll(log & ~g->pending[w]);
        g->pending[w] |= log;
        g->fetched[w] = p->chunk_words ? log : 0;
        g->fresh[w] = 0;
    }
    memset(g->uncleared, 1, g->n_chunks);
    return added;
}

int mpat_precopy_sync(mpat_precopy *precopy, uint64_t *pending_pages)
{
    if (precopy == NULL || pending_pages == NULL)
        return -EINVAL;
    if (!mpat_busy_enter(&precopy->busy))
        return -EBUSY;
    for (size_t r = 0; r < precopy->n_regions; r++)
        precopy->pending_pages += sync_region(precopy, &precopy->regions[r]);
    *pending_pages = precopy->pending_pages;
    mpat_busy_leave(&precopy->busy);
    return 0;
}

/* KVM_CLEAR_DIRTY_LOG clears what the last fetch returned, also where it was written again since:
 * the page's content is yet to be sent. */
static void clear_chunk(const mpat_precopy *p, struct region *g, uint64_t chunk)
{
    uint64_t start = chunk * p->chunk_words, end = start + p->chunk_words;
    if (end > g->n_words)
        end = g->n_words;
    for (uint64_t w = start; w < end; w++) {
        g->fresh[w] &= ~g->fetched[w];
        g->fetched[w] = 0;
    }
    g->uncleared[chunk] = 0;
}

/* Sends the lowest pages of a word until the budget is reached; returns which. */
static uint64_t send_some(uint64_t bits, uint64_t zero, double budget, double page_cost,
                          double zero_cost, mpat_sent *sent)
{
    uint64_t taken = 0;
    for (uint64_t rest = bits; rest != 0 && sent->cost < budget; rest &= rest - 1) {
        uint64_t bit = rest & -rest, is_zero = (zero & bit) != 0;
        sent->pages++;
        sent->zero_pages += is_zero;
        sent->cost += is_zero ? zero_cost : page_cost;
        taken |= bit;
    }
    return taken;
}

/* Sends of one region from page `from` on, for less than the budget was spent; returns the page
 * after the last one where the budget is reached, else the region's end. */
static uint64_t send_region(mpat_precopy *p, struct region *g, uint64_t from, double budget,
                            double page_cost, double zero_cost, mpat_sent *sent)
{
    uint64_t seen = (UINT64_C(1) << from % WORD_PAGES) - 1; /* of the first word */
    for (uint64_t w = from / WORD_PAGES; w < g->n_words; w++, seen = 0) {
        uint64_t bits = g->pending[w] & ~seen;
        if (bits == 0)
            continue;
        if (p->chunk_words && g->uncleared[w / p->chunk_words])
            clear_chunk(p, g, w / p->chunk_words);
        int n_zero = __builtin_popcountll(bits & g->zero[w]), n = __builtin_popcountll(bits);
        double cost = n_zero * zero_cost + (n - n_zero) * page_cost;
        if (sent->cost + cost > budget) {
            bits = send_some(bits, g->zero[w], budget, page_cost, zero_cost, sent);
        } else {
            sent->pages += (uint64_t)n;
            sent->zero_pages += (uint64_t)n_zero;
            sent->cost += cost;
        }
        g->pending[w] &= ~bits;
        p->pending_pages -= (uint64_t)__builtin_popcountll(bits);
        if (sent->cost >= budget)
            return (w + 1) * WORD_PAGES - (uint64_t)__builtin_clzll(bits);
    }
    return g->n_pages;
}

int mpat_precopy_send(mpat_precopy *precopy, double budget, double page_cost, double zero_cost,
                      mpat_sent *out)
{
    if (precopy == NULL || out == NULL || !(budget >= 0.0) ||
        !(page_cost > 0.0 && isfinite(page_cost)) || !(zero_cost > 0.0 && isfinite(zero_cost)))
        return -EINVAL;
    if (!mpat_busy_enter(&precopy->busy))
        return -EBUSY;
    mpat_sent sent = {0};
    /* Once around from where it stopped, and up to there again. */
    while (precopy->pending_pages != 0 && sent.cost < budget) {
        struct region *g = &precopy->regions[precopy->at_region];
        precopy->at_page = send_region(precopy, g, precopy->at_page, budget, page_cost, zero_cost,
                                       &sent);
        if (sent.cost < budget) {
            precopy->at_region = (precopy->at_region + 1) % precopy->n_regions;
            precopy->at_page = 0;
        }
    }
    *out = sent;
    mpat_busy_leave(&precopy->busy);
    return 0;
}

uint64_t mpat_precopy_bytes(const mpat_precopy *precopy)
{
    return precopy->bytes;
}
