/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that follows from dirty and fresh for 64 groups of one line, with vectors that the
 * compiler splits or not as the instruction set has them.
 */
typedef uint32_t book_u32 __attribute__((vector_size(32), may_alias));
typedef int32_t book_i32 __attribute__((vector_size(32), may_alias));
typedef int32_t book_half __attribute__((vector_size(16), may_alias));
typedef int64_t book_i64 __attribute__((vector_size(32), may_alias));
typedef double book_f64 __attribute__((vector_size(32), may_alias));

static inline void book_block(const struct mpat_pass *p, uint64_t first)
{
    const struct mpat_group_arrays *a = &p->groups;
    const book_u32 *dirty = (const book_u32 *)(const void *)(a->dirty + first);
    const book_u32 *fresh = (const book_u32 *)(const void *)(a->fresh + first);
    const book_half *half = (const book_half *)(const void *)(a->dirty + first);
    book_u32 *touched = (book_u32 *)(void *)(a->touched + first);
    book_u32 *intervals = (book_u32 *)(void *)(a->active_intervals + first);
    book_u32 *streak = (book_u32 *)(void *)(a->streak + first);
    book_i32 *last = (book_i32 *)(void *)(a->last_active + first);
    book_i64 *total = (book_i64 *)(void *)(a->dirty_total + first);
    book_f64 *rate = (book_f64 *)(void *)(a->rate + first);

    for (unsigned i = 0; i < MPAT_BLOCK_LINES / 8; i++) {
        book_i32 idle = (book_i32)(dirty[i] == 0); /* all ones where true */
        touched[i] += fresh[i];
        intervals[i] += (book_u32)(1 + idle);
        streak[i] = (streak[i] + 1) & (book_u32)~idle;
        last[i] = (last[i] & idle) | (p->now & ~idle);
    }
    for (unsigned i = 0; i < MPAT_BLOCK_LINES / 4; i++) {
        total[i] += __builtin_convertvector(half[i], book_i64);
        rate[i] += p->weight * __builtin_convertvector(half[i], book_f64);
    }
}
