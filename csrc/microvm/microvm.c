/* SPDX-License-Identifier: Apache-2.0 */
/* The VM: making it, booting it anew, and what it is. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#if defined(__x86_64__) && defined(__linux__)

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"

#define RAM_END (UINT64_C(3) << 30) /* above: the PCI hole of a PC, and KVM's own pages */
#define TSS_ADDRESS 0xfffbd000      /* KVM api.rst, 4.36: three pages that no memslot has */

/* ---- making it ----------------------------------------------------------------------------- */

static bool are_valid(const char *const *cmdlines, size_t n)
{
    if (!cmdlines)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!cmdlines[i] ||
            strnlen(cmdlines[i], MPAT_MICROVM_MAX_CMDLINE + 1) > MPAT_MICROVM_MAX_CMDLINE)
            return false;
    return true;
}

static bool is_valid(const mpat_microvm_config *config)
{
    uint64_t room = (RAM_END - MPAT_MICROVM_RAM_BASE) / MPAT_PAGE_BYTES;

    if (!config->image || !config->slot_pages || config->n_slots == 0 || config->n_vcpus == 0 ||
        config->n_vcpus > MPAT_MICROVM_MAX_VCPUS || (unsigned)config->log > MPAT_MICROVM_RING)
        return false;
    for (size_t i = 0; i < config->n_slots; i++) {
        if (config->slot_pages[i] == 0 || config->slot_pages[i] > room)
            return false;
        room -= config->slot_pages[i];
    }
    return are_valid(config->cmdlines, config->n_vcpus);
}

/* An empty VM that destroy accepts at any time from now on. */
static mpat_microvm *allocate(size_t n_slots)
{
    mpat_microvm *vm = calloc(1, sizeof *vm);
    pthread_condattr_t attributes;

    if (!vm)
        return NULL;
    vm->slots = calloc(n_slots, sizeof *vm->slots);
    if (!vm->slots) {
        free(vm);
        return NULL;
    }
    vm->n_slots = n_slots;
    vm->owner = getpid();
    vm->kvm_fd = vm->vm_fd = -1;
    for (size_t i = 0; i < MPAT_MICROVM_MAX_VCPUS; i++)
        vm->vcpus[i].fd = -1;
    pthread_mutex_init(&vm->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&vm->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return vm;
}

static int open_kvm(mpat_microvm *vm)
{
    int version;

    vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (vm->kvm_fd < 0)
        return -errno;
    version = ioctl(vm->kvm_fd, KVM_GET_API_VERSION, 0);
    if (version < 0)
        return -ENOTTY;
    if (version != KVM_API_VERSION)
        return -ENOTSUP;
    do /* a signal interrupts this one on some kernels */
        vm->vm_fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
    while (vm->vm_fd < 0 && errno == EINTR);
    if (vm->vm_fd < 0)
        return -errno;
    /* Intel processors without unrestricted guest mode want it; the others do not mind. */
    if (ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR) > 0 &&
        ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDRESS))
        return -errno;
    return 0;
}

static int make_vcpus(mpat_microvm *vm, size_t n_vcpus)
{
    int error = 0;

    for (size_t i = 0; i < n_vcpus && !error; i++) {
        vm->n_vcpus = i + 1;
        error = mpat_vcpu_create(vm, i);
    }
    return error;
}

static int copy_image(mpat_microvm *vm, const mpat_microvm_config *config)
{
    vm->image = malloc(config->image_bytes + 1); /* an empty one is for the loader to refuse */
    if (!vm->image)
        return -ENOMEM;
    memcpy(vm->image, config->image, config->image_bytes);
    vm->image_bytes = config->image_bytes;
    return 0;
}

/* Boot memory as a loader leaves it, and every vCPU before its first instruction. */
static int boot(mpat_microvm *vm, const char *const *cmdlines)
{
    uint32_t entry;
    int error;

    memset(vm->boot, 0, MPAT_BOOT_BYTES);
    error = mpat_boot_load_image(vm->boot, vm->image, vm->image_bytes, &entry);
    for (size_t i = 0; i < vm->n_vcpus && !error; i++)
        error = mpat_vcpu_boot(&vm->vcpus[i], entry, cmdlines[i]);
    return error;
}

static int build(mpat_microvm *vm, const mpat_microvm_config *config)
{
    int error;

    if ((error = copy_image(vm, config)) || (error = open_kvm(vm)) ||
        (error = mpat_memory_enable_log(vm, config)) || (error = mpat_memory_map_boot(vm)) ||
        (error = mpat_memory_map_ram(vm, config)) || (error = make_vcpus(vm, config->n_vcpus)) ||
        (error = boot(vm, config->cmdlines)))
        return error;
    for (size_t i = 0; i < vm->n_vcpus && !error; i++)
        error = mpat_vcpu_start(&vm->vcpus[i]);
    return error;
}

int mpat_microvm_create(const mpat_microvm_config *config, mpat_microvm **out)
{
    mpat_microvm *vm;
    int error;

    if (!config || !out || !is_valid(config))
        return -EINVAL;
    vm = allocate(config->n_slots);
    if (!vm)
        return -ENOMEM;
    error = build(vm, config);
    if (error) {
        mpat_microvm_destroy(vm);
        return error;
    }
    *out = vm;
    return 0;
}

static void stop_threads(mpat_microvm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->quit = true;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    for (size_t i = 0; i < vm->n_vcpus; i++)
        mpat_vcpu_stop(&vm->vcpus[i]);
}

void mpat_microvm_destroy(mpat_microvm *vm)
{
    if (!vm)
        return;
    if (mpat_is_ours(vm))
        stop_threads(vm);
    for (size_t i = 0; i < vm->n_vcpus; i++)
        mpat_vcpu_destroy(&vm->vcpus[i]);
    if (vm->vm_fd >= 0)
        close(vm->vm_fd);
    if (vm->kvm_fd >= 0)
        close(vm->kvm_fd);
    mpat_memory_unmap(vm);
    if (mpat_is_ours(vm)) {
        /* A child's copy counts its parent's waiters, for whom pthread_cond_destroy would wait. */
        pthread_cond_destroy(&vm->changed);
        pthread_mutex_destroy(&vm->lock);
    }
    free(vm->image);
    free(vm->slots);
    free(vm);
}

int mpat_microvm_reboot(mpat_microvm *vm, const char *const *cmdlines)
{
    int error;

    if (!are_valid(cmdlines, vm->n_vcpus))
        return -EINVAL;
    if (!mpat_is_ours(vm))
        return -ECHILD;
    pthread_mutex_lock(&vm->lock);
    error = mpat_drive_park(vm);
    if (!error)
        error = boot(vm, cmdlines);
    pthread_mutex_unlock(&vm->lock);
    return error;
}

/* ---- what it is ---------------------------------------------------------------------------- */

int mpat_microvm_vm_fd(const mpat_microvm *vm)
{
    return vm->vm_fd;
}

int mpat_microvm_vcpu_fd(const mpat_microvm *vm, size_t vcpu)
{
    return vcpu < vm->n_vcpus ? vm->vcpus[vcpu].fd : -EINVAL;
}

void *mpat_microvm_memory(const mpat_microvm *vm, size_t slot_index)
{
    return slot_index < vm->n_slots ? vm->slots[slot_index].memory : NULL;
}

int mpat_microvm_get_state(mpat_microvm *vm, size_t index, mpat_microvm_state *out)
{
    mpat_vcpu *vcpu;

    if (index >= vm->n_vcpus)
        return -EINVAL;
    if (!mpat_is_ours(vm))
        return -ECHILD;
    vcpu = &vm->vcpus[index];
    pthread_mutex_lock(&vm->lock);
    *out = (mpat_microvm_state){.steps = mpat_vcpu_steps(vcpu),
                                .running = !mpat_vcpu_is_parked(vcpu),
                                .finished = vcpu->finished,
                                .error = vcpu->error,
                                .exit_reason = vcpu->exit_reason,
                                .exit_rip = vcpu->exit_rip};
    pthread_mutex_unlock(&vm->lock);
    return 0;
}

size_t mpat_microvm_console(mpat_microvm *vm, char *out, size_t n)
{
    size_t length;

    if (!mpat_is_ours(vm))
        return 0;
    pthread_mutex_lock(&vm->lock);
    length = vm->console_length;
    if (out && n)
        memcpy(out, vm->console, length < n ? length : n);
    pthread_mutex_unlock(&vm->lock);
    return length;
}

#endif
