/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Harvesting a dirty ring without KVM in the way: the library's own mpat_ring_harvest() over entries
 * that lie in memory as KVM leaves them. For bench_kvm.py and count.c.
 */
#include "../csrc/kvm/harvest.c"

/* Left out. Weak: in count.c, which has the whole library, its own takes its place. */
#pragma weak mpat_kvm_fail

int mpat_kvm_fail(mpat_kvm_fault *fault, int error, const char *call, uint32_t slot, uint64_t page)
{
    (void)fault, (void)call, (void)slot, (void)page;
    return error;
}

/* Mark n_entries entries dirty with the given pages of memslot 1, as KVM would publish them. */
void bench_publish(struct kvm_dirty_gfn *entries, const uint64_t *pages, uint32_t n_entries)
{
    for (uint32_t i = 0; i < n_entries; i++)
        entries[i] = (struct kvm_dirty_gfn){KVM_DIRTY_GFN_F_DIRTY, 1, pages[i]};
}

/* Harvest all of them into the bitmap. Returns how many were taken. */
uint32_t bench_harvest(struct kvm_dirty_gfn *entries, uint32_t n_entries, uint64_t *bitmap,
                       uint64_t n_pages)
{
    struct ring_slot slot = {.slot = 1, .n_pages = n_pages, .pending = bitmap};
    struct ring_slot *sorted[] = {&slot};
    struct mpat_kvm_ring ring = {.n_entries = n_entries, .n_slots = 1, .slots = &slot,
                                 .sorted = sorted};
    struct vcpu_ring vcpu = {.entries = entries, .in_step = 1};

    return mpat_ring_harvest(&ring, &vcpu);
}
