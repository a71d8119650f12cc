/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in bitmaps of the caller's, by every kernel, against plain loops. The bitmaps begin at any
 * word of a line and end at a guard page.
 */
#include <errno.h>

#include "input.h"

struct asked {
    uint64_t n_pages, n_words, *bitmap, *previous, *ever; /* the last two may be NULL */
    uint64_t room;
    uint32_t group_pages;
};

/* From here on: what must come out. */
static uint32_t counts[MOST_PAGES / 64 + 1];
static uint64_t joined[MOST_PAGES / 64 + 1];
static int64_t pages[MOST_PAGES];
static mpat_seen seen;

static int bit(const uint64_t *words, uint64_t i)
{
    return words != NULL && words[i / 64] >> i % 64 & 1;
}

static void expect(const struct asked *a)
{
    uint64_t line_is = UINT64_MAX;
    memset(counts, 0, sizeof(counts));
    memset(joined, 0, sizeof(joined));
    memset(&seen, 0, sizeof(seen));
    for (uint64_t i = 0; i < a->n_pages; i++) {
        int dirty = bit(a->bitmap, i), was = bit(a->ever, i);
        joined[i / 64] |= (uint64_t)(dirty | was) << i % 64;
        if (!dirty)
            continue;
        counts[i / a->group_pages]++;
        pages[seen.dirty_pages++] = (int64_t)i;
        seen.redirtied_pages += (uint64_t)bit(a->previous, i);
        seen.fresh_pages += !was;
        seen.active_groups += line_is != i / 512;
        seen.runs += i == 0 || !bit(a->bitmap, i - 1);
        line_is = i / 512;
    }
}

static void check(const struct asked *a)
{
    uint64_t n_groups = (a->n_pages + a->group_pages - 1) / a->group_pages, found_dirty = 77;
    uint64_t ever_bytes = a->n_words * sizeof(uint64_t);
    uint32_t *found_counts = malloc(n_groups * sizeof(*counts));
    int64_t *found_pages = malloc((a->room ? a->room : 1) * sizeof(*pages));
    uint64_t *ever_was = malloc(ever_bytes);
    mpat_seen found;
    MUST(found_counts != NULL && found_pages != NULL && ever_was != NULL);
    MUST(mpat_group_counts(a->bitmap, a->n_pages, a->group_pages, found_counts) == 0);
    MUST(memcmp(found_counts, counts, n_groups * sizeof(*counts)) == 0);
    if (a->ever != NULL)
        memcpy(ever_was, a->ever, ever_bytes);
    MUST(mpat_bitmap_seen(a->bitmap, a->previous, a->ever, a->n_pages, &found) == 0);
    MUST(memcmp(&found, &seen, sizeof(seen)) == 0);
    if (a->ever != NULL) {
        MUST(memcmp(a->ever, joined, ever_bytes) == 0);
        memcpy(a->ever, ever_was, ever_bytes); /* for the next kernel */
    }
    int err = mpat_bitmap_pages(a->bitmap, a->n_pages, found_pages, a->room, &found_dirty);
    if (a->room < seen.dirty_pages) {
        MUST(err == -ENOSPC && found_dirty == 77);
    } else {
        MUST(err == 0 && found_dirty == seen.dirty_pages);
        MUST(memcmp(found_pages, pages, found_dirty * sizeof(*pages)) == 0);
    }
    free(found_counts);
    free(found_pages);
    free(ever_was);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    struct input in = {bytes, n_bytes};
    struct asked a = {.n_pages = 1 + next(&in, 2)};
    const char *name;
    a.group_pages = next_group_pages(&in);
    uint64_t kind = next(&in, 1);
    a.n_words = mpat_bitmap_words(a.n_pages);
    a.bitmap = next_guarded(&in, 0, a.n_pages);
    a.previous = kind & 1 ? next_guarded(&in, 1, a.n_pages) : NULL;
    a.ever = kind & 2 ? next_guarded(&in, 2, a.n_pages) : NULL;
    expect(&a);
    a.room = seen.dirty_pages; /* exactly, or less, or more */
    if (kind & 4)
        a.room = a.room * (kind >> 4) / 8;
    else if (kind & 8)
        a.room += kind >> 4;
    for (size_t i = 0; (name = mpat_kernel_available(i)) != NULL; i++) {
        MUST(mpat_kernel_use(name) == 0);
        check(&a);
    }
    return 0;
}
