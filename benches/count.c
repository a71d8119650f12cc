/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pieces of the C core's work on fixed inputs, for instructions.py to count under callgrind, which
 * is told to count only within counted(). Prints a line for each, in order: its name and kernel, the
 * unit of its input, and how many of these it had.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../csrc/tests/stream.h"
#include "mempattern.h"

/* harvest.c */
void bench_publish(void *entries, const uint64_t *pages, uint32_t n_entries);
uint32_t bench_harvest(void *entries, uint32_t n_entries, uint64_t *bitmap, uint64_t n_pages);

#define N_PAGES ((UINT64_C(1) << 21) + 37) /* 8 GiB, and a short last word */
#define N_WORDS ((N_PAGES + 63) / 64)
#define MANY_PAGES (UINT64_C(1) << 25) /* 128 GiB: bitmaps so large are stored around the cache */
#define GROUP_PAGES 512u
#define N_GROUPS ((N_PAGES + GROUP_PAGES - 1) / GROUP_PAGES)
#define DEPTH 16u
#define N_BITMAPS 4u
#define N_INTERVALS 12u
#define N_ENTRIES 16384u
#define STREAM_PAGES 700u

static void must(int result)
{
    if (result) {
        fprintf(stderr, "a piece of work failed: %s\n", strerror(-result));
        exit(1);
    }
}

/* ---- what is counted ------------------------------------------------------------------------- */

static const char *kernel; /* NULL for what has none */

static __attribute__((noinline, noipa)) void counted(void (*work)(void))
{
    work();
    __asm__ volatile(""); /* so that the call is no jump, and returns here */
}

static void count(const char *name, const char *unit, uint64_t n, void (*work)(void))
{
    counted(work);
    if (kernel)
        printf("%s[%s],%s,%" PRIu64 "\n", name, kernel, unit, n);
    else
        printf("%s,%s,%" PRIu64 "\n", name, unit, n);
}

/* ---- inputs: the same whatever else is counted ----------------------------------------------- */

static uint64_t random_state;

static uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 2685821657736338717u;
}

/* Half of all pages; 0.2 % of them, in whole groups; as many, anywhere; none. */
enum shape { DENSE, CLUSTERED, SCATTERED, CLEAN };

static uint64_t *bitmaps[N_BITMAPS];
static uint64_t n_updates;

static const uint64_t *const *next_bitmap(void)
{
    return (const uint64_t *const *)&bitmaps[n_updates++ % N_BITMAPS];
}

static void make_bitmaps(uint64_t n_pages, enum shape shape)
{
    random_state = 88172645463325252u;
    n_updates = 0;
    for (unsigned b = 0; b < N_BITMAPS; b++) {
        must(mpat_bitmap_alloc(n_pages, &bitmaps[b]));
        if (shape == DENSE) {
            for (uint64_t w = 0; w < n_pages / 64; w++)
                bitmaps[b][w] = random64();
        } else if (shape == CLUSTERED) {
            for (uint64_t i = 0; i < n_pages / 512 / GROUP_PAGES; i++)
                memset(bitmaps[b] + random64() % (n_pages / GROUP_PAGES) * (GROUP_PAGES / 64), 255,
                       GROUP_PAGES / 8);
        } else if (shape == SCATTERED) {
            for (uint64_t i = 0; i < n_pages / 512; i++) {
                uint64_t page = random64() % n_pages;
                bitmaps[b][page / 64] |= UINT64_C(1) << page % 64;
            }
        }
    }
}

static void free_bitmaps(uint64_t n_pages)
{
    for (unsigned b = 0; b < N_BITMAPS; b++)
        mpat_bitmap_free(bitmaps[b], n_pages);
}

/* ---- bitmaps, history, statistics, windows: on each kernel ----------------------------------- */

static const uint64_t region_pages[] = {N_PAGES}, many_pages[] = {MANY_PAGES};
static uint32_t counts[N_PAGES / 64 + 1];
static double rates[N_GROUPS], deviations[N_GROUPS];
static uint64_t *result;
static mpat_history *history;
static mpat_stats *stats;
static mpat_distinct *distinct;

static void group_counts(void)
{
    must(mpat_group_counts(bitmaps[0], N_PAGES, GROUP_PAGES, counts));
}

static void small_group_counts(void)
{
    must(mpat_group_counts(bitmaps[0], N_PAGES, 64, counts));
}

static void seen_of_all(void)
{
    mpat_seen seen;
    must(mpat_bitmap_seen(bitmaps[0], bitmaps[1], bitmaps[2], N_PAGES, &seen));
}

static void seen_of_one(void)
{
    mpat_seen seen;
    must(mpat_bitmap_seen(bitmaps[0], NULL, NULL, N_PAGES, &seen));
}

static int64_t *numbers;
static uint64_t n_numbers;

static void page_numbers(void)
{
    must(mpat_bitmap_pages(bitmaps[0], N_PAGES, numbers, N_PAGES, &n_numbers));
}

static void count_bitmaps(const char *seen_by_all, const char *seen_by_one, const char *of_pages,
                          enum shape shape)
{
    make_bitmaps(N_PAGES, shape);
    numbers = malloc(N_PAGES * sizeof(*numbers));
    must(numbers == NULL ? -ENOMEM : 0);
    count(seen_by_all, "word", N_WORDS, seen_of_all);
    count(seen_by_one, "word", N_WORDS, seen_of_one);
    page_numbers();
    count(of_pages, "page", n_numbers, page_numbers);
    free(numbers);
    free_bitmaps(N_PAGES);
}

static void update_history(void)
{
    must(mpat_history_update(history, next_bitmap()));
}

static void hot_pages(void)
{
    must(mpat_history_hot_pages(history, 0, 12, result));
}

static void distinct_pages(void)
{
    must(mpat_history_distinct_pages(history, DEPTH, result));
}

static void count_history(void)
{
    make_bitmaps(N_PAGES, DENSE);
    must(mpat_bitmap_alloc(N_PAGES, &result));
    must(mpat_history_create(region_pages, 1, DEPTH, &history));
    for (unsigned i = 0; i < DEPTH; i++)
        update_history();
    count("history_update", "word", N_WORDS, update_history);
    count("hot_pages", "word", N_WORDS, hot_pages);
    count("distinct_pages", "word", N_WORDS, distinct_pages);
    mpat_history_destroy(history);
    mpat_bitmap_free(result, N_PAGES);
    free_bitmaps(N_PAGES);
}

static void update(void)
{
    mpat_seen seen;
    must(mpat_stats_update(stats, next_bitmap(), 0.1, &seen));
}

static void count_update(const char *name, const uint64_t *pages, enum shape shape,
                         uint32_t group_pages)
{
    make_bitmaps(*pages, shape);
    must(mpat_history_create(pages, 1, N_BITMAPS - 1, &history));
    must(mpat_stats_create(pages, 1, group_pages, 1.0, history, &stats));
    for (unsigned i = 0; i < N_BITMAPS; i++) /* its history is full then */
        update();
    count(name, "word", mpat_bitmap_words(*pages), update);
    mpat_stats_destroy(stats);
    mpat_history_destroy(history);
    free_bitmaps(*pages);
}

static void update_distinct(void)
{
    must(mpat_distinct_break(distinct));
    for (unsigned i = 0; i < N_INTERVALS; i++)
        must(mpat_distinct_update(distinct, next_bitmap(), 0.1));
}

static void update_distinct_at_once(void)
{
    const uint64_t *bitmaps[N_INTERVALS];
    double durations_s[N_INTERVALS];
    for (unsigned i = 0; i < N_INTERVALS; i++) {
        bitmaps[i] = *next_bitmap();
        durations_s[i] = 0.1;
    }
    must(mpat_distinct_break(distinct));
    must(mpat_distinct_update_all(distinct, bitmaps, durations_s, N_INTERVALS));
}

static void distinct_groups(void)
{
    must(mpat_distinct_groups(distinct, 0, 0, rates, deviations));
}

static void count_distinct(const char *name, const char *at_once, enum shape shape)
{
    make_bitmaps(N_PAGES, shape);
    must(mpat_distinct_create(region_pages, 1, GROUP_PAGES, &distinct));
    update_distinct();
    count(name, "word", N_INTERVALS * N_WORDS, update_distinct);
    count(at_once, "word", N_INTERVALS * N_WORDS, update_distinct_at_once);
    if (shape == DENSE)
        count("distinct_groups", "group", N_GROUPS, distinct_groups);
    mpat_distinct_destroy(distinct);
    free_bitmaps(N_PAGES);
}

static void count_kernel(void)
{
    make_bitmaps(N_PAGES, DENSE);
    count("group_counts", "word", N_WORDS, group_counts);
    count("group_counts of 64 pages", "word", N_WORDS, small_group_counts);
    free_bitmaps(N_PAGES);
    count_bitmaps("bitmap_seen, dense", "bitmap_seen of one, dense", "bitmap_pages, dense", DENSE);
    count_bitmaps("bitmap_seen, scattered", "bitmap_seen of one, scattered",
                  "bitmap_pages, scattered", SCATTERED);
    count_history();
    count_update("update, dense", region_pages, DENSE, GROUP_PAGES);
    count_update("update, dense and large", many_pages, DENSE, GROUP_PAGES);
    count_update("update, dense, groups of 64 pages", region_pages, DENSE, 64);
    count_update("update, clustered", region_pages, CLUSTERED, GROUP_PAGES);
    count_update("update, scattered", region_pages, SCATTERED, GROUP_PAGES);
    count_update("update, clean", region_pages, CLEAN, GROUP_PAGES);
    count_distinct("distinct_update, dense", "distinct_update_all, dense", DENSE);
    count_distinct("distinct_update, clustered", "distinct_update_all, clustered", CLUSTERED);
    count_distinct("distinct_update, scattered", "distinct_update_all, scattered", SCATTERED);
}

/* ---- without kernels ------------------------------------------------------------------------- */

static void write_rate(void)
{
    must(mpat_stats_write_rate(stats, 0, rates));
}

static void follow(void)
{
    mpat_origin origin = {.region = 0, .page = 0};
    mpat_stats *next;
    must(mpat_stats_follow(stats, many_pages, 1, &origin, NULL, &next));
    mpat_stats_destroy(stats);
    stats = next;
}

static void count_groups(void)
{
    make_bitmaps(N_PAGES, SCATTERED);
    must(mpat_stats_create(region_pages, 1, GROUP_PAGES, 1.0, NULL, &stats));
    for (unsigned i = 0; i < N_BITMAPS; i++)
        update();
    count("write_rate", "group", N_GROUPS, write_rate);
    count("stats_follow", "group", N_GROUPS, follow);
    mpat_stats_destroy(stats);
    free_bitmaps(N_PAGES);
}

static mpat_recording *recording;
static mpat_precopy *precopy;

static void add_to_recording(void)
{
    must(mpat_recording_add(recording, next_bitmap(), 1.0));
}

static void read_recording(void)
{
    must(mpat_recording_read(recording, 1, &result));
}

static void start(void)
{
    must(mpat_precopy_start(precopy, NULL, 0.0, 1));
}

/* What a guest writes is looked up when it is asked for. */
static void outstanding(void)
{
    uint64_t pages, zero_pages;
    must(mpat_precopy_outstanding(precopy, &pages, &zero_pages));
}

static void run_whole(void)
{
    must(mpat_precopy_run(precopy, 2.0));
    outstanding();
}

static void run_part(void)
{
    must(mpat_precopy_run(precopy, 0.5));
    outstanding();
}

static void sync_pages(void)
{
    uint64_t pending;
    must(mpat_precopy_sync(precopy, &pending));
}

static void send_all(void)
{
    mpat_sent sent;
    must(mpat_precopy_send(precopy, 1e18, 1.0, 0.1, &sent));
}

static void count_precopy(void)
{
    make_bitmaps(N_PAGES, SCATTERED);
    must(mpat_bitmap_alloc(N_PAGES, &result));
    must(mpat_recording_create(region_pages, 1, &recording));
    add_to_recording();
    count("recording_add", "word", N_WORDS, add_to_recording);
    add_to_recording();
    add_to_recording();
    must(mpat_recording_seal(recording, 0));
    count("recording_read", "word", N_WORDS, read_recording);
    must(mpat_precopy_create(recording, UINT64_C(1) << 18, &precopy));
    count("precopy_start", "word", N_WORDS, start);
    count("precopy_send, all", "page", N_PAGES, send_all);
    count("precopy_run, two intervals", "written page", 2 * (N_PAGES / 512), run_whole);
    count("precopy_run, half an interval", "written page", N_PAGES / 512 / 2, run_part);
    count("precopy_outstanding", "word", N_WORDS, outstanding);
    count("precopy_sync", "word", N_WORDS, sync_pages);
    count("precopy_send, scattered", "written page", 5 * (N_PAGES / 512) / 2, send_all);
    mpat_precopy_destroy(precopy);
    mpat_recording_destroy(recording);
    mpat_bitmap_free(result, N_PAGES);
    free_bitmaps(N_PAGES);
}

static mpat_ramstream *ramstream;

static void feed(void)
{
    for (size_t at = 0, used; at < length; at += used)
        must(mpat_ramstream_feed(ramstream, stream + at, length - at, 1, &used));
}

static void count_stream(void)
{
    write_start(STREAM_PAGES, 1);
    put(0x10, 8); /* a section that ends, one that begins */
    put(0x7e, 1);
    put(2, 4);
    put(2, 1);
    put(2, 4);
    for (uint64_t page = 0; page < STREAM_PAGES; page++)
        put_page(page ? NULL : "a", page, page % 2 == 0);
    must(mpat_ramstream_create(STREAM_PAGES + 1, &ramstream));
    count("ramstream_feed", "page", STREAM_PAGES, feed);
    mpat_ramstream_destroy(ramstream);
}

static uint64_t entries[2 * N_ENTRIES], written[N_ENTRIES];

static void harvest(void)
{
    if (bench_harvest(entries, N_ENTRIES, result, N_PAGES) != N_ENTRIES)
        abort();
}

static void count_ring(void)
{
    random_state = 88172645463325252u;
    for (unsigned i = 0; i < N_ENTRIES; i++)
        written[i] = random64() % N_PAGES;
    must(mpat_bitmap_alloc(N_PAGES, &result));
    bench_publish(entries, written, N_ENTRIES);
    count("ring harvest", "entry", N_ENTRIES, harvest);
    mpat_bitmap_free(result, N_PAGES);
}

int main(void)
{
    for (size_t i = 0; (kernel = mpat_kernel_available(i)) != NULL; i++) {
        must(mpat_kernel_use(kernel));
        count_kernel();
    }
    count_groups();
    count_precopy();
    count_stream();
    count_ring();
    return 0;
}
