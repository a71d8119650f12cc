/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty log: KVM_GET_DIRTY_LOG alone, or with manual protect and KVM_CLEAR_DIRTY_LOG.
 * Linux Documentation/virt/kvm/api.rst, 4.8, 4.117 and 7.18; virt/kvm/kvm_main.c.
 */
#include "../clock.h"
#include "vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct logged_slot {
    uint32_t slot;
    uint32_t n_pages;
    uint64_t words;
    uint64_t *kept; /* pages taken from the kernel by a collection that then failed, or NULL */
};

struct mpat_kvm_log {
    int vm_fd;
    int manual_protect;
    int can_clear; /* KVM knows KVM_CLEAR_DIRTY_LOG, in whatever mode the VM is */
    int64_t last_end_ns;
    uint64_t lost_pages;
    atomic_flag busy;
    size_t n_slots;
    struct logged_slot slots[];
};

static int get_dirty_log(const mpat_kvm_log *log, const struct logged_slot *slot, uint64_t *bitmap)
{
    struct kvm_dirty_log request = {.slot = slot->slot, .dirty_bitmap = bitmap};

    return mpat_kvm_ioctl(log->vm_fd, KVM_GET_DIRTY_LOG, &request);
}

static int clear_dirty_log(const mpat_kvm_log *log, uint32_t slot, uint64_t first_page,
                           uint32_t n_pages, uint64_t *bitmap)
{
    struct kvm_clear_dirty_log request = {
        .slot = slot, .first_page = first_page, .num_pages = n_pages, .dirty_bitmap = bitmap};

    return mpat_kvm_ioctl(log->vm_fd, KVM_CLEAR_DIRTY_LOG, &request);
}

/*
 * Is the kernel's memslot exactly as large as we were told? No ioctl says so, but clearing nothing
 * (an all-zero bitmap) is free of effect and refused with EINVAL unless the range lies inside the
 * slot and its length is a multiple of 64 or reaches the slot's very end.
 */
static int check_slot_size(const mpat_kvm_log *log, const struct logged_slot *slot)
{
    uint64_t none = 0, *zeros;
    int error = clear_dirty_log(log, slot->slot, 0, 0, &none);

    if (error) /* fits every slot, so EINVAL is for a number that KVM cannot have */
        return error == -EINVAL ? -ENOENT : error;
    error = mpat_bitmap_alloc(slot->n_pages, &zeros);
    if (error)
        return error;
    error = clear_dirty_log(log, slot->slot, 0, slot->n_pages, zeros);
    mpat_bitmap_free(zeros, slot->n_pages);
    if (error)
        return error == -EINVAL ? -ERANGE : error;
    if (slot->n_pages % 64 != 0)
        return 0;
    for (uint32_t beyond = 1; beyond <= 64; beyond++)
        if (clear_dirty_log(log, slot->slot, slot->n_pages, beyond, &none) == 0)
            return -ERANGE;
    return 0;
}

/* Bits that KVM never sets: those past the last page, in the last word. */
static uint64_t padding(const struct logged_slot *slot)
{
    return slot->n_pages % 64 ? ~UINT64_C(0) << slot->n_pages % 64 : 0;
}

/*
 * One slot's log into a bitmap that ends at a guard page. A memslot that grew faults on the guard
 * or sets a padding bit; one that shrank leaves the last word as it was before the call.
 */
static int read_slot(const mpat_kvm_log *log, const struct logged_slot *slot, uint64_t *bitmap,
                     const char **call)
{
    const uint64_t untouched = ~UINT64_C(0);
    uint64_t none = 0, *last = bitmap + slot->words - 1;
    int error;

    *call = "KVM_GET_DIRTY_LOG";
    *last = untouched;
    error = get_dirty_log(log, slot, bitmap);
    if (error)
        return error == -EFAULT ? -ERANGE : error;
    if (*last & padding(slot))
        return -ERANGE;
    if (*last == untouched && log->can_clear &&
        clear_dirty_log(log, slot->slot, slot->n_pages - 64, 64, &none) == -EINVAL)
        return -ERANGE;
    return 0;
}

static int write_protect_again(const mpat_kvm_log *log, const struct logged_slot *slot,
                               uint64_t *bitmap, const char **call)
{
    int error;

    *call = "KVM_CLEAR_DIRTY_LOG";
    error = clear_dirty_log(log, slot->slot, 0, slot->n_pages, bitmap);
    return error == -EINVAL ? -ERANGE : error;
}

/* A legacy GET has taken the pages as soon as it returns; with manual protect, the CLEAR has. */
static int take_slot(const mpat_kvm_log *log, const struct logged_slot *slot, uint64_t *bitmap,
                     mpat_kvm_fault *fault)
{
    const char *call;
    int error = read_slot(log, slot, bitmap, &call);

    if (!error && log->manual_protect)
        error = write_protect_again(log, slot, bitmap, &call);
    return error ? mpat_kvm_fail(fault, error, call, slot->slot, 0) : 0;
}

static int drop_logged(const mpat_kvm_log *log, mpat_kvm_fault *fault)
{
    for (size_t i = 0; i < log->n_slots; i++) {
        const struct logged_slot *slot = &log->slots[i];
        uint64_t *bitmap;
        int error = mpat_bitmap_alloc(slot->n_pages, &bitmap);

        if (error)
            return mpat_kvm_fail(fault, error, "mmap", slot->slot, 0);
        error = take_slot(log, slot, bitmap, fault);
        mpat_bitmap_free(bitmap, slot->n_pages);
        if (error)
            return error;
    }
    return 0;
}

/* What KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 offers, with `flags` among it. */
static int learn_manual_protect(mpat_kvm_log *log, uint32_t flags, uint32_t *offered,
                                mpat_kvm_fault *fault)
{
    int known = mpat_kvm_ioctl(log->vm_fd, KVM_CHECK_EXTENSION,
                               (void *)(uintptr_t)KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);

    if (known < 0)
        return mpat_kvm_fail(fault, known, "KVM_CHECK_EXTENSION", 0, 0);
    if ((flags & (uint32_t)known) != flags)
        return mpat_kvm_fail(fault, -ENOTSUP, "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2", 0, 0);
    log->can_clear = known != 0;
    *offered = (uint32_t)known;
    return 0;
}

static int set_manual_protect(mpat_kvm_log *log, uint32_t flags, mpat_kvm_fault *fault)
{
    struct kvm_enable_cap enable = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {flags}};
    int error = 0;

    if (log->can_clear)
        error = mpat_kvm_ioctl(log->vm_fd, KVM_ENABLE_CAP, &enable);
    log->manual_protect = flags != 0;
    return error ? mpat_kvm_fail(fault, error, "KVM_ENABLE_CAP", 0, 0) : 0;
}

/*
 * Drop what was logged before, so that the first collection starts now, then set the mode. A VMM
 * may have made the memslots with INITIALLY_SET: KVM has write-protected nothing yet then, and
 * splits and protects huge mappings only when it clears in that very mode
 * (kvm_arch_mmu_enable_log_dirty_pt_masked). So the dropping is done in it, whatever is asked for;
 * where the memslots were made otherwise it makes no difference. Where it fails, the VM is not left
 * in a mode that nobody asked for.
 */
static int begin_log(mpat_kvm_log *log, uint32_t flags, uint32_t offered, mpat_kvm_fault *fault)
{
    int error = set_manual_protect(log, offered, fault), mode_error;

    if (error)
        return error;
    error = drop_logged(log, fault);
    mode_error = set_manual_protect(log, flags, error ? NULL : fault);
    return error ? error : mode_error;
}

static int check_slots(const mpat_kvm_log *log, mpat_kvm_fault *fault)
{
    if (!log->can_clear)
        return 0;
    for (size_t i = 0; i < log->n_slots; i++) {
        int error = check_slot_size(log, &log->slots[i]);

        if (error)
            return mpat_kvm_fail(fault, error, "KVM_CLEAR_DIRTY_LOG", log->slots[i].slot, 0);
    }
    return 0;
}

int mpat_kvm_log_open(int vm_fd, const mpat_memslot *slots, size_t n_slots, uint32_t flags,
                      mpat_kvm_log **out, mpat_kvm_fault *fault)
{
    const uint32_t both = MPAT_KVM_MANUAL_PROTECT | MPAT_KVM_INITIALLY_SET;
    mpat_kvm_log *log;
    uint32_t offered = 0;
    int error;

    if (!out || (flags != 0 && flags != MPAT_KVM_MANUAL_PROTECT && flags != both))
        return mpat_kvm_fail(fault, -EINVAL, "flags", 0, 0);
    error = mpat_kvm_check_memslots(slots, n_slots, fault);
    if (error)
        return error;
    log = calloc(1, sizeof *log + n_slots * sizeof log->slots[0]);
    if (!log)
        return mpat_kvm_fail(fault, -ENOMEM, "malloc", 0, 0);
    atomic_flag_clear(&log->busy);
    log->vm_fd = mpat_kvm_own_vm(vm_fd, fault);
    if (log->vm_fd < 0) {
        error = log->vm_fd;
        free(log);
        return error;
    }
    log->n_slots = n_slots;
    for (size_t i = 0; i < n_slots; i++)
        log->slots[i] = (struct logged_slot){.slot = slots[i].slot,
                                             .n_pages = (uint32_t)slots[i].n_pages,
                                             .words = mpat_bitmap_words(slots[i].n_pages)};
    error = learn_manual_protect(log, flags, &offered, fault);
    if (!error)
        error = check_slots(log, fault); /* before anything is changed */
    if (!error)
        error = begin_log(log, flags, offered, fault);
    if (error) {
        mpat_kvm_log_close(log);
        return error;
    }
    log->last_end_ns = mpat_now_ns();
    *out = log;
    return 0;
}

void mpat_kvm_log_close(mpat_kvm_log *log)
{
    if (!log)
        return;
    for (size_t i = 0; i < log->n_slots; i++)
        free(log->slots[i].kept);
    close(log->vm_fd);
    free(log);
}

/* A later slot failed: the kernel has forgotten these pages, so we must not. */
static void keep(mpat_kvm_log *log, struct logged_slot *slot, const uint64_t *bitmap)
{
    if (!slot->kept)
        slot->kept = calloc(slot->words, sizeof *slot->kept);
    for (uint64_t w = 0; w < slot->words; w++) {
        if (slot->kept)
            slot->kept[w] |= bitmap[w];
        else
            log->lost_pages += (uint64_t)__builtin_popcountll(bitmap[w]);
    }
}

static void give_kept(struct logged_slot *slot, uint64_t *bitmap)
{
    if (!slot->kept)
        return;
    for (uint64_t w = 0; w < slot->words; w++)
        bitmap[w] |= slot->kept[w];
    free(slot->kept);
    slot->kept = NULL;
}

static int take_all(mpat_kvm_log *log, uint64_t *const *bitmaps, mpat_kvm_fault *fault)
{
    for (size_t i = 0; i < log->n_slots; i++) {
        int error = take_slot(log, &log->slots[i], bitmaps[i], fault);

        if (error) {
            for (size_t taken = 0; taken < i; taken++)
                keep(log, &log->slots[taken], bitmaps[taken]);
            /* A GET that also clears has cleared what did not fit our idea of the slot. */
            if (error == -ERANGE && !log->manual_protect)
                log->lost_pages++;
            return error;
        }
    }
    for (size_t i = 0; i < log->n_slots; i++)
        give_kept(&log->slots[i], bitmaps[i]);
    return 0;
}

int mpat_kvm_log_collect(mpat_kvm_log *log, uint64_t *const *bitmaps, mpat_collection *out,
                         mpat_kvm_fault *fault)
{
    int64_t begin_ns = mpat_now_ns();
    int error;

    if (!log || !out || !mpat_kvm_has_bitmaps(bitmaps, log->n_slots))
        return mpat_kvm_fail(fault, -EINVAL, "arguments", 0, 0);
    if (atomic_flag_test_and_set(&log->busy))
        return mpat_kvm_fail(fault, -EBUSY, "collect", 0, 0);
    error = take_all(log, bitmaps, fault);
    if (!error) {
        int64_t end_ns = mpat_end_ns(log->last_end_ns);

        *out = (mpat_collection){.start_ns = log->last_end_ns,
                                 .end_ns = end_ns,
                                 .collect_ns = end_ns - begin_ns,
                                 .lost_pages = log->lost_pages};
        log->last_end_ns = end_ns;
        log->lost_pages = 0;
    }
    atomic_flag_clear(&log->busy);
    return error;
}
