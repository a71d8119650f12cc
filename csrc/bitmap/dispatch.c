/* SPDX-License-Identifier: Apache-2.0 */
/* The table of kernels, and which of them runs. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

/* Best first. A kernel that another architecture's build leaves out is not in its table. */
static const struct mpat_kernel *const table[] = {
#if defined(__x86_64__) || defined(MPAT_SIMDE)
    &mpat_kernel_avx512,
#endif
#if defined(__x86_64__)
    &mpat_kernel_avx2,
#endif
#if defined(__aarch64__) || defined(MPAT_SIMDE)
    &mpat_kernel_neon,
#endif
    &mpat_kernel_scalar,
};

#define TABLE_LEN (sizeof(table) / sizeof(table[0]))

/* NULL: not settled yet, or back to the default. */
static _Atomic(const struct mpat_kernel *) active;

static int find(const char *name, const struct mpat_kernel **out)
{
    for (size_t i = 0; i < TABLE_LEN; i++) {
        if (strcmp(table[i]->name, name) == 0) {
            if (!table[i]->supported())
                return -ENOTSUP;
            *out = table[i];
            return 0;
        }
    }
    return -ENOENT;
}

int mpat_kernel_get(const struct mpat_kernel **out)
{
    const struct mpat_kernel *kernel = atomic_load_explicit(&active, memory_order_acquire);
    if (kernel == NULL) {
        const char *name = getenv("MEMPATTERN_KERNEL");
        if (name != NULL && name[0] != '\0') {
            int err = find(name, &kernel);
            if (err)
                return err;
        } else {
            size_t i = 0;
            while (!table[i]->supported())
                i++; /* scalar, the last one, always is */
            kernel = table[i];
        }
        /* Somebody may have chosen one meanwhile, and a choice beats the default. */
        const struct mpat_kernel *expected = NULL;
        if (!atomic_compare_exchange_strong(&active, &expected, kernel))
            kernel = expected;
    }
    *out = kernel;
    return 0;
}

const char *mpat_kernel_available(size_t i)
{
    for (size_t t = 0; t < TABLE_LEN; t++) {
        if (table[t]->supported() && i-- == 0)
            return table[t]->name;
    }
    return NULL;
}

const char *mpat_kernel_active(void)
{
    const struct mpat_kernel *kernel;
    return mpat_kernel_get(&kernel) ? NULL : kernel->name;
}

int mpat_kernel_use(const char *name)
{
    const struct mpat_kernel *kernel = NULL;
    if (name != NULL) {
        int err = find(name, &kernel);
        if (err)
            return err;
    }
    atomic_store_explicit(&active, kernel, memory_order_release);
    return 0;
}
