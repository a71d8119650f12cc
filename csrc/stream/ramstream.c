/* SPDX-License-Identifier: Apache-2.0 */
/* The stream as callers have it: read from a socket, and its passes taken. */
#include "../clock.h"
#include "ramstream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#define BUFFER_BYTES ((size_t)256 << 10) /* what a socket holds, and fits into a cache */

int mpat_ramstream_create(uint64_t most_pages, mpat_ramstream **out)
{
    if (out == NULL || most_pages == 0)
        return -EINVAL;
    mpat_ramstream *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->most_pages = most_pages;
    mpat_ramstream_begin(s);
    *out = s;
    return 0;
}

void mpat_ramstream_destroy(mpat_ramstream *s)
{
    if (s == NULL)
        return;
    mpat_passes_free(&s->passes);
    free(s->buffer);
    free(s);
}

int mpat_ramstream_feed(mpat_ramstream *s, const uint8_t *bytes, size_t n_bytes, int64_t now_ns,
                        size_t *n_used)
{
    if (s == NULL || n_used == NULL || (bytes == NULL && n_bytes))
        return -EINVAL;
    if (!mpat_busy_enter(&s->busy))
        return -EBUSY;
    int err = mpat_ramstream_parse(s, bytes, n_bytes, now_ns, n_used);
    mpat_busy_leave(&s->busy);
    return err;
}

static void tell(const mpat_ramstream *s, mpat_ramstream_state *out)
{
    *out = s->about;
    out->n_blocks = s->has_list ? s->passes.n_blocks : 0;
    out->page_bytes = UINT32_C(1) << s->page_bits;
    out->passes = s->passes.n_ended;
    out->untaken = s->passes.ended.n_passes;
}

static int receive(mpat_ramstream *s, int socket)
{
    ssize_t n;
    if (s->buffer == NULL)
        s->buffer = malloc(BUFFER_BYTES);
    if (s->buffer == NULL)
        return -ENOMEM;
    do
        n = recv(socket, s->buffer, BUFFER_BYTES, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != ECONNRESET)
        return -errno;
    s->about.closed = n <= 0;
    s->from = 0;
    s->to = n > 0 ? (size_t)n : 0;
    return 0;
}

static int read_on(mpat_ramstream *s, int socket)
{
    uint64_t ended = s->passes.n_ended;
    int had_list = s->has_list, err = s->error;
    while (err == 0 && !s->about.stopped && !s->about.closed && s->has_list == had_list &&
           s->passes.n_ended == ended) {
        size_t n_used = 0;
        if (s->from == s->to)
            err = receive(s, socket);
        if (err == 0)
            err = mpat_ramstream_parse(s, s->buffer + s->from, s->to - s->from, mpat_now_ns(), &n_used);
        s->from += n_used;
    }
    /* QEMU holds the guest until it knows what became of it. */
    if (err || s->about.stopped)
        shutdown(socket, SHUT_RDWR);
    return err;
}

int mpat_ramstream_read(mpat_ramstream *s, int socket, mpat_ramstream_state *out)
{
    if (s == NULL || out == NULL)
        return -EINVAL;
    if (!mpat_busy_enter(&s->busy))
        return -EBUSY;
    int err = read_on(s, socket);
    if (err == 0)
        tell(s, out);
    mpat_busy_leave(&s->busy);
    return err;
}

/* ---- what was read --------------------------------------------------------------------------- */

int mpat_ramstream_state_of(mpat_ramstream *s, mpat_ramstream_state *out)
{
    if (s == NULL || out == NULL)
        return -EINVAL;
    if (!mpat_busy_enter(&s->busy))
        return -EBUSY;
    tell(s, out);
    mpat_busy_leave(&s->busy);
    return 0;
}

int mpat_ramstream_block(mpat_ramstream *s, size_t i, mpat_ramblock *out)
{
    int err = -ENOENT;
    if (s == NULL || out == NULL)
        return -EINVAL;
    if (!mpat_busy_enter(&s->busy))
        return -EBUSY;
    if (s->has_list && i < s->passes.n_blocks) {
        *out = s->passes.blocks[i].about;
        err = 0;
    }
    mpat_busy_leave(&s->busy);
    return err;
}

static int fits(const mpat_ramstream *s, uint64_t *const *bitmaps)
{
    for (size_t b = 0; b < s->passes.n_blocks; b++) {
        if (bitmaps[b] == NULL && s->passes.blocks[b].n_words)
            return 0;
    }
    return 1;
}

static int take(mpat_ramstream *s, uint64_t *const *bitmaps, mpat_ramstream_pass *out)
{
    if (s->passes.ended.n_passes == 0)
        return -EAGAIN;
    if (!fits(s, bitmaps))
        return -EINVAL;
    for (size_t b = 0; b < s->passes.n_blocks; b++) {
        struct mpat_sent_block *block = &s->passes.blocks[b];
        for (uint64_t w = 0; w < block->n_words; w++) {
            bitmaps[b][w] = block->ended[w];
            block->ended[w] = 0;
        }
    }
    *out = s->passes.ended;
    s->passes.ended.n_passes = 0;
    return 0;
}

int mpat_ramstream_take(mpat_ramstream *s, uint64_t *const *bitmaps, mpat_ramstream_pass *out)
{
    if (s == NULL || bitmaps == NULL || out == NULL)
        return -EINVAL;
    if (!mpat_busy_enter(&s->busy))
        return -EBUSY;
    int err = take(s, bitmaps, out);
    mpat_busy_leave(&s->busy);
    return err;
}

static int zeros(const mpat_ramstream *s, uint64_t *const *bitmaps)
{
    if (!s->has_list)
        return -EAGAIN;
    if (!fits(s, bitmaps))
        return -EINVAL;
    for (size_t b = 0; b < s->passes.n_blocks; b++) {
        for (uint64_t w = 0; w < s->passes.blocks[b].n_words; w++)
            bitmaps[b][w] = s->passes.blocks[b].zero[w];
    }
    return 0;
}

int mpat_ramstream_zeros(mpat_ramstream *s, uint64_t *const *bitmaps)
{
    if (s == NULL || bitmaps == NULL)
        return -EINVAL;
    if (!mpat_busy_enter(&s->busy))
        return -EBUSY;
    int err = zeros(s, bitmaps);
    mpat_busy_leave(&s->busy);
    return err;
}

const char *mpat_ramstream_problem(const mpat_ramstream *s)
{
    return s->problem;
}
