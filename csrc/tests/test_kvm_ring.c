/* SPDX-License-Identifier: Apache-2.0 */
/* The dirty ring against a model of KVM; test_ring_order.c has the order between its two sides. */
#include "kvm_model.h"

#include <sys/mman.h>

#define RING_AT 64 /* page of the vCPU's file; so on every architecture with a ring */
#define PAGE ((size_t)sysconf(_SC_PAGESIZE))

static void *model_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    size_t page = (size_t)offset / PAGE - RING_AT;

    (void)at, (void)n, (void)protection, (void)fd;
    if (kvm.fail_mmap) {
        errno = kvm.fail_mmap;
        return MAP_FAILED;
    }
    if (flags & MAP_PRIVATE) { /* kvm_vcpu_mmap: ring pages must be shared */
        errno = EINVAL;
        return kvm.has_ring && page < sizeof kvm.ring / PAGE ? MAP_FAILED : (void *)kvm.ring;
    }
    return kvm.ring;
}

static int model_munmap(void *at, size_t n)
{
    (void)at, (void)n;
    return 0;
}

static int model_check_fd(int fd, const char *kind, mpat_kvm_fault *fault)
{
    (void)fd, (void)kind, (void)fault;
    return 0;
}

#define mpat_kvm_check_fd model_check_fd
#define mmap model_mmap
#define munmap model_munmap
#include "../kvm/ring.c"
#undef munmap
#undef mmap

static void push(uint32_t slot, uint64_t page)
{
    struct kvm_dirty_gfn *entry = &kvm.ring[kvm.pushed++ % RING];

    entry->slot = slot;
    entry->offset = page;
    entry->flags = KVM_DIRTY_GFN_F_DIRTY;
}

/* The same of a VM with a ring: only what faults gets an entry. */
static void write_to_ring(uint32_t slot, uint64_t page)
{
    if (faults(slot, page))
        push(slot, page);
}

static mpat_kvm_ring *open_ring(void)
{
    const int vcpu = 6;
    mpat_kvm_ring *ring = NULL;

    CHECK(mpat_kvm_ring_open(5, &vcpu, 1, both, 2, RING, &ring, NULL) == 0);
    return ring;
}

static mpat_kvm_ring *start_with_ring(void)
{
    start(130, 128);
    return open_ring();
}

static void test_ring_goes_round(void)
{
    mpat_collection collection;
    mpat_kvm_ring *ring;

    start(130, 128);
    push(0, 9); /* before open: dropped */
    ring = open_ring();
    for (unsigned round = 0; round < 40; round++) {
        for (uint64_t i = 0; i < 100; i++) {
            push(1, (round + i) % 128);
            push(0, i % 3);
            if (i == 50)
                CHECK(mpat_kvm_ring_drain(ring, NULL) == 0);
        }
        kvm.most_resets = round % 2 ? 7 : 0;
        kvm.interrupts = 2;
        CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, NULL) == 0);
        CHECK(count(bitmaps[1], 128) == 100 && count(bitmaps[0], 130) == 3);
        CHECK(has(bitmaps[1], round % 128) && !has(bitmaps[1], (round + 100) % 128));
        CHECK(collection.ring_entries == 200 && collection.lost_pages == 0);
        CHECK(kvm.cleared == kvm.pushed);
    }
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, NULL) == 0);
    CHECK(count(bitmaps[1], 128) == 0 && collection.ring_entries == 0);
    mpat_kvm_ring_close(ring);
}

/* The ring was used before we came: KVM goes on where it stands, and does not say where. */
static void test_ring_is_found_anywhere(void)
{
    mpat_collection collection;

    for (uint32_t at = 0; at < RING; at++) {
        mpat_kvm_ring *ring;

        start(130, 128);
        kvm.pushed = kvm.cleared = at;
        ring = open_ring();
        CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, NULL) == 0);
        CHECK(count(bitmaps[0], 130) == 0);
        for (uint64_t i = 0; i < 70; i++)
            push(0, i);
        CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, NULL) == 0);
        CHECK(count(bitmaps[0], 130) == 70 && collection.ring_entries == 70);
        mpat_kvm_ring_close(ring);
    }
}

/* Many signals, and still it goes on. */
static void test_ring_resets_one_by_one(void)
{
    mpat_collection collection;
    mpat_kvm_ring *ring = start_with_ring();

    for (uint64_t page = 0; page < 128; page++)
        write_to_ring(1, page);
    kvm.most_resets = 1;
    kvm.idle_resets = 10;
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, NULL) == 0);
    CHECK(count(bitmaps[1], 128) == 128 && kvm.cleared == kvm.pushed);
    mpat_kvm_ring_close(ring);
}

static void test_ring_in_any_order_of_slots(void)
{
    const mpat_memslot reversed[] = {both[1], both[0]};
    uint64_t *reversed_bitmaps[] = {bitmaps[1], bitmaps[0]};
    mpat_collection collection;
    mpat_kvm_ring *ring = NULL;
    const int vcpu = 6;

    start(130, 128);
    CHECK(mpat_kvm_ring_open(5, &vcpu, 1, reversed, 2, RING, &ring, NULL) == 0);
    push(0, 129);
    push(1, 3);
    CHECK(mpat_kvm_ring_collect(ring, reversed_bitmaps, &collection, NULL) == 0);
    CHECK(count(bitmaps[0], 130) == 1 && has(bitmaps[0], 129));
    CHECK(count(bitmaps[1], 128) == 1 && has(bitmaps[1], 3));
    mpat_kvm_ring_close(ring);
}

static void test_ring_while_the_clock_stands(void)
{
    mpat_collection before, collection;
    mpat_kvm_ring *ring;

    start(130, 128);
    kvm.stands_at = 1000;
    ring = open_ring();
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &before, NULL) == 0);
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, NULL) == 0);
    CHECK(before.end_ns == before.start_ns + 1 && collection.start_ns == before.end_ns);
    CHECK(collection.end_ns == collection.start_ns + 1);
    mpat_kvm_ring_close(ring);
}

static void test_ring_resets(void)
{
    mpat_collection collection;
    mpat_kvm_ring *ring;

    start(130, 128);
    for (uint64_t page = 0; page < 20; page++)
        write_to_ring(0, page);
    for (uint32_t i = 0; i < 10; i++) /* a former reader took ten and did not have them reset */
        kvm.ring[i].flags = KVM_DIRTY_GFN_F_RESET;
    kvm.most_resets = 3;
    kvm.idle_resets = 1;
    ring = open_ring();
    for (int round = 0; round < 5; round++) {
        for (uint64_t page = 0; page < 20; page++)
            write_to_ring(0, page);
        write_to_ring(0, 5);
        CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, NULL) == 0);
        CHECK(count(bitmaps[0], 130) == 20 && collection.ring_entries == 20);
    }
    mpat_kvm_ring_close(ring);
}

static void test_ring_overflow_is_for_ever(void)
{
    const int vcpu = 6;
    mpat_collection collection;
    mpat_kvm_fault fault;
    mpat_kvm_ring *ring = start_with_ring();

    for (uint64_t i = 0; i < RING + 10; i++) /* the first ten are overwritten */
        push(0, i % 130);
    CHECK(mpat_kvm_ring_drain(ring, &fault) == -EOVERFLOW);
    for (int round = 0; round < 3; round++) {
        push(0, 7);
        CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, &fault) == -EOVERFLOW);
    }
    mpat_kvm_ring_close(ring);

    start(130, 128);
    for (uint64_t i = 0; i < RING; i++)
        push(0, i % 130);
    CHECK(mpat_kvm_ring_open(5, &vcpu, 1, both, 2, RING, &ring, &fault) == -EOVERFLOW);
}

static void test_ring_tells_of_another_reader(void)
{
    mpat_collection collection;
    mpat_kvm_fault fault;
    mpat_kvm_ring *ring = start_with_ring();

    push(0, 1);
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, NULL) == 0 && has(bitmaps[0], 1));
    for (uint64_t page = 2; page < 5; page++) { /* three entries that somebody else takes */
        push(0, page);
        kvm.ring[(kvm.pushed - 1) % RING].flags = 0;
        kvm.cleared++;
    }
    push(0, 9);
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, &fault) == -ESTALE);
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, NULL) == 0);
    CHECK(count(bitmaps[0], 130) == 1 && has(bitmaps[0], 9) && collection.lost_pages > 0);
    mpat_kvm_ring_close(ring);
}

/* A vCPU of another VM: this one's RESET does nothing to it, and its page is never logged again. */
static void test_ring_without_reset_is_for_ever(void)
{
    mpat_collection collection;
    mpat_kvm_fault fault;
    mpat_kvm_ring *ring = start_with_ring();

    push(0, 3);
    kvm.cleared++;
    for (int round = 0; round < 3; round++) {
        CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, &fault) == -EPROTO);
        CHECK(strcmp(fault.call, "KVM_RESET_DIRTY_RINGS") == 0);
    }
    CHECK(mpat_kvm_ring_drain(ring, NULL) == -EPROTO);
    mpat_kvm_ring_close(ring);
}

/* What ends a vCPU must not hide behind what does not, in whatever order they come. */
static void test_ring_tells_the_worst(void)
{
    mpat_collection collection;
    mpat_kvm_fault fault;
    mpat_kvm_ring *ring = start_with_ring();

    push(9, 4);
    CHECK(mpat_kvm_ring_drain(ring, &fault) == -ENOENT);
    push(1, 128);
    CHECK(mpat_kvm_ring_drain(ring, &fault) == -ENOENT && fault.slot == 9); /* the first of such */
    push(0, 1);
    kvm.fail_reset = EIO;
    CHECK(mpat_kvm_ring_drain(ring, &fault) == -EIO);
    CHECK(strcmp(fault.call, "KVM_RESET_DIRTY_RINGS") == 0);
    push(9, 4);
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, &fault) == -EIO);
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, &fault) == 0 && has(bitmaps[0], 1));
    push(9, 4);
    for (uint64_t i = 0; i < RING - 1; i++)
        push(0, i % 130);
    CHECK(mpat_kvm_ring_drain(ring, &fault) == -EOVERFLOW);
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, &fault) == -EOVERFLOW);
    mpat_kvm_ring_close(ring);
}

static void test_ring_takes_nothing_without_bitmaps(void)
{
    uint64_t *const one[] = {bitmaps[0], NULL};
    mpat_collection collection;
    mpat_kvm_ring *ring = start_with_ring();

    push(0, 3);
    CHECK(mpat_kvm_ring_collect(ring, one, &collection, NULL) == -EINVAL);
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, NULL) == 0);
    CHECK(count(bitmaps[0], 130) == 1 && collection.ring_entries == 1);
    mpat_kvm_ring_close(ring);
}

static void test_ring_names_strangers(void)
{
    mpat_collection collection;
    mpat_kvm_fault fault;
    mpat_kvm_ring *ring = start_with_ring();

    push(0, 1);
    push(9, 4);
    push(1, 2);
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, &fault) == -ENOENT && fault.slot == 9);
    push(1, 128);
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, &fault) == -ERANGE && fault.slot == 1 &&
          fault.page == 128);
    CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, NULL) == 0);
    CHECK(count(bitmaps[0], 130) == 1 && count(bitmaps[1], 128) == 1 && has(bitmaps[1], 2));
    CHECK(collection.lost_pages == 1);
    mpat_kvm_ring_close(ring);
}

/* An x86 kernel has both capabilities, an older one the plain one, arm64's that with the order. */
static void test_ring_by_either_capability(void)
{
    const int vcpu = 6;

    for (int caps = 0; caps < 4; caps++) {
        mpat_collection collection;
        mpat_kvm_fault fault;
        mpat_kvm_ring *ring = NULL;

        start(130, 128);
        kvm.plain = caps & 1;
        kvm.acq_rel = caps >> 1;
        CHECK(mpat_kvm_ring_open(5, &vcpu, 1, both, 2, RING, &ring, &fault) ==
              (caps ? 0 : -ENOTSUP));
        if (!caps) {
            CHECK(!ring && strcmp(fault.call, "KVM_CAP_DIRTY_LOG_RING") == 0);
            continue;
        }
        push(0, 3);
        CHECK(mpat_kvm_ring_collect(ring, bitmaps, &collection, NULL) == 0);
        CHECK(count(bitmaps[0], 130) == 1 && has(bitmaps[0], 3));
        mpat_kvm_ring_close(ring);
    }
}

static void test_ring_refuses(void)
{
    const int vcpu = 6;
    mpat_kvm_ring *ring = NULL;

    start(130, 128);
    CHECK(mpat_kvm_ring_open(5, &vcpu, 1, both, 2, 2 * RING, &ring, NULL) == -ERANGE);
    CHECK(mpat_kvm_ring_open(5, &vcpu, 1, both, 2, RING / 2, &ring, NULL) == -ERANGE);
    CHECK(mpat_kvm_ring_open(5, &vcpu, 1, both, 2, RING + 1, &ring, NULL) == -EINVAL);
    CHECK(mpat_kvm_ring_open(5, &vcpu, 1, both, 2, 0, &ring, NULL) == -EINVAL);
    CHECK(mpat_kvm_ring_open(5, &vcpu, 0, both, 2, RING, &ring, NULL) == -EINVAL);
    kvm.has_ring = 0;
    CHECK(mpat_kvm_ring_open(5, &vcpu, 1, both, 2, RING, &ring, NULL) == -ENXIO);
    kvm.has_ring = 1;
    kvm.fail_mmap = ENOMEM; /* which says nothing about the ring */
    CHECK(mpat_kvm_ring_open(5, &vcpu, 1, both, 2, RING, &ring, NULL) == -ENOMEM);
    mpat_kvm_ring_close(NULL);
}

/* Each call for memory of an open fails once: nothing is kept, and the next open works. */
static void test_ring_memory_runs_out(void)
{
    int vcpu = 7, n_failed = 0;

    for (int nth = 1, error = -ENOMEM; error; nth++) {
        mpat_kvm_ring *ring = NULL;
        mpat_kvm_fault fault = {0};

        start(130, 128);
        kvm.fail_calloc = nth;
        error = mpat_kvm_ring_open(5, &vcpu, 1, both, 2, RING, &ring, &fault);
        CHECK(error == 0 || (error == -ENOMEM && ring == NULL && fault.call));
        n_failed += error != 0;
        mpat_kvm_ring_close(ring);
    }
    CHECK(n_failed == 5);
}

int main(void)
{
    alloc_bitmaps();
    test_ring_goes_round();
    test_ring_is_found_anywhere();
    test_ring_resets();
    test_ring_resets_one_by_one();
    test_ring_in_any_order_of_slots();
    test_ring_while_the_clock_stands();
    test_ring_overflow_is_for_ever();
    test_ring_tells_of_another_reader();
    test_ring_without_reset_is_for_ever();
    test_ring_tells_the_worst();
    test_ring_takes_nothing_without_bitmaps();
    test_ring_names_strangers();
    test_ring_by_either_capability();
    test_ring_refuses();
    test_ring_memory_runs_out();
    free_bitmaps();
    return failures != 0;
}
