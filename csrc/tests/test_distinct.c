/* SPDX-License-Identifier: Apache-2.0 */
/* Distinct pages by window on every kernel, with breaks and regions that grow, against a recount. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "intervals.h"

#define MAX_REGIONS 4

struct vm {
    uint64_t sizes[MAX_REGIONS];
    struct model models[MAX_REGIONS];
    size_t n_regions;
    uint32_t group;
    uint32_t first[MAX_INTERVALS]; /* where runs of intervals begin */
    size_t n_runs;
    int is_dense; /* every interval */
    mpat_distinct *distinct;
};

struct sums {
    double n, sum, squares;
};

static void add(struct sums *s, double x)
{
    s->n++;
    s->sum += x;
    s->squares += x * x;
}

static void check_sums(const struct sums *s, double mean, double std)
{
    double variance = s->n > 1 ? (s->squares - s->sum * s->sum / s->n) / (s->n - 1) : 0;
    CHECK(fabs(mean - s->sum / s->n) <= 1e-9 * (1 + s->sum));
    CHECK(fabs(std * std - variance) <= 1e-7 * (1 + s->squares));
}

/* Pages in [from, to) dirty in at least one of the intervals. */
static uint32_t joined(const struct model *m, uint32_t t, uint32_t n, uint64_t from, uint64_t to)
{
    uint32_t count = 0;
    for (uint64_t w = from / 64; w * 64 < to; w++) {
        uint64_t word = 0;
        for (uint32_t i = t; i < t + n; i++)
            word |= m->bitmap[i][w];
        if (to - w * 64 < 64)
            word &= (UINT64_C(1) << (to - w * 64)) - 1;
        count += (uint32_t)__builtin_popcountll(word);
    }
    return count;
}

/* Of windows of n intervals: their durations, and pages of a region (or all) within [from, to). */
static struct sums windows(const struct vm *vm, uint32_t n, int region, uint64_t from, uint64_t to,
                           struct sums *seconds)
{
    struct sums pages = {0};
    *seconds = (struct sums){0};
    for (size_t run = 0; run < vm->n_runs; run++) {
        uint32_t end = run + 1 < vm->n_runs ? vm->first[run + 1] : vm->models[0].t;
        for (uint32_t t = vm->first[run]; t + n <= end; t += n) {
            double sum = 0, duration = 0;
            for (int r = 0; r < (int)vm->n_regions; r++) {
                const struct model *m = &vm->models[r];
                if (region < 0 || region == r)
                    sum += joined(m, t, n, from, region < 0 || to > m->n ? m->n : to);
            }
            for (uint32_t i = t; i < t + n; i++)
                duration += vm->models[0].duration[i];
            add(&pages, sum);
            add(seconds, duration);
        }
    }
    return pages;
}

static void check_vm(const struct vm *vm)
{
    static const uint32_t lengths[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};
    size_t n_lengths = mpat_distinct_windows(vm->distinct), k = 0;
    for (; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
        struct sums seconds, pages = windows(vm, lengths[k], -1, 0, 0, &seconds);
        mpat_window window;
        if (pages.n == 0)
            break;
        CHECK(k < n_lengths);
        for (int r = -1; r < (int)vm->n_regions; r++) {
            if (r >= 0)
                pages = windows(vm, lengths[k], r, 0, UINT64_MAX, &seconds);
            CHECK(mpat_distinct_window(vm->distinct, k, r, &window) == 0);
            CHECK(window.n_intervals == lengths[k] && (double)window.n_windows == pages.n);
            check_sums(&pages, window.pages, window.pages_std);
            check_sums(&seconds, window.duration_s, window.duration_std_s);
        }
        for (size_t r = 0; r < vm->n_regions; r++) {
            uint64_t n_groups = (vm->sizes[r] + vm->group - 1) / vm->group;
            double *mean = must(malloc(n_groups * sizeof(*mean)));
            double *std = must(malloc(n_groups * sizeof(*std)));
            CHECK(mpat_distinct_groups(vm->distinct, k, r, mean, std) == 0);
            for (uint64_t g = 0; g < n_groups; g++) {
                pages = windows(vm, lengths[k], (int)r, g * vm->group, (g + 1) * vm->group, &seconds);
                check_sums(&pages, mean[g], std[g]);
            }
            free(mean);
            free(std);
        }
    }
    CHECK(k == n_lengths);
}

#define MOST_AT_ONCE 20

#define BLOCK_WORDS (64 * 8)

/* Dirty all over, but for blocks that are so in part, or in the first lines of each half. */
static void dense_input(uint64_t *words, uint64_t n_words)
{
    for (uint64_t w = 0; w < n_words; w++)
        words[w] = random64() & random64();
    for (uint64_t block = 0; block * BLOCK_WORDS < n_words; block++) {
        uint64_t shape = random_below(6), kept = random_below(BLOCK_WORDS / 2);
        for (uint64_t i = 0; i < BLOCK_WORDS && block * BLOCK_WORDS + i < n_words; i++) {
            if ((shape == 0 && i >= kept) || (shape == 1 && i % (BLOCK_WORDS / 2) >= kept))
                words[block * BLOCK_WORDS + i] = 0;
        }
    }
}

/* So many intervals at once. */
static void vm_update(struct vm *vm, uint32_t n)
{
    uint64_t *inputs[MOST_AT_ONCE * MAX_REGIONS];
    double durations[MOST_AT_ONCE];
    size_t n_inputs = 0;
    for (uint32_t i = 0; i < n; i++) {
        durations[i] = (double)(1 + random_below(1000)) / 250;
        for (size_t r = 0; r < vm->n_regions; r++) {
            uint64_t **input = &inputs[n_inputs++];
            if (mpat_bitmap_alloc(vm->sizes[r], input))
                abort();
            if (vm->is_dense)
                dense_input(*input, vm->models[r].n_words);
            else
                next_input(*input, vm->sizes[r], vm->models[r].t, 2);
            model_add(&vm->models[r], *input, durations[i]);
        }
    }
    const uint64_t *const *lent = (const uint64_t *const *)inputs;
    int err = n == 1 ? mpat_distinct_update(vm->distinct, lent, durations[0])
                     : mpat_distinct_update_all(vm->distinct, lent, durations, n);
    CHECK(err == 0);
    for (size_t i = 0; i < n_inputs; i++)
        mpat_bitmap_free(inputs[i], vm->sizes[i % vm->n_regions]);
}

static void vm_break(struct vm *vm)
{
    CHECK(mpat_distinct_break(vm->distinct) == 0);
    if (vm->first[vm->n_runs - 1] < vm->models[0].t)
        vm->first[vm->n_runs++] = vm->models[0].t;
}

/* The first region grows on both sides and becomes the last; a new one comes. */
static void vm_follow(struct vm *vm)
{
    static const uint64_t tails[] = {0, 1, 63, 64, 511, 512, 1000, 33000};
    struct vm next = *vm;
    mpat_origin origins[MAX_REGIONS];
    next.n_regions = vm->n_regions < MAX_REGIONS ? vm->n_regions + 1 : MAX_REGIONS;
    for (size_t r = 0; r < next.n_regions; r++) {
        int is_new = next.n_regions > vm->n_regions && r == 0;
        size_t old = is_new ? 0 : (r + (next.n_regions == vm->n_regions)) % vm->n_regions;
        origins[r] = (mpat_origin){is_new ? -1 : (int64_t)old, random_below(3) * vm->group};
        next.sizes[r] = is_new ? 1 + random_below(2000)
                               : origins[r].page + vm->sizes[old] + tails[random_below(8)];
        next.models[r] = vm->models[old];
        next.models[r].n = next.sizes[r];
        next.models[r].n_words = mpat_bitmap_words(next.sizes[r]);
        for (uint32_t t = 0; t < vm->models[old].t; t++) {
            uint64_t *grown = must(calloc(next.models[r].n_words, sizeof(uint64_t)));
            for (uint64_t i = 0; !is_new && i < vm->sizes[old]; i++)
                set_bit(grown, i + origins[r].page, bit(vm->models[old].bitmap[t], i));
            next.models[r].bitmap[t] = grown;
        }
    }
    CHECK(mpat_distinct_follow(vm->distinct, next.sizes, next.n_regions, origins, &next.distinct) ==
          0);
    /* The old one: as it was, and closed to more. */
    const uint64_t words[1] = {0}, *inputs[MAX_REGIONS] = {words, words, words, words};
    mpat_distinct *none = NULL;
    check_vm(vm);
    CHECK(mpat_distinct_update(vm->distinct, inputs, 1.0) == -ESTALE);
    CHECK(mpat_distinct_break(vm->distinct) == -ESTALE);
    CHECK(mpat_distinct_follow(vm->distinct, next.sizes, next.n_regions, origins, &none) ==
          -ESTALE);
    CHECK(none == NULL);
    mpat_distinct_destroy(vm->distinct);
    for (size_t r = 0; r < vm->n_regions; r++)
        model_free(&vm->models[r]);
    *vm = next;
}

static void run(uint64_t n, uint32_t group, uint32_t intervals, uint32_t follow_every)
{
    uint32_t at_once = 1;
    struct vm vm = {.sizes = {n, 700}, .n_regions = 2, .group = group, .n_runs = 1};
    for (size_t r = 0; r < 2; r++)
        vm.models[r] = (struct model){.n = vm.sizes[r],
                                      .n_words = mpat_bitmap_words(vm.sizes[r]),
                                      .group = group};
    if (mpat_distinct_create(vm.sizes, 2, group, &vm.distinct))
        abort();
    for (uint32_t t = 0; t < intervals; t += at_once) {
        snprintf(context, sizeof(context), "%s n=%llu group=%u t=%u", mpat_kernel_active(),
                 (unsigned long long)n, group, t);
        if (follow_every && random_below(follow_every) == 0)
            vm_follow(&vm);
        if (random_below(15) == 0)
            vm_break(&vm);
        at_once = random_below(2) ? 1 : 1 + (uint32_t)random_below(MOST_AT_ONCE);
        if (at_once > intervals - t)
            at_once = intervals - t;
        vm_update(&vm, at_once);
        if (t % 5 == 0)
            check_vm(&vm);
    }
    check_vm(&vm);
    mpat_distinct_destroy(vm.distinct);
    for (size_t r = 0; r < vm.n_regions; r++)
        model_free(&vm.models[r]);
}

static void test_sequences(void)
{
    static const uint32_t groups[] = {64, 128, 192, 512, 576, 1024, 1536, 4096, 1u << 30};
    for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
        run(1 + random_below(6000), groups[g], 50, 0);
        if (groups[g] <= 4096) /* which come in front */
            run(1 + random_below(3000), groups[g], 22, 5);
    }
    run(3 * 32768 + 777, 512, 13, 0); /* several blocks */
    run(3 * 32768, 512, 9, 4);
    run(2 * 32768 + 1, 1024, 13, 0);
}

/* Where all intervals are dense, kernels go through blocks in parts: here some that are looked at. */
static void test_dense(void)
{
    static const uint32_t groups[] = {64,    512,   1536,    32768 / 2,
                                      24576, 49152, 1u << 30}; /* before that: across blocks */
    for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
        struct vm vm = {.sizes = {9 * 32768 + random_below(32768)},
                        .n_regions = 1, .group = groups[g], .n_runs = 1, .is_dense = 1};
        uint64_t n_words = mpat_bitmap_words(vm.sizes[0]);
        vm.models[0] = (struct model){.n = vm.sizes[0], .n_words = n_words, .group = groups[g]};
        snprintf(context, sizeof(context), "%s dense, group=%u", mpat_kernel_active(), groups[g]);
        if (mpat_distinct_create(vm.sizes, 1, groups[g], &vm.distinct))
            abort();
        vm_update(&vm, 2);
        vm_update(&vm, 12);
        vm_update(&vm, 1);
        vm_update(&vm, 3);
        check_vm(&vm);
        mpat_distinct_destroy(vm.distinct);
        model_free(&vm.models[0]);
    }
}

/* The longest windows there are, at one word's cost each; nothing stays open beyond them. */
static void test_longest(void)
{
    uint64_t n = 64, word = 1;
    const uint64_t *input = &word;
    mpat_distinct *d;
    mpat_window window;
    snprintf(context, sizeof(context), "longest");
    if (mpat_distinct_create(&n, 1, 64, &d))
        abort();
    for (uint32_t t = 0; t < 2u << 20; t++) {
        word = UINT64_C(1) << (t >> 15); /* 32 pages in 2^20 intervals */
        CHECK(mpat_distinct_update(d, &input, 0.5) == 0);
    }
    CHECK(mpat_distinct_windows(d) == 40);
    CHECK(mpat_distinct_window(d, 39, -1, &window) == 0);
    CHECK(window.n_intervals == 1u << 20 && window.n_windows == 2 && window.pages == 32);
    CHECK(window.duration_s == 524288 && window.pages_std == 0);
    CHECK(mpat_distinct_window(d, 38, 0, &window) == 0);
    CHECK(window.n_intervals == 3u << 18 && window.n_windows == 2 && window.pages == 24);
    mpat_distinct_destroy(d);
}

/* Of groups of a line the sums share a word: 2^14 windows of all 512 pages, then as many of none. */
static void test_sums_do_not_overflow(void)
{
    const uint32_t half = 1u << 14;
    uint64_t n = 512, words[8];
    const uint64_t *input = words;
    mpat_distinct *d;
    double mean, std, n_windows = 2.0 * half;
    snprintf(context, sizeof(context), "sums");
    if (mpat_distinct_create(&n, 1, 512, &d))
        abort();
    memset(words, 0xff, sizeof(words));
    for (uint32_t t = 0; t < 2 * half; t++) {
        if (t == half)
            memset(words, 0, sizeof(words));
        CHECK(mpat_distinct_update(d, &input, 0.5) == 0);
    }
    CHECK(mpat_distinct_groups(d, 0, 0, &mean, &std) == 0);
    CHECK(mean == 256);
    CHECK(fabs(std - 256 * sqrt(n_windows / (n_windows - 1))) < 1e-9);
    mpat_distinct_destroy(d);
}

static void test_errors(void)
{
    uint64_t sizes[2] = {1000, 100}, larger[2] = {1512, 100}, zero[2] = {100, 0};
    uint64_t huge = UINT64_MAX;
    const uint64_t words[24] = {7}, *inputs[2] = {words, words}, *hole[2] = {words, NULL};
    const mpat_origin good[2] = {{0, 512}, {1, 0}};
    mpat_distinct *d = NULL, *none = NULL, *next;
    mpat_window window = {.n_intervals = 77};
    double mean[2] = {-1, -1}, std[2];
    snprintf(context, sizeof(context), "errors");

    CHECK(mpat_distinct_create(zero, 2, 64, &none) == -EINVAL);
    CHECK(mpat_distinct_create(sizes, 0, 64, &none) == -EINVAL);
    CHECK(mpat_distinct_create(NULL, 1, 64, &none) == -EINVAL);
    CHECK(mpat_distinct_create(sizes, 2, 0, &none) == -EINVAL);
    CHECK(mpat_distinct_create(sizes, 2, 100, &none) == -EINVAL);
    CHECK(mpat_distinct_create(sizes, 2, 64, NULL) == -EINVAL);
    CHECK(mpat_distinct_create(&huge, 1, 64, &none) == -ENOMEM);
    CHECK(none == NULL);

    CHECK(mpat_distinct_create(sizes, 2, 512, &d) == 0);
    CHECK(mpat_distinct_windows(d) == 0);
    CHECK(mpat_distinct_window(d, 0, -1, &window) == -EINVAL);
    static const double bad_durations[] = {0, -1, INFINITY, NAN};
    for (size_t i = 0; i < 4; i++)
        CHECK(mpat_distinct_update(d, inputs, bad_durations[i]) == -EINVAL);
    CHECK(mpat_distinct_update(d, inputs, 2e100) == -EOVERFLOW);
    CHECK(mpat_distinct_update(d, hole, 1) == -EINVAL);
    CHECK(mpat_distinct_update(d, NULL, 1) == -EINVAL);
    CHECK(mpat_distinct_update(NULL, inputs, 1) == -EINVAL);
    const uint64_t *four[4] = {words, words, words, NULL};
    const double two[2] = {1, 1}, bad_two[2] = {1, 0};
    CHECK(mpat_distinct_update_all(d, four, two, 2) == -EINVAL);
    CHECK(mpat_distinct_update_all(d, inputs, two, 0) == 0);
    four[3] = words;
    CHECK(mpat_distinct_update_all(d, four, bad_two, 2) == -EINVAL);
    CHECK(mpat_distinct_update_all(d, four, NULL, 2) == -EINVAL);
    CHECK(mpat_distinct_update_all(NULL, four, two, 2) == -EINVAL);
    CHECK(mpat_distinct_break(NULL) == -EINVAL);
    CHECK(mpat_distinct_windows(d) == 0);
    CHECK(mpat_distinct_update(d, inputs, 1) == 0 && mpat_distinct_windows(d) == 1);
    CHECK(mpat_distinct_window(d, 1, -1, &window) == -EINVAL);
    CHECK(mpat_distinct_window(d, 0, -2, &window) == -EINVAL);
    CHECK(mpat_distinct_window(d, 0, 2, &window) == -EINVAL);
    CHECK(mpat_distinct_window(d, 0, 0, NULL) == -EINVAL && window.n_intervals == 77);
    CHECK(mpat_distinct_window(d, 0, -1, &window) == 0 && window.pages == 6);
    CHECK(mpat_distinct_groups(d, 0, 2, mean, std) == -EINVAL);
    CHECK(mpat_distinct_groups(d, 1, 0, mean, std) == -EINVAL);
    CHECK(mpat_distinct_groups(d, 0, 0, NULL, std) == -EINVAL);
    CHECK(mpat_distinct_groups(d, 0, 0, mean, NULL) == -EINVAL && mean[0] == -1);
    CHECK(mpat_distinct_groups(d, 0, 0, mean, std) == 0 && mean[0] == 3 && mean[1] == 0);

    static const mpat_origin bad[][2] = {
        {{2, 0}, {1, 0}},    /* no such region */
        {{-2, 0}, {1, 0}},
        {{0, 1024}, {1, 0}}, /* past the end */
        {{0, 64}, {1, 0}},   /* no whole groups */
        {{0, 0}, {-1, 0}},   /* one is gone */
        {{1, 0}, {1, 0}},    /* one comes twice */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(mpat_distinct_follow(d, larger, 2, bad[i], &none) == -EINVAL);
    CHECK(mpat_distinct_follow(d, zero, 2, good, &none) == -EINVAL);
    CHECK(mpat_distinct_follow(d, larger, 2, NULL, &none) == -EINVAL);
    CHECK(mpat_distinct_follow(d, larger, 2, good, NULL) == -EINVAL);
    CHECK(mpat_distinct_follow(NULL, larger, 2, good, &none) == -EINVAL);
    larger[1] = UINT64_C(1) << 60;
    CHECK(mpat_distinct_follow(d, larger, 2, good, &none) == -ENOMEM && none == NULL);
    larger[1] = 100;
    CHECK(mpat_distinct_follow(d, larger, 2, good, &next) == 0);
    CHECK(mpat_distinct_bytes(next) >= mpat_distinct_bytes(d));
    mpat_distinct_destroy(d);
    mpat_distinct_destroy(next);
    mpat_distinct_destroy(NULL);
}

struct shared {
    mpat_distinct *distinct;
    const uint64_t *input;
    atomic_int counted, wrong;
};

static void *hammer(void *arg)
{
    struct shared *s = arg;
    for (int i = 0; i < 2000; i++) {
        mpat_window window;
        int err = mpat_distinct_update(s->distinct, &s->input, 1.0);
        if (err == 0)
            atomic_fetch_add(&s->counted, 1);
        else if (err != -EBUSY)
            atomic_fetch_add(&s->wrong, 1);
        if (mpat_distinct_windows(s->distinct) > 0) {
            err = mpat_distinct_window(s->distinct, 0, -1, &window);
            if (err != -EBUSY && (err != 0 || window.pages != 3))
                atomic_fetch_add(&s->wrong, 1);
        }
    }
    return NULL;
}

static void test_threads(void)
{
    uint64_t n = 1000, words[16] = {5, 0, 0, 1};
    struct shared s = {.input = words};
    pthread_t threads[3];
    mpat_window window;
    snprintf(context, sizeof(context), "threads");
    if (mpat_distinct_create(&n, 1, 512, &s.distinct))
        abort();
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, hammer, &s);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(mpat_distinct_window(s.distinct, 0, 0, &window) == 0);
    CHECK(s.wrong == 0 && window.n_windows == (uint64_t)s.counted && s.counted > 0);
    mpat_distinct_destroy(s.distinct);
}

int main(void)
{
    const char *name;
    for (size_t i = 0; (name = mpat_kernel_available(i)) != NULL; i++) {
        CHECK(mpat_kernel_use(name) == 0);
        test_errors();
        test_sequences();
        test_dense();
        test_threads();
        printf("test_distinct: %s: %s\n", name, failures ? "FAILED" : "ok");
    }
    test_longest();
    test_sums_do_not_overflow();
    return failures != 0;
}
