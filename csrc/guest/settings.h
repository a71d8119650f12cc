/* SPDX-License-Identifier: Apache-2.0 */
/* The command line, read and printed: csrc/guest/README.md lists its keys. */
#ifndef MPAT_GUEST_SETTINGS_H
#define MPAT_GUEST_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "patterns.h"
#include "pc.h"

#define PAGE_SHIFT 12
#define FIRST_FREE_ADDRESS 0x200000 /* below it lies the guest itself */

enum kind { IDLE, SWEEP, HOTSET, UNIFORM, ZIPF, STRIDE, GROW, PHASED, N_KINDS };

static const char *const kind_names[N_KINDS] = {"idle", "sweep",  "hotset", "uniform",
                                                "zipf", "stride", "grow",   "phased"};

/* The command line, read. */
struct settings {
    uint32_t kind, a, b; /* enum kind */
    uint32_t pages, start, seed, rate, stride, hot, phase, steps, tsc_khz;
};

static bool same(const char *name, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!name[i] || name[i] != text[i])
            return false;
    return !name[n];
}

static uint32_t digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0');
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10) : 16;
}

static uint32_t suffix_shift(char c)
{
    switch (c) {
    case 'K': case 'k': return 10;
    case 'M': case 'm': return 20;
    case 'G': case 'g': return 30;
    default: return 0;
    }
}

/* A decimal or 0x number, perhaps with a suffix, that fits 32 bits. */
static bool read_number(const char *text, size_t n, uint32_t *out)
{
    uint32_t base = 10, value = 0, shift = 0;
    size_t i = 0;

    if (n > 2 && text[0] == '0' && (text[1] | 0x20) == 'x') {
        base = 16;
        i = 2;
    }
    if (n && (shift = suffix_shift(text[n - 1])))
        n--;
    if (i >= n)
        return false;
    for (; i < n; i++) {
        uint32_t digit = digit_of(text[i]);
        uint64_t more = (uint64_t)value * base + digit;
        if (digit >= base || more > UINT32_MAX)
            return false;
        value = (uint32_t)more;
    }
    if (((uint64_t)value << shift) > UINT32_MAX)
        return false;
    *out = value << shift;
    return true;
}

static bool read_kind(const char *text, size_t n, uint32_t *out)
{
    for (uint32_t kind = 0; kind < N_KINDS; kind++)
        if (same(kind_names[kind], text, n)) {
            *out = kind;
            return true;
        }
    return false;
}

/* One key: where its value goes, and what values it takes. */
struct key {
    const char *name;
    uint32_t least, most;
    uint16_t offset; /* in struct settings */
    bool is_kind;
};

#define NUMBER(field, least, most) {#field, least, most, offsetof(struct settings, field), false}
#define KIND(name, field, most) {name, 0, most, offsetof(struct settings, field), true}

static const struct key keys[] = {
    KIND("pattern", kind, PHASED),
    KIND("a", a, PHASED - 1),
    KIND("b", b, PHASED - 1),
    NUMBER(pages, 1, MAX_PAGES),
    NUMBER(start, FIRST_FREE_ADDRESS, UINT32_MAX),
    NUMBER(seed, 0, UINT32_MAX),
    NUMBER(rate, 0, UINT32_MAX),
    NUMBER(stride, 1, MAX_PAGES),
    NUMBER(hot, 1, MAX_PAGES),
    NUMBER(phase, 1, UINT32_MAX),
    NUMBER(steps, 0, UINT32_MAX),
    NUMBER(tsc_khz, 1, UINT32_MAX),
};

static void read_word(struct settings *s, const char *word, size_t n, size_t key_length)
{
    const char *value = word + key_length + 1;
    size_t value_length = n - key_length - 1;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const struct key *key = &keys[i];
        uint32_t *field = (uint32_t *)(void *)((char *)s + key->offset);
        bool ok;

        if (!same(key->name, word, key_length))
            continue;
        ok = key->is_kind ? read_kind(value, value_length, field)
                          : read_number(value, value_length, field);
        if (!ok || *field < key->least || *field > key->most)
            fail("unusable value: ", word, n);
        return;
    }
    fail("unknown key: ", word, n);
}

static bool is_key_char(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_';
}

/* Every word of the form key=value; others, such as the file name QEMU puts first, say nothing. */
static void read_words(struct settings *s, const char *text)
{
    while (*text) {
        size_t n = 0, key_length = 0;

        while (*text == ' ')
            text++;
        while (text[n] && text[n] != ' ')
            n++;
        while (key_length < n && is_key_char(text[key_length]))
            key_length++;
        if (key_length && key_length < n && text[key_length] == '=')
            read_word(s, text, n, key_length);
        text += n;
    }
}

static void refuse(const char *why)
{
    fail(why, NULL, 0);
}

static struct settings read_cmdline(const char *text)
{
    struct settings s = {.kind = IDLE, .a = N_KINDS, .b = N_KINDS, .pages = 1024,
                         .start = 16u << 20, .stride = 16};

    read_words(&s, text);
    if (s.start & ((1u << PAGE_SHIFT) - 1))
        refuse("start= must be a multiple of 4096");
    if (s.start + ((uint64_t)s.pages << PAGE_SHIFT) > (uint64_t)1 << 32)
        refuse("start= and pages= reach past 4 GiB");
    if (!s.hot)
        s.hot = s.pages < 8 ? 1 : s.pages / 8;
    if (s.hot > s.pages)
        refuse("hot= is more than pages=");
    if (s.kind == PHASED && (s.a == N_KINDS || s.b == N_KINDS || !s.phase))
        refuse("pattern=phased needs a=, b= and phase=");
    return s;
}

static bool has_kind(const struct settings *s, uint32_t kind)
{
    return s->kind == kind || s->a == kind || s->b == kind;
}

static void print_settings(const struct settings *s)
{
    print("mempattern-guest pattern=");
    print(kind_names[s->kind]);
    print_setting(" pages=", s->pages);
    print(" start=");
    print_hex(s->start);
    print_setting(" seed=", s->seed);
    print_setting(" rate=", s->rate);
    if (has_kind(s, STRIDE) || has_kind(s, GROW))
        print_setting(" stride=", s->stride);
    if (has_kind(s, HOTSET) || has_kind(s, GROW))
        print_setting(" hot=", s->hot);
    if (s->kind == PHASED) {
        print(" a=");
        print(kind_names[s->a]);
        print(" b=");
        print(kind_names[s->b]);
        print_setting(" phase=", s->phase);
    }
    if (s->steps)
        print_setting(" steps=", s->steps);
    if (s->rate)
        print_setting(" tsc_khz=", s->tsc_khz);
    print("\n");
}

#endif
