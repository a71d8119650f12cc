/* SPDX-License-Identifier: Apache-2.0 */
/* What is for x86-64 only is there elsewhere too, and says so. */
#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "check.h"
#include "mempattern.h"
#include "microvm.h"

int main(void)
{
    const mpat_microvm_config config = {.n_slots = 0};
    mpat_process_fault fault = {0};
    mpat_process *process = NULL;
    mpat_microvm *vm = NULL;

    CHECK(mpat_process_probe(&fault) == -ENOTSUP && fault.call);
    fault.call = NULL;
    CHECK(mpat_process_open(getppid(), 0, &process, &fault) == -ENOTSUP && fault.call && !process);
    mpat_process_close(NULL);
    CHECK(mpat_microvm_create(&config, &vm) == -ENOTSUP && !vm);
    mpat_microvm_destroy(NULL);
    return failures != 0;
}
