/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the memory of this machine allows, for the benches to compare with. Built with
 * -O3 -march=native: these loops are meant to be as fast as plain C gets.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint64_t wide __attribute__((vector_size(32), aligned(8), may_alias));

/* Read every word once. Independent sums keep loads from waiting for additions. */
uint64_t limit_read(const uint64_t *words, size_t n)
{
    const wide *p = (const wide *)(const void *)words;
    wide a = {0}, b = a, c = a, d = a;
    size_t i = 0, n_wide = n / 4;
    for (; i + 8 <= n_wide; i += 8) {
        a += p[i] ^ p[i + 4];
        b += p[i + 1] ^ p[i + 5];
        c += p[i + 2] ^ p[i + 6];
        d += p[i + 3] ^ p[i + 7];
    }
    a += b + c + d;
    uint64_t sum = a[0] + a[1] + a[2] + a[3];
    for (i *= 4; i < n; i++)
        sum += words[i];
    return sum;
}

/*
 * Move the bytes of one update without a history, in which every group is dirty and no page fresh:
 * read cur and ever, read and write the one bitmap that is kept and the group arrays, as below.
 */
void limit_update(const uint64_t *cur, uint64_t *last, const uint64_t *ever, uint64_t *groups,
                  size_t n)
{
    enum { BLOCK = 512, GROUP_WORDS = BLOCK / 8 * 44 / 8 };
    for (size_t at = 0; at + BLOCK <= n; at += BLOCK, groups += GROUP_WORDS) {
        const wide *c = (const wide *)(const void *)(cur + at);
        const wide *e = (const wide *)(const void *)(ever + at);
        wide *l = (wide *)(void *)(last + at), *g = (wide *)(void *)groups, all = {0};
#pragma GCC ivdep
        for (size_t i = 0; i < BLOCK / 4; i++) {
            all ^= l[i] ^ e[i];
            l[i] = c[i];
        }
#pragma GCC ivdep
        for (size_t i = 0; i < GROUP_WORDS / 4; i++)
            g[i] += all;
    }
}

/*
 * Move the bytes of one fused update with groups of 8 words in which every group is dirty and has
 * fresh pages: read cur, prev and ever, write next and ever, read and write the group arrays
 * (44 bytes a group: seven of 4 bytes, two of 8), here one array, in step with the bitmaps.
 * n is a multiple of 512 words; groups holds n / 8 * 44 bytes.
 */
void limit_move(const uint64_t *cur, const uint64_t *prev, uint64_t *next, uint64_t *ever,
                uint64_t *groups, size_t n)
{
    enum { BLOCK = 512, GROUP_WORDS = BLOCK / 8 * 44 / 8 };
    for (size_t at = 0; at + BLOCK <= n; at += BLOCK, groups += GROUP_WORDS) {
        const wide *c = (const wide *)(const void *)(cur + at);
        const wide *p = (const wide *)(const void *)(prev + at);
        wide *x = (wide *)(void *)(next + at), *e = (wide *)(void *)(ever + at);
        wide *g = (wide *)(void *)groups, both = {0};
#pragma GCC ivdep
        for (size_t i = 0; i < BLOCK / 4; i++) {
            both ^= p[i];
            e[i] |= c[i];
            x[i] = c[i];
        }
#pragma GCC ivdep
        for (size_t i = 0; i < GROUP_WORDS / 4; i++)
            g[i] += both;
    }
}
