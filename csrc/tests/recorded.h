/* SPDX-License-Identifier: Apache-2.0 */
/* A recording of random intervals, and the bitmaps that it was made of. */
#ifndef MPAT_TESTS_RECORDED_H
#define MPAT_TESTS_RECORDED_H

#include "reference.h"

#define MAX_REGIONS 4
#define INTERVALS 5

struct recorded {
    uint64_t *words[INTERVALS][MAX_REGIONS];
    uint64_t loop, now; /* the interval that follows */
    mpat_recording *recording;
};

static void record(struct recorded *r, const uint64_t *sizes, size_t n_blocks)
{
    if (mpat_recording_create(sizes, n_blocks, &r->recording))
        abort();
    for (int i = 0; i < INTERVALS; i++) {
        for (size_t b = 0; b < n_blocks; b++) {
            if (mpat_bitmap_alloc(sizes[b], &r->words[i][b]))
                abort();
            fill(r->words[i][b], sizes[b], (int)random_below(N_PATTERNS));
        }
        CHECK(mpat_recording_add(r->recording, (const uint64_t *const *)r->words[i], 1.0) == 0);
    }
    r->loop = random_below(INTERVALS);
    CHECK(mpat_recording_seal(r->recording, r->loop) == 0);
}

static void forget(struct recorded *r, const uint64_t *sizes, size_t n_blocks)
{
    mpat_recording_destroy(r->recording);
    for (int i = 0; i < INTERVALS; i++) {
        for (size_t b = 0; b < n_blocks; b++)
            mpat_bitmap_free(r->words[i][b], sizes[b]);
    }
}

#endif
