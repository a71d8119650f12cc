/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that runs out: the first, the second, ... call for memory of a whole use of each object
 * fails. What cannot do without says -ENOMEM, changes nothing, and works when it is tried again; the leak
 * sanitizer sees what it leaves. Linked with --wrap for what gives memory.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "reference.h"
#include "stream.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);

static long until_failure = -1; /* calls; -1: none fails */
static int has_failed;

static int fails(void)
{
    if (until_failure < 0 || until_failure-- > 0)
        return 0;
    errno = ENOMEM;
    return has_failed = 1;
}

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t n, int protection, int flags, int fd, off_t offset);

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap(at, n, protection, flags, fd, offset);
}

/* What the call is named where _FILE_OFFSET_BITS is 64. */
void *__wrap_mmap64(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    return __wrap_mmap(at, n, protection, flags, fd, offset);
}

/* The call, and once more if memory ran out in it. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        int had_failed_ = has_failed, err_ = (call);                                               \
        CHECK(err_ == 0 || (has_failed != had_failed_ && err_ == -ENOMEM));                        \
        if (err_)                                                                                  \
            CHECK((call) == 0);                                                                    \
    } while (0)

/* ---- whole uses, each of which gives a number that says what came of it ------------------------ */

static const uint64_t small[] = {5000, 100}, large[] = {6024, 100, 700};
static const mpat_origin grown[] = {{0, 1024}, {1, 0}, {-1, 0}};
static uint64_t inputs[8][3][100]; /* of intervals and regions */

static uint64_t use_statistics(void)
{
    mpat_history *history = NULL, *next_history = NULL;
    mpat_stats *stats = NULL, *next = NULL;
    mpat_seen seen[3];
    mpat_groups groups;
    uint64_t out[100], sum = 0;
    TRY(mpat_history_create(small, 2, 3, &history));
    TRY(mpat_stats_create(small, 2, 512, 1.0, history, &stats));
    for (int t = 0; t < 8; t++) {
        const uint64_t *in[] = {inputs[t][0], inputs[t][1], inputs[t][2]};
        TRY(mpat_stats_update(stats, in, 1.0, seen));
        sum = sum * 31 + seen[0].redirtied_pages + seen[1].fresh_pages;
        if (t != 4)
            continue;
        TRY(mpat_stats_follow(stats, large, 3, grown, &next_history, &next));
        mpat_stats_destroy(stats);
        mpat_history_destroy(history);
        stats = next;
        history = next_history;
    }
    TRY(mpat_history_hot_pages(history, 0, 2, out));
    CHECK(mpat_stats_groups(stats, 0, &groups) == 0);
    for (size_t g = 0; g < groups.n_groups; g++)
        sum = sum * 31 + groups.touched[g] + out[g];
    mpat_stats_destroy(stats);
    mpat_history_destroy(history);
    return sum;
}

static uint64_t use_history(void)
{
    mpat_history *history = NULL, *next = NULL;
    uint64_t n;
    TRY(mpat_history_create(small, 2, 5, &history));
    for (int t = 0; t < 8; t++) {
        const uint64_t *in[] = {inputs[t][0], inputs[t][1], inputs[t][2]};
        TRY(mpat_history_update(history, in));
        if (t != 4)
            continue;
        TRY(mpat_history_follow(history, large, 3, grown, &next));
        mpat_history_destroy(history);
        history = next;
    }
    TRY(mpat_history_distinct_pages(history, 4, &n));
    mpat_history_destroy(history);
    return n;
}

static uint64_t use_windows(void)
{
    mpat_distinct *distinct = NULL, *next = NULL;
    uint64_t sum = 0;
    TRY(mpat_distinct_create(small, 2, 512, &distinct));
    for (int t = 0; t < 40; t++) {
        const uint64_t *in[] = {inputs[t % 8][0], inputs[t % 8][1], inputs[t % 8][2]};
        TRY(mpat_distinct_update(distinct, in, 0.5));
        if (t != 20)
            continue;
        TRY(mpat_distinct_follow(distinct, large, 3, grown, &next));
        mpat_distinct_destroy(distinct);
        distinct = next;
    }
    for (size_t w = 0; w < mpat_distinct_windows(distinct); w++) {
        mpat_window window;
        CHECK(mpat_distinct_window(distinct, w, -1, &window) == 0);
        sum = sum * 31 + window.n_windows * 1000 + (uint64_t)window.pages;
    }
    mpat_distinct_destroy(distinct);
    return sum;
}

static uint64_t use_migration(void)
{
    mpat_recording *recording = NULL;
    mpat_precopy *precopy = NULL;
    mpat_sent sent;
    uint64_t pending, sum = 0;
    TRY(mpat_recording_create(small, 2, &recording));
    for (int t = 0; t < 8; t++) {
        const uint64_t *in[] = {inputs[t][0], inputs[t][1]};
        TRY(mpat_recording_add(recording, in, 1.0));
    }
    TRY(mpat_recording_seal(recording, 1));
    TRY(mpat_precopy_create(recording, 1024, &precopy));
    for (int pass = 0; pass < 4; pass++) {
        TRY(mpat_precopy_send(precopy, 1000, 1, 1, &sent));
        TRY(mpat_precopy_sync(precopy, &pending));
        sum = sum * 31 + sent.pages + pending;
    }
    mpat_precopy_destroy(precopy);
    mpat_recording_destroy(recording);
    return sum;
}

/* A stream whose memory ran out is at its end; the next one is read. */
static uint64_t use_stream(void)
{
    for (;;) {
        mpat_ramstream *s = NULL;
        mpat_ramstream_state state = {0};
        int had_failed = has_failed, err = 0;
        TRY(mpat_ramstream_create(1000, &s));
        had_failed = has_failed;
        for (size_t at = 0, used; err == 0 && at < length; at += used)
            err = mpat_ramstream_feed(s, stream + at, length - at, 1, &used);
        CHECK(has_failed == had_failed ? err == 0 : err == -ENOMEM);
        if (err) {
            size_t used;
            CHECK(mpat_ramstream_feed(s, stream, 1, 1, &used) == -ENOMEM);
        }
        CHECK(mpat_ramstream_state_of(s, &state) == 0);
        uint64_t a[2], b[1], *bitmaps[] = {a, b};
        CHECK(mpat_ramstream_zeros(s, bitmaps) == (err ? -EAGAIN : 0));
        mpat_ramstream_destroy(s);
        if (err == 0)
            return state.n_blocks;
    }
}

/* Of a child that sleeps, and sleeps on when attaching to it failed half-way. */
static uint64_t use_process(void)
{
    mpat_process *process = NULL;
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        for (;;)
            pause();
    }
    TRY(mpat_process_open((int)pid, 0, &process, NULL));
    mpat_process_close(process);
    CHECK(waitpid(pid, &status, WNOHANG) == 0);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return (uint64_t)status;
}

static uint64_t use_bitmap(void)
{
    uint64_t *words = NULL;
    TRY(mpat_bitmap_alloc(100000, &words));
    mpat_bitmap_free(words, 100000);
    return 1;
}

static void exhaust(const char *name, uint64_t (*use)(void))
{
    long n = 0;
    has_failed = 0;
    until_failure = -1;
    uint64_t expected = use();
    do {
        snprintf(context, sizeof(context), "%s: call %ld for memory fails", name, n);
        has_failed = 0;
        until_failure = n++;
        CHECK(use() == expected);
    } while (has_failed);
    until_failure = -1;
    CHECK(n > 1);
    printf("test_enomem: %s: %ld failures: %s\n", name, n - 1, failures ? "FAILED" : "ok");
}

int main(void)
{
    for (int t = 0; t < 8; t++) {
        for (int r = 0; r < 3; r++)
            fill(inputs[t][r], r ? 700 : 6024, (int)random_below(N_PATTERNS));
    }
    write_start(70, 3);
    exhaust("bitmap", use_bitmap);
    exhaust("statistics", use_statistics);
    exhaust("history", use_history);
    exhaust("windows", use_windows);
    exhaust("migration", use_migration);
    exhaust("stream", use_stream);
    if (mpat_process_probe(NULL) == 0) /* where the kernel can */
        exhaust("process", use_process);
    return failures != 0;
}
