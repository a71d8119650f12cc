/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tiny real KVM guest for the demo, the tests and the benches: it runs csrc/guest straight on
 * /dev/kvm (x86-64 only), each vCPU dirtying memory as its command line says
 * (csrc/guest/README.md).
 *
 * Not part of the public C API. One thread may control the VM; the functions marked "any thread"
 * may be called by others at the same time, but not during create and destroy.
 *
 * Guest-physical layout: 2 MiB of boot memory from 0 (memslot 0, never logged: image, stacks,
 * multiboot data), then the RAM memslots 1, 2, ... one after the other from
 * MPAT_MICROVM_RAM_BASE, with dirty logging.
 */
#ifndef MPAT_MICROVM_H
#define MPAT_MICROVM_H

#include "mempattern.h"

/* cdef begin */

#define MPAT_MICROVM_RAM_BASE 0x1000000 /* 16 MiB */
#define MPAT_MICROVM_FIRST_SLOT 1       /* memslot id of the first RAM memslot */
#define MPAT_MICROVM_MAX_VCPUS 8
#define MPAT_MICROVM_MAX_CMDLINE 2048   /* bytes, without the terminating NUL */

/* In a forked child, which has none of the vCPU threads, every call but destroy gives -ECHILD. */
typedef struct mpat_microvm mpat_microvm;

/* How the RAM memslots log their dirty pages. */
typedef enum mpat_microvm_log {
    MPAT_MICROVM_LOG,           /* KVM_GET_DIRTY_LOG, which also clears */
    MPAT_MICROVM_MANUAL,        /* manual protect */
    MPAT_MICROVM_INITIALLY_SET, /* manual protect with INITIALLY_SET */
    MPAT_MICROVM_RING           /* the dirty ring */
} mpat_microvm_log;

typedef struct mpat_microvm_config {
    const void *image;            /* csrc/guest as an ELF file, copied */
    size_t image_bytes;
    const uint64_t *slot_pages;   /* pages of each RAM memslot */
    size_t n_slots;
    const char *const *cmdlines;  /* one a vCPU, copied */
    size_t n_vcpus;
    mpat_microvm_log log;
    uint32_t ring_entries;        /* MPAT_MICROVM_RING only */
} mpat_microvm_config;

/* What one vCPU is doing. */
typedef struct mpat_microvm_state {
    uint64_t steps;        /* steps done since the start, exact whenever the vCPU is parked */
    int running;           /* the vCPU may be executing guest code */
    int finished;          /* the guest came to the end of its steps= and halted; error is 0 */
    int error;             /* 0, or why the vCPU ended for good: a negative errno */
    uint32_t exit_reason;  /* KVM's exit reason then (KVM_EXIT_SHUTDOWN, ...), when error is set */
    uint64_t exit_rip;     /* where, when error is set */
} mpat_microvm_state;

/*
 * Make the VM; every vCPU is parked before its first instruction. The total of the slots must end
 * below 3 GiB of guest-physical memory; a command line is at most MPAT_MICROVM_MAX_CMDLINE bytes.
 * A vCPU's thread blocks all signals and keeps SIGSTKFLT, which nothing else sends, for its kicks.
 *
 * -EINVAL: bad image, sizes or cmdlines. -ENOENT, -EACCES, -EPERM, ...: /dev/kvm does not open.
 * -ENOTTY: /dev/kvm is not KVM's device. -ENOTSUP: KVM lacks the asked logging, or this is not
 * x86-64.
 */
int mpat_microvm_create(const mpat_microvm_config *config, mpat_microvm **out);

/* Stop the vCPUs, whatever they do, and free everything. NULL is fine. */
void mpat_microvm_destroy(mpat_microvm *vm);

/* The VM's own descriptors, valid until destroy. -EINVAL: no such vCPU. */
int mpat_microvm_vm_fd(const mpat_microvm *vm);
int mpat_microvm_vcpu_fd(const mpat_microvm *vm, size_t vcpu);

/* Host address of a RAM memslot's first page; NULL when there is no such slot. */
void *mpat_microvm_memory(const mpat_microvm *vm, size_t slot_index);

/*
 * The ring that a vCPU drains when KVM reports it full; NULL to detach, before the ring is closed.
 * -EBUSY: the VM is not parked.
 */
int mpat_microvm_set_ring(mpat_microvm *vm, mpat_kvm_ring *ring);

/*
 * Run every vCPU for exactly n_steps steps (one step is one page write, or none in an idle
 * pattern) and return when all are parked again. Without an error the page counters in RAM add up
 * to the steps: the vCPUs stop between two steps, never inside one.
 *
 * timeout_ns < 0 waits for ever. -ETIMEDOUT: not done after timeout_ns; the VM is paused and what
 * was left of the steps is dropped. -EIO: a vCPU died, see its state (-EFAULT there: it touched
 * memory that is not; -EINVAL: the guest refused its command line, see the console). -EINTR, at
 * once: another thread paused, resumed or stepped the VM meanwhile. -ENODATA: a vCPU came to the end of
 * its steps= first. -ENOBUFS: a ring was full and no ring is set; drain it and step again, what
 * was left of the steps is dropped. The other vCPUs have done all theirs.
 */
int mpat_microvm_step(mpat_microvm *vm, uint64_t n_steps, int64_t timeout_ns);

/* Let every vCPU run freely, until mpat_microvm_pause(). -EIO: a vCPU is dead; none runs then. */
int mpat_microvm_resume(mpat_microvm *vm);

/*
 * Stop every vCPU after the step it is in and park it, out of KVM_RUN; returns when all are parked.
 * A guest that does not come to the end of its step within a second is kicked out where it stands.
 * -EIO, -ENOBUFS as above; the VM is paused in any case.
 */
int mpat_microvm_pause(mpat_microvm *vm);

/*
 * Park every vCPU and start its guest anew with another command line, cmdlines[i] for vCPU i. RAM,
 * its dirty log, the console and the steps done so far stay. -EIO: a vCPU is dead; -EINVAL: a
 * missing or too long command line, and the guest stays as it was.
 */
int mpat_microvm_reboot(mpat_microvm *vm, const char *const *cmdlines);

/*
 * Kick every running vCPU once out of KVM_RUN, which flushes its hardware dirty buffers, and let it
 * go on; returns when all have been out. Any thread.
 */
int mpat_microvm_kick(mpat_microvm *vm);

/* -EINVAL: no such vCPU. Any thread. */
int mpat_microvm_get_state(mpat_microvm *vm, size_t vcpu, mpat_microvm_state *out);

/*
 * Copy up to n bytes of what the guest wrote to its serial port since the start, whole lines of
 * each vCPU; returns the length of all there is, which is more than n if some did not fit. The
 * first 64 KiB are kept. Any thread.
 */
size_t mpat_microvm_console(mpat_microvm *vm, char *out, size_t n);

/* cdef end */

#endif
