/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a migration stream of two blocks, "a" and "b", as QEMU 7.2 does (migration/savevm.c, ram.c). */
#ifndef MPAT_TESTS_STREAM_H
#define MPAT_TESTS_STREAM_H

#include <stdint.h>
#include <string.h>

#define PAGE_BYTES 1024u
#define MOST_BYTES ((size_t)1 << 20)

static uint8_t stream[MOST_BYTES];
static size_t length;

static void put(uint64_t value, size_t n_bytes)
{
    while (n_bytes--)
        stream[length++] = (uint8_t)(value >> 8 * n_bytes);
}

static void put_name(const char *name)
{
    put(strlen(name), 1);
    memcpy(stream + length, name, strlen(name));
    length += strlen(name);
}

static inline void put_page(const char *block, uint64_t page, int is_zero)
{
    put(page * PAGE_BYTES | (is_zero ? 0x02 : 0x08) | (block ? 0 : 0x20), 8);
    if (block)
        put_name(block);
    if (is_zero)
        put(0, 1);
    else
        length += PAGE_BYTES;
}

/* All that comes before the pages. */
static void write_start(uint64_t a_pages, uint64_t b_pages)
{
    length = 0;
    put(0x5145564d, 4);
    put(3, 4);
    put(7, 1);
    put(2, 4);
    put(0x7063, 2);
    put(5, 1);
    put_name("configuration/target-page-bits");
    put(1, 4);
    put(10, 4);
    put(8, 1);
    put(1 << 16, 4);
    put(1, 1);
    put(2, 4);
    put_name("ram");
    put(0, 4);
    put(4, 4);
    put((a_pages + b_pages) * PAGE_BYTES | 0x04, 8);
    put_name("a");
    put(a_pages * PAGE_BYTES, 8);
    put_name("b");
    put(b_pages * PAGE_BYTES, 8);
}

#endif
