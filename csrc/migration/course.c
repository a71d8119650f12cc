/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's course during a migration: where in the recording it is, and what it writes there. */
#include <float.h>

#include "precopy.h"

#define EDGE 1e-9 /* of an interval: so near its end is at its end */
#define AHEAD 16  /* lines whose words are asked for before they are written */

struct mpat_cursor mpat_cursor_at(const mpat_recording *rec, double at, uint64_t seed)
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
    return (struct mpat_cursor){.interval = low, .into = at - rec->end[low], .seed = seed};
}

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
    const struct mpat_cursor *c = &p->cursor;
    struct mpat_lines lines = mpat_recording_lines(p->recording, c->interval);
    int whole = from == 0.0 && to == 1.0;
    uint64_t seed = mpat_mix((c->seed << 40) + (c->turn << 24) + c->interval);
    const uint64_t *word = lines.words;
    memset(p->has_odds, 0, sizeof(p->has_odds));
    for (uint64_t k = 0; k < lines.n_lines; k++) {
        uint64_t line = lines.line[k], any = 0;
        uint64_t *fresh = words_of(&p->fresh, line), *written = words_of(&p->written, line);
        const struct mpat_odds *odds = whole ? NULL : odds_for(p, lines.writes[k], from, to);
        if (k + AHEAD < lines.n_lines) {
            __builtin_prefetch(words_of(&p->fresh, lines.line[k + AHEAD]), 1);
            __builtin_prefetch(words_of(&p->written, lines.line[k + AHEAD]), 1);
        }
        for (unsigned rest = lines.mask[k]; rest != 0; rest &= rest - 1) {
            unsigned i = (unsigned)__builtin_ctz(rest);
            uint64_t bits = *word++, at = line * MPAT_LINE_WORDS + i;
            bits &= ~(fresh[i] & written[i]); /* the others are known to be written */
            if (!whole)
                bits = mpat_draw(bits, at * MPAT_WORD_PAGES, seed, odds);
            fresh[i] |= bits;
            written[i] |= bits;
            if (p->has_zeros && (p->zero[at] & bits) != 0) {
                p->zero_pages -= (uint64_t)popcount(p->zero[at] & bits & p->pending.words[at]);
                p->zero[at] &= ~bits;
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
    struct mpat_cursor *c = &p->cursor;
    c->interval = interval;
    c->into = 0.0;
    if (interval == p->recording->n_intervals) {
        c->interval = p->recording->loop;
        c->turn++;
    }
}

/* What is written in a turn of the loop is written after the next ones too: these are left out. */
static void skip_turns(const mpat_recording *rec, struct mpat_cursor *c)
{
    double end = rec->end[rec->n_intervals], turn = end - rec->end[rec->loop];
    double kept = end - rec->end[c->interval] - c->into + turn; /* to the end, and once around */
    double spare = fmin(c->due, DBL_MAX) - kept;
    if (spare >= turn) {
        c->turn += (uint64_t)fmin(floor(spare / turn), 0x1p32);
        c->due = kept + fmod(spare, turn); /* exact, where a product of many turns is not */
    }
}

void mpat_precopy_catch_up(mpat_precopy *p)
{
    struct mpat_cursor *c = &p->cursor;
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
