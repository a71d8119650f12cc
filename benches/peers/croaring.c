/* SPDX-License-Identifier: Apache-2.0 */
/* Each piece of work as a C program would do it with CRoaring. */
#include <roaring/roaring.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { GROUP_PAGES = 512, FEW_PAGES = 4, N_INTERVALS = 12, N_LENGTHS = 7, N_DIGITS = 5 };

roaring_bitmap_t *croaring_make(const char *portable, size_t n_bytes)
{
    roaring_bitmap_t *set = n_bytes ? roaring_bitmap_portable_deserialize_safe(portable, n_bytes)
                                    : roaring_bitmap_create();
    if (set != NULL)
        roaring_bitmap_run_optimize(set);
    return set;
}

void croaring_free(roaring_bitmap_t *set)
{
    roaring_bitmap_free(set);
}

static bool count_one(uint32_t page, void *counts)
{
    ((uint32_t *)counts)[page / GROUP_PAGES]++;
    return true;
}

/* By ranges, or page by page where there are few. */
void croaring_counts(const roaring_bitmap_t *set, size_t n_groups, uint32_t *counts)
{
    if (roaring_bitmap_get_cardinality(set) < FEW_PAGES * n_groups) {
        memset(counts, 0, n_groups * sizeof(*counts));
        roaring_iterate(set, count_one, counts);
        return;
    }
    for (uint64_t g = 0; g < n_groups; g++)
        counts[g] = (uint32_t)roaring_bitmap_range_cardinality(set, g * GROUP_PAGES,
                                                               (g + 1) * GROUP_PAGES);
}

/* seen: dirty, redirtied, fresh. */
void croaring_overlap(const roaring_bitmap_t *set, const roaring_bitmap_t *last,
                      roaring_bitmap_t *ever, uint64_t *seen)
{
    seen[0] = roaring_bitmap_get_cardinality(set);
    seen[1] = roaring_bitmap_and_cardinality(set, last);
    seen[2] = roaring_bitmap_andnot_cardinality(set, ever);
    roaring_bitmap_or_inplace(ever, set);
}

uint64_t croaring_size(const roaring_bitmap_t *set)
{
    return roaring_bitmap_get_cardinality(set);
}

void croaring_pages(const roaring_bitmap_t *set, uint32_t *pages)
{
    roaring_bitmap_to_uint32_array(set, pages);
}

static roaring_bitmap_t *kept(roaring_bitmap_t *set, uint64_t *sum)
{
    *sum += roaring_bitmap_get_cardinality(set);
    return set;
}

/* sums: over the windows of each length, 1, 2, 3, 4, 6, 8, 12. */
void croaring_windows(const roaring_bitmap_t *const *intervals, uint64_t *sums)
{
    roaring_bitmap_t *twos[6], *threes[4], *fours[3], *sixes[2];
    memset(sums, 0, N_LENGTHS * sizeof(*sums));
    for (int i = 0; i < N_INTERVALS; i++)
        sums[0] += roaring_bitmap_get_cardinality(intervals[i]);
    for (int i = 0; i < 6; i++)
        twos[i] = kept(roaring_bitmap_or(intervals[2 * i], intervals[2 * i + 1]), &sums[1]);
    for (int i = 0; i < 4; i++) {
        threes[i] = roaring_bitmap_or(intervals[3 * i], intervals[3 * i + 1]);
        roaring_bitmap_or_inplace(threes[i], intervals[3 * i + 2]);
        sums[2] += roaring_bitmap_get_cardinality(threes[i]);
    }
    for (int i = 0; i < 3; i++)
        fours[i] = kept(roaring_bitmap_or(twos[2 * i], twos[2 * i + 1]), &sums[3]);
    for (int i = 0; i < 2; i++)
        sixes[i] = kept(roaring_bitmap_or(threes[2 * i], threes[2 * i + 1]), &sums[4]);
    sums[5] = roaring_bitmap_or_cardinality(fours[0], fours[1]);
    sums[6] = roaring_bitmap_or_cardinality(sixes[0], sixes[1]);
    for (int i = 0; i < 6; i++)
        roaring_bitmap_free(twos[i]);
    for (int i = 0; i < 4; i++)
        roaring_bitmap_free(threes[i]);
    for (int i = 0; i < 3; i++)
        roaring_bitmap_free(fours[i]);
    for (int i = 0; i < 2; i++)
        roaring_bitmap_free(sixes[i]);
}

/* In k of the intervals or more, of which there are fewer than 32: by binary counters of sets. */
roaring_bitmap_t *croaring_hot(const roaring_bitmap_t *const *intervals, size_t n_intervals,
                               unsigned k)
{
    roaring_bitmap_t *digits[N_DIGITS], *more = roaring_bitmap_create();
    for (int d = 0; d < N_DIGITS; d++)
        digits[d] = roaring_bitmap_create();
    for (size_t n = 0; n < n_intervals; n++) {
        roaring_bitmap_t *carry = roaring_bitmap_copy(intervals[n]);
        for (int d = 0; d < N_DIGITS && !roaring_bitmap_is_empty(carry); d++) {
            roaring_bitmap_t *next = roaring_bitmap_and(digits[d], carry);
            roaring_bitmap_xor_inplace(digits[d], carry);
            roaring_bitmap_free(carry);
            carry = next;
        }
        roaring_bitmap_free(carry);
    }
    for (int d = 0; d < N_DIGITS; d++) {
        if ((k - 1) >> d & 1)
            roaring_bitmap_and_inplace(more, digits[d]);
        else
            roaring_bitmap_or_inplace(more, digits[d]);
        roaring_bitmap_free(digits[d]);
    }
    return more;
}
