/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Harvesting one vCPU's dirty ring, in memory that KVM writes to meanwhile. Linux
 * virt/kvm/dirty_ring.c; include/uapi/linux/kvm.h, struct kvm_dirty_gfn.
 */
#include "ring.h"

#include <stdlib.h>

static int slot_order(const void *key, const void *element)
{
    const struct ring_slot *slot = *(struct ring_slot *const *)element;
    uint32_t wanted = *(const uint32_t *)key;

    return wanted < slot->slot ? -1 : wanted > slot->slot;
}

static struct ring_slot *find_slot(const mpat_kvm_ring *ring, uint32_t slot)
{
    struct ring_slot **found =
        bsearch(&slot, ring->sorted, ring->n_slots, sizeof ring->sorted[0], slot_order);

    return found ? *found : NULL;
}

static int published(const struct mpat_kvm_ring *ring, const struct vcpu_ring *vcpu, uint32_t index)
{
    const struct kvm_dirty_gfn *entry = &vcpu->entries[index & (ring->n_entries - 1)];

    return (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY) != 0;
}

/*
 * Nothing is where we would harvest next. Usually that means that nothing was written; or that
 * somebody harvested this ring before us, and KVM, which does not tell how far, goes on elsewhere:
 * then look for any published entry and walk back to the oldest. Once in step, an entry elsewhere
 * means that somebody else harvests this ring now, and that pages went to them.
 */
static void look_around(mpat_kvm_ring *ring, struct vcpu_ring *vcpu)
{
    uint32_t index = 0;

    while (index < ring->n_entries && !published(ring, vcpu, index))
        index++;
    if (index == ring->n_entries)
        return;
    if (vcpu->in_step) {
        if (published(ring, vcpu, vcpu->next))
            return; /* it was published meanwhile */
        ring->lost_pages++;
        note_failure(ring, -ESTALE, "dirty ring", 0, 0);
    }
    for (uint32_t back = 0; back < ring->n_entries && published(ring, vcpu, index - 1); back++)
        index--;
    vcpu->next = index;
    vcpu->in_step = 1;
}

/*
 * The acquire pairs with KVM's release when it publishes an entry; the release hands the entry back
 * only after its fields were read.
 */
uint32_t mpat_ring_harvest(mpat_kvm_ring *ring, struct vcpu_ring *vcpu)
{
    struct ring_slot *slot = NULL;
    uint32_t taken;

    if (!vcpu->in_step || !published(ring, vcpu, vcpu->next))
        look_around(ring, vcpu);
    for (taken = 0; taken < ring->n_entries && published(ring, vcpu, vcpu->next); taken++) {
        struct kvm_dirty_gfn *entry = &vcpu->entries[vcpu->next & (ring->n_entries - 1)];
        uint32_t number = entry->slot;
        uint64_t page = entry->offset;

        __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
        vcpu->next++;
        if (!slot || slot->slot != number)
            slot = find_slot(ring, number); /* entries of one slot come in long runs */
        if (!slot) {
            note_failure(ring, -ENOENT, "dirty ring", number, page);
        } else if (page >= slot->n_pages) {
            note_failure(ring, -ERANGE, "dirty ring", number, page);
            ring->lost_pages++;
        } else {
            slot->pending[page / 64] |= UINT64_C(1) << page % 64;
        }
    }
    return taken;
}
