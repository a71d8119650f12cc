/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest needs of a PC: ports, the time-stamp counter, the serial port; and how it ends. */
#ifndef MPAT_GUEST_PC_H
#define MPAT_GUEST_PC_H

#include <stddef.h>
#include <stdint.h>

#include "ports.h"

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint32_t in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline uint64_t read_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* 64 by 32 bits without libgcc: long division, two digits of 32 bits. */
static uint64_t divide(uint64_t value, uint32_t by)
{
    uint32_t high = (uint32_t)(value >> 32), low = (uint32_t)value;
    uint32_t quotient_high = high / by, quotient_low, rest = high % by;

    __asm__("divl %4" : "=a"(quotient_low), "=d"(rest) : "0"(low), "1"(rest), "rm"(by) : "cc");
    return (uint64_t)quotient_high << 32 | quotient_low;
}

_Noreturn static void end(uint32_t how)
{
    out32(MPAT_PORT_END, how);
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void print_char(char c)
{
    while (!(in8(0x3f8 + 5) & 0x20)) /* line status: transmitter empty */
        __asm__ volatile("pause");
    out8(0x3f8, (uint8_t)c);
}

static void print_chars(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        print_char(text[i]);
}

static void print(const char *text)
{
    while (*text)
        print_char(*text++);
}

static void print_number(uint32_t value)
{
    char digits[10];
    size_t n = sizeof digits;

    do
        digits[--n] = (char)('0' + value % 10);
    while (value /= 10);
    print_chars(digits + n, sizeof digits - n);
}

static void print_hex(uint32_t value)
{
    print("0x");
    for (int shift = 28; shift >= 0; shift -= 4)
        print_char("0123456789abcdef"[(value >> shift) & 15]);
}

static void print_setting(const char *name, uint32_t value)
{
    print(name);
    print_number(value);
}

_Noreturn static void fail(const char *why, const char *word, size_t n)
{
    print("mempattern-guest: error: ");
    print(why);
    print_chars(word, n);
    print("\n");
    end(MPAT_END_FAILED);
}

#endif
