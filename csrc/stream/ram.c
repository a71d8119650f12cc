/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RAM in QEMU's migration stream: the list of its blocks, and the pages. ram_save_setup(),
 * ram_save_iterate() and save_page_header() in migration/ram.c write it.
 */
#include <errno.h>
#include <string.h>

#include "fields.h"

#define MOST_BLOCKS 4096u

enum { /* migration/ram.c; RAM_SAVE_FLAG_MULTIFD_FLUSH since QEMU 8.1 */
    FLAG_ZERO = 0x02,
    FLAG_MEM_SIZE = 0x04,
    FLAG_PAGE = 0x08,
    FLAG_EOS = 0x10,
    FLAG_CONTINUE = 0x20,
    FLAG_XBZRLE = 0x40,
    FLAG_HOOK = 0x80,
    FLAG_COMPRESS_PAGE = 0x100,
    FLAG_MULTIFD_FLUSH = 0x200,
};

static int on_page(mpat_ramstream *s, int64_t now_ns, int *pass_ended)
{
    uint64_t page = s->word >> s->page_bits;
    if (page >= s->passes.blocks[s->block].about.n_pages)
        return mpat_refuse(s, "it has a page 0x%llx of \"%s\", which ends before it",
                           (unsigned long long)page, s->passes.blocks[s->block].about.name);
    *pass_ended |= mpat_passes_page(&s->passes, s->block, page, now_ns);
    if (s->word & FLAG_ZERO) {
        await(s, ZERO_BYTE, 1);
    } else {
        mpat_passes_zero(&s->passes, 0);
        s->skip = UINT64_C(1) << s->page_bits;
        await(s, RAM, 8);
    }
    return 0;
}

static int on_list(mpat_ramstream *s)
{
    if (s->section_type != SECTION_START || s->has_list)
        return mpat_refuse(s, "the list of RAM blocks comes twice");
    s->unlisted = s->word >> s->page_bits << s->page_bits;
    if (s->unlisted == 0)
        return mpat_refuse(s, "the guest has no RAM");
    await(s, BLOCK_NAME_LENGTH, 1);
    return 0;
}

static int refuse_flags(mpat_ramstream *s, uint32_t flags)
{
    if (flags & FLAG_XBZRLE)
        return mpat_switch_off(s, "xbzrle");
    if (flags & FLAG_COMPRESS_PAGE)
        return mpat_switch_off(s, "compress");
    if (flags & FLAG_MULTIFD_FLUSH)
        return mpat_switch_off(s, "multifd");
    if (flags & FLAG_HOOK)
        return mpat_refuse(s, "it was made for RDMA; QEMU must migrate to a socket");
    return mpat_refuse(s, "a page has the unknown flags 0x%x", flags);
}

static int on_ram(mpat_ramstream *s, int64_t now_ns, int *pass_ended)
{
    uint32_t flags;
    s->word = be64(s->field);
    flags = (uint32_t)(s->word & ((UINT64_C(1) << s->page_bits) - 1));
    switch (flags & ~(uint32_t)FLAG_CONTINUE) {
    case FLAG_MEM_SIZE:
        return on_list(s);
    case FLAG_EOS:
        await(s, TYPE, 1);
        return 0;
    case FLAG_ZERO:
    case FLAG_PAGE:
        if (!s->has_list)
            return mpat_refuse(s, "a page comes before the list of RAM blocks");
        if (!(flags & FLAG_CONTINUE)) {
            await(s, PAGE_BLOCK_LENGTH, 1);
            return 0;
        }
        if (!s->has_block)
            return mpat_refuse(s, "the first page does not say of which block it is");
        return on_page(s, now_ns, pass_ended);
    default:
        return refuse_flags(s, flags);
    }
}

static int on_block_size(mpat_ramstream *s)
{
    mpat_ramblock block;
    uint64_t bytes = be64(s->field), pages = bytes >> s->page_bits;
    if (bytes > s->unlisted || bytes & ((UINT64_C(1) << s->page_bits) - 1))
        return mpat_refuse(s, "the sizes of the RAM blocks do not make up its size");
    if (s->passes.n_blocks == MOST_BLOCKS || pages > s->most_pages - s->all_pages)
        return mpat_refuse(s, "it has more RAM than it was to have");
    for (size_t b = 0; b < s->passes.n_blocks; b++) {
        if (strcmp(s->passes.blocks[b].about.name, s->name) == 0)
            return mpat_refuse(s, "it has two RAM blocks \"%s\"", s->name);
    }
    memset(&block, 0, sizeof(block));
    memcpy(block.name, s->name, sizeof(s->name));
    block.n_pages = pages;
    s->unlisted -= bytes;
    s->all_pages += pages;
    int err = mpat_passes_add_block(&s->passes, &block);
    if (err == 0 && s->unlisted == 0) {
        err = mpat_passes_make_bitmaps(&s->passes);
        s->has_list = err == 0;
    }
    if (s->unlisted == 0)
        await(s, RAM, 8);
    else
        await(s, BLOCK_NAME_LENGTH, 1);
    return err;
}

static int on_page_block(mpat_ramstream *s, int64_t now_ns, int *pass_ended)
{
    for (size_t b = 0; b < s->passes.n_blocks; b++) {
        if (strcmp(s->passes.blocks[b].about.name, s->name) == 0) {
            s->block = b;
            s->has_block = 1;
            return on_page(s, now_ns, pass_ended);
        }
    }
    return mpat_refuse(s, "it has a page of \"%s\", which is not in its list of RAM blocks",
                       s->name);
}

int mpat_stream_on_ram(mpat_ramstream *s, int64_t now_ns, int *pass_ended)
{
    switch (s->state) {
    case RAM: return on_ram(s, now_ns, pass_ended);
    case BLOCK_NAME_LENGTH: return await_name(s, BLOCK_NAME);
    case BLOCK_NAME: await(s, BLOCK_SIZE, 8); return 0;
    case BLOCK_SIZE: return on_block_size(s);
    case PAGE_BLOCK_LENGTH: return await_name(s, PAGE_BLOCK);
    case PAGE_BLOCK: return on_page_block(s, now_ns, pass_ended);
    case ZERO_BYTE:
        mpat_passes_zero(&s->passes, s->field[0] == 0);
        await(s, RAM, 8);
        return 0;
    default: return -EINVAL;
    }
}
