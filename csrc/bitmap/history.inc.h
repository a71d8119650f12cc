/* SPDX-License-Identifier: Apache-2.0 */
/* The part of loops.inc.h that appends to a history and counts in it. */

static void append(const struct mpat_input *in, const struct mpat_slot *slot)
{
    uint64_t n_lines = mpat_lines(in->n_words);

    for (uint64_t first = 0; first < n_lines; first += BLOCK) {
        struct block b;
        block_look(in, first, &b);
        uint64_t *words = slot->words + first * LINE, *lines = slot->lines + first / BLOCK;
        FOR_BITS(i, b.active)
            memcpy(words + i * LINE, block_line(in, &b, i), LINE * sizeof(uint64_t));
        FOR_BITS(i, *lines & ~b.active)
            line_clear(words + i * LINE, 0);
        *lines = b.active;
    }
}

/* Columns counted at once: 8 planes of them stay in the first-level cache. */
#define HOT_LINES 16u
#define HOT_WORDS (HOT_LINES * LINE)
#define HOT_VECS (HOT_WORDS * sizeof(uint64_t) / sizeof(vec))

/* sum += a + b, bit by bit; the carry. A macro, as vectors have no stable ABI as arguments. */
#define FULL_ADD(carry, sum, a, b)                                                                 \
    do {                                                                                           \
        vec half_ = (sum) ^ (a);                                                                   \
        (carry) = ((sum) & (a)) | (half_ & (b));                                                   \
        (sum) = half_ ^ (b);                                                                       \
    } while (0)

#define VEC_AT(s, v) (((const vec *)(const void *)slots[s])[v])

/* Add carry * 2^from to the counters of column v. */
#define RIPPLE(carry, from, top, v)                                                                \
    for (int i_ = (from); i_ < (top); i_++) {                                                      \
        vec plane_ = planes[i_][v];                                                                \
        planes[i_][v] = plane_ ^ (carry);                                                          \
        (carry) &= plane_;                                                                         \
    }

/*
 * Vertical counters: bit j of plane[i] is bit i of the number of slots that have bit j. Eight slots
 * are added at a time by a tree of full adders, the rest one by one.
 */
static void hot_count(vec planes[8][HOT_VECS], size_t n_vecs, const uint64_t *const *slots,
                      uint32_t n)
{
    uint32_t s = 0;
    for (; s + 8 <= n; s += 8) {
        int top = 32 - __builtin_clz(s + 8);
        for (size_t v = 0; v < n_vecs; v++) {
            vec ones = planes[0][v], twos = planes[1][v], fours = planes[2][v];
            vec two_a, two_b, four_a, four_b, eight;
            FULL_ADD(two_a, ones, VEC_AT(s, v), VEC_AT(s + 1, v));
            FULL_ADD(two_b, ones, VEC_AT(s + 2, v), VEC_AT(s + 3, v));
            FULL_ADD(four_a, twos, two_a, two_b);
            FULL_ADD(two_a, ones, VEC_AT(s + 4, v), VEC_AT(s + 5, v));
            FULL_ADD(two_b, ones, VEC_AT(s + 6, v), VEC_AT(s + 7, v));
            FULL_ADD(four_b, twos, two_a, two_b);
            FULL_ADD(eight, fours, four_a, four_b);
            planes[0][v] = ones;
            planes[1][v] = twos;
            planes[2][v] = fours;
            RIPPLE(eight, 3, top, v)
        }
    }
    for (; s < n; s++) {
        int top = 32 - __builtin_clz(s + 1);
        for (size_t v = 0; v < n_vecs; v++) {
            vec carry = VEC_AT(s, v);
            RIPPLE(carry, 0, top, v)
        }
    }
}

static void hot(const struct mpat_history_view *history, uint32_t at_least, uint64_t *out)
{
    vec planes[8][HOT_VECS];
    const uint64_t *slots[256];

    for (uint64_t word = 0; word < history->n_words; word += HOT_WORDS) {
        uint64_t line = word / LINE, left = history->n_words - word;
        size_t n_words = left < HOT_WORDS ? left : HOT_WORDS, bytes = n_words * sizeof(uint64_t);
        /* Slots have whole lines, not whole columns: do not read past the last line. */
        size_t n_vecs = mpat_lines(n_words) * LINE * sizeof(uint64_t) / sizeof(vec);
        uint32_t n = 0;
        for (uint32_t s = 0; s < history->n_slots; s++) {
            uint64_t lines = history->lines[s * history->lines_stride + line / BLOCK];
            if (lines >> line % BLOCK & ((1u << HOT_LINES) - 1))
                slots[n++] = history->words + s * history->words_stride + word;
        }
        if (n < at_least) {
            memset(out + word, 0, bytes);
            continue;
        }
        uint32_t n_planes = 32 - (uint32_t)__builtin_clz(n);
        memset(planes, 0, n_planes * sizeof(planes[0]));
        hot_count(planes, n_vecs, slots, n);
        for (size_t v = 0; v < n_vecs; v++) {
            vec more = planes[0][v] ^ planes[0][v], same = ~more;
            for (uint32_t i = n_planes; i-- > 0;) {
                vec plane = planes[i][v];
                if (at_least >> i & 1) {
                    same &= plane;
                } else {
                    more |= same & plane;
                    same &= ~plane;
                }
            }
            planes[0][v] = more | same;
        }
        memcpy(out + word, planes[0], bytes);
    }
}
