/* SPDX-License-Identifier: Apache-2.0 */
/* A migration sends pages, and clears the log of their chunks before. */
#include <errno.h>

#include "precopy.h"

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
    mpat_precopy_catch_up(p);
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
    int n_zero = (bits & zero) != 0 ? popcount(bits & zero) : 0, n = popcount(bits);
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
        mpat_precopy_catch_up(p);
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
