/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where one pass of a migration ends and the next begins.
 *
 * ram_find_and_save_block() of QEMU 7.2 goes on from the page it sent last, to the end of that
 * block, through the blocks after it and around. When it finds nothing, it stands at the end of the
 * block of the last page it sent (RAMState.last_seen_block, last_page), so the next pass begins
 * with the block after that. Only ram_save_pending(), between two sections, looks for what was
 * written.
 */
#include "passes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int mpat_passes_add_block(struct mpat_passes *p, const mpat_ramblock *block)
{
    if (p->n_blocks == p->room) {
        size_t room = p->room ? 2 * p->room : 8;
        struct mpat_sent_block *more = realloc(p->blocks, room * sizeof(*more));
        if (more == NULL)
            return -ENOMEM;
        p->blocks = more;
        p->room = room;
    }
    p->blocks[p->n_blocks++] = (struct mpat_sent_block){
        .about = *block, .n_words = mpat_bitmap_words(block->n_pages)};
    return 0;
}

int mpat_passes_make_bitmaps(struct mpat_passes *p)
{
    for (size_t b = 0; b < p->n_blocks; b++) {
        struct mpat_sent_block *block = &p->blocks[b];
        if (block->n_words == 0)
            continue;
        block->section = calloc(block->n_words, sizeof(uint64_t));
        block->now = calloc(block->n_words, sizeof(uint64_t));
        block->ended = calloc(block->n_words, sizeof(uint64_t));
        block->zero = calloc(block->n_words, sizeof(uint64_t));
        if (block->section == NULL || block->now == NULL || block->ended == NULL ||
            block->zero == NULL)
            return -ENOMEM;
    }
    return 0;
}

void mpat_passes_free(struct mpat_passes *p)
{
    for (size_t b = 0; b < p->n_blocks; b++) {
        free(p->blocks[b].section);
        free(p->blocks[b].now);
        free(p->blocks[b].ended);
        free(p->blocks[b].zero);
    }
    free(p->blocks);
}

/* How many blocks QEMU passes on its way to this one. */
static size_t rank(const struct mpat_passes *p, size_t block)
{
    return block >= p->first_block ? block - p->first_block
                                   : block + p->n_blocks - p->first_block;
}

static int precedes(const struct mpat_passes *p, struct mpat_place a, struct mpat_place b)
{
    return a.block == b.block ? a.page < b.page : rank(p, a.block) < rank(p, b.block);
}

/*
 * What the section has sent is of the pass that goes on: from its first page to the last one on
 * QEMU's way.
 */
static void join_section(struct mpat_passes *p)
{
    size_t from = rank(p, p->section.block), to = rank(p, p->last.block);
    for (size_t b = 0; p->in_section && b < p->n_blocks; b++) {
        struct mpat_sent_block *block = &p->blocks[b];
        size_t at = rank(p, b);
        if (at < from || at > to)
            continue;
        uint64_t w = at == from ? p->section.page / 64 : 0;
        uint64_t end = at == to ? p->last.page / 64 + 1 : block->n_words;
        for (; w < end; w++) {
            block->now[w] |= block->section[w];
            block->section[w] = 0;
        }
    }
}

void mpat_passes_section(struct mpat_passes *p)
{
    join_section(p);
    p->in_section = 0;
    p->section_pages = p->section_zero = 0;
}

/* A page may be in the pass that ends and, sent once more, in the section. */
static void move_all_but_section(struct mpat_passes *p)
{
    for (size_t b = 0; b < p->n_blocks; b++) {
        struct mpat_sent_block *block = &p->blocks[b];
        for (uint64_t w = 0; w < block->n_words; w++) {
            block->ended[w] |= block->now[w];
            block->now[w] = 0;
        }
    }
}

static void end_before_section(struct mpat_passes *p)
{
    mpat_ramstream_pass *ended = &p->ended;
    move_all_but_section(p);
    if (ended->n_passes == 0) {
        int64_t start_ns = p->n_ended ? p->before_ns : p->began_ns;
        *ended = (mpat_ramstream_pass){.start_ns = start_ns, .first = p->n_ended};
    }
    ended->end_ns = p->began_ns;
    ended->n_passes++;
    ended->pages += p->pages - p->section_pages;
    ended->zero_pages += p->zero_pages - p->section_zero;
    p->n_ended++;
    p->before_ns = p->began_ns;
    p->pages = p->section_pages;
    p->zero_pages = p->section_zero;
}

int mpat_passes_page(struct mpat_passes *p, size_t block, uint64_t page, int64_t now_ns)
{
    struct mpat_place place = {block, page};
    int begins = 0;
    if (p->begun && !precedes(p, p->last, place)) {
        /* Inside a section no pass begins: it did so before, in the middle of a block, and now goes
         * round. If the section was not its first, pages are counted with the pass before it. */
        begins = p->pages > p->section_pages;
        if (begins) {
            end_before_section(p);
            p->began_ns = p->in_section ? p->section_ns : now_ns;
        }
        join_section(p);
        p->section = place;
        p->first_block = p->last.block + 1 < p->n_blocks ? p->last.block + 1 : 0;
    }
    if (!p->begun)
        p->began_ns = now_ns;
    if (!p->in_section) {
        p->section = place;
        p->section_ns = now_ns;
    }
    p->begun = p->in_section = 1;
    p->last = place;
    p->pages++;
    p->section_pages++;
    p->blocks[block].section[page / 64] |= UINT64_C(1) << page % 64;
    return begins;
}

void mpat_passes_zero(struct mpat_passes *p, int is_zero)
{
    uint64_t *word = &p->blocks[p->last.block].zero[p->last.page / 64];
    uint64_t bit = UINT64_C(1) << p->last.page % 64;
    *word = is_zero ? *word | bit : *word & ~bit;
    p->zero_pages += is_zero != 0;
    p->section_zero += is_zero != 0;
}

void mpat_passes_end(struct mpat_passes *p)
{
    mpat_passes_section(p);
    if (p->begun)
        end_before_section(p);
    p->begun = 0;
}
