/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model of KVM that can be made to fail at will: memslots that grow, shrink and vanish, interrupted
 * calls, half-harvested and overflowing rings. Its rules are those of virt/kvm/kvm_main.c and
 * dirty_ring.c; test_kvm_guest.c has the real KVM. test_kvm_log.c and test_kvm_ring.c include this,
 * and then the code under test with its ways to the kernel led here.
 */
#ifndef MPAT_KVM_MODEL_H
#define MPAT_KVM_MODEL_H

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "../kvm/vm.h"

#define N_SLOTS 2
#define MAX_WORDS 8
#define RING 512

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
    int idle_resets;          /* so many do nothing after one that does: signals were pending */
    int n_resets;
    time_t stands_at; /* second at which CLOCK_MONOTONIC stands still; 0: it goes */
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
    if (kvm.n_resets++ % (kvm.idle_resets + 1))
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

static void *model_calloc(size_t n, size_t size)
{
    return kvm.fail_calloc > 0 && --kvm.fail_calloc == 0 ? NULL : calloc(n, size);
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

/* ---- what is under test, and what it collects ----------------------------------------------- */

#define ioctl(fd, request, argument) model_ioctl(fd, request, argument)
#include "../kvm/vm.c"
#undef ioctl
static int model_clock_gettime(clockid_t clock, struct timespec *now)
{
    if (kvm.stands_at == 0)
        return clock_gettime(clock, now);
    *now = (struct timespec){.tv_sec = kvm.stands_at};
    return 0;
}

/* For what the test includes next. */
#define clock_gettime model_clock_gettime
#define calloc model_calloc
#define mpat_kvm_own_vm model_own_vm

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

static void alloc_bitmaps(void)
{
    for (size_t i = 0; i < N_SLOTS; i++)
        CHECK(mpat_bitmap_alloc(both[i].n_pages, &bitmaps[i]) == 0);
}

static void free_bitmaps(void)
{
    for (size_t i = 0; i < N_SLOTS; i++)
        mpat_bitmap_free(bitmaps[i], both[i].n_pages);
}

#endif
