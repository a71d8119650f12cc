/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty log and the dirty ring against a model of KVM that can be made to fail at will:
 * memslots that grow, shrink and vanish, interrupted calls, half-harvested and overflowing rings.
 * The model's rules are those of virt/kvm/kvm_main.c and dirty_ring.c; test_kvm_guest.c has the
 * real KVM.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "../kvm/vm.h"

static int model_ioctl(int fd, unsigned long request, void *argument);
static void *model_calloc(size_t n, size_t size);
static void *model_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
static int model_munmap(void *at, size_t n);
static int model_check_fd(int fd, const char *kind, mpat_kvm_fault *fault);
static int model_own_vm(int fd, mpat_kvm_fault *fault);

/* The code under test, its ways to the kernel led to the model. */
#define ioctl(fd, request, argument) model_ioctl(fd, request, argument)
#include "../kvm/vm.c"
#undef ioctl
#define calloc model_calloc
#define mpat_kvm_check_fd model_check_fd
#define mpat_kvm_own_vm model_own_vm
#include "../kvm/log.c"
#define mmap model_mmap
#define munmap model_munmap
#include "../kvm/ring.c"
#undef munmap
#undef mmap
#undef calloc
#undef mpat_kvm_own_vm
#undef mpat_kvm_check_fd

/* ---- the model ------------------------------------------------------------------------------ */

#define N_SLOTS 2
#define MAX_WORDS 8
#define RING 256
#define RING_AT 64 /* page of the vCPU's file; so on every architecture with a ring */
#define PAGE ((size_t)sysconf(_SC_PAGESIZE))

static struct {
    uint64_t n_pages[N_SLOTS]; /* 0: there is no such memslot */
    uint64_t dirty[N_SLOTS][MAX_WORDS];
    uint64_t writable[N_SLOTS][MAX_WORDS]; /* pages whose writes hardware does not report */
    int huge;            /* mapped by huge pages, which only CLEAR under INITIALLY_SET splits */
    uint64_t manual;     /* the value of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
    int known;           /* what KVM_CHECK_EXTENSION says of it */
    int interrupts;      /* so many calls return EINTR first */
    int fail_get_of;     /* memslot whose next GET fails with EIO, or -1 */
    int fail_reset;      /* the next RESET fails with this error */
    int fail_mmap;       /* so does every mmap */
    int fail_calloc;     /* so many calls for memory from now the one fails; 0: none */
    struct kvm_dirty_gfn ring[RING] __attribute__((aligned(4096)));
    int has_ring;
    int plain, acq_rel;  /* the capabilities by which it may be had: arm64 has the second alone */
    uint32_t pushed, cleared; /* free-running indices of KVM */
    uint32_t most_resets;     /* entries one RESET does before a signal stops it, 0: all */
    int every_other_reset;    /* does nothing: a signal was pending */
    int n_resets;
} kvm;

static int fail_with(int error)
{
    errno = error;
    return -1;
}

/* As the kernel does it: a bad address is an error, not a crash. */
static int copy_to_user(void *to, const void *from, size_t n)
{
    int ends[2], failed;

    if (pipe(ends))
        return -1;
    failed = write(ends[1], from, n) != (ssize_t)n || read(ends[0], to, n) != (ssize_t)n;
    close(ends[0]);
    close(ends[1]);
    return failed ? fail_with(EFAULT) : 0;
}

/* As kvm_arch_mmu_enable_log_dirty_pt_masked(): from now on, writes to these are seen again. */
static void protect(uint32_t slot, uint64_t word, uint64_t mask)
{
    if (kvm.huge && kvm.manual != 3)
        return;
    kvm.huge = 0; /* what faults now is mapped by single pages */
    kvm.writable[slot][word] &= ~mask;
}

/* The guest writes: a protected page faults once, is logged, and is writable from then on. */
static int faults(uint32_t slot, uint64_t page)
{
    uint64_t bit = UINT64_C(1) << page % 64;
    int was_protected = !(kvm.writable[slot][page / 64] & bit);

    kvm.writable[slot][page / 64] |= bit;
    return was_protected;
}

/* A VMM that made its memslots with INITIALLY_SET: all is dirty, nothing is protected. */
static void make_initially_set(int huge)
{
    kvm.manual = 3;
    kvm.huge = huge;
    for (uint32_t slot = 0; slot < N_SLOTS; slot++)
        for (uint64_t page = 0; page < kvm.n_pages[slot]; page++) {
            kvm.dirty[slot][page / 64] |= UINT64_C(1) << page % 64;
            kvm.writable[slot][page / 64] |= UINT64_C(1) << page % 64;
        }
}

static int model_get(const struct kvm_dirty_log *log)
{
    uint64_t taken[MAX_WORDS];

    if (log->slot >= N_SLOTS || kvm.n_pages[log->slot] == 0)
        return fail_with(ENOENT);
    if ((int)log->slot == kvm.fail_get_of) {
        kvm.fail_get_of = -1;
        return fail_with(EIO);
    }
    memcpy(taken, kvm.dirty[log->slot], sizeof taken);
    for (uint64_t w = 0; w < MAX_WORDS && !kvm.manual; w++) {
        kvm.dirty[log->slot][w] = 0;
        protect(log->slot, w, taken[w]);
    }
    return copy_to_user(log->dirty_bitmap, taken, (kvm.n_pages[log->slot] + 63) / 64 * 8);
}

static int model_clear(const struct kvm_clear_dirty_log *log)
{
    uint64_t n_pages;
    const uint64_t *bitmap = log->dirty_bitmap;

    if (log->slot >= N_SLOTS) /* KVM_USER_MEM_SLOTS */
        return fail_with(EINVAL);
    if (kvm.n_pages[log->slot] == 0)
        return fail_with(ENOENT);
    n_pages = kvm.n_pages[log->slot];
    if (log->first_page % 64 || log->first_page > n_pages ||
        log->num_pages > n_pages - log->first_page ||
        (log->num_pages % 64 && log->num_pages < n_pages - log->first_page))
        return fail_with(EINVAL);
    for (uint64_t w = 0; w < (log->num_pages + 63) / 64; w++) {
        uint64_t at = log->first_page / 64 + w, mask = kvm.dirty[log->slot][at] & bitmap[w];

        kvm.dirty[log->slot][at] &= ~mask;
        protect(log->slot, at, mask);
    }
    return 0;
}

static int model_reset(void)
{
    uint32_t n = 0;
    int error = kvm.fail_reset;

    kvm.fail_reset = 0;
    if (error)
        return fail_with(error);
    if (kvm.n_resets++ % 2 && kvm.every_other_reset)
        return 0;
    while (kvm.cleared != kvm.pushed &&
           kvm.ring[kvm.cleared % RING].flags == KVM_DIRTY_GFN_F_RESET &&
           (kvm.most_resets == 0 || n < kvm.most_resets)) {
        struct kvm_dirty_gfn *entry = &kvm.ring[kvm.cleared++ % RING];

        entry->flags = 0;
        if (entry->slot < N_SLOTS && entry->offset < kvm.n_pages[entry->slot])
            kvm.writable[entry->slot][entry->offset / 64] &= ~(UINT64_C(1) << entry->offset % 64);
        n++;
    }
    return (int)n;
}

static int model_check(uintptr_t capability)
{
    switch (capability) {
    case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: return kvm.known;
    case KVM_CAP_DIRTY_LOG_RING: return kvm.plain ? RING * 16 : 0;
    case KVM_CAP_DIRTY_LOG_RING_ACQ_REL: return kvm.acq_rel ? RING * 16 : 0;
    default: return fail_with(EINVAL);
    }
}

static int model_ioctl(int fd, unsigned long request, void *argument)
{
    (void)fd;
    if (kvm.interrupts > 0) {
        kvm.interrupts--;
        return fail_with(EINTR);
    }
    switch (request) {
    case KVM_CHECK_EXTENSION:
        return model_check((uintptr_t)argument);
    case KVM_ENABLE_CAP: kvm.manual = ((struct kvm_enable_cap *)argument)->args[0]; return 0;
    case KVM_GET_DIRTY_LOG: return model_get(argument);
    case KVM_CLEAR_DIRTY_LOG: return model_clear(argument);
    case KVM_RESET_DIRTY_RINGS: return model_reset();
    default: return fail_with(ENOTTY);
    }
}

static void *model_calloc(size_t n, size_t size);
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

static void *model_calloc(size_t n, size_t size)
{
    return kvm.fail_calloc > 0 && --kvm.fail_calloc == 0 ? NULL : calloc(n, size);
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

static int model_own_vm(int fd, mpat_kvm_fault *fault)
{
    (void)fd, (void)fault;
    return dup(STDERR_FILENO); /* something that can be closed */
}

static void start(uint64_t pages0, uint64_t pages1)
{
    memset(&kvm, 0, sizeof kvm);
    kvm.n_pages[0] = pages0;
    kvm.n_pages[1] = pages1;
    kvm.known = 3;
    kvm.fail_get_of = -1;
    kvm.has_ring = kvm.plain = kvm.acq_rel = 1;
}

static void write_page(uint32_t slot, uint64_t page)
{
    if (faults(slot, page))
        kvm.dirty[slot][page / 64] |= UINT64_C(1) << page % 64;
}

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

/* ---- what is collected ---------------------------------------------------------------------- */

static const mpat_memslot both[] = {{0, 130}, {1, 128}};
static uint64_t *bitmaps[N_SLOTS];

static uint64_t count(const uint64_t *bitmap, uint64_t n_pages)
{
    uint64_t n = 0;

    for (uint64_t p = 0; p < n_pages; p++)
        n += bitmap[p / 64] >> p % 64 & 1;
    return n;
}

static int has(const uint64_t *bitmap, uint64_t page)
{
    return (int)(bitmap[page / 64] >> page % 64 & 1);
}

/* ---- the log -------------------------------------------------------------------------------- */

static mpat_kvm_log *open_log(uint32_t flags)
{
    mpat_kvm_log *log = NULL;

    CHECK(mpat_kvm_log_open(5, both, 2, flags, &log, NULL) == 0);
    return log;
}

static void test_log_takes_each_page_once(uint32_t flags)
{
    mpat_collection collection;
    mpat_kvm_log *log;

    start(130, 128);
    write_page(0, 7); /* before open: not ours */
    log = open_log(flags);
    CHECK(kvm.manual == flags);
    write_page(0, 129);
    write_page(1, 0);
    write_page(1, 127);
    kvm.interrupts = 3;
    CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, NULL) == 0);
    CHECK(count(bitmaps[0], 130) == 1 && has(bitmaps[0], 129));
    CHECK(count(bitmaps[1], 128) == 2 && has(bitmaps[1], 0) && has(bitmaps[1], 127));
    CHECK(collection.end_ns > collection.start_ns && collection.lost_pages == 0);
    CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, NULL) == 0);
    CHECK(count(bitmaps[0], 130) == 0 && count(bitmaps[1], 128) == 0);
    mpat_kvm_log_close(log);
}

/* Written again and again, a page must be protected again and again; above all where the VMM's
 * memslots began with INITIALLY_SET and huge mappings, whatever mode is asked for. */
static void test_log_protects_again(uint32_t flags, int initially_set, int huge)
{
    mpat_collection collection;
    mpat_kvm_log *log;

    start(130, 128);
    if (initially_set)
        make_initially_set(huge);
    log = open_log(flags);
    for (int round = 0; round < 4; round++) {
        write_page(0, 129);
        write_page(0, 129);
        write_page(1, (uint64_t)round);
        CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, NULL) == 0);
        CHECK(count(bitmaps[0], 130) == 1 && has(bitmaps[0], 129));
        CHECK(count(bitmaps[1], 128) == 1 && has(bitmaps[1], (uint64_t)round));
    }
    mpat_kvm_log_close(log);
}

/* Every page of the last word dirty looks like the mark left there to see whether KVM wrote it. */
static void test_log_with_a_full_last_word(void)
{
    mpat_collection collection;
    mpat_kvm_log *log;

    start(130, 128);
    log = open_log(0);
    for (uint64_t page = 64; page < 128; page++)
        write_page(1, page);
    CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, NULL) == 0);
    CHECK(count(bitmaps[1], 128) == 64);
    mpat_kvm_log_close(log);
}

static void test_log_keeps_what_a_failure_interrupts(void)
{
    mpat_collection collection;
    mpat_kvm_fault fault;
    mpat_kvm_log *log;

    start(130, 128);
    log = open_log(0);
    write_page(0, 3);
    kvm.fail_get_of = 1;
    CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, &fault) == -EIO);
    CHECK(fault.slot == 1 && strcmp(fault.call, "KVM_GET_DIRTY_LOG") == 0);
    write_page(0, 4);
    write_page(1, 5);
    CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, NULL) == 0);
    CHECK(count(bitmaps[0], 130) == 2 && has(bitmaps[0], 3) && has(bitmaps[0], 4));
    CHECK(count(bitmaps[1], 128) == 1 && has(bitmaps[1], 5));
    CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, NULL) == 0);
    CHECK(count(bitmaps[0], 130) == 0);
    mpat_kvm_log_close(log);
}

static void test_log_sees_other_sizes(void)
{
    mpat_collection collection;
    mpat_kvm_fault fault;
    mpat_kvm_log *log = NULL;

    for (uint64_t size = 1; size <= 260; size++) {
        int expected = size == 128 ? 0 : -ERANGE;

        start(130, size);
        CHECK(mpat_kvm_log_open(5, both, 2, 0, &log, &fault) == expected);
        if (expected == 0)
            mpat_kvm_log_close(log);
        else
            CHECK(fault.slot == 1);
        start(size, 128);
        CHECK(mpat_kvm_log_open(5, both, 2, 0, &log, &fault) == (size == 130 ? 0 : -ERANGE));
        if (size == 130)
            mpat_kvm_log_close(log);
    }
    for (uint32_t flags = 0; flags <= 3; flags += 3) { /* a memslot that is resized later */
        start(130, 128);
        log = open_log(flags);
        kvm.n_pages[1] = 64;
        CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, &fault) == -ERANGE);
        CHECK(fault.slot == 1);
        kvm.n_pages[1] = 192;
        CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, &fault) == -ERANGE);
        CHECK(fault.slot == 1);
        kvm.n_pages[1] = 128;
        kvm.n_pages[0] = 140;
        write_page(0, 135);
        CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, &fault) == -ERANGE);
        CHECK(fault.slot == 0);
        kvm.n_pages[0] = 0;
        CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, &fault) == -ENOENT);
        CHECK(fault.slot == 0);
        kvm.n_pages[0] = 130;
        memset(kvm.dirty, 0, sizeof kvm.dirty); /* a new memslot has a new log */
        CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, &fault) == 0);
        CHECK((collection.lost_pages > 0) == (flags == 0)); /* cleared by a GET that failed */
        mpat_kvm_log_close(log);
    }
}

static void test_log_takes_nothing_without_bitmaps(void)
{
    uint64_t *const one[] = {bitmaps[0], NULL};
    mpat_collection collection;
    mpat_kvm_log *log;

    start(130, 128);
    log = open_log(0);
    write_page(0, 3);
    CHECK(mpat_kvm_log_collect(log, one, &collection, NULL) == -EINVAL);
    CHECK(mpat_kvm_log_collect(log, NULL, &collection, NULL) == -EINVAL);
    CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, NULL) == 0);
    CHECK(count(bitmaps[0], 130) == 1 && collection.lost_pages == 0);
    mpat_kvm_log_close(log);
}

static void test_log_refuses(void)
{
    const mpat_memslot twice[] = {{0, 130}, {0, 130}}, empty[] = {{0, 0}},
                       huge[] = {{0, UINT64_C(1) << 31}}, missing[] = {{1000, 130}},
                       larger[] = {{0, 131}};
    mpat_kvm_fault fault;
    mpat_kvm_log *log = NULL;

    start(130, 128);
    CHECK(mpat_kvm_log_open(5, twice, 2, 0, &log, &fault) == -EEXIST);
    CHECK(mpat_kvm_log_open(5, empty, 1, 0, &log, &fault) == -EINVAL);
    CHECK(mpat_kvm_log_open(5, huge, 1, 0, &log, &fault) == -EINVAL);
    CHECK(mpat_kvm_log_open(5, both, 0, 0, &log, &fault) == -EINVAL);
    kvm.manual = 77; /* what a refused open must leave alone */
    CHECK(mpat_kvm_log_open(5, missing, 1, 1, &log, &fault) == -ENOENT && fault.slot == 1000);
    CHECK(mpat_kvm_log_open(5, larger, 1, 1, &log, &fault) == -ERANGE && kvm.manual == 77);
    kvm.manual = 0;
    CHECK(mpat_kvm_log_open(5, both, 2, 2, &log, &fault) == -EINVAL); /* INITIALLY_SET alone */
    kvm.known = 1;
    CHECK(mpat_kvm_log_open(5, both, 2, 3, &log, &fault) == -ENOTSUP);
    kvm.known = 0;
    CHECK(mpat_kvm_log_open(5, both, 2, 1, &log, &fault) == -ENOTSUP);
    CHECK(mpat_kvm_log_open(5, both, 2, 0, &log, &fault) == 0); /* an old kernel, the old way */
    mpat_kvm_log_close(log);
    for (uint32_t flags = 0; flags <= 3; flags += 3) { /* fails when it has begun already */
        start(130, 128);
        kvm.manual = 1;
        kvm.fail_get_of = 1;
        CHECK(mpat_kvm_log_open(5, both, 2, flags, &log, &fault) == -EIO && fault.slot == 1);
        CHECK(kvm.manual == flags);
    }
    mpat_kvm_log_close(NULL);
}

/* ---- the ring ------------------------------------------------------------------------------- */

static mpat_kvm_ring *open_ring(void)
{
    const int vcpu = 6;
    mpat_kvm_ring *ring = NULL;

    CHECK(mpat_kvm_ring_open(5, &vcpu, 1, both, 2, RING, &ring, NULL) == 0);
    return ring;
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
    kvm.every_other_reset = 1;
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
    mpat_kvm_ring *ring;

    start(130, 128);
    ring = open_ring();
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
    mpat_kvm_ring *ring;

    start(130, 128);
    ring = open_ring();
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
    mpat_kvm_ring *ring;

    start(130, 128);
    ring = open_ring();
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
    mpat_kvm_ring *ring;

    start(130, 128);
    ring = open_ring();
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
    mpat_kvm_ring *ring;

    start(130, 128);
    ring = open_ring();
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
    mpat_kvm_ring *ring;

    start(130, 128);
    ring = open_ring();
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
static void test_memory_runs_out(void)
{
    int vcpu = 7, n_failed = 0;

    for (int nth = 1, error = -ENOMEM; error; nth++) {
        mpat_kvm_log *log = NULL;
        mpat_kvm_fault fault = {0};

        start(130, 128);
        kvm.fail_calloc = nth;
        error = mpat_kvm_log_open(5, both, 2, 0, &log, &fault);
        CHECK(error == 0 || (error == -ENOMEM && log == NULL && fault.call));
        n_failed += error != 0;
        mpat_kvm_log_close(log);
    }
    CHECK(n_failed == 1);
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
    CHECK(n_failed == 1 + 5);
}

/* What cannot be kept for want of memory is told as lost. */
static void test_no_memory_to_keep_pages_in(void)
{
    mpat_collection collection;
    mpat_kvm_log *log;

    start(130, 128);
    log = open_log(0);
    write_page(0, 7);
    write_page(1, 9);
    kvm.fail_get_of = 1;
    kvm.fail_calloc = 1;
    CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, NULL) == -EIO);
    CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, NULL) == 0);
    CHECK(collection.lost_pages == 1);
    CHECK(count(bitmaps[0], 130) == 0 && count(bitmaps[1], 128) == 1);
    mpat_kvm_log_close(log);
}

int main(void)
{
    for (size_t i = 0; i < N_SLOTS; i++)
        CHECK(mpat_bitmap_alloc(both[i].n_pages, &bitmaps[i]) == 0);
    for (uint32_t flags = 0; flags <= 3; flags++)
        if (flags != MPAT_KVM_INITIALLY_SET) {
            test_log_takes_each_page_once(flags);
            test_log_protects_again(flags, 0, 0);
            test_log_protects_again(flags, 1, 0);
            test_log_protects_again(flags, 1, 1);
        }
    test_log_with_a_full_last_word();
    test_log_keeps_what_a_failure_interrupts();
    test_log_sees_other_sizes();
    test_log_takes_nothing_without_bitmaps();
    test_log_refuses();
    test_ring_goes_round();
    test_ring_is_found_anywhere();
    test_ring_resets();
    test_ring_overflow_is_for_ever();
    test_ring_tells_of_another_reader();
    test_ring_without_reset_is_for_ever();
    test_ring_tells_the_worst();
    test_ring_takes_nothing_without_bitmaps();
    test_ring_names_strangers();
    test_ring_by_either_capability();
    test_ring_refuses();
    test_memory_runs_out();
    test_no_memory_to_keep_pages_in();
    for (size_t i = 0; i < N_SLOTS; i++)
        mpat_bitmap_free(bitmaps[i], both[i].n_pages);
    return failures != 0;
}
