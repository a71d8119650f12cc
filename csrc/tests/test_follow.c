/* SPDX-License-Identifier: Apache-2.0 */
/* Regions that grow, appear and change their order, on every kernel, against the same model. */
#include <errno.h>

#include "stats_model.h"

#define MAX_REGIONS 6

struct vm {
    uint64_t sizes[MAX_REGIONS];
    struct model models[MAX_REGIONS];
    mpat_seen seen[MAX_REGIONS]; /* in the last interval */
    size_t n_regions;
    uint32_t group, depth; /* depth 0: no history given */
    mpat_history *history;
    mpat_stats *stats;
};

/* The model of a region that was there, or of none, had it been larger all the time. */
static struct model model_grown(const struct model *m, uint64_t page, uint64_t n, int is_new)
{
    struct model grown = *m;
    grown.n = n;
    grown.n_words = mpat_bitmap_words(n);
    for (uint32_t t = 0; t < m->t; t++) {
        grown.bitmap[t] = must(calloc(grown.n_words, sizeof(uint64_t)));
        for (uint64_t i = 0; !is_new && i < m->n; i++)
            set_bit(grown.bitmap[t], i + page, bit(m->bitmap[t], i));
    }
    return grown;
}

static void check_vm(const struct vm *vm)
{
    for (size_t r = 0; r < vm->n_regions; r++) {
        check_model(&vm->models[r], vm->stats, r, &vm->seen[r]);
        if (vm->depth)
            check_hot(&vm->models[r], vm->history, r, vm->depth);
    }
    if (vm->depth)
        check_distinct(vm->models, vm->n_regions, vm->history, vm->depth);
}

/* The objects that were followed: as they were, and closed to more. */
static void check_followed(const struct vm *vm)
{
    const uint64_t words[1] = {0}, *inputs[MAX_REGIONS];
    mpat_origin origins[MAX_REGIONS];
    mpat_seen seen[MAX_REGIONS];
    mpat_history *history = NULL;
    mpat_stats *stats = NULL;
    for (size_t r = 0; r < vm->n_regions; r++) {
        inputs[r] = words; /* not looked at */
        origins[r] = (mpat_origin){(int64_t)r, 0};
    }
    if (vm->models[0].t)
        check_vm(vm);
    CHECK(mpat_stats_update(vm->stats, inputs, 1.0, seen) == -ESTALE);
    CHECK(mpat_stats_follow(vm->stats, vm->sizes, vm->n_regions, origins,
                            vm->depth ? &history : NULL, &stats) == -ESTALE);
    if (vm->depth)
        CHECK(mpat_history_update(vm->history, inputs) == -EPERM);
    CHECK(history == NULL && stats == NULL);
}

static void vm_free(struct vm *vm)
{
    mpat_stats_destroy(vm->stats);
    mpat_history_destroy(vm->history);
    for (size_t r = 0; r < vm->n_regions; r++)
        model_free(&vm->models[r]);
}

static void vm_follow(struct vm *vm)
{
    static const uint64_t tails[] = {0, 0, 1, 63, 64, 511, 512, 1000, 33000};
    struct vm next = *vm;
    mpat_origin origins[MAX_REGIONS];
    size_t room = MAX_REGIONS - vm->n_regions;
    next.n_regions += random_below(room < 2 ? room + 1 : 3);
    for (size_t r = 0; r < next.n_regions; r++)
        origins[r] = (mpat_origin){r < vm->n_regions ? (int64_t)r : -1, random64()};
    for (size_t r = next.n_regions - 1; r > 0; r--) { /* shuffle */
        size_t other = random_below(r + 1);
        mpat_origin swapped = origins[r];
        origins[r] = origins[other];
        origins[other] = swapped;
    }
    for (size_t r = 0; r < next.n_regions; r++) {
        int is_new = origins[r].region < 0;
        size_t old = is_new ? 0 : (size_t)origins[r].region;
        uint64_t page = random_below(2) * random_below(4) * vm->group;
        if (!is_new)
            origins[r].page = page;
        next.sizes[r] = is_new ? 1 + random_below(2000)
                               : page + vm->sizes[old] + tails[random_below(9)];
        next.models[r] = model_grown(&vm->models[old], page, next.sizes[r], is_new);
        next.seen[r] = is_new ? (mpat_seen){0} : vm->seen[old];
    }
    CHECK(mpat_stats_follow(vm->stats, next.sizes, next.n_regions, origins,
                            vm->depth ? &next.history : NULL, &next.stats) == 0);
    if (next.models[0].t)
        check_vm(&next);
    check_followed(vm);
    vm_free(vm);
    *vm = next;
}

static void vm_update(struct vm *vm)
{
    uint64_t *inputs[MAX_REGIONS];
    uint32_t t = vm->models[0].t;
    double duration = (double)(1 + random_below(1000)) / 250;
    for (size_t r = 0; r < vm->n_regions; r++) {
        if (mpat_bitmap_alloc(vm->sizes[r], &inputs[r]))
            abort();
        next_input(inputs[r], vm->sizes[r], t, vm->depth ? vm->depth : 1);
        model_add(&vm->models[r], inputs[r], duration);
    }
    CHECK(mpat_stats_update(vm->stats, (const uint64_t *const *)inputs, duration, vm->seen) == 0);
    check_vm(vm);
    for (size_t r = 0; r < vm->n_regions; r++)
        mpat_bitmap_free(inputs[r], vm->sizes[r]);
}

static void run(uint64_t n, uint32_t group, uint32_t depth, uint32_t intervals)
{
    struct vm vm = {.sizes = {n, 700}, .n_regions = 2, .group = group, .depth = depth};
    for (size_t r = 0; r < 2; r++)
        vm.models[r] = (struct model){.n = vm.sizes[r],
                                      .n_words = mpat_bitmap_words(vm.sizes[r]),
                                      .group = group,
                                      .half_life = 10};
    if ((depth && mpat_history_create(vm.sizes, 2, depth, &vm.history)) ||
        mpat_stats_create(vm.sizes, 2, group, 10, vm.history, &vm.stats))
        abort();
    for (uint32_t t = 0; t < intervals; t++) {
        snprintf(context, sizeof(context), "%s n=%llu group=%u depth=%u t=%u",
                 mpat_kernel_active(), (unsigned long long)n, group, depth, t);
        if (t % 4 == 0)
            vm_follow(&vm);
        vm_update(&vm);
    }
    vm_free(&vm);
}

static void test_sequences(void)
{
    static const uint32_t groups[] = {64, 192, 512, 1024, 4096};
    static const uint32_t depths[] = {0, 1, 2, 5};
    for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
        for (size_t d = 0; d < 4; d++)
            run(1 + random_below(3000), groups[g], depths[d], 12);
    }
    run(3 * 32768 + 777, 512, 2, 5); /* several blocks */
}

/* A history alone; a shift of one word, which spreads lines over two. */
static void test_history(void)
{
    uint64_t old_sizes[2] = {513, 64}, new_sizes[2] = {64, 577}, a[9], b[1] = {5}, out[10];
    const uint64_t *inputs[2] = {a, b}, *new_inputs[2] = {b, out};
    const mpat_origin origins[2] = {{1, 0}, {0, 64}};
    mpat_history *history, *next, *none = NULL;
    uint64_t count;
    snprintf(context, sizeof(context), "history");
    for (uint64_t w = 0; w < 9; w++)
        a[w] = w + 1;
    if (mpat_history_create(old_sizes, 2, 2, &history))
        abort();
    CHECK(mpat_history_update(history, inputs) == 0);
    CHECK(mpat_history_follow(history, new_sizes, 2, origins, &next) == 0);
    CHECK(mpat_history_length(next) == 1);
    CHECK(mpat_history_hot_pages(next, 1, 1, out) == 0);
    CHECK(out[0] == 0 && memcmp(out + 1, a, 8 * sizeof(a[0])) == 0 && out[9] == 1);
    CHECK(mpat_history_distinct_pages(next, 1, &count) == 0 && count == 13 + 1 + 2);
    CHECK(mpat_history_hot_pages(next, 0, 1, out) == 0 && out[0] == 5);

    CHECK(mpat_history_update(history, inputs) == -ESTALE);
    CHECK(mpat_history_follow(history, new_sizes, 2, origins, &none) == -ESTALE && none == NULL);
    CHECK(mpat_history_hot_pages(history, 1, 1, out) == 0 && out[0] == 5);
    mpat_history_destroy(history);

    memset(out, 0, sizeof(out));
    b[0] = 0;
    for (uint64_t t = 0; t < 2; t++) { /* every line that was carried over is cleared in its turn */
        CHECK(mpat_history_distinct_pages(next, 2, &count) == 0 && count == 16);
        CHECK(mpat_history_update(next, new_inputs) == 0);
    }
    CHECK(mpat_history_distinct_pages(next, 2, &count) == 0 && count == 0);

    /* None comes from the second region: it is forgotten. */
    CHECK(mpat_history_follow(next, new_sizes, 1, origins + 1, &none) == -EINVAL);
    CHECK(mpat_history_follow(next, new_sizes, 1, &(mpat_origin){0, 0}, &history) == 0);
    mpat_history_destroy(next);
    mpat_history_destroy(history);
}

static void test_errors(void)
{
    uint64_t sizes[2] = {1000, 100}, larger[2] = {1512, 100}, zero[2] = {1512, 0};
    const uint64_t words[16] = {7}, *inputs[2] = {words, words};
    const mpat_origin good[2] = {{0, 512}, {1, 0}};
    mpat_history *history, *own, *no_history = NULL, *next;
    mpat_stats *stats, *bare, *no_stats = NULL, *next_stats;
    mpat_seen seen[2];
    uint64_t count = 0;
    snprintf(context, sizeof(context), "errors");
    if (mpat_history_create(sizes, 2, 3, &history) || mpat_history_create(sizes, 2, 3, &own) ||
        mpat_stats_create(sizes, 2, 512, 10, history, &stats) ||
        mpat_stats_create(sizes, 2, 512, 10, NULL, &bare))
        abort();
    CHECK(mpat_stats_update(stats, inputs, 1, seen) == 0 && mpat_history_update(own, inputs) == 0);

    static const mpat_origin bad[][2] = {
        {{2, 0}, {1, 0}},    /* no such region */
        {{-2, 0}, {1, 0}},
        {{INT64_MAX, 0}, {1, 0}},
        {{INT64_MIN, 0}, {1, 0}},
        {{0, 1024}, {1, 0}}, /* past the end */
        {{0, UINT64_C(1) << 63}, {1, 0}},
        {{0, UINT64_MAX - 511}, {1, 0}}, /* and with the old region's size around to 488 */
        {{0, 0}, {0, 0}},
        {{0, 511}, {1, 0}},  /* no whole words */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK(mpat_stats_follow(stats, larger, 2, bad[i], &no_history, &no_stats) == -EINVAL);
        CHECK(mpat_stats_follow(bare, larger, 2, bad[i], NULL, &no_stats) == -EINVAL);
        CHECK(mpat_history_follow(own, larger, 2, bad[i], &no_history) == -EINVAL);
    }
    /* Whole words, but no whole groups. */
    CHECK(mpat_stats_follow(stats, larger, 2, (mpat_origin[]){{0, 64}, {1, 0}}, &no_history,
                            &no_stats) == -EINVAL);
    CHECK(mpat_stats_follow(stats, larger, 2, good, NULL, &no_stats) == -EINVAL);
    CHECK(mpat_stats_follow(bare, larger, 2, good, &no_history, &no_stats) == -EINVAL);
    CHECK(mpat_stats_follow(stats, larger, 2, good, &no_history, NULL) == -EINVAL);
    CHECK(mpat_stats_follow(stats, larger, 2, NULL, &no_history, &no_stats) == -EINVAL);
    CHECK(mpat_stats_follow(stats, larger, 0, good, &no_history, &no_stats) == -EINVAL);
    CHECK(mpat_stats_follow(stats, zero, 2, good, &no_history, &no_stats) == -EINVAL);
    CHECK(mpat_stats_follow(NULL, larger, 2, good, &no_history, &no_stats) == -EINVAL);
    CHECK(mpat_history_follow(own, NULL, 2, good, &no_history) == -EINVAL);
    CHECK(mpat_history_follow(own, larger, 2, good, NULL) == -EINVAL);
    CHECK(mpat_history_follow(NULL, larger, 2, good, &no_history) == -EINVAL);
    CHECK(mpat_history_follow(history, larger, 2, good, &no_history) == -EPERM);
    larger[1] = UINT64_C(1) << 52;
    CHECK(mpat_stats_follow(stats, larger, 2, good, &no_history, &no_stats) == -ENOMEM);
    CHECK(mpat_stats_follow(bare, larger, 2, good, NULL, &no_stats) == -ENOMEM);
    CHECK(mpat_history_follow(own, larger, 2, good, &no_history) == -ENOMEM);
    CHECK(no_history == NULL && no_stats == NULL);

    /* Nothing changed: all of them go on, and can follow. */
    larger[1] = 100;
    CHECK(mpat_stats_update(stats, inputs, 1, seen) == 0 && seen[0].redirtied_pages == 3);
    CHECK(mpat_stats_follow(stats, larger, 2, good, &next, &next_stats) == 0);
    CHECK(mpat_history_length(next) == 2);
    CHECK(mpat_history_distinct_pages(next, 3, &count) == 0 && count == 6);
    CHECK(mpat_history_follow(next, larger, 2, (mpat_origin[]){{0, 0}, {1, 0}}, &no_history) ==
          -EPERM);
    mpat_stats_destroy(stats);
    mpat_history_destroy(history);
    mpat_stats_destroy(next_stats);
    mpat_history_destroy(next);
    CHECK(mpat_stats_follow(bare, larger, 2, good, NULL, &next_stats) == 0);
    CHECK(mpat_stats_bytes(next_stats) >= mpat_stats_bytes(bare));
    mpat_stats_destroy(bare);
    CHECK(mpat_stats_update(next_stats, (const uint64_t *[]){(uint64_t[24]){0}, words}, 1, seen) ==
          0);
    mpat_stats_destroy(next_stats);
    CHECK(mpat_history_follow(own, larger, 2, good, &next) == 0);
    mpat_history_destroy(own);
    mpat_history_destroy(next);
}

int main(void)
{
    const char *name;
    for (size_t i = 0; (name = mpat_kernel_available(i)) != NULL; i++) {
        CHECK(mpat_kernel_use(name) == 0);
        test_history();
        test_errors();
        test_sequences();
        printf("test_follow: %s: %s\n", name, failures ? "FAILED" : "ok");
    }
    return failures != 0;
}
