/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: pages in the order in which QEMU sends them, divided into passes. */
#ifndef MPAT_PASSES_H
#define MPAT_PASSES_H

#include <stddef.h>
#include <stdint.h>

#include "mempattern.h"

struct mpat_sent_block {
    mpat_ramblock about;
    uint64_t n_words;
    uint64_t *section; /* sent in the section that goes on, unless its pass was told already */
    uint64_t *now;     /* before, in the pass that goes on */
    uint64_t *ended;   /* in passes that ended and were not taken */
    uint64_t *zero;    /* held zeros when sent last */
};

struct mpat_place {
    size_t block;
    uint64_t page;
};

struct mpat_passes {
    struct mpat_sent_block *blocks;
    size_t n_blocks, room;
    size_t first_block;       /* with which QEMU began the pass that goes on */
    int begun, in_section;    /* a page has been sent in it; in the section that goes on */
    struct mpat_place last;   /* page sent */
    struct mpat_place section; /* the section's first that is not among the pass's */
    int64_t began_ns, before_ns; /* this pass, and the one before, or 0 */
    int64_t section_ns;
    uint64_t pages, zero_pages;           /* of the pass that goes on */
    uint64_t section_pages, section_zero; /* of these, in the section */
    uint64_t n_ended;
    mpat_ramstream_pass ended; /* n_passes 0: all were taken */
};

/* The block's bitmaps are made by the last of these. 0 or -ENOMEM. */
int mpat_passes_add_block(struct mpat_passes *passes, const mpat_ramblock *block);
int mpat_passes_make_bitmaps(struct mpat_passes *passes);
void mpat_passes_free(struct mpat_passes *passes);

void mpat_passes_section(struct mpat_passes *passes); /* a new one begins */

/* A page was sent, which lies in its block; did that begin another pass? */
int mpat_passes_page(struct mpat_passes *passes, size_t block, uint64_t page, int64_t now_ns);
void mpat_passes_zero(struct mpat_passes *passes, int is_zero); /* of the last page */

void mpat_passes_end(struct mpat_passes *passes); /* the one that goes on, if it has begun */

#endif
