/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: the fields of a stream, of which sections.c and ram.c read some each. */
#ifndef MPAT_FIELDS_H
#define MPAT_FIELDS_H

#include "ramstream.h"

enum { /* migration/savevm.h */
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

static inline uint32_t be32(const uint8_t *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static inline uint64_t be64(const uint8_t *b)
{
    return (uint64_t)be32(b) << 32 | be32(b + 4);
}

static inline void await(mpat_ramstream *s, enum mpat_stream_state state, size_t need)
{
    s->state = state;
    s->need = need;
}

/* Always -EPROTO; the problem is the end of a sentence. */
__attribute__((format(printf, 2, 3))) int mpat_refuse(mpat_ramstream *stream, const char *format,
                                                      ...);
int mpat_switch_off(mpat_ramstream *stream, const char *capability);

static inline int await_name(mpat_ramstream *s, enum mpat_stream_state state)
{
    if (s->field[0] == 0)
        return mpat_refuse(s, "a name is empty");
    await(s, state, s->field[0]);
    return 0;
}

/* The bytes that the state waited for are in `field`: of a state before RAM, and from it on. */
int mpat_stream_on_section(mpat_ramstream *stream);
int mpat_stream_on_ram(mpat_ramstream *stream, int64_t now_ns, int *pass_ended);

#endif
