/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel that runs everywhere: plain C, no instruction beyond the baseline. */
#include <string.h>

#include "kernels.h"

typedef uint64_t vec;

/* Without a popcount instruction the builtin is a call through a table; this is not. */
static inline uint32_t word_count(uint64_t w)
{
    w -= w >> 1 & UINT64_C(0x5555555555555555);
    w = (w & UINT64_C(0x3333333333333333)) + (w >> 2 & UINT64_C(0x3333333333333333));
    w = (w + (w >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (uint32_t)(w * UINT64_C(0x0101010101010101) >> 56);
}

static inline int vec_any(vec v)
{
    return v != 0;
}

/* The carry-save adder: three words in, their sum bit by bit in two. */
static inline uint64_t add_bits(uint64_t *sum, uint64_t a, uint64_t b)
{
    uint64_t half = *sum ^ a, carry = (*sum & a) | (half & b);
    *sum = half ^ b;
    return carry;
}

/* Eight words by seven adders and four counts instead of eight. */
static inline uint32_t count8(const uint64_t *w)
{
    uint64_t ones = w[0], twos, fours, eights;
    uint64_t two_a = add_bits(&ones, w[1], w[2]), two_b = add_bits(&ones, w[3], w[4]);
    uint64_t two_c = add_bits(&ones, w[5], w[6]);
    uint64_t two_d = ones & w[7];
    ones ^= w[7];
    twos = two_a;
    fours = add_bits(&twos, two_b, two_c);
    uint64_t four_b = twos & two_d;
    twos ^= two_d;
    eights = fours & four_b;
    fours ^= four_b;
    return word_count(ones) + 2 * word_count(twos) + 4 * word_count(fours) + 8 * word_count(eights);
}

static inline vec line_lanes(const vec *line)
{
    return count8(line);
}

static inline int line_any(const uint64_t *p)
{
    return (p[0] | p[1] | p[2] | p[3] | p[4] | p[5] | p[6] | p[7]) != 0;
}

static inline uint64_t block_any(const uint64_t *p)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < MPAT_BLOCK_LINES; i++)
        any |= (uint64_t)line_any(p + i * MPAT_LINE_WORDS) << i;
    return any;
}

static inline uint32_t line_count(const uint64_t *p)
{
    return count8(p);
}

static inline void lines_count(const uint64_t *p, uint64_t n, uint32_t *out)
{
    for (uint64_t i = 0; i < n; i++, p += MPAT_LINE_WORDS)
        out[i] = count8(p);
}

static inline void line_clear(uint64_t *p, int stream)
{
    (void)stream;
    memset(p, 0, MPAT_LINE_WORDS * sizeof(uint64_t));
}

static inline void line_copy(uint64_t *out, const uint64_t *in, int stream)
{
    (void)stream;
    memcpy(out, in, MPAT_LINE_WORDS * sizeof(uint64_t));
}

static inline void stores_done(void)
{
}

static inline void line_starts(const uint64_t *cur, uint64_t before, vec *starts)
{
    for (int i = 0; i < 8; i++) {
        starts[i] = cur[i] & ~(cur[i] << 1 | before >> 63);
        before = cur[i];
    }
}

static inline uint64_t line_fuse(const uint64_t *cur, const uint64_t *prev, uint64_t *next,
                                 uint64_t *ever, uint64_t before, int stream)
{
    uint64_t redirtied[8], fresh[8], starts[8], any_fresh = 0;
    (void)stream;
    line_starts(cur, before, starts);
    for (int i = 0; i < 8; i++) {
        uint64_t c = cur[i];
        redirtied[i] = c & prev[i];
        fresh[i] = c & ~ever[i];
        any_fresh |= fresh[i];
    }
    for (int i = 0; i < 8; i++)
        next[i] = cur[i];
    if (any_fresh) {
        for (int i = 0; i < 8; i++)
            ever[i] |= cur[i];
    }
    return (uint64_t)count8(cur) | (uint64_t)count8(redirtied) << 16 |
           (uint64_t)count8(fresh) << 32 | (uint64_t)count8(starts) << 48;
}

static int supported(void)
{
    return 1;
}

#define KERNEL_SYMBOL mpat_kernel_scalar
#define KERNEL_NAME "scalar"
#define KERNEL_SUPPORTED supported
#include "loops.inc.h"
