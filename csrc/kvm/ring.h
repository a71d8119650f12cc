/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the dirty ring: what ring.c (what is asked of KVM) and harvest.c (what is read from the
 * memory shared with it) have in common.
 */
#ifndef MPAT_KVM_RING_H
#define MPAT_KVM_RING_H

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sys/types.h>

#include "vm.h"

struct ring_slot {
    uint32_t slot;
    uint64_t n_pages;
    uint64_t words;
    uint64_t *pending; /* the interval under way */
};

struct vcpu_ring {
    struct kvm_dirty_gfn *entries;
    uint32_t next;  /* free-running index of the next entry to harvest */
    int in_step;    /* next is known to be KVM's oldest unharvested entry */
};

struct mpat_kvm_ring {
    int vm_fd;
    uint32_t n_entries;
    size_t map_bytes;
    pid_t owner;         /* a forked child may find the lock taken for ever */
    pthread_mutex_t lock;
    int64_t last_end_ns;
    uint64_t lost_pages;
    uint64_t harvested;  /* entries in the interval under way */
    uint64_t unreset;    /* entries harvested that KVM has not reset yet */
    int failure;         /* the worst that no collect has reported yet, or 0; the first of these */
    mpat_kvm_fault why;  /* of that failure */
    int broken;          /* or the error of every collection from now on: KVM and we will never
                          * agree again where the rings stand */
    size_t n_slots;
    struct ring_slot *slots;  /* as given by the caller */
    struct ring_slot **sorted; /* the same by slot number, for look-up */
    size_t n_vcpus;
    struct vcpu_ring rings[];
};

/* Was all of the rings taken and reset all the same? */
static inline int is_benign(int error)
{
    return error == -ENOENT || error == -ERANGE || error == -ESTALE;
}

static inline void note_failure(mpat_kvm_ring *ring, int error, const char *call, uint32_t slot,
                         uint64_t page)
{
    if (ring->failure && (is_benign(error) || !is_benign(ring->failure)))
        return;
    ring->failure = error;
    mpat_kvm_fail(&ring->why, error, call, slot, page);
}

/*
 * Take every entry that KVM published in this vCPU's ring, in order, and set their pages' pending
 * bits. Returns the number taken, which KVM has yet to reset.
 */
uint32_t mpat_ring_harvest(mpat_kvm_ring *ring, struct vcpu_ring *vcpu);

#endif
