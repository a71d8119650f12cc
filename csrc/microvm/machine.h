/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the micro VM: what microvm.c (the VM), memory.c (its memory), boot.c (what is in boot
 * memory), vcpu.c (a vCPU), run.c (its thread) and drive.c (all vCPUs together) share.
 *
 * How a vCPU is driven: the controlling thread sets its target, a number of steps since the start.
 * The target reaches the guest as a limit in the guest's control block (csrc/guest/ports.h), and
 * the guest comes out of KVM_RUN by itself, between two steps, when it gets there. So the vCPU's
 * thread has one rule: run unless the guest stands between two steps at or past its target. Running
 * n steps, running freely and pausing are three values of the target.
 */
#ifndef MPAT_MICROVM_MACHINE_H
#define MPAT_MICROVM_MACHINE_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "../guest/ports.h"
#include "microvm.h"

#define MPAT_PAGE_BYTES 4096
#define MPAT_BOOT_BYTES 0x200000
#define MPAT_CONSOLE_BYTES 65536
#define MPAT_LINE_BYTES 256

#define MPAT_RUN_FREELY UINT64_MAX /* a target that is never reached */

/*
 * Nothing sends it, so that taking it away steals nobody's; and unlike a real-time signal it is
 * never refused for want of room in the user's queue.
 */
#define MPAT_KICK_SIGNAL SIGSTKFLT

typedef struct mpat_vcpu {
    mpat_microvm *vm;
    int fd;
    struct kvm_run *run; /* shared with KVM; the thread's own, except for kicks */
    size_t run_bytes;
    pthread_t thread;
    bool has_thread;

    /* From here on under the VM's lock. */
    mpat_control *control; /* in boot memory; NULL until the guest has said where */
    uint64_t steps;        /* done by the guest, as of seen_done */
    uint32_t seen_done;    /* control->done when last looked at: it wraps, steps does not */
    uint64_t target;       /* steps at which to park, or MPAT_RUN_FREELY */
    bool between_steps;    /* the guest stands at the start or in its question for more steps */
    bool held;             /* parked wherever it stands: kicked out, or its ring is full */
    bool waiting;          /* the thread is not in KVM_RUN but waits, or has not begun */
    bool finished;
    int trouble;           /* -ENOBUFS when held for its full ring */
    int error;
    uint32_t exit_reason;
    uint64_t exit_rip;
    uint64_t n_exits;      /* times KVM_RUN returned */
    char line[MPAT_LINE_BYTES]; /* serial output up to the next newline */
    size_t line_length;
} mpat_vcpu;

typedef struct mpat_ram_slot {
    void *memory;
    size_t bytes;
} mpat_ram_slot;

struct mpat_microvm {
    int kvm_fd;
    int vm_fd;
    uint8_t *boot; /* guest-physical 0 to MPAT_BOOT_BYTES */
    void *image;   /* the guest's ELF file */
    size_t image_bytes;
    mpat_ram_slot *slots;
    size_t n_slots;
    mpat_vcpu vcpus[MPAT_MICROVM_MAX_VCPUS];
    size_t n_vcpus;

    pid_t owner; /* a forked child has neither the threads nor, perhaps, a free lock */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* any field below, or a vCPU's */
    bool quit;
    mpat_kvm_ring *ring;
    char console[MPAT_CONSOLE_BYTES];
    size_t console_length;
};

/* Are the threads and the lock there? */
static inline bool mpat_is_ours(const mpat_microvm *vm)
{
    return getpid() == vm->owner;
}

/* ---- memory.c ------------------------------------------------------------------------------ */

/*
 * Turn on the kind of dirty logging asked for. Before any memslot and any vCPU is made, for these
 * begin with what is on then.
 */
int mpat_memory_enable_log(const mpat_microvm *vm, const mpat_microvm_config *config);

/* Map and give to KVM. On failure what was mapped is left for unmap. */
int mpat_memory_map_boot(mpat_microvm *vm);
int mpat_memory_map_ram(mpat_microvm *vm, const mpat_microvm_config *config);
void mpat_memory_unmap(mpat_microvm *vm);

/* ---- boot.c -------------------------------------------------------------------------------- */

/*
 * Copy the ELF image's segments to boot memory. -EINVAL: not a 32-bit x86 executable, or a field
 * that points outside of the image, or a segment outside of [1 MiB, 2 MiB).
 */
int mpat_boot_load_image(uint8_t *boot, const void *image, size_t image_bytes, uint32_t *entry);

/*
 * Write vCPU `index`'s multiboot information, with its command line and the TSC frequency (0: not
 * known). Returns its guest-physical address.
 */
uint32_t mpat_boot_write_info(uint8_t *boot, size_t index, const char *cmdline, uint32_t tsc_khz);

/* The control block at a guest-physical address; NULL when not aligned or not in boot memory. */
mpat_control *mpat_boot_control(uint8_t *boot, uint32_t address);

/* ---- vcpu.c -------------------------------------------------------------------------------- */

/* Make vCPU `index`. On failure what was made is left for destroy. */
int mpat_vcpu_create(mpat_microvm *vm, size_t index);

/* Put a parked vCPU before its first instruction; the image is in boot memory. It stays parked. */
int mpat_vcpu_boot(mpat_vcpu *vcpu, uint32_t entry, const char *cmdline);

/* Free what create made; its thread has ended. */
void mpat_vcpu_destroy(mpat_vcpu *vcpu);

/* ---- run.c --------------------------------------------------------------------------------- */

/* Start its thread, parked. */
int mpat_vcpu_start(mpat_vcpu *vcpu);

/* Kick its thread and wait for its end; the VM's quit is set. */
void mpat_vcpu_stop(mpat_vcpu *vcpu);

/* Out of KVM_RUN now, or at the next entry. The thread then follows its rule. Any thread. */
void mpat_vcpu_kick(const mpat_vcpu *vcpu);

/* The following want the VM's lock. */

/* Steps done up to now. */
uint64_t mpat_vcpu_steps(mpat_vcpu *vcpu);

/* Set the target and tell the guest, whatever it is doing; a held vCPU goes on. */
void mpat_vcpu_aim(mpat_vcpu *vcpu, uint64_t target);

/* It runs no guest code and will not before it is told to. */
bool mpat_vcpu_is_parked(const mpat_vcpu *vcpu);

/* ---- drive.c ------------------------------------------------------------------------------- */

/* Under the lock: stop and park every vCPU. 0, or -EIO: one is dead. */
int mpat_drive_park(mpat_microvm *vm);

#endif
