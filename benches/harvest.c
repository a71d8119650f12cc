/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Harvesting a dirty ring without KVM in the way: the library's own harvest() over entries that lie
 * in memory as KVM leaves them. For bench_kvm.py.
 */
#include "../csrc/kvm/ring.c"

/*
 * The two objects of KVM that ring.c needs and this measurement leaves out. Weak: in count.c, which
 * has the whole library, its own take their place.
 */
#pragma weak mpat_kvm_ioctl
#pragma weak mpat_kvm_check_fd
#pragma weak mpat_kvm_own_vm
#pragma weak mpat_kvm_check_memslots
#pragma weak mpat_kvm_fail
#pragma weak mpat_bitmap_words

int mpat_kvm_ioctl(int fd, unsigned long request, void *argument)
{
    (void)fd, (void)request, (void)argument;
    return 0;
}

int mpat_kvm_check_fd(int fd, const char *kind, mpat_kvm_fault *fault)
{
    (void)fd, (void)kind, (void)fault;
    return 0;
}

int mpat_kvm_own_vm(int vm_fd, mpat_kvm_fault *fault)
{
    (void)fault;
    return vm_fd;
}

int mpat_kvm_check_memslots(const mpat_memslot *slots, size_t n_slots, mpat_kvm_fault *fault)
{
    (void)slots, (void)n_slots, (void)fault;
    return 0;
}

int mpat_kvm_fail(mpat_kvm_fault *fault, int error, const char *call, uint32_t slot, uint64_t page)
{
    (void)fault, (void)call, (void)slot, (void)page;
    return error;
}


uint64_t mpat_bitmap_words(uint64_t n_pages)
{
    return n_pages / 64 + (n_pages % 64 != 0);
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

    return harvest(&ring, &vcpu);
}
