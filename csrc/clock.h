/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: CLOCK_MONOTONIC, which nobody sets; it stands still while the machine is suspended. */
#ifndef MPAT_CLOCK_H
#define MPAT_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t mpat_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The end of an interval: now, and after its start, also where the clock's ticks are coarse. */
static inline int64_t mpat_end_ns(int64_t start_ns)
{
    int64_t now_ns = mpat_now_ns();

    return now_ns > start_ns ? now_ns : start_ns + 1;
}

#endif
