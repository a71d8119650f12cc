/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's migration stream, as hostile as it may be: given whole and in pieces it must say the same,
 * say why it refuses, and take no more memory than it was allowed.
 */
#include <errno.h>

#include "input.h"

#define MOST_RAM_PAGES 17000u

static void take(mpat_ramstream *s, struct answers *a)
{
    mpat_ramstream_state state;
    mpat_ramstream_pass pass;
    mpat_ramblock block;
    memset(&pass, 0, sizeof(pass));
    MUST(mpat_ramstream_state_of(s, &state) == 0);
    MUST(mpat_ramstream_block(s, state.n_blocks, &block) == -ENOENT);
    if (state.n_blocks == 0)
        return;
    uint64_t **bitmaps = calloc(state.n_blocks, sizeof(*bitmaps)), all_pages = 0;
    MUST(bitmaps != NULL);
    for (uint64_t b = 0; b < state.n_blocks; b++) {
        MUST(mpat_ramstream_block(s, b, &block) == 0);
        answer(a, &block.n_pages, sizeof(block.n_pages));
        answer(a, block.name, strlen(block.name));
        MUST((all_pages += block.n_pages) <= MOST_RAM_PAGES);
        if (block.n_pages)
            MUST(mpat_bitmap_alloc(block.n_pages, &bitmaps[b]) == 0);
    }
    int err = mpat_ramstream_take(s, bitmaps, &pass);
    MUST(err == 0 || err == -EAGAIN);
    MUST((err == 0) == (state.untaken > 0));
    if (err == 0) {
        MUST(pass.pages >= pass.zero_pages);
        answer(a, &pass.first, sizeof(pass.first));
        answer(a, &pass.n_passes, sizeof(pass.n_passes));
        answer(a, &pass.pages, sizeof(pass.pages));
        answer(a, &pass.zero_pages, sizeof(pass.zero_pages));
    }
    for (int zeros = 0; zeros < 2; zeros++) {
        for (uint64_t b = 0; b < state.n_blocks; b++) {
            mpat_ramstream_block(s, b, &block);
            uint64_t n_words = mpat_bitmap_words(block.n_pages);
            answer(a, bitmaps[b], n_words * sizeof(uint64_t));
            MUST(block.n_pages % 64 == 0 || bitmaps[b][n_words - 1] >> block.n_pages % 64 == 0);
        }
        MUST(mpat_ramstream_zeros(s, bitmaps) == 0);
    }
    for (uint64_t b = 0; b < state.n_blocks; b++) {
        mpat_ramstream_block(s, b, &block);
        mpat_bitmap_free(bitmaps[b], block.n_pages);
    }
    free(bitmaps);
}

static int feed(const uint8_t *bytes, size_t n_bytes, size_t piece, struct answers *a)
{
    mpat_ramstream *s;
    mpat_ramstream_state state;
    size_t at = 0, used;
    int err;
    MUST(mpat_ramstream_create(MOST_RAM_PAGES, &s) == 0);
    do {
        size_t n = n_bytes - at < piece ? n_bytes - at : piece;
        uint64_t passes, blocks;
        mpat_ramstream_state_of(s, &state);
        passes = state.passes;
        blocks = state.n_blocks;
        uint8_t *copy = malloc(n ? n : 1); /* as long as it is, so that reads past its end are seen */
        MUST(copy != NULL);
        memcpy(copy, bytes + at, n);
        err = mpat_ramstream_feed(s, copy, n, 1, &used);
        free(copy);
        MUST(used <= n && (used || n == 0));
        at += used;
        mpat_ramstream_state_of(s, &state);
        if (state.passes != passes || state.n_blocks != blocks)
            take(s, a);
    } while (err == 0 && !state.stopped && at < n_bytes);
    MUST(err == 0 || err == -EPROTO);
    MUST((err == 0) == (mpat_ramstream_problem(s)[0] == 0));
    MUST(err == 0 || mpat_ramstream_feed(s, bytes, n_bytes, 2, &used) == err);
    take(s, a);
    answer(a, &err, sizeof(err));
    answer(a, mpat_ramstream_problem(s), strlen(mpat_ramstream_problem(s)));
    answer(a, &state.stopped, sizeof(state.stopped));
    answer(a, &at, sizeof(at));
    mpat_ramstream_destroy(s);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    struct answers whole = {0}, pieces = {0};
    struct input in = {bytes, n_bytes};
    size_t piece = 1 + next(&in, 1);
    feed(in.bytes, in.n, in.n ? in.n : 1, &whole);
    feed(in.bytes, in.n, piece, &pieces);
    MUST(same_answers(&whole, &pieces));
    forget_answers(&whole);
    forget_answers(&pieces);
    return 0;
}
