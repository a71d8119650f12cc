/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal: the pages of a recorded VM in a pre-copy migration, as QEMU keeps them
 * (migration/ram.c): RAMBlock.bmap, what is still to send, and the dirty log behind it, which QEMU
 * fetches at a sync and clears chunk by chunk, just before it sends the first page of a chunk
 * (RAMBlock.clear_bmap).
 */
#ifndef MPAT_PRECOPY_H
#define MPAT_PRECOPY_H

#include "../stats/arena.h"
#include "draw.h"
#include "lines.h"
#include "recording.h"

struct mpat_chunks {
    uint64_t first, n;
};

/* Where in the recording the guest is. */
struct mpat_cursor {
    uint64_t interval, turn, seed;
    double into; /* the interval */
    double due;  /* time that has passed, and whose writes have not been made */
};

struct mpat_precopy {
    mpat_busy busy;
    const mpat_recording *recording;
    uint64_t chunk_words; /* 0: a sync clears the log itself */
    struct mpat_bitmap pending; /* still to send */
    struct mpat_bitmap fetched; /* of the log: seen by the last sync, not cleared yet */
    struct mpat_bitmap fresh;   /* of the log: written since the last sync; one summary for both */
    struct mpat_bitmap written; /* since the last sync, whatever became of it */
    struct mpat_bitmap deferred;
    uint64_t *zero;        /* not written yet, and holds zeros only */
    uint8_t *uncleared;    /* chunks whose log is cleared when a page of theirs is sent */
    uint64_t n_words, n_summary;
    uint64_t pending_pages, deferred_pages, zero_pages; /* the latter two of the pending ones */
    int has_zeros;     /* at the start */
    uint64_t at;       /* the page where sending goes on: QEMU's last_seen_block and last_page */
    int written_is_old; /* it is what the last sync found */
    struct mpat_cursor cursor;
    struct mpat_odds odds[MPAT_WRITES_CLASSES]; /* for the part that is being written */
    uint8_t has_odds[MPAT_WRITES_CLASSES];
    uint64_t bytes;
    struct mpat_arena arena;
    struct mpat_chunks chunks[]; /* of each region */
};

/* A moment after the end lies in the loop. */
struct mpat_cursor mpat_cursor_at(const mpat_recording *recording, double at, uint64_t seed);

/*
 * Make the memory what the guest wrote until now, which is done only when it matters: where the log
 * is fetched, where a part of it is cleared, and while pages of zeros are sent.
 */
void mpat_precopy_catch_up(mpat_precopy *precopy);

#endif
