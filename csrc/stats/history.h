/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: what the statistics need of a history. */
#ifndef MPAT_HISTORY_H
#define MPAT_HISTORY_H

#include <stdatomic.h>

#include "kernels.h"

/*
 * One user at a time, by a flag and not a lock: who comes second is told so. Histories and
 * statistics have one each.
 */
typedef atomic_int mpat_busy;

static inline int mpat_busy_enter(mpat_busy *busy)
{
    return atomic_exchange_explicit(busy, 1, memory_order_acquire) == 0;
}

static inline void mpat_busy_leave(mpat_busy *busy)
{
    atomic_store_explicit(busy, 0, memory_order_release);
}

/* Streaming stores pay where a bitmap is evicted before the next interval reads it back. */
#ifndef MPAT_STREAM_FROM                     /* which fuzz/run.py sets, for small bitmaps */
#define MPAT_STREAM_FROM ((uint64_t)4 << 20) /* bytes */
#endif

/* 0, or -EINVAL: no region, a region of no page. */
int mpat_regions_check(const uint64_t *region_pages, size_t n_regions);

/* 0, or -EINVAL: the old region does not fit there, or not after a multiple of `step` pages. */
int mpat_origin_check(const mpat_origin *origin, uint64_t old_pages, uint64_t new_pages,
                      uint64_t step);

/* Make the history the property of one stats: 0, -EBUSY, or -EINVAL if it does not fit. */
int mpat_history_attach(mpat_history *history, const uint64_t *region_pages, size_t n_regions);

/*
 * May the regions take the place of the history's, each old one a multiple of `step` pages after
 * its new one's start? 0 or -EINVAL.
 */
int mpat_history_check_origins(const mpat_history *history, const uint64_t *region_pages,
                               size_t n_regions, const mpat_origin *origins, uint64_t step);

/*
 * Copy a slot of so many words to its place in a larger region's, which is zero: `shift` words from
 * its start. Only dirty lines are read.
 */
void mpat_slot_copy(const struct mpat_slot *from, const struct mpat_slot *to, uint64_t n_words,
                    uint64_t shift);

/* The rest only between enter and leave. */
int mpat_history_enter(mpat_history *history);
void mpat_history_leave(mpat_history *history);

/* The slot of the last interval and the slot to overwrite; the same one at depth 1. */
void mpat_history_slots(const mpat_history *history, size_t region, struct mpat_slot *prev,
                        struct mpat_slot *next);
void mpat_history_advance(mpat_history *history);

/*
 * mpat_history_follow for whoever owns the history; so is the new one owned. 0, -ENOMEM. The
 * arguments are checked already.
 */
int mpat_history_succeed(mpat_history *history, const uint64_t *region_pages, size_t n_regions,
                         const mpat_origin *origins, mpat_history **out);

/* Do new slots go around the cache? */
int mpat_history_streams(const mpat_history *history);

#endif
