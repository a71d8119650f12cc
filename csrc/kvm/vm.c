/* SPDX-License-Identifier: Apache-2.0 */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int mpat_kvm_fail(mpat_kvm_fault *fault, int error, const char *call, uint32_t slot, uint64_t page)
{
    if (fault)
        *fault = (mpat_kvm_fault){.slot = slot, .page = page, .call = call};
    return error;
}

int mpat_kvm_ioctl(int fd, unsigned long request, void *argument)
{
    int result;

    do {
        result = ioctl(fd, request, argument);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

int mpat_kvm_check_fd(int fd, const char *kind, mpat_kvm_fault *fault)
{
    static const char prefix[] = "anon_inode:";
    char path[32], target[64];
    ssize_t length;

    if (fcntl(fd, F_GETFD) < 0)
        return mpat_kvm_fail(fault, -errno, "fcntl", 0, 0);
    /* A wrong KVM descriptor answers EINVAL to what it does not know, like a bad argument would;
     * its name tells them apart. Where /proc is not mounted, the ioctls have to. */
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    length = readlink(path, target, sizeof target - 1);
    if (length < 0)
        return 0;
    target[length] = '\0';
    /* "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:3"; not "...-stats" */
    if (strncmp(target, prefix, sizeof prefix - 1) == 0 &&
        strncmp(target + sizeof prefix - 1, kind, strlen(kind)) == 0) {
        char next = target[sizeof prefix - 1 + strlen(kind)];

        if (next == '\0' || next == ':')
            return 0;
    }
    return mpat_kvm_fail(fault, -ENOTTY, kind, 0, 0);
}

int mpat_kvm_own_vm(int vm_fd, mpat_kvm_fault *fault)
{
    int error = mpat_kvm_check_fd(vm_fd, "kvm-vm", fault), own;

    if (error)
        return error;
    own = fcntl(vm_fd, F_DUPFD_CLOEXEC, 3);
    return own < 0 ? mpat_kvm_fail(fault, -errno, "fcntl", 0, 0) : own;
}

int mpat_kvm_check_memslots(const mpat_memslot *slots, size_t n_slots, mpat_kvm_fault *fault)
{
    if (!slots || n_slots == 0)
        return mpat_kvm_fail(fault, -EINVAL, "memslots", 0, 0);
    for (size_t i = 0; i < n_slots; i++) {
        if (slots[i].n_pages == 0 || slots[i].n_pages > MPAT_KVM_MAX_SLOT_PAGES)
            return mpat_kvm_fail(fault, -EINVAL, "memslots", slots[i].slot, 0);
        for (size_t j = 0; j < i; j++)
            if (slots[j].slot == slots[i].slot)
                return mpat_kvm_fail(fault, -EEXIST, "memslots", slots[i].slot, 0);
    }
    return 0;
}
