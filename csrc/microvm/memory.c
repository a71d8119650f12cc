/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory: boot memory and the RAM memslots, and how KVM logs the latter's dirty pages. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#if defined(__x86_64__) && defined(__linux__)

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "machine.h"

/* ---- dirty logging ------------------------------------------------------------------------- */

static int enable(const mpat_microvm *vm, uint32_t capability, uint64_t argument)
{
    struct kvm_enable_cap request = {.cap = capability, .args = {argument}};

    return ioctl(vm->vm_fd, KVM_ENABLE_CAP, &request) ? -errno : 0;
}

static int has(const mpat_microvm *vm, uint32_t capability)
{
    int value = ioctl(vm->vm_fd, KVM_CHECK_EXTENSION, capability);

    return value > 0 ? value : 0;
}

static int enable_manual_protect(const mpat_microvm *vm, uint32_t flags)
{
    if (((uint32_t)has(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) & flags) != flags)
        return -ENOTSUP;
    return enable(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, flags);
}

static int enable_ring(const mpat_microvm *vm, uint32_t entries)
{
    uint32_t capability = has(vm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL) ? KVM_CAP_DIRTY_LOG_RING_ACQ_REL
                                                                  : KVM_CAP_DIRTY_LOG_RING;
    uint64_t bytes = (uint64_t)entries * sizeof(struct kvm_dirty_gfn);
    int most = has(vm, capability);

    if (!most)
        return -ENOTSUP;
    if (bytes == 0 || bytes > (uint64_t)most)
        return -EINVAL;
    return enable(vm, capability, bytes); /* the kernel refuses what is no power of two */
}

int mpat_memory_enable_log(const mpat_microvm *vm, const mpat_microvm_config *config)
{
    switch (config->log) {
    case MPAT_MICROVM_MANUAL:
        return enable_manual_protect(vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
    case MPAT_MICROVM_INITIALLY_SET:
        return enable_manual_protect(vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
                                             KVM_DIRTY_LOG_INITIALLY_SET);
    case MPAT_MICROVM_RING: return enable_ring(vm, config->ring_entries);
    default: return 0;
    }
}

/* ---- memory -------------------------------------------------------------------------------- */

static int set_memslot(const mpat_microvm *vm, uint32_t slot, uint32_t flags, uint64_t address,
                       void *memory, uint64_t bytes)
{
    struct kvm_userspace_memory_region region = {.slot = slot,
                                                 .flags = flags,
                                                 .guest_phys_addr = address,
                                                 .memory_size = bytes,
                                                 .userspace_addr = (uintptr_t)memory};

    return ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) ? -errno : 0;
}

int mpat_memory_map_boot(mpat_microvm *vm)
{
    void *memory = mmap(NULL, MPAT_BOOT_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return -errno;
    vm->boot = memory;
    return set_memslot(vm, 0, 0, 0, memory, MPAT_BOOT_BYTES);
}

static int map_slot(mpat_microvm *vm, size_t index, uint64_t address, uint64_t n_pages)
{
    size_t bytes = (size_t)n_pages * MPAT_PAGE_BYTES;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        return -errno;
    vm->slots[index] = (mpat_ram_slot){memory, bytes};
    /*
     * No huge pages: a dirty log makes KVM map single pages anyway, and a guest that writes one
     * page in 2 MiB must not take 2 MiB from the host. A kernel without any refuses: fine as well.
     */
    (void)madvise(memory, bytes, MADV_NOHUGEPAGE);
    return set_memslot(vm, MPAT_MICROVM_FIRST_SLOT + (uint32_t)index, KVM_MEM_LOG_DIRTY_PAGES,
                       address, memory, bytes);
}

int mpat_memory_map_ram(mpat_microvm *vm, const mpat_microvm_config *config)
{
    uint64_t address = MPAT_MICROVM_RAM_BASE;

    for (size_t i = 0; i < config->n_slots; i++) {
        int error = map_slot(vm, i, address, config->slot_pages[i]);
        if (error)
            return error;
        address += config->slot_pages[i] * MPAT_PAGE_BYTES;
    }
    return 0;
}

void mpat_memory_unmap(mpat_microvm *vm)
{
    for (size_t i = 0; i < vm->n_slots; i++)
        if (vm->slots[i].memory)
            munmap(vm->slots[i].memory, vm->slots[i].bytes);
    if (vm->boot)
        munmap(vm->boot, MPAT_BOOT_BYTES);
}

#endif
