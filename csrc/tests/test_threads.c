/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads hammering one object with every call it has: each call is served or told -EBUSY, what was
 * followed is told -ESTALE, and ThreadSanitizer (make test-threads) sees no race. test_stats,
 * test_distinct and test_precopy count what was served.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "reference.h"
#include "stream.h"

#define N_THREADS 4
#define N_CALLS 3000

static atomic_int n_served, n_busy, n_wrong;

/* What one call may answer. */
static void served(int err, int allowed)
{
    if (err == 0 || err == allowed)
        atomic_fetch_add(&n_served, 1);
    else if (err == -EBUSY)
        atomic_fetch_add(&n_busy, 1);
    else
        atomic_fetch_add(&n_wrong, 1);
}

static void hammer(const char *name, void *(*body)(void *), void *object)
{
    pthread_t threads[N_THREADS];
    snprintf(context, sizeof(context), "%s", name);
    n_served = n_busy = n_wrong = 0;
    for (int i = 0; i < N_THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, body, object) == 0);
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(n_wrong == 0 && n_served > 0);
    printf("test_threads: %s: %d served, %d busy\n", name, n_served, n_busy);
}

static const uint64_t n_pages = 3000;
static uint64_t words[48];
static const uint64_t *const bitmap = words;

/* ---- statistics with their history ------------------------------------------------------------ */

struct statistics {
    mpat_stats *stats;
    mpat_history *history;
    _Atomic(mpat_stats *) next;
    _Atomic(mpat_history *) next_history;
};

static void *use_statistics(void *object)
{
    struct statistics *s = object;
    uint64_t out[48], n;
    double rates[6];
    mpat_seen seen;
    mpat_groups groups;
    for (int i = 0; i < N_CALLS; i++) {
        served(mpat_stats_update(s->stats, &bitmap, 1.0, &seen), -ESTALE);
        served(mpat_stats_write_rate(s->stats, 0, rates), 0);
        served(mpat_stats_groups(s->stats, 0, &groups), 0);
        served(mpat_history_update(s->history, &bitmap), -EPERM);
        served(mpat_history_hot_pages(s->history, 0, 2, out), 0);
        served(mpat_history_distinct_pages(s->history, 3, &n), 0);
        if (mpat_history_length(s->history) > 4 || mpat_stats_bytes(s->stats) == 0)
            atomic_fetch_add(&n_wrong, 1);
        if (i != N_CALLS / 2)
            continue;
        mpat_origin origin = {0, 0};
        mpat_stats *next;
        mpat_history *next_history;
        int err;
        while ((err = mpat_stats_follow(s->stats, &n_pages, 1, &origin, &next_history, &next)) == -EBUSY)
            sched_yield();
        served(err, -ESTALE);
        if (err == 0) { /* one only can */
            if (atomic_exchange(&s->next, next) != NULL)
                atomic_fetch_add(&n_wrong, 1);
            atomic_store(&s->next_history, next_history);
        }
    }
    return NULL;
}

/* ---- windows ---------------------------------------------------------------------------------- */

static void *use_windows(void *object)
{
    mpat_distinct *distinct = object;
    double pages[6], deviations[6];
    mpat_window window;
    for (int i = 0; i < N_CALLS; i++) {
        served(mpat_distinct_update(distinct, &bitmap, 1.0), 0);
        if (i % 100 == 0)
            served(mpat_distinct_break(distinct), 0);
        served(mpat_distinct_window(distinct, 0, -1, &window), -EINVAL); /* none is complete yet */
        served(mpat_distinct_groups(distinct, 0, 0, pages, deviations), -EINVAL);
        if (mpat_distinct_windows(distinct) > 64 || mpat_distinct_bytes(distinct) == 0)
            atomic_fetch_add(&n_wrong, 1);
    }
    return NULL;
}

/* ---- recordings, also sealed ones, of which there are many readers ----------------------------- */

static void *use_recording(void *object)
{
    mpat_recording *recording = object;
    uint64_t out[48], *outs[] = {out};
    for (int i = 0; i < 200; i++)
        served(mpat_recording_add(recording, &bitmap, 1.0), -EPERM);
    served(mpat_recording_seal(recording, 0), -EPERM);
    for (int i = 0; i < N_CALLS; i++) {
        served(mpat_recording_read(recording, 0, outs), -EINVAL); /* not sealed yet */
        served(mpat_recording_ever(recording, outs), -EINVAL);
        if (mpat_recording_bytes(recording) == 0)
            atomic_fetch_add(&n_wrong, 1);
    }
    return NULL;
}

/* ---- a migration ------------------------------------------------------------------------------- */

static void *use_precopy(void *object)
{
    mpat_precopy *precopy = object;
    mpat_sent sent;
    uint64_t pending;
    for (int i = 0; i < N_CALLS; i++) {
        served(mpat_precopy_send(precopy, 1.0, 1.0, 1.0, &sent), 0);
        served(mpat_precopy_sync(precopy, &pending), 0);
    }
    return NULL;
}

/* ---- a stream --------------------------------------------------------------------------------- */

static void *use_stream(void *object)
{
    mpat_ramstream *s = object;
    mpat_ramstream_state state;
    mpat_ramstream_pass pass;
    mpat_ramblock block;
    uint64_t a[2], b[1], *bitmaps[] = {a, b};
    size_t used;
    for (int i = 0; i < N_CALLS; i++) {
        /* Four threads that feed the same bytes: after some, they are no stream. */
        served(mpat_ramstream_feed(s, stream + i % 50, 1, i + 1, &used), -EPROTO);
        served(mpat_ramstream_state_of(s, &state), 0);
        served(mpat_ramstream_block(s, 0, &block), -ENOENT);
        served(mpat_ramstream_take(s, bitmaps, &pass), -EAGAIN);
        served(mpat_ramstream_zeros(s, bitmaps), -EAGAIN);
    }
    return NULL;
}

/* ---- the choice of a kernel, by which others count -------------------------------------------- */

static void *use_kernels(void *object)
{
    uint32_t counts[6];
    (void)object;
    for (int i = 0; i < N_CALLS; i++) {
        if (i % 10 == 0)
            served(mpat_kernel_use(i % 20 ? "scalar" : NULL), 0);
        served(mpat_group_counts(words, n_pages, 512, counts), 0);
        if (counts[0] != 2 || mpat_kernel_active() == NULL)
            atomic_fetch_add(&n_wrong, 1);
    }
    return NULL;
}

int main(void)
{
    struct statistics statistics = {0};
    mpat_distinct *distinct;
    mpat_recording *recording;
    mpat_precopy *precopy;
    mpat_ramstream *s;
    words[0] = 5;
    if (mpat_history_create(&n_pages, 1, 4, &statistics.history) ||
        mpat_stats_create(&n_pages, 1, 512, 1, statistics.history, &statistics.stats) ||
        mpat_distinct_create(&n_pages, 1, 512, &distinct) ||
        mpat_recording_create(&n_pages, 1, &recording) || mpat_ramstream_create(1000, &s))
        abort();
    write_start(70, 3);
    hammer("statistics", use_statistics, &statistics);
    CHECK(mpat_stats_bytes(statistics.next) > 0);
    mpat_stats_destroy(statistics.stats);
    mpat_history_destroy(statistics.history);
    mpat_stats_destroy(statistics.next);
    mpat_history_destroy(statistics.next_history);
    hammer("windows", use_windows, distinct);
    mpat_distinct_destroy(distinct);
    hammer("recording", use_recording, recording);
    if (mpat_precopy_create(recording, 1024, &precopy))
        abort();
    hammer("migration", use_precopy, precopy);
    mpat_precopy_destroy(precopy);
    mpat_recording_destroy(recording);
    hammer("stream", use_stream, s);
    mpat_ramstream_destroy(s);
    hammer("kernels", use_kernels, NULL);
    return failures != 0;
}
