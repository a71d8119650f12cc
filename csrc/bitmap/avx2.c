/* SPDX-License-Identifier: Apache-2.0 */
/* AVX2 with POPCNT: a line is two registers. */
#include "kernels.h"

#if defined(__x86_64__)

static int supported(void)
{
    /* Both read XCR0 as well (libgcc, compiler-rt): an OS that does not save YMM says no. */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt") &&
           __builtin_cpu_supports("bmi");
}

#ifdef __clang__
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx2,popcnt,bmi"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,popcnt,bmi")
#include <immintrin.h>
#endif

/* Lines that are surely not in a core's cache. */
#define PREFETCH_FROM ((uint64_t)(24 << 20) / 64)

typedef uint64_t vec __attribute__((vector_size(32), aligned(8), may_alias));

static inline __m256i load(const uint64_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline void store(uint64_t *p, __m256i v)
{
    _mm256_store_si256((__m256i *)(void *)p, v);
}

/*
 * Not the builtin: for it the compiler also clears the destination, which old Intel CPUs wrongly
 * wait for, and that costs more than it saves where the front end is the limit.
 */
static inline uint32_t word_count(uint64_t w)
{
    uint64_t n;
    __asm__("popcnt %1, %0" : "=r"(n) : "rm"(w) : "cc");
    return (uint32_t)n;
}

#define HAVE_WORDS_COUNT
static inline uint32_t words_count(const uint64_t *p)
{
    return (word_count(p[0]) + word_count(p[1])) + (word_count(p[2]) + word_count(p[3])) +
           ((word_count(p[4]) + word_count(p[5])) + (word_count(p[6]) + word_count(p[7])));
}

/* Bits set in each byte, by a table of the nibbles. */
static inline __m256i byte_counts(__m256i v)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                           2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(v, nibble));
    __m256i high = _mm256_and_si256(_mm256_srli_epi64(v, 4), nibble);
    return _mm256_add_epi8(low, _mm256_shuffle_epi8(table, high));
}

static inline int vec_any(vec v)
{
    return !_mm256_testz_si256((__m256i)v, (__m256i)v);
}

/* Bits set in two registers, a sum in each 64-bit lane. */
static inline __m256i lane_counts(__m256i a, __m256i b)
{
    return _mm256_sad_epu8(_mm256_add_epi8(byte_counts(a), byte_counts(b)), _mm256_setzero_si256());
}

static inline vec line_lanes(const vec *line)
{
    return (vec)lane_counts((__m256i)line[0], (__m256i)line[1]);
}

static inline uint64_t lane_sum(__m256i v)
{
    __m128i two = _mm_add_epi64(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return (uint64_t)_mm_cvtsi128_si64(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
}

static inline int line_any(const uint64_t *p)
{
    __m256i any = _mm256_or_si256(load(p), load(p + 4));
    return !_mm256_testz_si256(any, any);
}

static inline uint64_t block_any(const uint64_t *p)
{
    uint64_t active = 0;
    for (unsigned i = 0; i < MPAT_BLOCK_LINES; i += 16, p += 16 * MPAT_LINE_WORDS) {
        /* Mostly clean memory is the common case: one test for 16 lines first. */
        __m256i a = load(p), b = load(p + 4), c = load(p + 8), d = load(p + 12);
        for (unsigned w = 16; w < 128; w += 16) {
            a = _mm256_or_si256(a, load(p + w));
            b = _mm256_or_si256(b, load(p + w + 4));
            c = _mm256_or_si256(c, load(p + w + 8));
            d = _mm256_or_si256(d, load(p + w + 12));
        }
        a = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
        if (_mm256_testz_si256(a, a))
            continue;
        for (unsigned k = 0; k < 16; k++)
            active |= (uint64_t)line_any(p + k * MPAT_LINE_WORDS) << (i + k);
    }
    return active;
}

static inline uint32_t line_count(const uint64_t *p)
{
    return (uint32_t)lane_sum(lane_counts(load(p), load(p + 4)));
}

/*
 * Eight lines: four by vectors, four by POPCNT, in turn, because they use different ports and
 * either alone is slower than the cache can deliver.
 */
static inline void eight_lines_count(const uint64_t *p, uint32_t *out)
{
    const uint64_t *q = p + 32;
    __m256i a = lane_counts(load(p), load(p + 4));
    out[4] = words_count(q);
    __m256i b = lane_counts(load(p + 8), load(p + 12));
    out[5] = words_count(q + 8);
    __m256i c = lane_counts(load(p + 16), load(p + 20));
    out[6] = words_count(q + 16);
    __m256i d = lane_counts(load(p + 24), load(p + 28));
    out[7] = words_count(q + 24);
    /* A 4x4 transpose of 32-bit lanes, of which every other one is zero. */
    __m256i ab = _mm256_or_si256(a, _mm256_slli_epi64(b, 32));
    __m256i cd = _mm256_or_si256(c, _mm256_slli_epi64(d, 32));
    __m256i sum = _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
    __m128i all = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    _mm_storeu_si128((__m128i *)(void *)out, all);
}

static inline void lines_count(const uint64_t *p, uint64_t n, uint32_t *out)
{
    uint64_t i = 0;
    if (n >= PREFETCH_FROM) { /* from memory; in cache the extra instructions would cost more */
        for (; i + 8 <= n; i += 8, p += 64) {
            for (int k = 0; k < 8; k++)
                _mm_prefetch((const char *)(p + k * 8) + 2048, _MM_HINT_T0);
            eight_lines_count(p, out + i);
        }
    }
    for (; i + 8 <= n; i += 8, p += 64)
        eight_lines_count(p, out + i);
    for (; i < n; i++, p += MPAT_LINE_WORDS)
        out[i] = words_count(p);
}

static inline void put(uint64_t *p, __m256i low, __m256i high, int stream)
{
    if (stream) {
        _mm256_stream_si256((__m256i *)(void *)p, low);
        _mm256_stream_si256((__m256i *)(void *)(p + 4), high);
    } else {
        store(p, low);
        store(p + 4, high);
    }
}

static inline void line_clear(uint64_t *p, int stream)
{
    put(p, _mm256_setzero_si256(), _mm256_setzero_si256(), stream);
}

static inline void line_copy(uint64_t *out, const uint64_t *in, int stream)
{
    put(out, load(in), load(in + 4), stream);
}

static inline void stores_done(void)
{
    _mm_sfence();
}

static inline void line_starts(const uint64_t *cur, uint64_t before, vec *starts)
{
    __m256i c0 = load(cur), c1 = load(cur + 4);
    /* The word in front of each word, whose top bit continues a run. */
    __m256i first = _mm256_castsi128_si256(_mm_cvtsi64_si128((long long)before));
    __m256i b0 = _mm256_blend_epi32(_mm256_permute4x64_epi64(c0, 0x90), first, 3);
    __m256i b1 = load(cur + 3);
    __m256i s0 = _mm256_or_si256(_mm256_slli_epi64(c0, 1), _mm256_srli_epi64(b0, 63));
    __m256i s1 = _mm256_or_si256(_mm256_slli_epi64(c1, 1), _mm256_srli_epi64(b1, 63));
    starts[0] = (vec)_mm256_andnot_si256(s0, c0);
    starts[1] = (vec)_mm256_andnot_si256(s1, c1);
}

static inline uint64_t line_fuse(const uint64_t *cur, const uint64_t *prev, uint64_t *next,
                                 uint64_t *ever, uint64_t before, int stream)
{
    __m256i c0 = load(cur), c1 = load(cur + 4), e0 = load(ever), e1 = load(ever + 4);
    __m256i r0 = _mm256_and_si256(c0, load(prev)), r1 = _mm256_and_si256(c1, load(prev + 4));
    __m256i f0 = _mm256_andnot_si256(e0, c0), f1 = _mm256_andnot_si256(e1, c1);
    __m256i any = _mm256_or_si256(f0, f1);
    vec starts[2];

    line_starts(cur, before, starts);
    put(next, c0, c1, stream);
    __m256i redirtied = lane_counts(r0, r1);
    __m256i runs = lane_counts((__m256i)starts[0], (__m256i)starts[1]);
    __m256i sum = _mm256_or_si256(_mm256_slli_epi64(redirtied, 16), _mm256_slli_epi64(runs, 48));
    if (!_mm256_testz_si256(any, any)) {
        store(ever, _mm256_or_si256(e0, c0));
        store(ever + 4, _mm256_or_si256(e1, c1));
        sum = _mm256_or_si256(sum, _mm256_slli_epi64(lane_counts(f0, f1), 32));
    }
    return words_count(cur) + lane_sum(sum);
}

/* Few of a word's pages one by one; many by a table of what is set in half a byte. */
#define HAVE_WORD_PAGES
static inline uint64_t word_pages(uint64_t word, int64_t page, int64_t *out)
{
    static const uint32_t places[16] = {
        0x00, 0x00,   0x01,   0x0100,   0x02,   0x0200,   0x0201,   0x020100,
        0x03, 0x0300, 0x0301, 0x030100, 0x0302, 0x030200, 0x030201, 0x03020100};
    uint32_t n = word_count(word);
    if (n <= 8) {
        for (uint32_t i = 0; i < n; i += 4) { /* without a branch: what is too many is overwritten */
            for (uint32_t k = 0; k < 4; k++) {
                out[i + k] = page + (int64_t)_tzcnt_u64(word);
                word = _blsr_u64(word);
            }
        }
        return n;
    }
    __m256i from = _mm256_set1_epi64x(page);
    for (unsigned i = 0; i < 16; i++, word >>= 4) {
        __m128i four = _mm_cvtsi32_si128((int)places[word & 15]);
        __m256i numbers = _mm256_add_epi64(from, _mm256_cvtepu8_epi64(four));
        _mm256_storeu_si256((__m256i *)(void *)out, numbers);
        from = _mm256_add_epi64(from, _mm256_set1_epi64x(4));
        out += word_count(word & 15);
    }
    return n;
}

#define HAVE_BOOK_BLOCK
#include "book.inc.h"

#define KERNEL_SYMBOL mpat_kernel_avx2
#define KERNEL_NAME "avx2"
#define KERNEL_SUPPORTED supported
#include "loops.inc.h"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#else
typedef int mpat_avx2_is_for_x86; /* ISO C wants something in a file */
#endif
