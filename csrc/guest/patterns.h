/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page patterns: each *_next() gives the page of the next step (idle has none). Integer
 * arithmetic only, defined bit for bit in csrc/guest/README.md and repeated in csrc/guest/model.py:
 * change all three together.
 */
#ifndef MPAT_GUEST_PATTERNS_H
#define MPAT_GUEST_PATTERNS_H

#include <stdint.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define MAX_PAGES (1u << 20) /* what 32 bits of address can hold */

/* One pattern and where it stands. A plain value: the run loop keeps it in registers. */
struct pattern {
    uint32_t n_pages;
    uint32_t random;    /* xorshift32 state, never 0 */
    uint32_t position;  /* sweep, stride, grow: the next page */
    uint32_t lane;      /* stride: the page this lane began with */
    uint32_t stride;    /* stride: pages from one to the next; grow: from lap to lap */
    uint32_t n_lanes;   /* stride: lanes until every page was visited */
    uint32_t lap_pages; /* grow: pages of this lap */
    uint32_t hot_first; /* hotset: the hot block */
    uint32_t hot_pages;
    uint32_t log_range; /* zipf: log2(n_pages + 1) in units of 2^-27, as exp2_fixed() inverts it */
    uint32_t offset;    /* zipf: the page of rank 0 */
};

ALWAYS_INLINE uint32_t multiply_high(uint32_t a, uint32_t b)
{
    return (uint32_t)(((uint64_t)a * b) >> 32);
}

/* (a * b + c) mod m, for a < m and c < m, so that the quotient fits the instruction. */
ALWAYS_INLINE uint32_t multiply_add_mod(uint32_t a, uint32_t b, uint32_t c, uint32_t m)
{
    uint64_t value = (uint64_t)a * b + c;
    uint32_t quotient, remainder;

    __asm__("divl %4"
            : "=a"(quotient), "=d"(remainder)
            : "0"((uint32_t)value), "1"((uint32_t)(value >> 32)), "rm"(m)
            : "cc");
    return remainder;
}

/* The finalizer of MurmurHash3: near seeds give unrelated values. */
ALWAYS_INLINE uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x85ebca6b;
    x ^= x >> 13;
    x *= 0xc2b2ae35;
    return x ^ (x >> 16);
}

/* Marsaglia's xorshift32: every 32-bit value but 0, in a cycle. */
ALWAYS_INLINE uint32_t next_random(struct pattern *p)
{
    uint32_t x = p->random;

    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    p->random = x;
    return x;
}

/* round(2^(30 + i/64)) */
static const uint32_t exp2_table[65] = {
    0x40000000, 0x40b268fa, 0x4166c34c, 0x421d1462, 0x42d561b4, 0x438fb0cb,
    0x444c0740, 0x450a6abb, 0x45cae0f2, 0x468d6fae, 0x47521cc6, 0x4818ee22,
    0x48e1e9ba, 0x49ad1598, 0x4a7a77d4, 0x4b4a169c, 0x4c1bf829, 0x4cf022ca,
    0x4dc69cdd, 0x4e9f6cd4, 0x4f7a9930, 0x50582888, 0x51382182, 0x521a8ad7,
    0x52ff6b55, 0x53e6c9da, 0x54d0ad5a, 0x55bd1cdb, 0x56ac1f75, 0x579dbc57,
    0x5891fac1, 0x5988e209, 0x5a82799a, 0x5b7ec8f2, 0x5c7dd7a4, 0x5d7fad59,
    0x5e8451d0, 0x5f8bccdb, 0x60962665, 0x61a3666d, 0x62b39509, 0x63c6ba64,
    0x64dcdec3, 0x65f60a7f, 0x6712460b, 0x683199ed, 0x69540ec9, 0x6a79ad56,
    0x6ba27e65, 0x6cce8ae1, 0x6dfddbcc, 0x6f307a41, 0x70666f76, 0x719fc4b9,
    0x72dc8374, 0x741cb528, 0x75606374, 0x76a7980f, 0x77f25cce, 0x7940bb9e,
    0x7a92be8b, 0x7be86fba, 0x7d41d96e, 0x7e9f0606, 0x80000000,
};

/*
 * floor(2^e) for e in units of 2^-27, below 22: the table's chords. They lie above the curve by
 * less than 2^-16 of the value, and the function never falls.
 */
ALWAYS_INLINE uint32_t exp2_fixed(uint32_t e)
{
    uint32_t i = (e >> 21) & 63;
    uint32_t rise = multiply_high(exp2_table[i + 1] - exp2_table[i], e << 11);

    return (exp2_table[i] + rise) >> (30 - (e >> 27));
}

/* The smallest e for which exp2_fixed(e) reaches `value`, so that all below give less. */
static uint32_t log2_fixed(uint32_t value)
{
    uint32_t low = 0, high = 21u << 27;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (exp2_fixed(middle) >= value)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

ALWAYS_INLINE uint32_t sweep_next(struct pattern *p)
{
    uint32_t page = p->position;

    p->position = page + 1 == p->n_pages ? 0 : page + 1;
    return page;
}

ALWAYS_INLINE uint32_t stride_next(struct pattern *p)
{
    uint32_t page = p->position;

    p->position = page + p->stride;
    if (p->position >= p->n_pages) {
        p->lane = p->lane + 1 == p->n_lanes ? 0 : p->lane + 1;
        p->position = p->lane;
    }
    return page;
}

/* A sweep whose every lap is longer than the one before, up to all pages. */
ALWAYS_INLINE uint32_t grow_next(struct pattern *p)
{
    uint32_t page = p->position;

    p->position = page + 1;
    if (p->position == p->lap_pages) {
        uint32_t more = p->lap_pages + p->stride;
        p->lap_pages = more < p->n_pages ? more : p->n_pages;
        p->position = 0;
    }
    return page;
}

/* One random number decides both: its top 3 bits hot or not, the other 29 the page. */
ALWAYS_INLINE uint32_t hotset_next(struct pattern *p)
{
    uint32_t x = next_random(p);

    if (x >> 29)
        return p->hot_first + multiply_high(x << 3, p->hot_pages);
    return multiply_high(x << 3, p->n_pages);
}

ALWAYS_INLINE uint32_t uniform_next(struct pattern *p)
{
    return multiply_high(next_random(p), p->n_pages);
}

/* A prime above MAX_PAGES, so that it shares no factor with the number of pages. */
#define SCATTER 2654435761u

ALWAYS_INLINE uint32_t zipf_next(struct pattern *p)
{
    uint32_t rank = exp2_fixed(multiply_high(next_random(p), p->log_range)) - 1;

    return multiply_add_mod(rank, SCATTER, p->offset, p->n_pages);
}

/* `stream` keeps the two patterns of a phased one apart: 0 for a, 1 for b. */
static struct pattern make_pattern(uint32_t n_pages, uint32_t stride, uint32_t hot_pages,
                                   uint32_t seed, uint32_t stream)
{
    uint32_t key = mix(seed + stream * 0x9e3779b9);
    uint32_t place = mix(key + 1);

    return (struct pattern){
        .n_pages = n_pages,
        .random = key ? key : 0x9e3779b9,
        .stride = stride,
        .n_lanes = stride < n_pages ? stride : n_pages,
        .lap_pages = hot_pages,
        .hot_pages = hot_pages,
        .hot_first = multiply_high(place, n_pages - hot_pages + 1),
        .log_range = log2_fixed(n_pages + 1),
        .offset = multiply_high(place, n_pages),
    };
}

#endif
