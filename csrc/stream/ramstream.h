/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: a stream, and where in it the parser stands. */
#ifndef MPAT_RAMSTREAM_H
#define MPAT_RAMSTREAM_H

#include "../stats/history.h"
#include "passes.h"

#define MPAT_STREAM_NAME 255u /* the longest */

enum mpat_stream_state {
    HEADER,
    TYPE,
    SECTION_ID,
    SECTION_NAME_LENGTH,
    SECTION_NAME,
    SECTION_VERSION,
    MACHINE_LENGTH,
    SUBSECTION_NAME_LENGTH,
    SUBSECTION_NAME,
    SUBSECTION_VERSION,
    PAGE_BITS,
    N_CAPABILITIES,
    CAPABILITY_LENGTH,
    CAPABILITY,
    COMMAND,
    RAM, /* from here on, what is in its sections: ram.c */
    BLOCK_NAME_LENGTH,
    BLOCK_NAME,
    BLOCK_SIZE,
    PAGE_BLOCK_LENGTH,
    PAGE_BLOCK,
    ZERO_BYTE,
};

struct mpat_ramstream {
    mpat_busy busy;
    int error;
    char problem[512];
    uint64_t most_pages, all_pages;
    mpat_ramstream_state about;

    enum mpat_stream_state state;
    size_t need, have;   /* bytes that the state waits for */
    uint64_t skip;       /* bytes before them */
    const uint8_t *field; /* these, only while they are acted on */
    uint8_t partial[MPAT_STREAM_NAME + 1]; /* the first `have` of them, from feeds before */
    uint8_t section_type;
    uint32_t ram_id, left; /* of the capabilities */
    char name[MPAT_STREAM_NAME + 1];
    uint32_t page_bits;
    uint64_t unlisted; /* bytes of RAM whose blocks are to come */
    uint64_t word;     /* the header of the page that is read */
    int has_ram, has_list, has_block;
    size_t block; /* of the last page */
    struct mpat_passes passes;

    uint8_t *buffer; /* of mpat_ramstream_read */
    size_t from, to;
};

void mpat_ramstream_begin(mpat_ramstream *stream);

/* mpat_ramstream_feed, by who has entered. */
int mpat_ramstream_parse(mpat_ramstream *stream, const uint8_t *bytes, size_t n_bytes,
                         int64_t now_ns, size_t *n_used);

#endif
