/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's migration stream, up to where the guest is stopped: migration/savevm.c has the sections
 * around, ram_save_setup(), ram_save_iterate() and save_page_header() in migration/ram.c what is
 * in those of "ram". All numbers are big-endian.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ramstream.h"

#define MOST_BLOCKS 4096u
#define LONGEST_MACHINE 4096u

enum { /* migration/savevm.h */
    FILE_MAGIC = 0x5145564d,
    FILE_VERSION = 3,
    VM_EOF = 0,
    SECTION_START = 1,
    SECTION_PART = 2,
    SECTION_END = 3,
    SECTION_FULL = 4,
    VM_SUBSECTION = 5,
    VM_CONFIGURATION = 7,
    VM_COMMAND = 8,
    SECTION_FOOTER = 0x7e,
};
enum { CMD_POSTCOPY_ADVISE = 3, CMD_PACKAGED = 7 }; /* enum qemu_vm_cmd, migration/savevm.c */
#define RAM_VERSION 4u

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
#define LEAST_PAGE_BITS 10u /* TARGET_PAGE_BITS_MIN: the flags need so many */
#define MOST_PAGE_BITS 24u
#define USUAL_PAGE_BITS 12u

static uint32_t be32(const uint8_t *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static uint64_t be64(const uint8_t *b)
{
    return (uint64_t)be32(b) << 32 | be32(b + 4);
}

static void await(mpat_ramstream *s, enum mpat_stream_state state, size_t need)
{
    s->state = state;
    s->need = need;
}

__attribute__((format(printf, 2, 3))) static int refuse(mpat_ramstream *s, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(s->problem, sizeof(s->problem), format, arguments);
    va_end(arguments);
    return -EPROTO;
}

static int switch_off(mpat_ramstream *s, const char *capability)
{
    return refuse(s, "it was sent with the capability %s, which must be switched off", capability);
}

/* ---- what is around the RAM ------------------------------------------------------------------ */

static int on_header(mpat_ramstream *s)
{
    if (be32(s->field) != FILE_MAGIC)
        return refuse(s, "it does not begin as QEMU's migration streams do");
    if (be32(s->field + 4) != FILE_VERSION)
        return refuse(s, "its version is %u, and not %d", be32(s->field + 4), FILE_VERSION);
    await(s, TYPE, 1);
    return 0;
}

static void stop(mpat_ramstream *s)
{
    mpat_passes_end(&s->passes);
    s->about.stopped = 1;
}

static int on_type(mpat_ramstream *s)
{
    s->section_type = s->field[0];
    switch (s->section_type) {
    case VM_CONFIGURATION:
        await(s, MACHINE_LENGTH, 4);
        return 0;
    case VM_SUBSECTION:
        await(s, SUBSECTION_NAME_LENGTH, 1);
        return 0;
    case VM_COMMAND:
        await(s, COMMAND, 4);
        return 0;
    case SECTION_START:
    case SECTION_PART:
    case SECTION_FOOTER:
        await(s, SECTION_ID, 4);
        return 0;
    case SECTION_END:
    case SECTION_FULL:
    case VM_EOF:
        if (!s->has_list)
            return refuse(s, "it ends before the guest's RAM");
        stop(s);
        return 0;
    default:
        return refuse(s, "no section begins with the byte 0x%02x", s->section_type);
    }
}

static int on_section_id(mpat_ramstream *s)
{
    uint32_t id = be32(s->field);
    if (s->section_type == SECTION_START) {
        s->ram_id = s->has_ram ? s->ram_id : id;
        await(s, SECTION_NAME_LENGTH, 1);
    } else if (!s->has_ram || id != s->ram_id) {
        return refuse(s, "a section has the number %u, which no section began with", id);
    } else if (s->section_type == SECTION_FOOTER) {
        await(s, TYPE, 1);
    } else {
        mpat_passes_section(&s->passes);
        await(s, RAM, 8);
    }
    return 0;
}

static int on_section_version(mpat_ramstream *s)
{
    if (strcmp(s->name, "ram") != 0)
        return refuse(s, "besides the RAM it has a section \"%s\", whose length is not known",
                      s->name);
    if (s->has_ram)
        return refuse(s, "the section of the RAM begins twice");
    if (be32(s->field + 4) != RAM_VERSION)
        return refuse(s, "the section of the RAM has version %u, and not %u", be32(s->field + 4),
                      RAM_VERSION);
    s->has_ram = 1;
    mpat_passes_section(&s->passes);
    await(s, RAM, 8);
    return 0;
}

static int on_machine_length(mpat_ramstream *s)
{
    s->skip = be32(s->field);
    if (s->skip > LONGEST_MACHINE)
        return refuse(s, "the machine's name has %u bytes", be32(s->field));
    await(s, TYPE, 1);
    return 0;
}

/* vmstate_configuration, migration/savevm.c */
static int on_subsection_version(mpat_ramstream *s)
{
    if (strcmp(s->name, "configuration/target-page-bits") == 0) {
        await(s, PAGE_BITS, 4);
    } else if (strcmp(s->name, "configuration/capabilities") == 0) {
        await(s, N_CAPABILITIES, 4);
    } else if (strcmp(s->name, "configuration/uuid") == 0) {
        s->skip = 16;
        await(s, TYPE, 1);
    } else {
        return refuse(s, "its configuration has a part \"%s\", whose length is not known", s->name);
    }
    return 0;
}

static int on_page_bits(mpat_ramstream *s)
{
    uint32_t bits = be32(s->field);
    if (bits < LEAST_PAGE_BITS || bits > MOST_PAGE_BITS || s->has_ram)
        return refuse(s, "it has pages of 2^%u bytes", bits);
    s->page_bits = bits;
    await(s, TYPE, 1);
    return 0;
}

static void await_capability(mpat_ramstream *s)
{
    if (s->left > 0)
        await(s, CAPABILITY_LENGTH, 1);
    else
        await(s, TYPE, 1);
}

/* Only those are named that are on and change the format. */
static int on_capability(mpat_ramstream *s)
{
    if (strcmp(s->name, "x-ignore-shared") == 0 || strcmp(s->name, "mapped-ram") == 0)
        return switch_off(s, s->name);
    s->left--;
    await_capability(s);
    return 0;
}

static int on_command(mpat_ramstream *s)
{
    uint32_t command = be32(s->field) >> 16;
    if (command >= CMD_POSTCOPY_ADVISE && command <= CMD_PACKAGED)
        return switch_off(s, "postcopy-ram");
    s->skip = be32(s->field) & 0xffff;
    await(s, TYPE, 1);
    return 0;
}

/* ---- the RAM --------------------------------------------------------------------------------- */

static int on_page(mpat_ramstream *s, int64_t now_ns, int *pass_ended)
{
    uint64_t page = s->word >> s->page_bits;
    if (page >= s->passes.blocks[s->block].about.n_pages)
        return refuse(s, "it has a page 0x%llx of \"%s\", which ends before it",
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
        return refuse(s, "the list of RAM blocks comes twice");
    s->unlisted = s->word >> s->page_bits << s->page_bits;
    if (s->unlisted == 0)
        return refuse(s, "the guest has no RAM");
    await(s, BLOCK_NAME_LENGTH, 1);
    return 0;
}

static int refuse_flags(mpat_ramstream *s, uint32_t flags)
{
    if (flags & FLAG_XBZRLE)
        return switch_off(s, "xbzrle");
    if (flags & FLAG_COMPRESS_PAGE)
        return switch_off(s, "compress");
    if (flags & FLAG_MULTIFD_FLUSH)
        return switch_off(s, "multifd");
    if (flags & FLAG_HOOK)
        return refuse(s, "it was made for RDMA; QEMU must migrate to a socket");
    return refuse(s, "a page has the unknown flags 0x%x", flags);
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
            return refuse(s, "a page comes before the list of RAM blocks");
        if (!(flags & FLAG_CONTINUE)) {
            await(s, PAGE_BLOCK_LENGTH, 1);
            return 0;
        }
        if (!s->has_block)
            return refuse(s, "the first page does not say of which block it is");
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
        return refuse(s, "the sizes of the RAM blocks do not make up its size");
    if (s->passes.n_blocks == MOST_BLOCKS || pages > s->most_pages - s->all_pages)
        return refuse(s, "it has more RAM than it was to have");
    for (size_t b = 0; b < s->passes.n_blocks; b++) {
        if (strcmp(s->passes.blocks[b].about.name, s->name) == 0)
            return refuse(s, "it has two RAM blocks \"%s\"", s->name);
    }
    memset(&block, 0, sizeof(block));
    memcpy(block.name, s->name, sizeof(s->name));
    block.n_pages = pages;
    s->unlisted -= bytes;
    s->all_pages += pages;
    int err = mpat_passes_add_block(&s->passes, &block);
    if (err == 0 && s->unlisted == 0) {
        err = mpat_passes_make_bitmaps(&s->passes);
        s->has_list = 1;
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
    return refuse(s, "it has a page of \"%s\", which is not in its list of RAM blocks", s->name);
}

/* ---- its bytes ------------------------------------------------------------------------------- */

static int take_name(mpat_ramstream *s)
{
    if (memchr(s->field, 0, s->need) != NULL)
        return refuse(s, "a name has a byte 0");
    memset(s->name, 0, sizeof(s->name));
    memcpy(s->name, s->field, s->need);
    return 0;
}

static int await_name(mpat_ramstream *s, enum mpat_stream_state state)
{
    if (s->field[0] == 0)
        return refuse(s, "a name is empty");
    await(s, state, s->field[0]);
    return 0;
}

/* The bytes that the state waited for are in `field`. */
static int on_field(mpat_ramstream *s, int64_t now_ns, int *pass_ended)
{
    enum mpat_stream_state state = s->state;
    int err = 0;
    if (state == SECTION_NAME || state == SUBSECTION_NAME || state == CAPABILITY ||
        state == BLOCK_NAME || state == PAGE_BLOCK)
        err = take_name(s);
    if (err)
        return err;
    switch (state) {
    case HEADER: return on_header(s);
    case TYPE: return on_type(s);
    case SECTION_ID: return on_section_id(s);
    case SECTION_NAME_LENGTH: return await_name(s, SECTION_NAME);
    case SECTION_NAME: await(s, SECTION_VERSION, 8); return 0;
    case SECTION_VERSION: return on_section_version(s);
    case MACHINE_LENGTH: return on_machine_length(s);
    case SUBSECTION_NAME_LENGTH: return await_name(s, SUBSECTION_NAME);
    case SUBSECTION_NAME: await(s, SUBSECTION_VERSION, 4); return 0;
    case SUBSECTION_VERSION: return on_subsection_version(s);
    case PAGE_BITS: return on_page_bits(s);
    case N_CAPABILITIES: s->left = be32(s->field); await_capability(s); return 0;
    case CAPABILITY_LENGTH: return await_name(s, CAPABILITY);
    case CAPABILITY: return on_capability(s);
    case COMMAND: return on_command(s);
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
    }
    return -EINVAL;
}

int mpat_ramstream_parse(mpat_ramstream *s, const uint8_t *bytes, size_t n_bytes, int64_t now_ns,
                         size_t *n_used)
{
    size_t at = 0;
    int pass_ended = 0, had_list = s->has_list;
    while (at < n_bytes && s->error == 0 && !s->about.stopped && !pass_ended &&
           s->has_list == had_list) {
        size_t rest = n_bytes - at, n;
        if (s->skip) {
            n = s->skip < rest ? (size_t)s->skip : rest;
            s->skip -= n;
            at += n;
            continue;
        }
        n = s->need - s->have < rest ? s->need - s->have : rest;
        memcpy(s->field + s->have, bytes + at, n);
        s->have += n;
        at += n;
        if (s->have == s->need) {
            s->have = 0;
            s->error = on_field(s, now_ns, &pass_ended);
        }
    }
    s->about.bytes += at;
    *n_used = at;
    return s->error;
}

void mpat_ramstream_begin(mpat_ramstream *s)
{
    s->page_bits = USUAL_PAGE_BITS;
    await(s, HEADER, 8);
}
