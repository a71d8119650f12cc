/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream that trickles in, a few bytes at a time, into a reader whose calls are interrupted again
 * and again: the same passes as if it had come at once.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "check.h"
#include "mempattern.h"
#include "stream.h"

#define N_PAGES 70u

static volatile sig_atomic_t n_interrupts;

static void on_alarm(int sig)
{
    (void)sig;
    n_interrupts++;
}

/* All pages, then the third one again. */
static void write_stream(void)
{
    write_start(N_PAGES, 3);
    for (int section = 0; section < 3; section++) {
        put(0x10, 8);
        put(0x7e, 1);
        put(2, 4);
        if (section == 2)
            break;
        put(2, 1);
        put(2, 4);
        for (uint64_t page = 0; section == 0 && page < N_PAGES; page++)
            put_page(page ? NULL : "a", page, 1);
        put_page("b", 2, 0);
        if (section == 1)
            put_page("a", 2, 0);
    }
    put(0, 1);
}

static void *trickle(void *argument)
{
    int to = *(int *)argument;
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm, NULL); /* they are the reader's */
    for (size_t at = 0, n = 1; at < length; at += n, n = at % 7 + 1) {
        if (n > length - at)
            n = length - at;
        CHECK(send(to, stream + at, n, MSG_NOSIGNAL) == (ssize_t)n);
        if (at % 50 < 7)
            usleep(300);
    }
    return NULL;
}

static void add(mpat_ramstream *s, uint64_t seen[3])
{
    uint64_t a[2], b[1], *bitmaps[] = {a, b};
    mpat_ramstream_pass pass;
    while (mpat_ramstream_take(s, bitmaps, &pass) == 0) {
        seen[0] = seen[0] * 31 + pass.pages;
        seen[1] = seen[1] * 31 + a[0] + a[1];
        seen[2] = seen[2] * 31 + b[0];
    }
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_alarm}; /* and no SA_RESTART */
    struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    uint64_t expected[3] = {0}, seen[3] = {0};
    mpat_ramstream_state state = {0};
    mpat_ramstream *s;
    pthread_t writer;
    int ends[2];
    write_stream();
    CHECK(mpat_ramstream_create(1000, &s) == 0);
    for (size_t at = 0, used; at < length; at += used) {
        CHECK(mpat_ramstream_feed(s, stream + at, length - at, 1, &used) == 0);
        add(s, expected);
    }
    mpat_ramstream_destroy(s);

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(mpat_ramstream_create(1000, &s) == 0);
    sigaction(SIGALRM, &action, NULL);
    CHECK(pthread_create(&writer, NULL, trickle, &ends[1]) == 0);
    setitimer(ITIMER_REAL, &often, NULL);
    while (!state.stopped && !state.closed && failures == 0) {
        CHECK(mpat_ramstream_read(s, ends[0], &state) == 0);
        add(s, seen);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    pthread_join(writer, NULL);
    CHECK(state.stopped && state.bytes == length && n_interrupts > 0);
    CHECK(memcmp(seen, expected, sizeof(seen)) == 0 && seen[0] != 0);
    mpat_ramstream_destroy(s);
    close(ends[0]);
    close(ends[1]);
    printf("test_interrupted: %d interrupts: %s\n", (int)n_interrupts, failures ? "FAILED" : "ok");
    return failures != 0;
}
