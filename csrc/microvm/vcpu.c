/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU: making it, and its registers at the start. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#if defined(__x86_64__) && defined(__linux__)

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"

#define KERNEL_SIGSET_BYTES 8 /* the kernel's sigset_t, not glibc's */
#define MULTIBOOT_MAGIC 0x2BADB002

/*
 * While KVM_RUN runs, let through the kick and nothing else: the signals of the process are for its
 * other threads (KVM api.rst, 4.21 KVM_SET_SIGNAL_MASK).
 */
static int let_kicks_through(int fd)
{
    union { /* the mask's bytes follow its length */
        struct kvm_signal_mask mask;
        uint8_t bytes[sizeof(struct kvm_signal_mask) + KERNEL_SIGSET_BYTES];
    } argument = {.mask.len = KERNEL_SIGSET_BYTES};
    uint64_t blocked = ~(UINT64_C(1) << (MPAT_KICK_SIGNAL - 1));

    memcpy(argument.bytes + sizeof argument.mask, &blocked, sizeof blocked);
    return ioctl(fd, KVM_SET_SIGNAL_MASK, &argument) ? -errno : 0;
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type)
{
    return (struct kvm_segment){.base = 0, .limit = UINT32_MAX, .selector = selector, .type = type,
                                .present = 1, .db = 1, .s = 1, .g = 1};
}

/* The state a multiboot loader leaves (Multiboot 0.6.96, 3.2): protected mode, no paging. */
static int set_registers(int fd, uint32_t entry, uint32_t info)
{
    struct kvm_regs registers = {.rax = MULTIBOOT_MAGIC, .rbx = info, .rip = entry, .rflags = 2};
    struct kvm_sregs special;

    if (ioctl(fd, KVM_GET_SREGS, &special))
        return -errno;
    special.cs = flat_segment(0x08, 11); /* code: execute, read, accessed */
    special.ds = flat_segment(0x10, 3);  /* data: read, write, accessed */
    special.es = special.fs = special.gs = special.ss = special.ds;
    special.cr0 = 0x11; /* PE, ET; caches on */
    if (ioctl(fd, KVM_SET_SREGS, &special) || ioctl(fd, KVM_SET_REGS, &registers))
        return -errno;
    return 0;
}

static int map_run(mpat_vcpu *vcpu)
{
    int bytes = ioctl(vcpu->vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    void *run;

    if (bytes < 0)
        return -errno;
    if ((size_t)bytes < sizeof *vcpu->run)
        return -ENOTSUP;
    run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (run == MAP_FAILED)
        return -errno;
    vcpu->run = run;
    vcpu->run_bytes = (size_t)bytes;
    return 0;
}

int mpat_vcpu_create(mpat_microvm *vm, size_t index)
{
    mpat_vcpu *vcpu = &vm->vcpus[index];
    int error;

    vcpu->vm = vm;
    vcpu->waiting = true;
    vcpu->fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, index);
    if (vcpu->fd < 0)
        return -errno;
    error = map_run(vcpu);
    return error ? error : let_kicks_through(vcpu->fd);
}

/* A vCPU parked in a port access completes it when it next runs, over registers set meanwhile. */
static void complete_port_access(mpat_vcpu *vcpu)
{
    vcpu->run->immediate_exit = 1;
    (void)ioctl(vcpu->fd, KVM_RUN, 0); /* EINTR, before any instruction (api.rst, 5, KVM_EXIT_IO) */
    vcpu->run->immediate_exit = 0;
}

int mpat_vcpu_boot(mpat_vcpu *vcpu, uint32_t entry, const char *cmdline)
{
    size_t index = (size_t)(vcpu - vcpu->vm->vcpus);
    int tsc_khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0); /* fails where the host's TSC is unstable */
    uint32_t info = mpat_boot_write_info(vcpu->vm->boot, index, cmdline,
                                         tsc_khz > 0 ? (uint32_t)tsc_khz : 0);

    complete_port_access(vcpu);
    vcpu->control = NULL;
    vcpu->target = vcpu->steps;
    vcpu->between_steps = true;
    vcpu->held = vcpu->finished = false;
    vcpu->trouble = 0;
    return set_registers(vcpu->fd, entry, info);
}

void mpat_vcpu_destroy(mpat_vcpu *vcpu)
{
    if (vcpu->run)
        munmap(vcpu->run, vcpu->run_bytes);
    if (vcpu->fd >= 0)
        close(vcpu->fd);
}

#endif
