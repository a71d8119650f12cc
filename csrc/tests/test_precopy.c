/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration's pages, against a model with a bool a page for each bitmap that QEMU 7.2 and KVM
 * keep, and one loop for each rule (migration/ram.c, accel/kvm/kvm-all.c).
 */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "recorded.h"

/* ---- the model ------------------------------------------------------------------------------- */

struct block {
    uint64_t n;
    char *kvm_log;    /* KVM's own: set by writes, cleared as it is asked to */
    char *dirty_bmap; /* KVMSlot.dirty_bmap: the log as it was fetched last */
    char *bmap;       /* RAMBlock.bmap: to be sent */
    char *clear_bmap; /* RAMBlock.clear_bmap, by chunk */
    char *zero;
    char *written;    /* since the last sync */
    char *since_sync; /* and between it and the one before */
    char *deferred;
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
        char **bitmaps[] = {&k->kvm_log, &k->dirty_bmap, &k->bmap,       &k->clear_bmap,
                            &k->zero,    &k->written,    &k->since_sync, &k->deferred};
        k->n = sizes[b];
        for (size_t i = 0; i < sizeof(bitmaps) / sizeof(bitmaps[0]); i++)
            *bitmaps[i] = must(calloc(k->n, 1));
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
        free(k->written);
        free(k->since_sync);
        free(k->deferred);
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
        memset(k->written, 0, k->n);
        memset(k->since_sync, 0, k->n);
        memset(k->deferred, 0, k->n);
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
                k->written[i] = 1;
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
            k->since_sync[i] = k->written[i];
        }
        memset(k->written, 0, k->n);
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

/* What would be pending after a sync; or, of that, what holds only zeros. */
static uint64_t vm_outstanding(const struct vm *vm, int only_zeros)
{
    uint64_t n = 0;
    for (size_t b = 0; b < vm->n_blocks; b++) {
        const struct block *k = &vm->blocks[b];
        for (uint64_t i = 0; i < k->n; i++)
            n += (k->bmap[i] || k->kvm_log[i]) && (!only_zeros || k->zero[i]);
    }
    return n;
}

/* find_dirty_block: from where it stopped, once around. */
static int find_dirty(struct vm *vm, size_t *b, uint64_t *page)
{
    *b = vm->last_seen_block;
    *page = vm->last_page;
    for (size_t turn = 0; turn <= vm->n_blocks; turn++) {
        for (; *page < vm->blocks[*b].n; ++*page) {
            if (vm->blocks[*b].bmap[*page] && !vm->blocks[*b].deferred[*page])
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

/* Whole intervals, as one or in parts that are exact in binary. */
static void write_some(mpat_precopy *precopy, struct vm *vm, struct recorded *r)
{
    uint64_t n = random_below(8) ? 1 : 1 + random_below(40);
    for (uint64_t i = 0; i < n; i++) {
        vm_write(vm, r->words[r->now]);
        r->now = r->now + 1 < INTERVALS ? r->now + 1 : r->loop;
    }
    uint64_t left = n * 1024;
    while (left != 0) {
        uint64_t part = random_below(2) ? left : 1 + random_below(left);
        CHECK(mpat_precopy_run(precopy, (double)part / 1024) == 0);
        left -= part;
    }
}

/* What a sync found is what was written since the one before. */
static void check_found(mpat_precopy *precopy, const struct vm *vm)
{
    uint64_t *found[MAX_REGIONS];
    for (size_t b = 0; b < vm->n_blocks; b++) {
        if (mpat_bitmap_alloc(vm->blocks[b].n, &found[b]))
            abort();
    }
    CHECK(mpat_precopy_found(precopy, found) == 0);
    for (size_t b = 0; b < vm->n_blocks; b++) {
        for (uint64_t i = 0; i < vm->blocks[b].n; i++)
            CHECK(bit(found[b], i) == vm->blocks[b].since_sync[i]);
        mpat_bitmap_free(found[b], vm->blocks[b].n);
    }
}

static void defer_some(mpat_precopy *precopy, struct vm *vm)
{
    uint64_t *chosen[MAX_REGIONS];
    int none = random_below(2) == 0;
    for (size_t b = 0; b < vm->n_blocks; b++) {
        if (mpat_bitmap_alloc(vm->blocks[b].n, &chosen[b]))
            abort();
        fill(chosen[b], vm->blocks[b].n, (int)random_below(N_PATTERNS));
        for (uint64_t i = 0; i < vm->blocks[b].n; i++)
            vm->blocks[b].deferred[i] = !none && bit(chosen[b], i);
    }
    CHECK(mpat_precopy_defer(precopy, none ? NULL : (const uint64_t *const *)chosen) == 0);
    for (size_t b = 0; b < vm->n_blocks; b++)
        mpat_bitmap_free(chosen[b], vm->blocks[b].n);
}

static uint64_t vm_deferred(const struct vm *vm)
{
    uint64_t n = 0;
    for (size_t b = 0; b < vm->n_blocks; b++) {
        for (uint64_t i = 0; i < vm->blocks[b].n; i++)
            n += vm->blocks[b].bmap[i] && vm->blocks[b].deferred[i];
    }
    return n;
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
    uint64_t *zero[MAX_REGIONS], *given[MAX_REGIONS], n_pages = 0, pending, zero_pages;
    struct recorded recorded = {0};
    mpat_precopy *precopy;
    struct vm vm;
    record(&recorded, sizes, n_blocks);
    for (size_t b = 0; b < n_blocks; b++) {
        if (mpat_bitmap_alloc(sizes[b], &zero[b]))
            abort();
        n_pages += sizes[b];
    }
    if (mpat_precopy_create(recorded.recording, chunk, &precopy))
        abort();
    vm_create(&vm, sizes, n_blocks, chunk);
    vm_start(&vm, NULL);
    CHECK(mpat_precopy_bytes(precopy) >= n_pages / 2);
    for (int step = 0; step < steps; step++) {
        uint64_t choice = step == 0 ? 23 : random_below(24);
        snprintf(context, sizeof(context), "n=%llu regions=%zu chunk=%llu step=%d choice=%llu",
                 (unsigned long long)sizes[0], n_blocks, (unsigned long long)chunk, step,
                 (unsigned long long)choice);
        if (choice < 6) {
            write_some(precopy, &vm, &recorded);
        } else if (choice < 11) {
            vm_sync(&vm);
            CHECK(mpat_precopy_sync(precopy, &pending) == 0);
            CHECK(pending == vm_pending(&vm));
            check_found(precopy, &vm);
        } else if (choice < 19) {
            double budget = some_budget(n_pages), zero_cost = zero_costs[random_below(4)];
            mpat_sent sent, expected = vm_send(&vm, budget, 1.0, zero_cost);
            CHECK(mpat_precopy_send(precopy, budget, 1.0, zero_cost, &sent) == 0);
            CHECK(sent.pages == expected.pages);
            CHECK(sent.zero_pages == expected.zero_pages);
            CHECK(sent.cost == expected.cost);
        } else if (choice < 21) {
            CHECK(mpat_precopy_outstanding(precopy, &pending, &zero_pages) == 0);
            CHECK(pending == vm_outstanding(&vm, 0));
            CHECK(zero_pages == vm_outstanding(&vm, 1));
        } else if (choice < 22) {
            defer_some(precopy, &vm);
        } else if (step == 0 || random_below(4) == 0) {
            uint64_t **zeros = random_below(4) ? given : NULL;
            for (size_t b = 0; b < n_blocks; b++) {
                fill(zero[b], sizes[b], (int)random_below(N_PATTERNS));
                given[b] = random_below(4) ? zero[b] : NULL;
            }
            vm_start(&vm, zeros);
            recorded.now = random_below(INTERVALS);
            CHECK(mpat_precopy_start(precopy, (const uint64_t *const *)zeros,
                                     (double)recorded.now, random64()) == 0);
        }
        CHECK(mpat_precopy_deferred(precopy) == vm_deferred(&vm));
    }
    mpat_precopy_destroy(precopy);
    forget(&recorded, sizes, n_blocks);
    vm_free(&vm);
    for (size_t b = 0; b < n_blocks; b++)
        mpat_bitmap_free(zero[b], sizes[b]);
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

/* A migration over intervals 0, 1, 2, ... of these bitmaps, of which all has been sent, at the start
 * of interval `at`. */
struct parts {
    mpat_recording *recording;
    mpat_precopy *precopy;
};

static struct parts parts_of(uint64_t n, const uint64_t *const *bitmaps, int n_intervals)
{
    struct parts p;
    if (mpat_recording_create(&n, 1, &p.recording))
        abort();
    for (int i = 0; i < n_intervals; i++)
        CHECK(mpat_recording_add(p.recording, &bitmaps[i], 0.5) == 0);
    CHECK(mpat_recording_seal(p.recording, 0) == 0);
    if (mpat_precopy_create(p.recording, 0, &p.precopy))
        abort();
    return p;
}

static void parts_free(struct parts *p)
{
    mpat_precopy_destroy(p->precopy);
    mpat_recording_destroy(p->recording);
}

/* Pages written in the next part, all others having been sent. */
static uint64_t written(const struct parts *p, double duration)
{
    uint64_t pending;
    mpat_sent sent;
    CHECK(mpat_precopy_run(p->precopy, duration) == 0);
    CHECK(mpat_precopy_sync(p->precopy, &pending) == 0);
    CHECK(mpat_precopy_send(p->precopy, INFINITY, 1.0, 1.0, &sent) == 0);
    CHECK(sent.pages == pending);
    return pending;
}

static void start_at(const struct parts *p, uint64_t n, double at, uint64_t seed)
{
    mpat_sent sent;
    CHECK(mpat_precopy_start(p->precopy, NULL, at, seed) == 0);
    CHECK(mpat_precopy_send(p->precopy, INFINITY, 1.0, 1.0, &sent) == 0 && sent.pages == n);
}

static void test_parts(void)
{
    enum { n = 4000 };
    uint64_t *all, *none, *garbage;
    snprintf(context, sizeof(context), "parts");
    if (mpat_bitmap_alloc(n, &all) || mpat_bitmap_alloc(n, &none) || mpat_bitmap_alloc(n, &garbage))
        abort();
    fill(all, n, ONES);
    memset(none, 0, n / 8);
    struct parts p = parts_of(n, (const uint64_t *const[]){none, all, all}, 3);
    for (uint64_t seed = 0; seed < 20; seed++) {
        /* Written once: in one of the parts, and in each as often as it is long. */
        start_at(&p, n, 0.5, seed);
        uint64_t first = written(&p, 0.15);
        CHECK(first > 1000 && first < 1400);
        CHECK(written(&p, 0.0) == 0);
        CHECK(first + written(&p, 0.35) == n);
        /* Back in every interval: seven writes, 1 - exp(-3.5) of the pages in a half. */
        CHECK(written(&p, 0.25) > n * 95 / 100);
        CHECK(written(&p, 0.25) > n * 95 / 100);
    }
    parts_free(&p);
    /* What lies past the end is not looked at, neither to count nor to tell how much comes back. */
    memset(garbage, 0, 16);
    garbage[1] = ~UINT64_C(1);
    p = parts_of(65, (const uint64_t *const[]){garbage, all}, 2);
    for (uint64_t seed = 0; seed < 200; seed++) {
        start_at(&p, 65, 0.5, seed);
        uint64_t first = written(&p, 0.25);
        CHECK(first + written(&p, 0.25) == 65);
    }
    parts_free(&p);
    mpat_bitmap_free(all, n);
    mpat_bitmap_free(none, n);
    mpat_bitmap_free(garbage, n);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void test_errors(void)
{
    uint64_t sizes[2] = {100, 65}, pending = 77;
    uint64_t words[2] = {0, 0};
    const uint64_t *input[2] = {words, words}, *hole[2] = {words, NULL};
    mpat_recording *recording;
    mpat_precopy *precopy = NULL;
    mpat_sent sent = {.pages = 77};
    snprintf(context, sizeof(context), "errors");
    if (mpat_recording_create(sizes, 2, &recording) ||
        mpat_recording_add(recording, input, 1.0) || mpat_recording_seal(recording, 0))
        abort();

    CHECK(mpat_precopy_create(recording, 64, &precopy) == 0);
    CHECK(mpat_precopy_start(NULL, NULL, 0, 0) == -EINVAL);
    CHECK(mpat_precopy_sync(NULL, &pending) == -EINVAL && pending == 77);
    CHECK(mpat_precopy_sync(precopy, NULL) == -EINVAL);
    CHECK(mpat_precopy_outstanding(NULL, &pending, &pending) == -EINVAL && pending == 77);
    CHECK(mpat_precopy_outstanding(precopy, NULL, &pending) == -EINVAL);
    CHECK(mpat_precopy_outstanding(precopy, &pending, NULL) == -EINVAL);
    CHECK(mpat_precopy_found(precopy, NULL) == -EINVAL);
    CHECK(mpat_precopy_found(precopy, (uint64_t *const *)hole) == -EINVAL);
    CHECK(mpat_precopy_defer(NULL, input) == -EINVAL);
    CHECK(mpat_precopy_defer(precopy, hole) == -EINVAL);

    static const double moments[] = {-0.1, NAN, INFINITY};
    for (size_t i = 0; i < sizeof(moments) / sizeof(moments[0]); i++) {
        CHECK(mpat_precopy_run(precopy, moments[i]) == -EINVAL);
        CHECK(mpat_precopy_start(precopy, NULL, moments[i], 0) == -EINVAL);
    }
    CHECK(mpat_precopy_run(NULL, 1) == -EINVAL);
    CHECK(mpat_precopy_start(precopy, NULL, 1e18, 0) == 0);

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
    mpat_recording_destroy(recording);
}

/* However long the guest runs, it has written what a turn of the loop writes; and no loop of that
 * length. */
static void test_long_runs(void)
{
    uint64_t n = 640, words[10], pending;
    const uint64_t *input[1] = {words};
    mpat_recording *recording;
    mpat_precopy *precopy;
    mpat_sent sent;
    if (mpat_recording_create(&n, 1, &recording))
        abort();
    for (int i = 0; i < 3; i++) {
        memset(words, 0, sizeof(words));
        words[i] = 0xff;
        if (mpat_recording_add(recording, input, 0.7))
            abort();
    }
    if (mpat_recording_seal(recording, 0) || mpat_precopy_create(recording, 0, &precopy))
        abort();
    static const double durations[] = {1e3, 1e9, 1e15, 1e16, 1e17, 1e18, 1e204, DBL_MAX};
    for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
        snprintf(context, sizeof(context), "a run of %g s", durations[i]);
        CHECK(mpat_precopy_start(precopy, NULL, 0.3, 0) == 0);
        CHECK(mpat_precopy_send(precopy, INFINITY, 1, 1, &sent) == 0 && sent.pages == n);
        CHECK(mpat_precopy_run(precopy, durations[i]) == 0);
        CHECK(mpat_precopy_run(precopy, durations[i]) == 0);
        CHECK(mpat_precopy_sync(precopy, &pending) == 0 && pending == 24);
        CHECK(mpat_precopy_sync(precopy, &pending) == 0 && pending == 24);
    }
    mpat_precopy_destroy(precopy);
    mpat_recording_destroy(recording);
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
    mpat_recording *recording;
    uint64_t *words;
    snprintf(context, sizeof(context), "threads");
    if (mpat_bitmap_alloc(n, &words) || mpat_recording_create(&n, 1, &recording))
        abort();
    memset(words, 0, n / 8);
    if (mpat_recording_add(recording, (const uint64_t *const *)&words, 1.0) ||
        mpat_recording_seal(recording, 0) || mpat_precopy_create(recording, 1024, &s.precopy))
        abort();
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, hammer, &s);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(mpat_precopy_send(s.precopy, INFINITY, 1.0, 1.0, &rest) == 0);
    CHECK(s.wrong == 0 && s.sent_pages > 0);
    CHECK(s.sent_pages + rest.pages >= n);
    mpat_precopy_destroy(s.precopy);
    mpat_recording_destroy(recording);
    mpat_bitmap_free(words, n);
}

int main(void)
{
    test_errors();
    test_long_runs();
    test_sequences();
    test_parts();
    test_threads();
    printf("test_precopy: %s\n", failures ? "FAILED" : "ok");
    return failures != 0;
}
