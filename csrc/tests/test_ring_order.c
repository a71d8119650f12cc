/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty ring while vCPU threads fill it, with no more order between the sides than
 * KVM_CAP_DIRTY_LOG_RING_ACQ_REL promises: KVM publishes an entry by a store-release of its flags and
 * takes it back after a load-acquire (virt/kvm/dirty_ring.c). Every page must be seen exactly once.
 * ThreadSanitizer reports here what lacks that order; on one CPU of an emulator it hardly shows.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "../kvm/vm.h"

static int model_ioctl(int fd, unsigned long request, void *argument);
static void *model_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
static int model_check_fd(int fd, const char *kind, mpat_kvm_fault *fault);
static int model_own_vm(int fd, mpat_kvm_fault *fault);

#define mpat_kvm_ioctl(fd, request, argument) model_ioctl(fd, request, argument)
#define mpat_kvm_check_fd model_check_fd
#define mpat_kvm_own_vm model_own_vm
#define mmap model_mmap
#define munmap(at, n) ((void)(at), (void)(n))
#include "../kvm/ring.c"
#undef munmap
#undef mmap

#define N_VCPUS 2
#define RING 4096
#define RESERVED 64 /* entries that KVM keeps free: it stops the vCPU before */
#define N_PAGES (1 << 17)
#define STRIDE 40503 /* odd: page i * STRIDE goes through all pages, in no order of theirs */
#define RING_AT 64   /* page of the vCPU's file; so on every architecture with a ring */

static struct model_vcpu {
    struct kvm_dirty_gfn ring[RING];
    uint32_t pushed;  /* by its thread alone */
    uint32_t cleared; /* by RESET; the thread looks how far it came */
} vcpus[N_VCPUS];

static int reset_ring(struct model_vcpu *vcpu)
{
    int n = 0;

    for (;; n++) {
        struct kvm_dirty_gfn *entry = &vcpu->ring[vcpu->cleared % RING];

        if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_RESET)
            return n;
        entry->slot = N_VCPUS; /* who still reads it reads what is wrong */
        __atomic_store_n(&entry->flags, 0, __ATOMIC_RELEASE);
        __atomic_store_n(&vcpu->cleared, vcpu->cleared + 1, __ATOMIC_RELEASE);
    }
}

static int model_ioctl(int fd, unsigned long request, void *argument)
{
    int n = 0;

    (void)fd;
    if (request == KVM_CHECK_EXTENSION) /* as on arm64: the plain capability is not there */
        return (uintptr_t)argument == KVM_CAP_DIRTY_LOG_RING_ACQ_REL ? (int)sizeof vcpus[0].ring : 0;
    for (size_t v = 0; v < N_VCPUS; v++)
        n += reset_ring(&vcpus[v]);
    return n;
}

static void *model_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE), page = (size_t)offset / page_bytes - RING_AT;

    (void)at, (void)n, (void)protection;
    if (flags & MAP_PRIVATE && page < sizeof vcpus[0].ring / page_bytes) {
        errno = EINVAL;
        return MAP_FAILED;
    }
    return vcpus[fd].ring;
}

static int model_check_fd(int fd, const char *kind, mpat_kvm_fault *fault)
{
    (void)fd, (void)kind, (void)fault;
    return 0;
}

static int model_own_vm(int fd, mpat_kvm_fault *fault)
{
    (void)fd, (void)fault;
    return dup(STDERR_FILENO); /* something that can be closed */
}

/* Writes each page of its memslot once. */
static void *run_vcpu(void *argument)
{
    struct model_vcpu *vcpu = argument;

    for (uint32_t i = 0; i < N_PAGES; i++) {
        struct kvm_dirty_gfn *entry = &vcpu->ring[vcpu->pushed % RING];

        while (vcpu->pushed - __atomic_load_n(&vcpu->cleared, __ATOMIC_ACQUIRE) >= RING - RESERVED)
            sched_yield();
        entry->slot = (uint32_t)(vcpu - vcpus);
        entry->offset = i * STRIDE % N_PAGES;
        __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_DIRTY, __ATOMIC_RELEASE);
        vcpu->pushed++;
    }
    return NULL;
}

int main(void)
{
    const mpat_memslot slots[N_VCPUS] = {{0, N_PAGES}, {1, N_PAGES}};
    const int fds[N_VCPUS] = {0, 1};
    uint64_t *bitmaps[N_VCPUS], n_entries = 0, n_seen = 0;
    uint8_t *seen = calloc(N_VCPUS, N_PAGES);
    mpat_kvm_ring *ring = NULL;
    pthread_t threads[N_VCPUS];

    for (size_t v = 0; v < N_VCPUS; v++)
        CHECK(mpat_bitmap_alloc(N_PAGES, &bitmaps[v]) == 0);
    CHECK(mpat_kvm_ring_open(0, fds, N_VCPUS, slots, N_VCPUS, RING, &ring, NULL) == 0);
    for (size_t v = 0; ring && v < N_VCPUS; v++)
        pthread_create(&threads[v], NULL, run_vcpu, &vcpus[v]);
    while (ring && n_entries < N_VCPUS * N_PAGES && !failures) {
        mpat_collection collection;

        CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, NULL) == 0);
        CHECK(collection.lost_pages == 0);
        n_entries += collection.ring_entries;
        for (size_t v = 0; v < N_VCPUS; v++)
            for (uint64_t page = 0; page < N_PAGES; page++)
                seen[v * N_PAGES + page] += bitmaps[v][page / 64] >> page % 64 & 1;
    }
    if (failures)
        return 1; /* the threads may wait for ever */
    for (size_t v = 0; v < N_VCPUS; v++)
        pthread_join(threads[v], NULL);
    for (size_t i = 0; i < N_VCPUS * N_PAGES; i++)
        n_seen += seen[i] == 1;
    CHECK(n_seen == N_VCPUS * N_PAGES);
    mpat_kvm_ring_close(ring);
    for (size_t v = 0; v < N_VCPUS; v++)
        mpat_bitmap_free(bitmaps[v], N_PAGES);
    free(seen);
    return failures != 0;
}
