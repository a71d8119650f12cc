/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests only (-DMPAT_SIMDE): the AVX-512 and NEON intrinsics on a CPU that has neither, by
 * SIMDe, so that the logic of those kernels runs everywhere the tests do.
 */
#ifndef MPAT_SIMDE_SHIM_H
#define MPAT_SIMDE_SHIM_H

#define SIMDE_ENABLE_NATIVE_ALIASES
/* The warnings of SIMDe's own code; vectors wider than the baseline are never passed on. */
#pragma GCC diagnostic ignored "-Wpsabi"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <simde/arm/neon.h>
#include <simde/x86/avx512.h>
#pragma GCC diagnostic pop

/* What SIMDe 0.7.4 lacks. */
#ifndef _mm512_reduce_add_epi64
static inline long long mpat_reduce_add_epi64(simde__m512i v)
{
    long long lanes[8], sum = 0;
    simde_mm512_storeu_si512(lanes, v);
    for (int i = 0; i < 8; i++)
        sum += lanes[i];
    return sum;
}
#define _mm512_reduce_add_epi64(v) mpat_reduce_add_epi64(v)
#endif

#ifndef _mm512_alignr_epi64
/* Words count to count + 7 of low followed by high. */
static inline simde__m512i mpat_alignr_epi64(simde__m512i high, simde__m512i low, int count)
{
    long long lanes[16];
    simde_mm512_storeu_si512(lanes, low);
    simde_mm512_storeu_si512(lanes + 8, high);
    return simde_mm512_loadu_si512(lanes + count);
}
#define _mm512_alignr_epi64(high, low, count) mpat_alignr_epi64(high, low, count)
#endif

#ifndef _mm512_shldi_epi64
#define _mm512_shldi_epi64(high, low, n)                                                           \
    _mm512_or_si512(_mm512_slli_epi64(high, n), _mm512_srli_epi64(low, 64 - (n)))
#endif

#ifndef _mm512_maskz_compress_epi8
static inline simde__m512i mpat_compress_epi8(uint64_t mask, simde__m512i v)
{
    uint8_t lanes[64], out[64] = {0};
    simde_mm512_storeu_si512(lanes, v);
    for (int i = 0, n = 0; i < 64; i++) {
        if (mask >> i & 1)
            out[n++] = lanes[i];
    }
    return simde_mm512_loadu_si512(out);
}
#define _mm512_maskz_compress_epi8(mask, v) mpat_compress_epi8(mask, v)
#endif

#ifndef _mm_maskz_compress_epi16
static inline simde__m128i mpat_compress_epi16(unsigned mask, simde__m128i v)
{
    uint16_t lanes[8], out[8] = {0};
    simde_mm_storeu_si128(lanes, v);
    for (int i = 0, n = 0; i < 8; i++) {
        if (mask >> i & 1)
            out[n++] = lanes[i];
    }
    return simde_mm_loadu_si128(out);
}
#define _mm_maskz_compress_epi16(mask, v) mpat_compress_epi16(mask, v)
#endif

#ifndef _mm512_cvtepu8_epi64
static inline simde__m512i mpat_cvtepu8_epi64(simde__m128i v)
{
    uint8_t lanes[16];
    uint64_t out[8];
    simde_mm_storeu_si128(lanes, v);
    for (int i = 0; i < 8; i++)
        out[i] = lanes[i];
    return simde_mm512_loadu_si512(out);
}
#define _mm512_cvtepu8_epi64(v) mpat_cvtepu8_epi64(v)
#endif

#ifndef _mm512_stream_si512
#define _mm512_stream_si512(p, v) simde_mm512_store_si512(p, v)
#endif

#endif
