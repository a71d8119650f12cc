/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's migration stream, up to where the guest is stopped, field by field: sections.c and ram.c
 * say what each one is and which comes next. All numbers are big-endian.
 */
#include <errno.h>
#include <string.h>

#include "fields.h"

#define USUAL_PAGE_BITS 12u

static int take_name(mpat_ramstream *s)
{
    if (memchr(s->field, 0, s->need) != NULL)
        return mpat_refuse(s, "a name has a byte 0");
    memset(s->name, 0, sizeof(s->name));
    memcpy(s->name, s->field, s->need);
    return 0;
}

static int on_field(mpat_ramstream *s, int64_t now_ns, int *pass_ended)
{
    enum mpat_stream_state state = s->state;
    int err = 0;
    if (state == SECTION_NAME || state == SUBSECTION_NAME || state == CAPABILITY ||
        state == BLOCK_NAME || state == PAGE_BLOCK)
        err = take_name(s);
    if (err)
        return err;
    return state < RAM ? mpat_stream_on_section(s) : mpat_stream_on_ram(s, now_ns, pass_ended);
}

/* Is the next field there? Its bytes lie in those given, or, if some came before, in `partial`. */
static int take_field(mpat_ramstream *s, const uint8_t *bytes, size_t n_bytes, size_t *at)
{
    size_t n = s->need - s->have, rest = n_bytes - *at;
    if (s->have == 0 && n <= rest) {
        s->field = bytes + *at;
        *at += n;
        return 1;
    }
    if (n > rest)
        n = rest;
    memcpy(s->partial + s->have, bytes + *at, n);
    *at += n;
    s->have += n;
    if (s->have < s->need)
        return 0;
    s->field = s->partial;
    s->have = 0;
    return 1;
}

int mpat_ramstream_parse(mpat_ramstream *s, const uint8_t *bytes, size_t n_bytes, int64_t now_ns,
                         size_t *n_used)
{
    size_t at = 0;
    int pass_ended = 0, had_list = s->has_list;
    while (at < n_bytes && s->error == 0 && !s->about.stopped && !pass_ended &&
           s->has_list == had_list) {
        if (s->skip) {
            size_t rest = n_bytes - at, n = s->skip < rest ? (size_t)s->skip : rest;
            s->skip -= n;
            at += n;
        } else if (take_field(s, bytes, n_bytes, &at)) {
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
