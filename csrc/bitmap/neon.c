/* SPDX-License-Identifier: Apache-2.0 */
/* NEON, which every arm64 CPU has: a line is four registers. */
#include <string.h>

#include "kernels.h"

#if defined(__aarch64__) || defined(MPAT_SIMDE)

#ifdef MPAT_SIMDE
#include "simde_shim.h"
#else
#include <arm_neon.h>
#endif

typedef uint64_t vec __attribute__((vector_size(16), aligned(8), may_alias));

static int supported(void)
{
    return 1;
}

static inline uint32_t word_count(uint64_t w)
{
    return vaddlv_u8(vcnt_u8(vcreate_u8(w)));
}

static inline int line_any(const uint64_t *p)
{
    uint64x2_t a = vorrq_u64(vld1q_u64(p), vld1q_u64(p + 2));
    uint64x2_t b = vorrq_u64(vld1q_u64(p + 4), vld1q_u64(p + 6));
    return vmaxvq_u32(vreinterpretq_u32_u64(vorrq_u64(a, b))) != 0;
}

static inline uint64_t block_any(const uint64_t *p)
{
    uint64_t active = 0;
    for (unsigned i = 0; i < MPAT_BLOCK_LINES; i++)
        active |= (uint64_t)line_any(p + i * MPAT_LINE_WORDS) << i;
    return active;
}

static inline uint8x16_t byte_counts(uint64x2_t v)
{
    return vcntq_u8(vreinterpretq_u8_u64(v));
}

static inline int vec_any(vec v)
{
    return vmaxvq_u32(vreinterpretq_u32_u64((uint64x2_t)v)) != 0;
}

/* Bits set in a line, 32 at most in each byte. */
static inline uint8x16_t line_bytes(uint64x2_t a, uint64x2_t b, uint64x2_t c, uint64x2_t d)
{
    return vaddq_u8(vaddq_u8(byte_counts(a), byte_counts(b)),
                    vaddq_u8(byte_counts(c), byte_counts(d)));
}

static inline vec line_lanes(const vec *line)
{
    uint8x16_t bytes = line_bytes((uint64x2_t)line[0], (uint64x2_t)line[1], (uint64x2_t)line[2],
                                  (uint64x2_t)line[3]);
    return (vec)vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(bytes)));
}

static inline uint32_t line_count(const uint64_t *p)
{
    return vaddlvq_u8(line_bytes(vld1q_u64(p), vld1q_u64(p + 2), vld1q_u64(p + 4),
                                 vld1q_u64(p + 6)));
}

static inline void lines_count(const uint64_t *p, uint64_t n, uint32_t *out)
{
    for (uint64_t i = 0; i < n; i++, p += MPAT_LINE_WORDS)
        out[i] = line_count(p);
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
    uint64x2_t last = vdupq_n_u64(before);
    /* Shift left by one, with the top bit of the word in front coming in. */
    for (int i = 0; i < 4; i++) {
        uint64x2_t c = vld1q_u64(cur + 2 * i), b = vextq_u64(last, c, 1);
        starts[i] = (vec)vbicq_u64(c, vorrq_u64(vshlq_n_u64(c, 1), vshrq_n_u64(b, 63)));
        last = c;
    }
}

static inline uint64_t line_fuse(const uint64_t *cur, const uint64_t *prev, uint64_t *next,
                                 uint64_t *ever, uint64_t before, int stream)
{
    uint64x2_t c[4], r[4], f[4], e[4];
    vec s[4];
    (void)stream;
    line_starts(cur, before, s);
    for (int i = 0; i < 4; i++) {
        c[i] = vld1q_u64(cur + 2 * i);
        e[i] = vld1q_u64(ever + 2 * i);
        r[i] = vandq_u64(c[i], vld1q_u64(prev + 2 * i));
        f[i] = vbicq_u64(c[i], e[i]);
    }
    for (int i = 0; i < 4; i++)
        vst1q_u64(next + 2 * i, c[i]);
    uint64x2_t any = vorrq_u64(vorrq_u64(f[0], f[1]), vorrq_u64(f[2], f[3]));
    if (vmaxvq_u32(vreinterpretq_u32_u64(any))) {
        for (int i = 0; i < 4; i++)
            vst1q_u64(ever + 2 * i, vorrq_u64(e[i], c[i]));
    }
    /* Pairwise sums of 16 bits, then two rounds that put each of the four counts in a lane. */
    uint16x8_t dirty = vpaddlq_u8(line_bytes(c[0], c[1], c[2], c[3]));
    uint16x8_t redirtied = vpaddlq_u8(line_bytes(r[0], r[1], r[2], r[3]));
    uint16x8_t fresh = vpaddlq_u8(line_bytes(f[0], f[1], f[2], f[3]));
    uint16x8_t runs = vpaddlq_u8(line_bytes((uint64x2_t)s[0], (uint64x2_t)s[1],
                                            (uint64x2_t)s[2], (uint64x2_t)s[3]));
    uint16x8_t low = vpaddq_u16(dirty, redirtied), high = vpaddq_u16(fresh, runs);
    uint16x8_t all = vpaddq_u16(low, high); /* two lanes each */
    all = vpaddq_u16(all, all);
    return vgetq_lane_u64(vreinterpretq_u64_u16(all), 0);
}

#define HAVE_BOOK_BLOCK
#include "book.inc.h"

#define KERNEL_SYMBOL mpat_kernel_neon
#define KERNEL_NAME "neon"
#define KERNEL_SUPPORTED supported
#include "loops.inc.h"

#else
typedef int mpat_neon_is_for_arm64; /* ISO C wants something in a file */
#endif
