/* SPDX-License-Identifier: Apache-2.0 */
/* Distinct pages by window, of regions that grow. */
#include <errno.h>
#include <stdlib.h>

#include "distinct.h"

static void copy_length(const mpat_distinct *d, const struct length *from, const mpat_distinct *next,
                        struct length *to, const mpat_origin *origins)
{
    to->n_windows = from->n_windows;
    to->open_s = from->open_s;
    to->seconds = from->seconds;
    to->pages = from->pages;
    for (size_t r = 0; r < next->n_regions; r++) {
        if (origins[r].region < 0)
            continue;
        size_t old = (size_t)origins[r].region;
        const struct mpat_open_window *w = &from->regions[old].window;
        struct mpat_open_window *x = &to->regions[r].window;
        uint64_t shift = origins[r].page / 64, group = shift / d->group_words;
        to->regions[r].pages = from->regions[old].pages;
        if (w->slot.words != NULL)
            mpat_slot_copy(&w->slot, &x->slot, mpat_bitmap_words(d->region_pages[old]), shift);
        for (size_t g = 0; g < groups_of(d, old); g++) {
            if (w->pages[g]) {
                x->pages[group + g] = w->pages[g];
                x->squares[group + g] = w->squares[g];
            }
            if (w->sums != NULL && w->sums[g])
                x->sums[group + g] = w->sums[g];
        }
    }
}

/* is_taken: one for each old region, zero. */
static int mark_origins(const mpat_distinct *d, const uint64_t *region_pages, size_t n_regions,
                        const mpat_origin *origins, unsigned char *is_taken)
{
    size_t n_old = 0;
    for (size_t r = 0; r < n_regions; r++) {
        int64_t old = origins[r].region;
        if (old == -1)
            continue;
        if (old < -1 || old >= (int64_t)d->n_regions || is_taken[old] ||
            mpat_origin_check(&origins[r], d->region_pages[old], region_pages[r],
                              d->group_words * 64))
            return -EINVAL;
        is_taken[old] = 1;
        n_old++;
    }
    return n_old == d->n_regions ? 0 : -EINVAL;
}

static int check_origins(const mpat_distinct *d, const uint64_t *region_pages, size_t n_regions,
                         const mpat_origin *origins)
{
    if (mpat_regions_check(region_pages, n_regions) || origins == NULL)
        return -EINVAL;
    unsigned char *is_taken = calloc(d->n_regions, 1);
    if (is_taken == NULL)
        return -ENOMEM;
    int err = mark_origins(d, region_pages, n_regions, origins, is_taken);
    free(is_taken);
    return err;
}

/* Between enter and leave. */
static int succeed(mpat_distinct *d, const uint64_t *region_pages, size_t n_regions,
                   const mpat_origin *origins, mpat_distinct **out)
{
    mpat_distinct *next;
    if (d->followed)
        return -ESTALE;
    int err = mpat_distinct_create(region_pages, n_regions, (uint32_t)(d->group_words * 64), &next);
    if (err)
        return err;
    for (size_t i = 0; i < N_LENGTHS && d->lengths[i] != NULL; i++) {
        err = mpat_distinct_reach(next, i);
        if (err) {
            mpat_distinct_destroy(next);
            return err;
        }
        copy_length(d, d->lengths[i], next, next->lengths[i], origins);
    }
    next->position = d->position;
    next->observed = d->observed;
    next->n_complete = mpat_distinct_windows(d);
    d->followed = 1;
    *out = next;
    return 0;
}

int mpat_distinct_follow(mpat_distinct *distinct, const uint64_t *region_pages, size_t n_regions,
                         const mpat_origin *origins, mpat_distinct **out)
{
    if (distinct == NULL || out == NULL)
        return -EINVAL;
    int err = check_origins(distinct, region_pages, n_regions, origins);
    if (err)
        return err;
    if (!mpat_busy_enter(&distinct->busy))
        return -EBUSY;
    err = succeed(distinct, region_pages, n_regions, origins, out);
    mpat_busy_leave(&distinct->busy);
    return err;
}
