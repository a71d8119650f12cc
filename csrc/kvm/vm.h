/* SPDX-License-Identifier: Apache-2.0 */
/* What the dirty log and the dirty ring have in common: a borrowed VM and its memslots. */
#ifndef MPAT_KVM_VM_H
#define MPAT_KVM_VM_H

#include "mempattern.h"

/* KVM_MEM_MAX_NR_PAGES of virt/kvm/kvm_main.c: the most pages one memslot can have. */
#define MPAT_KVM_MAX_SLOT_PAGES ((UINT64_C(1) << 31) - 1)

/* 0, or the reason why these memslots cannot be logged. */
int mpat_kvm_check_memslots(const mpat_memslot *slots, size_t n_slots, mpat_kvm_fault *fault);

/* One bitmap for each slot, and none of them NULL? */
static inline int mpat_kvm_has_bitmaps(uint64_t *const *bitmaps, size_t n_slots)
{
    if (!bitmaps)
        return 0;
    for (size_t i = 0; i < n_slots; i++)
        if (!bitmaps[i])
            return 0;
    return 1;
}

/* 0 when fd is a KVM object of that kind ("kvm-vm", "kvm-vcpu"), else -EBADF or -ENOTTY. */
int mpat_kvm_check_fd(int fd, const char *kind, mpat_kvm_fault *fault);

/*
 * A descriptor of our own to the VM: its number cannot come to mean another file while we use it.
 * A descriptor, or -errno as mpat_kvm_check_fd.
 */
int mpat_kvm_own_vm(int vm_fd, mpat_kvm_fault *fault);

/* The VM ioctl, repeated while a signal interrupts it. Its non-negative result, or -errno. */
int mpat_kvm_ioctl(int fd, unsigned long request, void *argument);

/* Fill the fault (which may be NULL) and pass the error on. */
int mpat_kvm_fail(mpat_kvm_fault *fault, int error, const char *call, uint32_t slot, uint64_t page);

#endif
