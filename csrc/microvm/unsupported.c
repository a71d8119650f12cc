/* SPDX-License-Identifier: Apache-2.0 */
/* Where the micro VM cannot be: every call says so, and there is never an mpat_microvm. */
#include "microvm.h"

#if !(defined(__x86_64__) && defined(__linux__))

#include <errno.h>
#include <stddef.h>

int mpat_microvm_create(const mpat_microvm_config *config, mpat_microvm **out)
{
    (void)config, (void)out;
    return -ENOTSUP;
}

void mpat_microvm_destroy(mpat_microvm *vm)
{
    (void)vm;
}

int mpat_microvm_vm_fd(const mpat_microvm *vm)
{
    (void)vm;
    return -ENOTSUP;
}

int mpat_microvm_vcpu_fd(const mpat_microvm *vm, size_t vcpu)
{
    (void)vm, (void)vcpu;
    return -ENOTSUP;
}

void *mpat_microvm_memory(const mpat_microvm *vm, size_t slot_index)
{
    (void)vm, (void)slot_index;
    return NULL;
}

int mpat_microvm_set_ring(mpat_microvm *vm, mpat_kvm_ring *ring)
{
    (void)vm, (void)ring;
    return -ENOTSUP;
}

int mpat_microvm_step(mpat_microvm *vm, uint64_t n_steps, int64_t timeout_ns)
{
    (void)vm, (void)n_steps, (void)timeout_ns;
    return -ENOTSUP;
}

int mpat_microvm_resume(mpat_microvm *vm)
{
    (void)vm;
    return -ENOTSUP;
}

int mpat_microvm_pause(mpat_microvm *vm)
{
    (void)vm;
    return -ENOTSUP;
}

int mpat_microvm_reboot(mpat_microvm *vm, const char *const *cmdlines)
{
    (void)vm, (void)cmdlines;
    return -ENOTSUP;
}

int mpat_microvm_kick(mpat_microvm *vm)
{
    (void)vm;
    return -ENOTSUP;
}

int mpat_microvm_get_state(mpat_microvm *vm, size_t vcpu, mpat_microvm_state *out)
{
    (void)vm, (void)vcpu, (void)out;
    return -ENOTSUP;
}

size_t mpat_microvm_console(mpat_microvm *vm, char *out, size_t n)
{
    (void)vm, (void)out, (void)n;
    return 0;
}

#endif
