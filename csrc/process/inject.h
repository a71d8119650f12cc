/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: a userfaultfd that belongs to another process's memory, in our hands. */
#ifndef MPAT_PROCESS_INJECT_H
#define MPAT_PROCESS_INJECT_H

#include "mempattern.h"

/*
 * Make one thread of the process call userfaultfd(2), take the descriptor, and leave the process as
 * it was. *uffd is ours; *stopped_ns is for how long that one thread stood still; the others ran
 * on. pidfd is the process's. 0 or a negative errno as mpat_process_open.
 */
int mpat_inject_userfaultfd(int pid, int pidfd, int *uffd, int64_t *stopped_ns,
                            mpat_process_fault *fault);

#endif
