/* SPDX-License-Identifier: Apache-2.0 */
/* A check that goes on: main returns whether any failed. */
#ifndef MPAT_TESTS_CHECK_H
#define MPAT_TESTS_CHECK_H

#include <stdio.h>

static int failures;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            failures++;                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
        }                                                                                          \
    } while (0)

#endif
