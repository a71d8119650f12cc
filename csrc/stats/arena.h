/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal: one zeroed mapping for all the arrays of an object. Pages that are never written are
 * never backed by memory, and creating an object fails as a whole or not at all.
 *
 * Take every array once to measure, map, and take them again in the same order to place them.
 */
#ifndef MPAT_ARENA_H
#define MPAT_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct mpat_arena {
    char *base;  /* NULL while measuring */
    size_t used; /* SIZE_MAX once that overflowed */
    void *map;
    size_t map_bytes;
};

/* n elements, 64-byte aligned; NULL while measuring. */
void *mpat_arena_take(struct mpat_arena *arena, uint64_t n, size_t size);

/* 0 or -ENOMEM. */
int mpat_arena_map(struct mpat_arena *arena);
void mpat_arena_unmap(struct mpat_arena *arena);

#endif
