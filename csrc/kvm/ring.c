/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty rings of a VM: opened, drained, collected. Linux Documentation/virt/kvm/api.rst, 8.29
 * KVM_CAP_DIRTY_LOG_RING; virt/kvm/dirty_ring.c.
 */
#include "../clock.h"
#include "ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* So many resets in a row that do nothing are no longer the doing of signals. */
#define MAX_IDLE_RESETS 1000

/*
 * Page of the vCPU's file at which its ring is: arch/{x86,arm64}/include/uapi/asm/kvm.h. The arm64
 * headers of a Linux before 6.2, such as Debian 12's, say 0, where newer kernels have kvm_run.
 */
#if defined(__aarch64__)
#define RING_PAGE_OFFSET 64
#else
#define RING_PAGE_OFFSET KVM_DIRTY_LOG_PAGE_OFFSET
#endif

/* ---- drain and collect ----------------------------------------------------------------------- */

/*
 * Let KVM protect the harvested pages again. A signal makes it stop early, and it says only how
 * many it did; that many in a row of none mean that it will never do the rest.
 */
static int reset(mpat_kvm_ring *ring)
{
    for (int idle = 0; ring->unreset > 0 && idle < MAX_IDLE_RESETS; idle++) {
        int n = mpat_kvm_ioctl(ring->vm_fd, KVM_RESET_DIRTY_RINGS, NULL);

        if (n < 0)
            return n;
        if (n > 0)
            idle = 0;
        ring->unreset -= (uint64_t)n < ring->unreset ? (uint64_t)n : ring->unreset;
    }
    if (ring->unreset == 0)
        return 0;
    ring->unreset = 0;
    return -EPROTO;
}

/* The caller holds the lock. */
static void drain(mpat_kvm_ring *ring)
{
    int error;

    for (size_t v = 0; v < ring->n_vcpus && !ring->broken; v++) {
        uint32_t taken = mpat_ring_harvest(ring, &ring->rings[v]);

        ring->harvested += taken;
        ring->unreset += taken;
        /* KVM stops the vCPU well before the last entry. Every entry in use means that it could
         * not; what it wrote beyond that lies on top of entries that were not harvested, and its
         * index has run ahead of the ring for good. */
        if (taken == ring->n_entries)
            ring->broken = -EOVERFLOW;
    }
    error = reset(ring);
    /* Pages that are not reset are not protected again: further writes to them go unseen. */
    if (error == -EPROTO && !ring->broken)
        ring->broken = error;
    if (ring->broken)
        error = ring->broken;
    if (error)
        note_failure(ring, error, error == -EOVERFLOW ? "dirty ring" : "KVM_RESET_DIRTY_RINGS", 0,
                     0);
}

int mpat_kvm_ring_drain(mpat_kvm_ring *ring, mpat_kvm_fault *fault)
{
    int error;

    if (!ring)
        return mpat_kvm_fail(fault, -EINVAL, "arguments", 0, 0);
    if (getpid() != ring->owner)
        return mpat_kvm_fail(fault, -EIO, "fork", 0, 0);
    pthread_mutex_lock(&ring->lock);
    drain(ring);
    error = ring->failure; /* stays, so that the next collect reports it too */
    if (error && fault)
        *fault = ring->why;
    pthread_mutex_unlock(&ring->lock);
    return error;
}

/* A copy, and not a swap of buffers: a vCPU may drain into the pending ones at any time, and the
 * caller's are its own. */
static void move_pending(mpat_kvm_ring *ring, uint64_t *const *bitmaps)
{
    for (size_t i = 0; i < ring->n_slots; i++) {
        size_t bytes = ring->slots[i].words * sizeof(uint64_t);

        memcpy(bitmaps[i], ring->slots[i].pending, bytes);
        memset(ring->slots[i].pending, 0, bytes);
    }
}

int mpat_kvm_ring_collect(mpat_kvm_ring *ring, uint64_t *const *bitmaps, mpat_collection *out,
                          mpat_kvm_fault *fault)
{
    int64_t begin_ns = mpat_now_ns();
    int error;

    if (!ring || !out || !mpat_kvm_has_bitmaps(bitmaps, ring->n_slots))
        return mpat_kvm_fail(fault, -EINVAL, "arguments", 0, 0);
    if (getpid() != ring->owner)
        return mpat_kvm_fail(fault, -EIO, "fork", 0, 0);
    pthread_mutex_lock(&ring->lock);
    drain(ring);
    error = ring->failure;
    if (error) {
        if (fault)
            *fault = ring->why;
        ring->failure = 0;
    } else {
        int64_t end_ns;

        move_pending(ring, bitmaps);
        end_ns = mpat_end_ns(ring->last_end_ns);
        *out = (mpat_collection){.start_ns = ring->last_end_ns,
                                 .end_ns = end_ns,
                                 .collect_ns = end_ns - begin_ns,
                                 .lost_pages = ring->lost_pages,
                                 .ring_entries = ring->harvested};
        ring->last_end_ns = end_ns;
        ring->lost_pages = 0;
        ring->harvested = 0;
    }
    pthread_mutex_unlock(&ring->lock);
    return error;
}

/* ---- open and close ------------------------------------------------------------------------- */

/*
 * Is this page of the vCPU's file part of its dirty ring? KVM refuses a private mapping of ring
 * pages alone (kvm_vcpu_mmap), while touching a shared mapping past the ring would be SIGBUS.
 * 1 or 0, or the negative errno of a mapping that failed for another reason.
 */
static int in_ring(int vcpu_fd, uint64_t page, size_t page_bytes)
{
    off_t offset = (off_t)((RING_PAGE_OFFSET + page) * page_bytes);
    void *map = mmap(NULL, page_bytes, PROT_READ, MAP_PRIVATE, vcpu_fd, offset);

    if (map == MAP_FAILED)
        return errno == EINVAL ? 1 : -errno;
    munmap(map, page_bytes);
    return 0;
}

static int check_ring_pages(int vcpu_fd, uint64_t n_pages, size_t page_bytes,
                            mpat_kvm_fault *fault)
{
    const uint64_t pages[] = {0, n_pages - 1, n_pages}; /* first, last, one too far */
    int is_in[3];

    for (int i = 0; i < 3; i++) {
        is_in[i] = in_ring(vcpu_fd, pages[i], page_bytes);
        if (is_in[i] < 0)
            return mpat_kvm_fail(fault, is_in[i], "mmap of the vCPU", 0, 0);
    }
    if (!is_in[0])
        return mpat_kvm_fail(fault, -ENXIO, "KVM_CAP_DIRTY_LOG_RING", 0, 0);
    if (!is_in[1] || is_in[2])
        return mpat_kvm_fail(fault, -ERANGE, "KVM_CAP_DIRTY_LOG_RING", 0, 0);
    return 0;
}

static int map_vcpu(mpat_kvm_ring *ring, struct vcpu_ring *vcpu, int fd, mpat_kvm_fault *fault)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    int error = mpat_kvm_check_fd(fd, "kvm-vcpu", fault);
    void *map;

    if (!error)
        error = check_ring_pages(fd, ring->map_bytes / page_bytes, page_bytes, fault);
    if (error)
        return error;
    map = mmap(NULL, ring->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
               (off_t)(RING_PAGE_OFFSET * page_bytes));
    if (map == MAP_FAILED)
        return mpat_kvm_fail(fault, -errno, "mmap of the vCPU", 0, 0);
    vcpu->entries = map;
    return 0;
}

static int by_slot_number(const void *a, const void *b)
{
    uint32_t left = (*(struct ring_slot *const *)a)->slot;
    uint32_t right = (*(struct ring_slot *const *)b)->slot;

    return left < right ? -1 : left > right;
}

static int add_slots(mpat_kvm_ring *ring, const mpat_memslot *slots, size_t n_slots)
{
    ring->slots = calloc(n_slots, sizeof ring->slots[0]);
    ring->sorted = calloc(n_slots, sizeof ring->sorted[0]);
    if (!ring->slots || !ring->sorted)
        return -ENOMEM;
    ring->n_slots = n_slots;
    for (size_t i = 0; i < n_slots; i++) {
        struct ring_slot *slot = &ring->slots[i];

        slot->slot = slots[i].slot;
        slot->n_pages = slots[i].n_pages;
        slot->words = mpat_bitmap_words(slots[i].n_pages);
        slot->pending = calloc(slot->words, sizeof slot->pending[0]);
        if (!slot->pending)
            return -ENOMEM;
        ring->sorted[i] = slot;
    }
    qsort(ring->sorted, n_slots, sizeof ring->sorted[0], by_slot_number);
    return 0;
}

static int check_ring_support(int vm_fd, mpat_kvm_fault *fault)
{
    int ring = mpat_kvm_ioctl(vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_DIRTY_LOG_RING);
    int acquire =
        mpat_kvm_ioctl(vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_DIRTY_LOG_RING_ACQ_REL);

    if (ring < 0)
        return mpat_kvm_fail(fault, ring, "KVM_CHECK_EXTENSION", 0, 0);
    if (ring == 0 && acquire <= 0)
        return mpat_kvm_fail(fault, -ENOTSUP, "KVM_CAP_DIRTY_LOG_RING", 0, 0);
    return 0;
}

static int check_ring_size(uint32_t ring_entries, mpat_kvm_fault *fault)
{
    size_t entries_per_page = (size_t)sysconf(_SC_PAGESIZE) / sizeof(struct kvm_dirty_gfn);

    if (ring_entries < entries_per_page || (ring_entries & (ring_entries - 1)) != 0)
        return mpat_kvm_fail(fault, -EINVAL, "ring_entries", 0, 0);
    return 0;
}

/* A former reader may have harvested entries and not have had them reset: their pages would never
 * be logged again. Two RESETs in a row without one, since a signal may cut one short. */
static int reset_leftovers(mpat_kvm_ring *ring)
{
    int idle = 0;

    while (idle < 2) {
        int n = mpat_kvm_ioctl(ring->vm_fd, KVM_RESET_DIRTY_RINGS, NULL);

        if (n < 0)
            return n;
        idle = n > 0 ? 0 : idle + 1;
    }
    return 0;
}

/* What the rings hold from before open is dropped; the first interval starts clean. */
static int begin_ring(mpat_kvm_ring *ring, mpat_kvm_fault *fault)
{
    int error = reset_leftovers(ring);

    if (error)
        return mpat_kvm_fail(fault, error, "KVM_RESET_DIRTY_RINGS", 0, 0);
    drain(ring);
    if (ring->failure && !is_benign(ring->failure)) {
        if (fault)
            *fault = ring->why;
        return ring->failure;
    }
    for (size_t i = 0; i < ring->n_slots; i++)
        memset(ring->slots[i].pending, 0, ring->slots[i].words * sizeof(uint64_t));
    ring->failure = 0;
    ring->lost_pages = 0;
    ring->harvested = 0;
    return 0;
}

int mpat_kvm_ring_open(int vm_fd, const int *vcpu_fds, size_t n_vcpus, const mpat_memslot *slots,
                       size_t n_slots, uint32_t ring_entries, mpat_kvm_ring **out,
                       mpat_kvm_fault *fault)
{
    mpat_kvm_ring *ring;
    int error;

    if (!out || !vcpu_fds || n_vcpus == 0)
        return mpat_kvm_fail(fault, -EINVAL, "vcpu_fds", 0, 0);
    error = mpat_kvm_check_memslots(slots, n_slots, fault);
    if (!error)
        error = check_ring_size(ring_entries, fault);
    if (error)
        return error;
    ring = calloc(1, sizeof *ring + n_vcpus * sizeof ring->rings[0]);
    if (!ring)
        return mpat_kvm_fail(fault, -ENOMEM, "malloc", 0, 0);
    ring->vm_fd = mpat_kvm_own_vm(vm_fd, fault);
    if (ring->vm_fd < 0) {
        error = ring->vm_fd;
        free(ring);
        return error;
    }
    ring->owner = getpid();
    ring->n_entries = ring_entries;
    ring->map_bytes = ring_entries * sizeof(struct kvm_dirty_gfn);
    pthread_mutex_init(&ring->lock, NULL);
    error = check_ring_support(ring->vm_fd, fault);
    if (!error) {
        error = add_slots(ring, slots, n_slots);
        if (error)
            mpat_kvm_fail(fault, error, "malloc", 0, 0);
    }
    for (size_t v = 0; !error && v < n_vcpus; v++) {
        error = map_vcpu(ring, &ring->rings[v], vcpu_fds[v], fault);
        if (!error)
            ring->n_vcpus++;
    }
    if (!error)
        error = begin_ring(ring, fault);
    if (error) {
        mpat_kvm_ring_close(ring);
        return error;
    }
    ring->last_end_ns = mpat_end_ns(ring->last_end_ns);
    *out = ring;
    return 0;
}

void mpat_kvm_ring_close(mpat_kvm_ring *ring)
{
    if (!ring)
        return;
    for (size_t v = 0; v < ring->n_vcpus; v++)
        munmap(ring->rings[v].entries, ring->map_bytes);
    for (size_t i = 0; i < ring->n_slots; i++)
        free(ring->slots[i].pending);
    free(ring->slots);
    free(ring->sorted);
    close(ring->vm_fd);
    if (getpid() == ring->owner) /* a child's copy may be locked, and never unlocked */
        pthread_mutex_destroy(&ring->lock);
    free(ring);
}
