/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migration streams: whole, in pieces of every size, and damaged at random. What is in the passes is
 * held against QEMU's order of pages in tests/test_ramstream.py; here it is memory that counts.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "mempattern.h"
#include "stream.h"

#define A_PAGES 70u
#define B_PAGES 3u

/* Three passes: all pages, then a:1, a:2 and b:0, then a:2. */
static void write_stream(void)
{
    write_start(A_PAGES, B_PAGES);
    for (int section = 0; section < 4; section++) {
        put(0x10, 8);
        put(0x7e, 1);
        put(2, 4);
        if (section == 3)
            break;
        put(2, 1);
        put(2, 4);
        for (uint64_t page = 0; section == 0 && page < A_PAGES; page++)
            put_page(page ? NULL : "a", page, page % 2 == 0);
        for (uint64_t page = 0; section == 0 && page < B_PAGES; page++)
            put_page(page ? NULL : "b", page, 0);
        if (section == 1) {
            put_page("a", 1, 0);
            put_page(NULL, 2, 1);
            put_page("b", 0, 0);
        } else if (section == 2) {
            put_page("a", 2, 0);
        }
    }
    put(0, 1);
}

struct seen {
    int err;
    uint64_t n_passes, pages[8], zero_pages[8];
    uint64_t a[8][2], b[8][1];
};

static void take(mpat_ramstream *s, struct seen *seen)
{
    mpat_ramstream_pass pass;
    uint64_t i = seen->n_passes < 8 ? seen->n_passes : 7;
    uint64_t *bitmaps[] = {seen->a[i], seen->b[i]};
    mpat_ramstream_state state;
    CHECK(mpat_ramstream_state_of(s, &state) == 0);
    if (state.untaken == 0 || state.n_blocks != 2)
        return;
    mpat_ramblock block[2];
    CHECK(mpat_ramstream_block(s, 0, &block[0]) == 0 && mpat_ramstream_block(s, 1, &block[1]) == 0);
    if (block[0].n_pages > 128 || block[1].n_pages > 64)
        return;
    CHECK(mpat_ramstream_take(s, bitmaps, &pass) == 0);
    CHECK(mpat_ramstream_take(s, bitmaps, &pass) == -EAGAIN);
    CHECK(pass.n_passes == 1 && pass.first == seen->n_passes);
    seen->pages[i] = pass.pages;
    seen->zero_pages[i] = pass.zero_pages;
    seen->n_passes++;
}

/* The bytes in pieces that are as long as they are, so that a read past one's end is found. */
static struct seen run(const uint8_t *bytes, size_t n_bytes, size_t piece)
{
    struct seen seen = {0};
    mpat_ramstream *s;
    mpat_ramstream_state state;
    size_t at = 0;
    CHECK(mpat_ramstream_create(1000, &s) == 0);
    do {
        size_t n = n_bytes - at < piece ? n_bytes - at : piece, used = 0;
        uint8_t *copy = malloc(n ? n : 1);
        if (copy == NULL)
            abort();
        memcpy(copy, bytes + at, n);
        seen.err = mpat_ramstream_feed(s, copy, n, (int64_t)at + 1, &used);
        free(copy);
        CHECK(used <= n);
        at += used;
        take(s, &seen);
        CHECK(mpat_ramstream_state_of(s, &state) == 0);
    } while (seen.err == 0 && !state.stopped && at < n_bytes);
    CHECK((seen.err == 0) == (mpat_ramstream_problem(s)[0] == 0));
    mpat_ramstream_destroy(s);
    return seen;
}

static void test_pieces(void)
{
    write_stream();
    for (size_t piece = 1; piece < length + 1; piece += piece < 40 ? 1 : 997) {
        struct seen seen = run(stream, length, piece);
        CHECK(seen.err == 0 && seen.n_passes == 3);
        CHECK(seen.pages[0] == 73 && seen.zero_pages[0] == 35);
        CHECK(seen.a[0][0] == ~UINT64_C(0) && seen.a[0][1] == 0x3f && seen.b[0][0] == 7);
        CHECK(seen.pages[1] == 3 && seen.zero_pages[1] == 1);
        CHECK(seen.a[1][0] == 6 && seen.a[1][1] == 0 && seen.b[1][0] == 1);
        CHECK(seen.pages[2] == 1 && seen.a[2][0] == 4 && seen.b[2][0] == 0);
    }
}

static uint64_t random_below(uint64_t *state, uint64_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % below;
}

/* Every cut, and bytes changed at random, most of them where they mean something. */
static void test_damage(void)
{
    uint64_t rng = 20261125;
    uint64_t n_refused = 0;
    write_stream();
    uint8_t *damaged = malloc(length);
    if (damaged == NULL)
        abort();
    for (size_t cut = 0; cut < 300; cut++)
        CHECK(run(stream, cut, 7).err == 0);
    for (int round = 0; round < 20000; round++) {
        memcpy(damaged, stream, length);
        for (uint64_t n = 1 + random_below(&rng, 4); n; n--) {
            uint64_t at = random_below(&rng, random_below(&rng, 4) ? 300 : length);
            damaged[at] = (uint8_t)(random_below(&rng, 2) ? random_below(&rng, 256)
                                                         : damaged[at] ^ 1u << random_below(&rng, 8));
        }
        int err = run(damaged, length, 1 + random_below(&rng, 5000)).err;
        CHECK(err == 0 || err == -EPROTO);
        n_refused += err != 0;
    }
    CHECK(n_refused > 5000 && n_refused < 20000);
    free(damaged);
}

static void test_arguments(void)
{
    mpat_ramstream *s;
    mpat_ramstream_pass pass;
    mpat_ramstream_state state;
    uint64_t *none[] = {NULL, NULL};
    size_t used;
    CHECK(mpat_ramstream_create(0, &s) == -EINVAL);
    CHECK(mpat_ramstream_create(1, NULL) == -EINVAL);
    CHECK(mpat_ramstream_create(1000, &s) == 0);
    CHECK(mpat_ramstream_feed(NULL, stream, 1, 0, &used) == -EINVAL);
    CHECK(mpat_ramstream_feed(s, NULL, 1, 0, &used) == -EINVAL);
    CHECK(mpat_ramstream_take(s, none, &pass) == -EAGAIN);
    write_stream();
    for (size_t at = 0; at < length; at += used)
        CHECK(mpat_ramstream_feed(s, stream + at, length - at, 1, &used) == 0);
    CHECK(mpat_ramstream_take(s, none, &pass) == -EINVAL);
    CHECK(mpat_ramstream_zeros(s, none) == -EINVAL);
    CHECK(mpat_ramstream_state_of(s, &state) == 0);
    CHECK(state.n_blocks == 2 && state.page_bytes == PAGE_BYTES && state.stopped);
    CHECK(state.passes == 3 && state.untaken == 3 && state.bytes == length);
    CHECK(mpat_ramstream_read(s, -1, &state) == 0); /* it is over: nothing is read */
    mpat_ramstream_destroy(s);
    mpat_ramstream_destroy(NULL);
    CHECK(mpat_ramstream_create(1000, &s) == 0);
    CHECK(mpat_ramstream_read(s, -1, &state) == -EBADF);
    mpat_ramstream_destroy(s);
}

int main(void)
{
    test_pieces();
    test_damage();
    test_arguments();
    return failures != 0;
}
