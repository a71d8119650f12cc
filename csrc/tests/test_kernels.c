/* SPDX-License-Identifier: Apache-2.0 */
/* Every kernel against bit-by-bit answers: sizes, alignments, patterns, guard pages. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#include "reference.h"

static const uint32_t group_sizes[] = {64, 128, 192, 256, 448, 512, 576, 1024, 1536, 4096, 33280,
                                       1u << 31};
#define N_GROUP_SIZES (sizeof(group_sizes) / sizeof(group_sizes[0]))

/* Group counts of the n pages at `words`. */
static void check_counts(const uint64_t *words, uint64_t n, uint32_t group)
{
    uint64_t n_groups = (n + group - 1) / group, page = 0;
    uint32_t *counts = must(malloc((n_groups + 1) * sizeof(*counts)));
    counts[n_groups] = 0xabcdef;
    CHECK(mpat_group_counts(words, n, group, counts) == 0);
    for (uint64_t g = 0; g < n_groups; g++) {
        uint32_t expected = 0;
        for (; page < n && page < (g + 1) * group; page++)
            expected += (uint32_t)bit(words, page);
        CHECK(counts[g] == expected);
    }
    CHECK(counts[n_groups] == 0xabcdef);
    free(counts);
}

/* One interval from scratch: runs and counts of the fused pass. */
static void check_pass(const uint64_t *words, uint64_t n, uint32_t group)
{
    mpat_stats *stats;
    mpat_seen seen;
    mpat_groups groups;
    uint64_t dirty = 0, runs = 0, active = 0;
    if (mpat_stats_create(&n, 1, group, 1.0, NULL, &stats) != 0)
        abort();
    CHECK(mpat_stats_update(stats, &words, 1.0, &seen) == 0);
    CHECK(mpat_stats_groups(stats, 0, &groups) == 0);
    CHECK(groups.n_groups == (n + group - 1) / group);
    for (uint64_t g = 0, page = 0; g < groups.n_groups; g++) {
        uint32_t expected = 0;
        for (; page < n && page < (g + 1) * group; page++) {
            expected += (uint32_t)bit(words, page);
            runs += (uint64_t)(bit(words, page) && (page == 0 || !bit(words, page - 1)));
        }
        CHECK(groups.dirty[g] == expected);
        CHECK(groups.fresh[g] == expected && groups.touched[g] == expected);
        CHECK(groups.redirtied[g] == 0);
        dirty += expected;
        active += expected > 0;
    }
    CHECK(seen.dirty_pages == dirty && seen.fresh_pages == dirty && seen.redirtied_pages == 0);
    CHECK(seen.active_groups == active && seen.runs == runs);
    mpat_stats_destroy(stats);
}

static void *copy(const void *from, size_t bytes)
{
    return memcpy(must(malloc(bytes)), from, bytes);
}

/* What an interval did, with and without what was before; ever joins it, and nothing else does. */
static void check_seen(const uint64_t *words, const uint64_t *previous, const uint64_t *ever,
                       uint64_t n)
{
    uint64_t n_words = mpat_bitmap_words(n), first = 0;
    for (int given = 0; given < 4; given++) {
        const uint64_t *p = given & 1 ? previous : NULL, *e = given & 2 ? ever : NULL;
        uint64_t *joined = copy(ever, n_words * sizeof(uint64_t));
        mpat_seen expected = {0}, seen;
        for (uint64_t i = 0; i < n; i++) {
            if (i % 512 == 0)
                first = expected.dirty_pages;
            if (!bit(words, i))
                continue;
            expected.active_groups += expected.dirty_pages == first;
            expected.dirty_pages++;
            expected.redirtied_pages += p != NULL && bit(p, i);
            expected.fresh_pages += e == NULL || !bit(e, i);
            expected.runs += i == 0 || !bit(words, i - 1);
        }
        memset(&seen, 0xab, sizeof(seen));
        CHECK(mpat_bitmap_seen(words, p, e ? joined : NULL, n, &seen) == 0);
        CHECK(memcmp(&seen, &expected, sizeof(seen)) == 0);
        for (uint64_t w = 0; w < n_words; w++) {
            uint64_t both = e ? words[w] | ever[w] : ever[w];
            if (e && w == n_words - 1 && n % 64)
                both &= (UINT64_C(1) << n % 64) - 1;
            CHECK(joined[w] == both);
        }
        free(joined);
    }
}

/* Numbers of pages, with just enough room, more, and less of it. */
static void check_pages(const uint64_t *words, uint64_t n)
{
    uint64_t n_dirty = 0, found;
    for (uint64_t i = 0; i < n; i++)
        n_dirty += (uint64_t)bit(words, i);
    const uint64_t rooms[] = {n_dirty, n_dirty + 1 + random_below(200),
                              n_dirty ? n_dirty - 1 : 0, random_below(n_dirty + 1), 0};
    for (size_t r = 0; r < sizeof(rooms) / sizeof(rooms[0]); r++) {
        uint64_t room = rooms[r];
        int64_t *pages = must(malloc((room + 1) * sizeof(*pages)));
        pages[room] = -7;
        found = 77;
        int result = mpat_bitmap_pages(words, n, pages, room, &found);
        CHECK(pages[room] == -7);
        if (room < n_dirty) {
            CHECK(result == -ENOSPC && found == 77);
        } else {
            uint64_t k = 0;
            CHECK(result == 0 && found == n_dirty);
            for (uint64_t i = 0; i < n; i++) {
                if (bit(words, i))
                    CHECK(pages[k++] == (int64_t)i);
            }
        }
        free(pages);
    }
}

/* Both, with other bitmaps at other alignments, which end where they may. */
static void check_bitmap(const uint64_t *words, uint64_t n)
{
    uint64_t n_words = mpat_bitmap_words(n), shift = random_below(8), *previous;
    uint64_t *ever = must(malloc((n_words + shift) * sizeof(uint64_t)));
    if (mpat_bitmap_alloc(n, &previous) != 0)
        abort();
    fill(previous, n, (int)random_below(N_PATTERNS));
    fill(ever + shift, n, (int)random_below(N_PATTERNS));
    check_seen(words, previous, ever + shift, n);
    check_pages(words, n);
    mpat_bitmap_free(previous, n);
    free(ever);
}

static void check_size(uint64_t n, uint32_t group, int pattern)
{
    uint64_t n_words = mpat_bitmap_words(n), *guarded;
    uint64_t shift = random_below(8); /* every 8-byte alignment within a line */
    uint64_t *loose = must(malloc((n_words + shift) * sizeof(uint64_t)));
    if (mpat_bitmap_alloc(n, &guarded) != 0)
        abort();
    snprintf(context, sizeof(context), "%s n=%llu group=%u pattern=%d", mpat_kernel_active(),
             (unsigned long long)n, group, pattern);
    fill(guarded, n, pattern);
    memcpy(loose + shift, guarded, n_words * sizeof(uint64_t));
    check_counts(guarded, n, group);
    check_counts(loose + shift, n, group);
    check_pass(guarded, n, group);
    check_pass(loose + shift, n, group);
    check_bitmap(guarded, n);
    check_bitmap(loose + shift, n);
    mpat_bitmap_free(guarded, n);
    free(loose);
}

static void test_sizes(void)
{
    /* Every remainder mod 64 near the edges of words, lines and blocks. */
    static const uint64_t edges[] = {0, 448, 512, 1024, 4096, 32768, 65536};
    for (size_t e = 0; e < sizeof(edges) / sizeof(edges[0]); e++) {
        for (uint64_t rest = 1; rest <= 129; rest += edges[e] < 4096 ? 1 : 7) {
            uint32_t group = group_sizes[(rest + e) % N_GROUP_SIZES];
            check_size(edges[e] + rest, 512, (int)random_below(N_PATTERNS));
            check_size(edges[e] + rest, group, (int)random_below(N_PATTERNS));
            if (edges[e] > rest)
                check_size(edges[e] - rest, group, (int)random_below(N_PATTERNS));
        }
    }
    /* Every remainder, in words, mod the group, under every pattern. */
    for (size_t i = 0; i < N_GROUP_SIZES; i++) {
        uint64_t group_words = group_sizes[i] / 64 > 66 ? 66 : group_sizes[i] / 64;
        for (uint64_t w = 1; w <= group_words; w += group_words > 20 ? 5 : 1) {
            for (int pattern = 0; pattern < N_PATTERNS; pattern++)
                check_size((3 * (uint64_t)group_sizes[i] % 50000) + 64 * w - w % 3 * 11,
                           group_sizes[i], pattern);
        }
    }
    for (int i = 0; i < 40; i++)
        check_size(1 + random_below(300000), group_sizes[random_below(N_GROUP_SIZES)],
                   (int)random_below(N_PATTERNS));
}

/* A history alone: hot pages for every k, after every number of intervals. */
static void check_history(uint64_t n, uint32_t depth, uint32_t intervals)
{
    uint64_t n_words = mpat_bitmap_words(n);
    mpat_history *history;
    uint64_t *ring = must(calloc(depth * n_words, sizeof(uint64_t)));
    uint64_t *cur, *out;
    uint32_t *hits = must(malloc(n * sizeof(*hits)));
    if (mpat_bitmap_alloc(n, &cur) || mpat_bitmap_alloc(n, &out) ||
        mpat_history_create(&n, 1, depth, &history))
        abort();
    for (uint32_t t = 0; t < intervals; t++) {
        const uint64_t *input = cur;
        fill(cur, n, (int)random_below(N_PATTERNS));
        CHECK(mpat_history_update(history, &input) == 0);
        memcpy(ring + t % depth * n_words, cur, n_words * sizeof(uint64_t));
        CHECK(mpat_history_length(history) == (t + 1 < depth ? t + 1 : depth));
        if (t + 3 < intervals && t % 5)
            continue;
        for (uint64_t i = 0; i < n; i++) {
            hits[i] = 0;
            for (uint32_t s = 0; s < depth; s++)
                hits[i] += (uint32_t)bit(ring + s * n_words, i);
        }
        for (uint32_t k = 1; k <= depth; k += depth > 20 ? 1 + k / 4 : 1) {
            snprintf(context, sizeof(context), "%s n=%llu depth=%u t=%u k=%u",
                     mpat_kernel_active(), (unsigned long long)n, depth, t, k);
            memset(out, 0xff, n_words * sizeof(uint64_t));
            CHECK(mpat_history_hot_pages(history, 0, k, out) == 0);
            for (uint64_t i = 0; i < n_words * 64; i++)
                CHECK(bit(out, i) == (i < n && hits[i] >= k));
        }
    }
    mpat_history_destroy(history);
    mpat_bitmap_free(cur, n);
    mpat_bitmap_free(out, n);
    free(ring);
    free(hits);
}

static void test_history(void)
{
    static const uint64_t sizes[] = {1, 63, 511, 512, 513, 5000, 8192, 8200, 40000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        check_history(sizes[i], 1, 4);
        check_history(sizes[i], 2, 6);
        check_history(sizes[i], 7, 18);
        check_history(sizes[i], 16, 20);
    }
    check_history(700, 255, 258);
    check_history(700, 254, 255);
    check_history(9000, 65, 67);
}

static sigjmp_buf caught;

static void on_fault(int sig)
{
    (void)sig;
    siglongjmp(caught, 1);
}

static void test_bitmaps(void)
{
    static const uint64_t sizes[] = {1, 64, 65, 32768, 32769, 300 << 20};
    snprintf(context, sizeof(context), "bitmaps");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t *words = NULL, n = mpat_bitmap_words(sizes[i]);
        CHECK(n == (sizes[i] + 63) / 64);
        CHECK(mpat_bitmap_alloc(sizes[i], &words) == 0);
        CHECK((uintptr_t)words % 8 == 0);
        CHECK((uintptr_t)(words + n) % (uintptr_t)sysconf(_SC_PAGESIZE) == 0);
        CHECK(words[0] == 0 && words[n - 1] == 0);
        words[n - 1] = 1;
        mpat_bitmap_free(words, sizes[i]);
    }
    /* The guard page is there: a store behind the last word faults. */
    struct sigaction action, before;
    uint64_t *words = NULL;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_fault;
    CHECK(mpat_bitmap_alloc(100, &words) == 0);
    sigaction(SIGSEGV, &action, &before);
    if (sigsetjmp(caught, 1) == 0) {
        ((volatile uint64_t *)words)[2] = 1;
        CHECK(!"a store to the guard page went through");
    }
    sigaction(SIGSEGV, &before, NULL);
    mpat_bitmap_free(words, 100);
    mpat_bitmap_free(NULL, 100);

    CHECK(mpat_bitmap_words(UINT64_MAX) == UINT64_C(1) << 58);
    uint64_t *none = NULL;
    CHECK(mpat_bitmap_alloc(0, &none) == -EINVAL);
    CHECK(mpat_bitmap_alloc(1, NULL) == -EINVAL);
    CHECK(mpat_bitmap_alloc(UINT64_MAX, &none) == -ENOMEM);
    CHECK(mpat_bitmap_alloc(UINT64_C(1) << 52, &none) == -ENOMEM);
    CHECK(none == NULL);

    uint64_t one = 1;
    uint32_t count = 7;
    CHECK(mpat_group_counts(NULL, 1, 64, &count) == -EINVAL);
    CHECK(mpat_group_counts(&one, 0, 64, &count) == -EINVAL);
    CHECK(mpat_group_counts(&one, 1, 0, &count) == -EINVAL);
    CHECK(mpat_group_counts(&one, 1, 96, &count) == -EINVAL);
    CHECK(mpat_group_counts(&one, 1, 64, NULL) == -EINVAL);
    CHECK(count == 7);

    uint64_t n_dirty = 7;
    int64_t page = 7;
    mpat_seen seen = {.runs = 7};
    CHECK(mpat_bitmap_seen(NULL, &one, &one, 1, &seen) == -EINVAL);
    CHECK(mpat_bitmap_seen(&one, &one, &one, 0, &seen) == -EINVAL);
    CHECK(mpat_bitmap_seen(&one, &one, &one, 1, NULL) == -EINVAL);
    CHECK(mpat_bitmap_pages(NULL, 1, &page, 1, &n_dirty) == -EINVAL);
    CHECK(mpat_bitmap_pages(&one, 0, &page, 1, &n_dirty) == -EINVAL);
    CHECK(mpat_bitmap_pages(&one, UINT64_C(1) << 63, &page, 1, &n_dirty) == -EINVAL);
    CHECK(mpat_bitmap_pages(&one, 1, NULL, 1, &n_dirty) == -EINVAL);
    CHECK(mpat_bitmap_pages(&one, 1, &page, 1, NULL) == -EINVAL);
    CHECK(mpat_bitmap_pages(&one, 1, NULL, 0, &n_dirty) == -ENOSPC);
    CHECK(seen.runs == 7 && page == 7 && n_dirty == 7);
    one = 2; /* past the end */
    CHECK(mpat_bitmap_pages(&one, 1, NULL, 0, &n_dirty) == 0 && n_dirty == 0);
}

static void test_dispatch(void)
{
    size_t n = 0;
    uint64_t word = 1;
    uint32_t count = 7;
    snprintf(context, sizeof(context), "dispatch");
    while (mpat_kernel_available(n) != NULL)
        n++;
    CHECK(n > 0 && strcmp(mpat_kernel_available(n - 1), "scalar") == 0);
    CHECK(mpat_kernel_available(SIZE_MAX) == NULL);

    unsetenv("MEMPATTERN_KERNEL");
    CHECK(mpat_kernel_use(NULL) == 0);
    CHECK(strcmp(mpat_kernel_active(), mpat_kernel_available(0)) == 0);
    CHECK(mpat_kernel_use("no such") == -ENOENT);
    CHECK(strcmp(mpat_kernel_active(), mpat_kernel_available(0)) == 0);
    for (size_t i = 0; i < n; i++) {
        CHECK(mpat_kernel_use(mpat_kernel_available(i)) == 0);
        CHECK(strcmp(mpat_kernel_active(), mpat_kernel_available(i)) == 0);
        CHECK(mpat_kernel_use("no such") == -ENOENT);
        CHECK(strcmp(mpat_kernel_active(), mpat_kernel_available(i)) == 0);
    }

    setenv("MEMPATTERN_KERNEL", "scalar", 1);
    CHECK(mpat_kernel_use(NULL) == 0 && strcmp(mpat_kernel_active(), "scalar") == 0);
    setenv("MEMPATTERN_KERNEL", "no such", 1);
    CHECK(mpat_kernel_use(NULL) == 0 && mpat_kernel_active() == NULL);
    CHECK(mpat_group_counts(&word, 1, 64, &count) == -ENOENT && count == 7);
    CHECK(mpat_kernel_use("scalar") == 0);
    CHECK(mpat_group_counts(&word, 1, 64, &count) == 0 && count == 1);
    unsetenv("MEMPATTERN_KERNEL");
    CHECK(mpat_kernel_use(NULL) == 0 && mpat_kernel_active() != NULL);

    /* A kernel of this build that the CPU lacks is told from one that does not exist. */
    static const char *const known[] = {"avx512", "avx2", "neon"};
    for (size_t k = 0; k < 3; k++) {
        int runs = 0, err = mpat_kernel_use(known[k]);
        for (size_t i = 0; i < n; i++)
            runs |= strcmp(mpat_kernel_available(i), known[k]) == 0;
        CHECK(runs ? err == 0 : err == -ENOTSUP || err == -ENOENT);
    }
}

int main(void)
{
    test_dispatch();
    test_bitmaps();
    const char *name;
    for (size_t i = 0; (name = mpat_kernel_available(i)) != NULL; i++) {
        CHECK(mpat_kernel_use(name) == 0);
        test_sizes();
        test_history();
        printf("test_kernels: %s: %s\n", name, failures ? "FAILED" : "ok");
    }
    return failures != 0;
}
