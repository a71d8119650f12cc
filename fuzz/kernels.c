/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics, histories and windows of one region, by every kernel and by kernels that take turns,
 * against plain loops (model.h). Built a second time with the kernels that this machine lacks,
 * through SIMDe. Bitmaps end at a guard page.
 */
#include "model.h"

#define MOST_KERNELS 5u

struct objects {
    mpat_history *history, *alone; /* of the stats, if they have one, and one by itself */
    mpat_stats *stats;
    mpat_distinct *distinct;
};

static void create(struct objects *o, const struct model *m, int has_history)
{
    o->history = NULL;
    if (has_history)
        MUST(mpat_history_create(&m->n_pages, 1, m->depth, &o->history) == 0);
    MUST(mpat_history_create(&m->n_pages, 1, m->depth, &o->alone) == 0);
    MUST(mpat_stats_create(&m->n_pages, 1, m->group_pages, 1.0, o->history, &o->stats) == 0);
    MUST(mpat_distinct_create(&m->n_pages, 1, m->group_pages, &o->distinct) == 0);
}

static void destroy(struct objects *o)
{
    mpat_distinct_destroy(o->distinct);
    mpat_stats_destroy(o->stats);
    mpat_history_destroy(o->alone);
    mpat_history_destroy(o->history);
}

/* The last n intervals go through the windows at once. */
static void windows_take(struct objects *o, const struct model *m, uint32_t n)
{
    static const double seconds[MOST_INTERVALS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                                   1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const uint64_t *const *bitmaps = (const uint64_t *const *)m->bitmaps + m->t - n;
    MUST(mpat_distinct_update_all(o->distinct, bitmaps, seconds, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    static struct model m;
    struct objects objects[MOST_KERNELS];
    const char *names[MOST_KERNELS]; /* each object's, or they take turns */
    struct input in = {bytes, n_bytes};
    uint32_t n_kernels = 0, pending = 0;
    uint64_t n_pages = 1 + next_below(&in, FEW_PAGES, 2);
    uint32_t group_pages = next_group_pages(&in);
    uint64_t kind = next(&in, 1); /* depth, and bits for what follows */
    if (kind & 128)
        n_pages += MOST_PAGES - FEW_PAGES; /* several blocks, and windows that look ahead */
    model_begin(&m, n_pages, group_pages, 1 + (uint32_t)(kind & 15));
    while ((names[n_kernels] = mpat_kernel_available(n_kernels)) != NULL) {
        create(&objects[n_kernels++], &m, kind & 16 ? 0 : 1);
        MUST(n_kernels < MOST_KERNELS);
    }
    while (in.n && m.t < MOST_INTERVALS) {
        const uint64_t *bitmap = model_add(&m, next_guarded(&in, m.t, n_pages));
        pending = pending % 5 + 1; /* windows take 5 intervals at once, or each as it comes */
        for (uint32_t k = 0; k < n_kernels; k++) {
            struct objects *o = &objects[k];
            mpat_seen seen;
            MUST(mpat_kernel_use(names[(k + (kind & 32 ? m.t : 0)) % n_kernels]) == 0);
            MUST(mpat_stats_update(o->stats, &bitmap, 1.0, &seen) == 0);
            model_check_stats(&m, o->stats, &seen);
            MUST(mpat_history_update(o->alone, &bitmap) == 0);
            if (!(kind & 64))
                MUST(mpat_distinct_update(o->distinct, &bitmap, 1.0) == 0);
            else if (pending == 5)
                windows_take(o, &m, 5);
        }
    }
    if (m.t > 0)
        model_recall(&m);
    for (uint32_t k = 0; k < n_kernels; k++) {
        MUST(mpat_kernel_use(names[k]) == 0);
        if (kind & 64 && pending % 5)
            windows_take(&objects[k], &m, pending);
        if (m.t > 0) {
            model_check_history(&m, objects[k].alone);
            if (objects[k].history != NULL)
                model_check_history(&m, objects[k].history);
            model_check_windows(&m, objects[k].distinct);
        }
        destroy(&objects[k]);
    }
    return 0;
}
