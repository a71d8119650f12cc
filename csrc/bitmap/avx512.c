/* SPDX-License-Identifier: Apache-2.0 */
/* AVX-512 with VPOPCNTDQ and VBMI2 (Ice Lake, Zen 4 and later): a line is one register. */
#include "kernels.h"

#if defined(__x86_64__) || defined(MPAT_SIMDE)

#ifdef MPAT_SIMDE
#include "simde_shim.h"

static int supported(void)
{
    return 1;
}
#else
static int supported(void)
{
    /* Each reads XCR0 as well (libgcc, compiler-rt): an OS that does not save ZMM says no. */
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vbmi2") &&
           __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi");
}

#ifdef __clang__
#include <immintrin.h>
#pragma clang attribute push(                                                                      \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2,avx512vpopcntdq,popcnt," \
                          "bmi"))),                                                                \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2,avx512vpopcntdq,popcnt,bmi")
#include <immintrin.h>
#endif
#endif

typedef uint64_t vec __attribute__((vector_size(64), aligned(8), may_alias));

static inline __m512i load(const uint64_t *p)
{
    return _mm512_loadu_si512((const void *)p);
}

/*
 * The next line, with the compiler kept from reordering: the hardware prefetches for ascending
 * reads, and any other order of a few lines was measured to cost a sixth from memory.
 */
static inline __m512i load_next(const uint64_t **p)
{
    __m512i v = load(*p);
    *p += MPAT_LINE_WORDS;
    __asm__ volatile("" ::: "memory");
    return v;
}

static inline uint32_t word_count(uint64_t w)
{
    return (uint32_t)__builtin_popcountll(w);
}

static inline vec line_lanes(const vec *line)
{
    return (vec)_mm512_popcnt_epi64((__m512i)line[0]);
}

static inline int vec_any(vec v)
{
    return _mm512_test_epi64_mask((__m512i)v, (__m512i)v) != 0;
}

static inline int line_any(const uint64_t *p)
{
    __m512i v = load(p);
    return _mm512_test_epi64_mask(v, v) != 0;
}

static inline uint64_t block_any(const uint64_t *p)
{
    uint64_t active = 0;
    for (unsigned i = 0; i < MPAT_BLOCK_LINES; i += 8) {
        /* Mostly clean memory is the common case: one test for eight lines first. */
        const uint64_t *line = p + i * MPAT_LINE_WORDS, *next = line;
        __m512i any = load_next(&next);
        for (unsigned k = 1; k < 8; k++)
            any = _mm512_or_si512(any, load_next(&next));
        if (_mm512_test_epi64_mask(any, any) == 0)
            continue;
        for (unsigned k = 0; k < 8; k++)
            active |= (uint64_t)line_any(line + k * MPAT_LINE_WORDS) << (i + k);
    }
    return active;
}

static inline uint32_t line_count(const uint64_t *p)
{
    return (uint32_t)_mm512_reduce_add_epi64(_mm512_popcnt_epi64(load(p)));
}

/* Four lines with one reduction: word counts are at most 64, and of a line at most 512. */
static inline void four_lines_count(const uint64_t *p, uint32_t *out)
{
    __m512i a = _mm512_popcnt_epi64(load_next(&p)), b = _mm512_popcnt_epi64(load_next(&p));
    __m512i c = _mm512_popcnt_epi64(load_next(&p)), d = _mm512_popcnt_epi64(load_next(&p));
    __m512i low = _mm512_or_si512(a, _mm512_slli_epi64(b, 16));
    __m512i high = _mm512_or_si512(c, _mm512_slli_epi64(d, 16));
    __m512i all = _mm512_or_si512(low, _mm512_slli_epi64(high, 32));
    __m128i counts = _mm_cvtsi64_si128(_mm512_reduce_add_epi64(all));
    _mm_storeu_si128((__m128i *)(void *)out, _mm_cvtepu16_epi32(counts));
}

static inline void lines_count(const uint64_t *p, uint64_t n, uint32_t *out)
{
    for (; n >= 4; n -= 4, p += 4 * MPAT_LINE_WORDS, out += 4)
        four_lines_count(p, out);
    for (; n; n--, p += MPAT_LINE_WORDS)
        *out++ = line_count(p);
}

static inline void put(uint64_t *p, __m512i v, int stream)
{
    if (stream)
        _mm512_stream_si512((void *)p, v);
    else
        _mm512_store_si512((void *)p, v);
}

static inline void line_clear(uint64_t *p, int stream)
{
    put(p, _mm512_setzero_si512(), stream);
}

static inline void line_copy(uint64_t *out, const uint64_t *in, int stream)
{
    put(out, load(in), stream);
}

static inline void stores_done(void)
{
    _mm_sfence();
}

static inline void line_starts(const uint64_t *cur, uint64_t before, vec *starts)
{
    /* The word in front of each word, whose top bit continues a run. */
    __m512i c = load(cur), b = _mm512_alignr_epi64(c, _mm512_set1_epi64((long long)before), 7);
    *starts = (vec)_mm512_andnot_si512(_mm512_shldi_epi64(c, b, 1), c);
}

static inline uint64_t line_fuse(const uint64_t *cur, const uint64_t *prev, uint64_t *next,
                                 uint64_t *ever, uint64_t before, int stream)
{
    __m512i c = load(cur), e = load(ever), r = _mm512_and_si512(c, load(prev));
    __m512i f = _mm512_andnot_si512(e, c);
    vec starts;

    line_starts(cur, before, &starts);
    put(next, c, stream);
    if (_mm512_test_epi64_mask(f, f))
        _mm512_store_si512((void *)ever, _mm512_or_si512(e, c));
    /* Lane counts are at most 64: four of them share a lane, and one reduction sums them all. */
    __m512i dirty = _mm512_popcnt_epi64(c), redirtied = _mm512_popcnt_epi64(r);
    __m512i fresh = _mm512_popcnt_epi64(f);
    __m512i runs = _mm512_popcnt_epi64((__m512i)starts);
    __m512i low = _mm512_or_si512(dirty, _mm512_slli_epi64(redirtied, 16));
    __m512i high = _mm512_or_si512(fresh, _mm512_slli_epi64(runs, 16));
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_or_si512(low, _mm512_slli_epi64(high, 32)));
}

/* All 64 places are squeezed to those that are set, and made into numbers eight at a time. */
#define HAVE_WORD_PAGES
static inline uint64_t word_pages(uint64_t word, int64_t page, int64_t *out)
{
    static const uint8_t places[64] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    __m512i from = _mm512_set1_epi64(page);
    __m512i set = _mm512_maskz_compress_epi8(word, _mm512_loadu_si512(places));
    uint32_t n = word_count(word);
    __m512i eight = _mm512_cvtepu8_epi64(_mm512_castsi512_si128(set));
    _mm512_storeu_si512(out, _mm512_add_epi64(from, eight));
    if (n > 8) {
        uint8_t rest[64];
        _mm512_storeu_si512(rest, set);
        for (uint32_t i = 8; i < n; i += 8) {
            eight = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)(const void *)(rest + i)));
            _mm512_storeu_si512(out + i, _mm512_add_epi64(from, eight));
        }
    }
    return n;
}

#define HAVE_LINE_WORDS
static inline uint64_t line_words(const uint64_t *line, uint16_t first, uint16_t *at)
{
    __m512i v = load(line);
    uint8_t any = _mm512_test_epi64_mask(v, v);
    __m128i numbers = _mm_add_epi16(_mm_set1_epi16((short)first),
                                    _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7));
    _mm_storeu_si128((__m128i *)(void *)at, _mm_maskz_compress_epi16(any, numbers));
    return word_count(any);
}

#define HAVE_BOOK_BLOCK
#include "book.inc.h"

#define KERNEL_SYMBOL mpat_kernel_avx512
#define KERNEL_NAME "avx512"
#define KERNEL_SUPPORTED supported
#include "loops.inc.h"
#ifndef MPAT_SIMDE
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#else
typedef int mpat_avx512_is_for_x86; /* ISO C wants something in a file */
#endif
