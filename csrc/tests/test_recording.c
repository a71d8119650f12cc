/* SPDX-License-Identifier: Apache-2.0 */
/* What a recording keeps of its intervals, against these. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "recorded.h"

/* ---- what was recorded ----------------------------------------------------------------------- */

static void test_recording(void)
{
    uint64_t sizes[] = {1, 700, 64, 3000}, *read[MAX_REGIONS], *ever[MAX_REGIONS];
    for (int round = 0; round < 50; round++) {
        struct recorded r = {0};
        snprintf(context, sizeof(context), "recording, round %d", round);
        record(&r, sizes, MAX_REGIONS);
        for (size_t b = 0; b < MAX_REGIONS; b++) {
            if (mpat_bitmap_alloc(sizes[b], &read[b]) || mpat_bitmap_alloc(sizes[b], &ever[b]))
                abort();
        }
        CHECK(mpat_recording_ever(r.recording, ever) == 0);
        for (size_t b = 0; b < MAX_REGIONS; b++) {
            for (uint64_t i = 0; i < sizes[b]; i++) {
                int any = 0;
                for (int k = 0; k < INTERVALS; k++)
                    any |= bit(r.words[k][b], i);
                CHECK(bit(ever[b], i) == any);
            }
        }
        for (uint64_t k = 0; k < INTERVALS; k++) {
            CHECK(mpat_recording_read(r.recording, k, read) == 0);
            for (size_t b = 0; b < MAX_REGIONS; b++) {
                for (uint64_t i = 0; i < mpat_bitmap_words(sizes[b]) * 64; i++)
                    CHECK(bit(read[b], i) == (i < sizes[b] && bit(r.words[k][b], i)));
            }
        }
        for (size_t b = 0; b < MAX_REGIONS; b++) {
            mpat_bitmap_free(read[b], sizes[b]);
            mpat_bitmap_free(ever[b], sizes[b]);
        }
        forget(&r, sizes, MAX_REGIONS);
    }
}

/* A clean VM costs little, however large: 64 GiB, a page here and there. */
static void test_recording_is_sparse(void)
{
    uint64_t n = UINT64_C(1) << 24, *words;
    const uint64_t *const *bitmaps = (const uint64_t *const *)&words;
    mpat_recording *recording;
    snprintf(context, sizeof(context), "sparse");
    if (mpat_bitmap_alloc(n, &words) || mpat_recording_create(&n, 1, &recording))
        abort();
    memset(words, 0, n / 8);
    uint64_t empty = mpat_recording_bytes(recording);
    for (uint64_t page = 0; page < n; page += 5000)
        words[page / 64] |= UINT64_C(1) << page % 64;
    for (int i = 0; i < 100; i++)
        CHECK(mpat_recording_add(recording, bitmaps, 0.1) == 0);
    CHECK(mpat_recording_bytes(recording) - empty < 100 * (n / 5000 + 1) * 14 * 2);
    mpat_recording_destroy(recording);
    mpat_bitmap_free(words, n);
}

/* ---- a bitmap that somebody writes to meanwhile ----------------------------------------------- */

#define CHANGING_WORDS 4096

static uint64_t changing[CHANGING_WORDS];
static atomic_int is_enough;

/* All bits at once, so that much is found where nothing was counted. */
__attribute__((no_sanitize("thread"))) static void *change(void *unused)
{
    for (uint64_t bits = 0; !atomic_load(&is_enough); bits = ~bits) {
        for (int w = 0; w < CHANGING_WORDS; w++)
            ((volatile uint64_t *)changing)[w] = bits;
    }
    return unused;
}

static void test_changing_bitmap(void)
{
    uint64_t n = CHANGING_WORDS * 64, *ever, *read, n_refused = 0, k = 0;
    uint64_t *all = calloc(CHANGING_WORDS, sizeof(*all));
    const uint64_t *input[] = {changing};
    pthread_t thread;
    snprintf(context, sizeof(context), "a bitmap that changes");
    if (all == NULL || mpat_bitmap_alloc(n, &ever) || mpat_bitmap_alloc(n, &read) ||
        pthread_create(&thread, NULL, change, NULL))
        abort();
    /* A new one each time, for one that has grown has room. */
    for (int round = 0; round < 20000 && n_refused < 20; round++) {
        mpat_recording *recording;
        int results[2];
        if (mpat_recording_create(&n, 1, &recording))
            abort();
        for (int i = 0; i < 2; i++) {
            results[i] = mpat_recording_add(recording, input, 1.0);
            CHECK(results[i] == 0 || results[i] == -ENOSPC);
            n_refused += results[i] != 0;
        }
        if (mpat_recording_seal(recording, 0) == 0) { /* what is there is whole */
            memset(all, 0, n / 8);
            for (k = 0; mpat_recording_read(recording, k, &read) == 0; k++) {
                for (int w = 0; w < CHANGING_WORDS; w++)
                    all[w] |= read[w];
            }
            CHECK(k == (uint64_t)(results[0] == 0) + (results[1] == 0));
            CHECK(mpat_recording_ever(recording, &ever) == 0 && memcmp(ever, all, n / 8) == 0);
        }
        mpat_recording_destroy(recording);
    }
    atomic_store(&is_enough, 1);
    pthread_join(thread, NULL);
    printf("test_recording: %llu refused as changed\n", (unsigned long long)n_refused);
    mpat_bitmap_free(read, n);
    mpat_bitmap_free(ever, n);
    free(all);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void test_recording_errors(void)
{
    uint64_t sizes[2] = {100, 65}, none[2] = {100, 0}, huge = UINT64_MAX;
    uint64_t words[2] = {~UINT64_C(0), ~UINT64_C(0)}, *out[2] = {words, words};
    const uint64_t *input[2] = {words, words}, *hole[2] = {words, NULL};
    mpat_recording *recording = NULL;
    mpat_precopy *precopy = NULL;
    snprintf(context, sizeof(context), "recording errors");

    CHECK(mpat_recording_create(NULL, 1, &recording) == -EINVAL);
    CHECK(mpat_recording_create(sizes, 0, &recording) == -EINVAL);
    CHECK(mpat_recording_create(none, 2, &recording) == -EINVAL);
    CHECK(mpat_recording_create(sizes, 2, NULL) == -EINVAL);
    CHECK(mpat_recording_create(&huge, 1, &recording) == -ENOMEM);
    CHECK(recording == NULL);
    mpat_recording_destroy(NULL);

    CHECK(mpat_recording_create(sizes, 2, &recording) == 0);
    static const double durations[] = {0.0, -1.0, NAN, INFINITY};
    for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++)
        CHECK(mpat_recording_add(recording, input, durations[i]) == -EINVAL);
    CHECK(mpat_recording_add(NULL, input, 1) == -EINVAL);
    CHECK(mpat_recording_add(recording, NULL, 1) == -EINVAL);
    CHECK(mpat_recording_add(recording, hole, 1) == -EINVAL);
    CHECK(mpat_recording_seal(recording, 0) == -EINVAL); /* of nothing */
    CHECK(mpat_recording_add(recording, input, 1) == 0);
    CHECK(mpat_recording_read(recording, 0, out) == -EINVAL);
    CHECK(mpat_recording_ever(recording, out) == -EINVAL);
    CHECK(mpat_precopy_create(recording, 64, &precopy) == -EINVAL);
    CHECK(mpat_recording_seal(NULL, 0) == -EINVAL);
    CHECK(mpat_recording_seal(recording, 1) == -EINVAL);
    CHECK(mpat_recording_seal(recording, 0) == 0);
    CHECK(mpat_recording_seal(recording, 0) == -EPERM);
    CHECK(mpat_recording_add(recording, input, 1) == -EPERM);
    CHECK(mpat_recording_read(recording, 1, out) == -EINVAL);
    CHECK(mpat_recording_read(recording, 0, NULL) == -EINVAL);
    CHECK(mpat_recording_read(recording, 0, (uint64_t *const *)hole) == -EINVAL);
    CHECK(mpat_recording_ever(recording, (uint64_t *const *)hole) == -EINVAL);
    CHECK(mpat_precopy_create(NULL, 64, &precopy) == -EINVAL);
    CHECK(mpat_precopy_create(recording, 1, &precopy) == -EINVAL);
    CHECK(mpat_precopy_create(recording, 100, &precopy) == -EINVAL);
    CHECK(mpat_precopy_create(recording, 64, NULL) == -EINVAL);
    CHECK(precopy == NULL);
    mpat_precopy_destroy(NULL);
    mpat_recording_destroy(recording);
}

int main(void)
{
    test_recording_errors();
    test_recording();
    test_recording_is_sparse();
    test_changing_bitmap();
    printf("test_recording: %s\n", failures ? "FAILED" : "ok");
    return failures != 0;
}
