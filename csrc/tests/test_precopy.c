/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration's pages, against a model with a bool a page for each bitmap that QEMU 7.2 and KVM
 * keep, and one loop for each rule (migration/ram.c, accel/kvm/kvm-all.c).
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "reference.h"

#define MAX_REGIONS 4

/* ---- the model ------------------------------------------------------------------------------- */

struct block {
    uint64_t n;
    char *kvm_log;    /* KVM's own: set by writes, cleared as it is asked to */
    char *dirty_bmap; /* KVMSlot.dirty_bmap: the log as it was fetched last */
    char *bmap;       /* RAMBlock.bmap: to be sent */
    char *clear_bmap; /* RAMBlock.clear_bmap, by chunk */
    char *zero;
};

struct vm {
    size_t n_blocks;
    uint64_t chunk; /* 0: KVM clears its log when it is fetched */
    size_t last_seen_block;
    uint64_t last_page;
    struct block blocks[MAX_REGIONS];
};

static void vm_create(struct vm *vm, const uint64_t *sizes, size_t n_blocks, uint64_t chunk)
{
    *vm = (struct vm){.n_blocks = n_blocks, .chunk = chunk};
    for (size_t b = 0; b < n_blocks; b++) {
        struct block *k = &vm->blocks[b];
        char **bitmaps[] = {&k->kvm_log, &k->dirty_bmap, &k->bmap, &k->clear_bmap, &k->zero};
        k->n = sizes[b];
        for (size_t i = 0; i < sizeof(bitmaps) / sizeof(bitmaps[0]); i++)
            *bitmaps[i] = must(malloc(k->n));
    }
}

static void vm_free(struct vm *vm)
{
    for (size_t b = 0; b < vm->n_blocks; b++) {
        struct block *k = &vm->blocks[b];
        free(k->kvm_log);
        free(k->dirty_bmap);
        free(k->bmap);
        free(k->clear_bmap);
        free(k->zero);
    }
}

/* ram_list_init_bitmaps, and with KVM_DIRTY_LOG_INITIALLY_SET the first sync. */
static void vm_start(struct vm *vm, uint64_t *const *zero)
{
    vm->last_seen_block = 0;
    vm->last_page = 0;
    for (size_t b = 0; b < vm->n_blocks; b++) {
        struct block *k = &vm->blocks[b];
        memset(k->kvm_log, vm->chunk != 0, k->n);
        memset(k->dirty_bmap, vm->chunk != 0, k->n);
        memset(k->bmap, 1, k->n);
        memset(k->clear_bmap, 1, k->n);
        for (uint64_t i = 0; i < k->n; i++)
            k->zero[i] = (char)(zero != NULL && zero[b] != NULL && bit(zero[b], i));
    }
}

static void vm_write(struct vm *vm, uint64_t *const *bitmaps)
{
    for (size_t b = 0; b < vm->n_blocks; b++) {
        struct block *k = &vm->blocks[b];
        for (uint64_t i = 0; i < k->n; i++) {
            if (bit(bitmaps[b], i)) {
                k->kvm_log[i] = 1;
                k->zero[i] = 0;
            }
        }
    }
}

/* kvm_physical_sync_dirty_bitmap, then cpu_physical_memory_sync_dirty_bitmap. */
static void vm_sync(struct vm *vm)
{
    for (size_t b = 0; b < vm->n_blocks; b++) {
        struct block *k = &vm->blocks[b];
        for (uint64_t i = 0; i < k->n; i++) {
            k->dirty_bmap[i] = k->kvm_log[i];
            k->bmap[i] |= k->dirty_bmap[i];
            if (vm->chunk == 0)
                k->kvm_log[i] = 0;
        }
        memset(k->clear_bmap, 1, k->n);
    }
}

static uint64_t vm_pending(const struct vm *vm)
{
    uint64_t pending = 0;
    for (size_t b = 0; b < vm->n_blocks; b++) {
        for (uint64_t i = 0; i < vm->blocks[b].n; i++)
            pending += (uint64_t)vm->blocks[b].bmap[i];
    }
    return pending;
}

/* find_dirty_block: from where it stopped, once around. */
static int find_dirty(struct vm *vm, size_t *b, uint64_t *page)
{
    *b = vm->last_seen_block;
    *page = vm->last_page;
    for (size_t turn = 0; turn <= vm->n_blocks; turn++) {
        for (; *page < vm->blocks[*b].n; ++*page) {
            if (vm->blocks[*b].bmap[*page])
                return 1;
        }
        *b = (*b + 1) % vm->n_blocks;
        *page = 0;
    }
    return 0;
}

/* migration_bitmap_clear_dirty, down to kvm_log_clear_one_slot. */
static void clear_dirty(struct vm *vm, struct block *k, uint64_t page)
{
    if (vm->chunk != 0 && k->clear_bmap[page / vm->chunk]) {
        k->clear_bmap[page / vm->chunk] = 0;
        for (uint64_t i = 0; i < k->n; i++) {
            if (i / vm->chunk == page / vm->chunk && k->dirty_bmap[i])
                k->kvm_log[i] = k->dirty_bmap[i] = 0;
        }
    }
    k->bmap[page] = 0;
}

static mpat_sent vm_send(struct vm *vm, double budget, double page_cost, double zero_cost)
{
    mpat_sent sent = {0};
    size_t b;
    uint64_t page;
    while (sent.cost < budget) {
        if (!find_dirty(vm, &b, &page)) { /* which ends at the end of the block it began in */
            if (sent.pages)
                vm->last_page = vm->blocks[vm->last_seen_block].n;
            break;
        }
        clear_dirty(vm, &vm->blocks[b], page);
        int zero = vm->blocks[b].zero[page];
        sent.pages++;
        sent.zero_pages += (uint64_t)zero;
        sent.cost += zero ? zero_cost : page_cost;
        vm->last_seen_block = b;
        vm->last_page = page + 1;
    }
    return sent;
}

/* ---- sequences ------------------------------------------------------------------------------- */

static void write_some(mpat_precopy *precopy, struct vm *vm, uint64_t **now, uint64_t **before)
{
    const uint64_t *const *bitmaps = (const uint64_t *const *)now;
    const uint64_t *const *previous = (const uint64_t *const *)(random_below(4) ? before : NULL);
    for (size_t b = 0; b < vm->n_blocks; b++) {
        uint64_t *swapped = now[b];
        now[b] = before[b];
        before[b] = swapped;
        fill(now[b], vm->blocks[b].n, (int)random_below(N_PATTERNS));
    }
    vm_write(vm, now);
    if (random_below(2)) {
        CHECK(mpat_precopy_write(precopy, bitmaps, previous, 0.0, 1.0, 0) == 0);
        return;
    }
    double from = 0.0;
    uint64_t seed = random64();
    while (from < 1.0) {
        double to = random_below(3) ? from + (double)random_below(1000) / 1000 : 1.0;
        to = to > 1.0 ? 1.0 : to;
        CHECK(mpat_precopy_write(precopy, bitmaps, previous, from, to, seed) == 0);
        from = to;
    }
}

static double some_budget(uint64_t n_pages)
{
    switch (random_below(6)) { /* costs are exact in binary: so are the sums */
    case 0:
        return 0.0;
    case 1:
        return 0.0625;
    case 2:
        return (double)random_below(64) / 8;
    case 3:
        return INFINITY;
    default:
        return (double)random_below(2 * n_pages + 2) / 4;
    }
}

static void run(const uint64_t *sizes, size_t n_blocks, uint64_t chunk, int steps)
{
    static const double zero_costs[] = {0.125, 0.5, 1.0, 2.0};
    uint64_t *now[MAX_REGIONS], *before[MAX_REGIONS], *zero[MAX_REGIONS], *given[MAX_REGIONS];
    uint64_t n_pages = 0, pending;
    mpat_precopy *precopy;
    struct vm vm;
    for (size_t b = 0; b < n_blocks; b++) {
        if (mpat_bitmap_alloc(sizes[b], &now[b]) || mpat_bitmap_alloc(sizes[b], &before[b]) ||
            mpat_bitmap_alloc(sizes[b], &zero[b]))
            abort();
        n_pages += sizes[b];
    }
    if (mpat_precopy_create(sizes, n_blocks, chunk, &precopy))
        abort();
    vm_create(&vm, sizes, n_blocks, chunk);
    vm_start(&vm, NULL);
    CHECK(mpat_precopy_bytes(precopy) >= n_pages / 2);
    for (int step = 0; step < steps; step++) {
        uint64_t choice = step == 0 ? 19 : random_below(20);
        snprintf(context, sizeof(context), "n=%llu regions=%zu chunk=%llu step=%d choice=%llu",
                 (unsigned long long)sizes[0], n_blocks, (unsigned long long)chunk, step,
                 (unsigned long long)choice);
        if (choice < 6) {
            write_some(precopy, &vm, now, before);
        } else if (choice < 11) {
            vm_sync(&vm);
            CHECK(mpat_precopy_sync(precopy, &pending) == 0);
            CHECK(pending == vm_pending(&vm));
        } else if (choice < 19) {
            double budget = some_budget(n_pages), zero_cost = zero_costs[random_below(4)];
            mpat_sent sent, expected = vm_send(&vm, budget, 1.0, zero_cost);
            CHECK(mpat_precopy_send(precopy, budget, 1.0, zero_cost, &sent) == 0);
            CHECK(sent.pages == expected.pages);
            CHECK(sent.zero_pages == expected.zero_pages);
            CHECK(sent.cost == expected.cost);
        } else if (step == 0 || random_below(4) == 0) {
            uint64_t **zeros = random_below(4) ? given : NULL;
            for (size_t b = 0; b < n_blocks; b++) {
                fill(zero[b], sizes[b], (int)random_below(N_PATTERNS));
                given[b] = random_below(4) ? zero[b] : NULL;
            }
            vm_start(&vm, zeros);
            CHECK(mpat_precopy_start(precopy, (const uint64_t *const *)zeros) == 0);
        }
    }
    mpat_precopy_destroy(precopy);
    vm_free(&vm);
    for (size_t b = 0; b < n_blocks; b++) {
        mpat_bitmap_free(now[b], sizes[b]);
        mpat_bitmap_free(before[b], sizes[b]);
        mpat_bitmap_free(zero[b], sizes[b]);
    }
}

static void test_sequences(void)
{
    static const uint64_t chunks[] = {0, 64, 128, 192, 1024, 1 << 18, UINT64_C(1) << 62};
    static const uint64_t sizes[] = {1, 63, 64, 65, 127, 500, 512, 513, 1000, 1537, 2049};
    for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
        for (int i = 0; i < 40; i++) {
            uint64_t chosen[MAX_REGIONS];
            size_t n_blocks = 1 + random_below(MAX_REGIONS);
            for (size_t b = 0; b < n_blocks; b++)
                chosen[b] = sizes[random_below(sizeof(sizes) / sizeof(sizes[0]))];
            run(chosen, n_blocks, chunks[c], 120);
        }
    }
}

/* ---- parts of an interval -------------------------------------------------------------------- */

/* Pages written in the part [from, to], all others having been sent. */
static uint64_t written(mpat_precopy *precopy, const uint64_t *bitmap, const uint64_t *previous,
                        double from, double to, uint64_t seed)
{
    uint64_t pending;
    mpat_sent sent;
    CHECK(mpat_precopy_write(precopy, &bitmap, previous ? &previous : NULL, from, to, seed) == 0);
    CHECK(mpat_precopy_sync(precopy, &pending) == 0);
    CHECK(mpat_precopy_send(precopy, INFINITY, 1.0, 1.0, &sent) == 0);
    CHECK(sent.pages == pending);
    return pending;
}

static void test_parts(void)
{
    uint64_t n = 4000, *all, *garbage;
    mpat_precopy *precopy;
    mpat_sent sent;
    snprintf(context, sizeof(context), "parts");
    if (mpat_bitmap_alloc(n, &all) || mpat_bitmap_alloc(n, &garbage) ||
        mpat_precopy_create(&n, 1, 0, &precopy))
        abort();
    CHECK(mpat_precopy_send(precopy, INFINITY, 1.0, 1.0, &sent) == 0 && sent.pages == n);
    fill(all, n, ONES);
    for (uint64_t seed = 0; seed < 20; seed++) {
        /* Written once: in one of the parts, and in each as often as it is long. */
        uint64_t first = written(precopy, all, NULL, 0.0, 0.3, seed);
        CHECK(first > 1000 && first < 1400);
        CHECK(first + written(precopy, all, NULL, 0.3, 1.0, seed) == n);
        CHECK(written(precopy, all, NULL, 0.5, 0.5, seed) == 0);
        CHECK(written(precopy, all, NULL, 0.0, 0.0, seed) == 0);
        /* Back in every interval: seven writes, 1 - exp(-3.5) of the pages in a half. */
        CHECK(written(precopy, all, all, 0.0, 0.5, seed) > n * 95 / 100);
        CHECK(written(precopy, all, all, 0.5, 1.0, seed) > n * 95 / 100);
    }
    /* What lies past the end is not looked at, neither to count nor to tell how much comes back. */
    n = 65;
    mpat_precopy_destroy(precopy);
    if (mpat_precopy_create(&n, 1, 0, &precopy))
        abort();
    CHECK(mpat_precopy_send(precopy, INFINITY, 1.0, 1.0, &sent) == 0 && sent.pages == n);
    memset(garbage, 0, 16);
    garbage[1] = ~UINT64_C(1);
    for (uint64_t seed = 0; seed < 200; seed++) {
        uint64_t first = written(precopy, all, garbage, 0.0, 0.5, seed);
        CHECK(first + written(precopy, all, garbage, 0.5, 1.0, seed) == n);
    }
    mpat_precopy_destroy(precopy);
    mpat_bitmap_free(all, 4000);
    mpat_bitmap_free(garbage, 4000);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void test_errors(void)
{
    uint64_t sizes[2] = {100, 65}, none[2] = {100, 0}, huge = UINT64_MAX, pending = 77;
    uint64_t words[2] = {~UINT64_C(0), ~UINT64_C(0)};
    const uint64_t *input[2] = {words, words}, *hole[2] = {words, NULL};
    mpat_precopy *precopy = NULL, *no_precopy = NULL;
    mpat_sent sent = {.pages = 77};
    snprintf(context, sizeof(context), "errors");

    CHECK(mpat_precopy_create(NULL, 1, 64, &no_precopy) == -EINVAL);
    CHECK(mpat_precopy_create(sizes, 0, 64, &no_precopy) == -EINVAL);
    CHECK(mpat_precopy_create(none, 2, 64, &no_precopy) == -EINVAL);
    CHECK(mpat_precopy_create(sizes, 2, 1, &no_precopy) == -EINVAL);
    CHECK(mpat_precopy_create(sizes, 2, 100, &no_precopy) == -EINVAL);
    CHECK(mpat_precopy_create(sizes, 2, 64, NULL) == -EINVAL);
    CHECK(mpat_precopy_create(&huge, 1, 64, &no_precopy) == -ENOMEM);
    CHECK(no_precopy == NULL);
    mpat_precopy_destroy(NULL);

    CHECK(mpat_precopy_create(sizes, 2, 64, &precopy) == 0);
    CHECK(mpat_precopy_start(NULL, NULL) == -EINVAL);
    CHECK(mpat_precopy_sync(NULL, &pending) == -EINVAL && pending == 77);
    CHECK(mpat_precopy_sync(precopy, NULL) == -EINVAL);

    static const double parts[][2] = {{-0.1, 1}, {0, 1.1}, {0.6, 0.5}, {NAN, 1}, {0, NAN}};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        CHECK(mpat_precopy_write(precopy, input, NULL, parts[i][0], parts[i][1], 0) == -EINVAL);
    CHECK(mpat_precopy_write(NULL, input, NULL, 0, 1, 0) == -EINVAL);
    CHECK(mpat_precopy_write(precopy, NULL, NULL, 0, 1, 0) == -EINVAL);
    CHECK(mpat_precopy_write(precopy, hole, NULL, 0, 1, 0) == -EINVAL);
    CHECK(mpat_precopy_write(precopy, input, hole, 0, 1, 0) == -EINVAL);

    static const double costs[][3] = {{-1, 1, 1}, {NAN, 1, 1},  {1, 0, 1}, {1, -1, 1},
                                      {1, NAN, 1}, {1, 1, 0}, {1, 1, -1}, {1, 1, NAN},
                                      {1, INFINITY, 1}, {1, 1, INFINITY}};
    for (size_t i = 0; i < sizeof(costs) / sizeof(costs[0]); i++)
        CHECK(mpat_precopy_send(precopy, costs[i][0], costs[i][1], costs[i][2], &sent) == -EINVAL);
    CHECK(mpat_precopy_send(NULL, 1, 1, 1, &sent) == -EINVAL);
    CHECK(mpat_precopy_send(precopy, 1, 1, 1, NULL) == -EINVAL);
    CHECK(sent.pages == 77);

    /* Nothing of that was written or sent. */
    CHECK(mpat_precopy_send(precopy, INFINITY, 1, 1, &sent) == 0 && sent.pages == 165);
    CHECK(mpat_precopy_sync(precopy, &pending) == 0 && pending == 0);
    mpat_precopy_destroy(precopy);
}

/* ---- three threads on one object ------------------------------------------------------------- */

struct shared {
    mpat_precopy *precopy;
    atomic_ulong sent_pages;
    atomic_int wrong;
};

static void *hammer(void *arg)
{
    struct shared *s = arg;
    mpat_sent sent;
    uint64_t pending;
    for (int i = 0; i < 2000; i++) {
        int err = mpat_precopy_send(s->precopy, 1.0, 1.0, 1.0, &sent);
        if (err == 0)
            atomic_fetch_add(&s->sent_pages, sent.pages);
        else if (err != -EBUSY)
            atomic_fetch_add(&s->wrong, 1);
        err = mpat_precopy_sync(s->precopy, &pending);
        if (err != 0 && err != -EBUSY)
            atomic_fetch_add(&s->wrong, 1);
    }
    return NULL;
}

/* What is refused does nothing: every page is sent once. */
static void test_threads(void)
{
    uint64_t n = 10000;
    struct shared s = {0};
    pthread_t threads[3];
    mpat_sent rest;
    snprintf(context, sizeof(context), "threads");
    if (mpat_precopy_create(&n, 1, 1024, &s.precopy))
        abort();
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, hammer, &s);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(mpat_precopy_send(s.precopy, INFINITY, 1.0, 1.0, &rest) == 0);
    CHECK(s.wrong == 0 && s.sent_pages > 0);
    CHECK(s.sent_pages + rest.pages >= n);
    mpat_precopy_destroy(s.precopy);
}

int main(void)
{
    test_errors();
    test_sequences();
    test_parts();
    test_threads();
    printf("test_precopy: %s\n", failures ? "FAILED" : "ok");
    return failures != 0;
}
