/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mempattern: dirty-page bitmaps in, per-group access statistics out.
 *
 * This is the whole public C API. It needs no Python and no thread of its own.
 *
 * Conventions, for every function unless it says otherwise:
 *   - int results are 0 or a negative errno; other results come through out-parameters, which are
 *     left untouched on failure, but for bitmaps[], whose content is then undefined;
 *   - -EINVAL answers a null pointer, -ENOMEM a lack of memory in what creates or opens;
 *   - nothing is printed and nothing aborts;
 *   - a bitmap is an array of little-endian 64-bit words, 8-byte aligned, as many as
 *     mpat_bitmap_words(n_pages); bit i of word w is page 64*w + i (Linux
 *     Documentation/virt/kvm/api.rst, 4.8 KVM_GET_DIRTY_LOG). Bits past n_pages are ignored on
 *     input and zero on output;
 *   - pointers are borrowed for the call only; what a *_create or *_open function returns is owned
 *     by the caller until the matching *_destroy or *_close, which accept NULL;
 *   - an object may be used by one thread at a time. A second thread that comes in the middle of a
 *     call gets -EBUSY and changes nothing. Different objects are independent;
 *   - times are CLOCK_MONOTONIC nanoseconds, sizes are pages: whatever one bit of the bitmap means.
 */
#ifndef MEMPATTERN_H
#define MEMPATTERN_H

#include <stddef.h>
#include <stdint.h>

#define MPAT_VERSION "0.1.0" /* of this header; mpat_version() is the library's */

#define MPAT_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* cdef begin: what follows, up to "cdef end", is also what cffi reads */

/* MPAT_VERSION of the header that the library was built with. The string is static. Any thread. */
MPAT_API const char *mpat_version(void);

/* ---- kernels: one implementation per instruction set, chosen at run time ------------------- */

/*
 * Name of the i-th kernel that this CPU and operating system can run, best first, or NULL past the
 * last one. "scalar" always runs and comes last. The string is static.
 */
MPAT_API const char *mpat_kernel_available(size_t i);

/*
 * Name of the kernel in use: the one last chosen with mpat_kernel_use(), else the one named by the
 * environment variable MEMPATTERN_KERNEL, else the best available. NULL when the environment names
 * one that cannot run here. Any thread.
 */
MPAT_API const char *mpat_kernel_active(void);

/*
 * Use the named kernel from now on, for every object and thread; NULL returns to the default above.
 * -ENOENT: no kernel of that name. -ENOTSUP: this CPU or operating system cannot run it. Functions
 * that need a kernel return the same errors when MEMPATTERN_KERNEL names such a one.
 */
MPAT_API int mpat_kernel_use(const char *name);

/* ---- bitmaps ------------------------------------------------------------------------------- */

/* Words of a bitmap of n_pages: KVM rounds up to whole 64-bit words. */
MPAT_API uint64_t mpat_bitmap_words(uint64_t n_pages);

/*
 * A zeroed bitmap that ends at an inaccessible guard page, so that a kernel which believes the
 * memslot is larger fails with EFAULT instead of overwriting memory. Free with mpat_bitmap_free and
 * the same n_pages. -EINVAL: n_pages is 0. -ENOMEM.
 */
MPAT_API int mpat_bitmap_alloc(uint64_t n_pages, uint64_t **out);
MPAT_API void mpat_bitmap_free(uint64_t *bitmap, uint64_t n_pages);

/*
 * counts[g] = dirty pages of group g, for the ceil(n_pages / group_pages) groups of the bitmap.
 * -EINVAL: a null pointer, n_pages 0, or group_pages 0 or no multiple of 64.
 */
MPAT_API int mpat_group_counts(const uint64_t *bitmap, uint64_t n_pages, uint32_t group_pages,
                               uint32_t *counts);

/* What one interval did to one region. */
typedef struct mpat_seen {
    uint64_t dirty_pages;     /* written in this interval */
    uint64_t redirtied_pages; /* of these, also written in the previous interval */
    uint64_t fresh_pages;     /* of these, never written before */
    uint64_t active_groups;   /* groups with at least one dirty page */
    uint64_t runs;            /* maximal runs of consecutive dirty pages, across group edges */
} mpat_seen;

/*
 * What the interval of `bitmap` did, after one of `previous` and after all those that `ever` is the
 * union of, which it joins: ever |= bitmap. Either may be NULL: no page was written then. Groups
 * are of 512 pages. One pass over memory; where the bitmap is clean, the others are not read. -EINVAL:
 * another null pointer, n_pages 0.
 */
MPAT_API int mpat_bitmap_seen(const uint64_t *bitmap, const uint64_t *previous, uint64_t *ever,
                              uint64_t n_pages, mpat_seen *seen);

/*
 * pages[0] to pages[*n_dirty - 1] = numbers of the dirty pages, ascending. `pages` has `room`
 * entries; those past the last number may be overwritten with anything. -ENOSPC: the bitmap has
 * more, and what the entries hold is undefined. mpat_bitmap_seen() tells how many it has. -EINVAL:
 * a null pointer (but pages may be one if room is 0), n_pages 0 or above 2^63 - 1.
 */
MPAT_API int mpat_bitmap_pages(const uint64_t *bitmap, uint64_t n_pages, int64_t *pages,
                               uint64_t room, uint64_t *n_dirty);

/* ---- regions that grow --------------------------------------------------------------------- */

/*
 * Where a region of a *_follow call comes from. That call makes a new object of an old one, with
 * larger regions, more of them or in another order, which says exactly what it would if it had had
 * these regions from the first interval on and their new pages had been clean. Old regions that
 * none comes from are forgotten.
 */
typedef struct mpat_origin {
    int64_t region; /* index of the old region, all of which lies in the new one; -1: none */
    uint64_t page;  /* of the new region: the old one's page 0; ignored if there is none */
} mpat_origin;

/* ---- history: the last bitmaps of every region, and pages hot in them ----------------------- */

typedef struct mpat_history mpat_history;

/*
 * Remembers the last `depth` intervals (1 to 255) of n_regions regions: depth bits a page.
 * -EINVAL: no region, a region of 0 pages, a depth out of range. -ENOMEM.
 */
MPAT_API int mpat_history_create(const uint64_t *region_pages, size_t n_regions, uint32_t depth,
                                 mpat_history **out);
MPAT_API void mpat_history_destroy(mpat_history *history);

/*
 * Append one interval: bitmaps[r] is region r's bitmap. -EPERM: the history belongs to an
 * mpat_stats, whose update appends to it. -ESTALE: another history follows this one.
 */
MPAT_API int mpat_history_update(mpat_history *history, const uint64_t *const *bitmaps);

/*
 * out = pages of the region dirty in at least `at_least` of the remembered intervals (1 to depth);
 * fewer intervals seen count as clean ones. out holds mpat_bitmap_words() words.
 * -EINVAL: region or at_least out of range.
 */
MPAT_API int mpat_history_hot_pages(mpat_history *history, size_t region, uint32_t at_least,
                                    uint64_t *out);

/*
 * *out = pages of all regions dirty in at least one of the last `last` intervals (1 to depth);
 * where fewer are remembered, in these. -EINVAL: last out of range.
 */
MPAT_API int mpat_history_distinct_pages(mpat_history *history, uint32_t last, uint64_t *out);

/*
 * *out = a new history that goes on from this one: region r of the n_regions has region_pages[r]
 * pages and comes from origins[r]. The old one can still be read, takes no more intervals (-ESTALE
 * from update and follow) and must be destroyed too. -EPERM: the history belongs to an mpat_stats,
 * which is what follows. -ESTALE: it was followed already. -EINVAL: as for create; an origin out of
 * range, one that does not fit in its new region, or a page that is no multiple of 64. -ENOMEM.
 */
MPAT_API int mpat_history_follow(mpat_history *history, const uint64_t *region_pages,
                                 size_t n_regions, const mpat_origin *origins,
                                 mpat_history **out);

/* Intervals remembered now: at most depth. */
MPAT_API uint32_t mpat_history_length(const mpat_history *history);

/* ---- group statistics ---------------------------------------------------------------------- */

typedef struct mpat_stats mpat_stats;

/* One entry a group, owned by the mpat_stats, valid until it is destroyed, rewritten by update. */
typedef struct mpat_groups {
    size_t n_groups;
    const uint32_t *dirty;            /* pages, this interval */
    const uint32_t *redirtied;        /* pages, this interval */
    const uint32_t *fresh;            /* pages, this interval */
    const uint32_t *touched;          /* distinct pages ever dirty */
    const uint32_t *active_intervals; /* intervals in which the group had a dirty page */
    const uint32_t *streak;           /* intervals in a row up to this one; 0 if not active now */
    const int32_t *last_active;       /* index of the last such interval from 0, -1 if none */
    const uint64_t *dirty_total;      /* sum of dirty over all intervals */
} mpat_groups;

/*
 * Statistics by groups of group_pages pages, each region's groups counted from its start; the last
 * group may be short. The write rates of mpat_stats_write_rate() are weighted with half_life_s.
 *
 * history: NULL, or a history with the same regions that has seen no interval yet; it is then
 * appended to by mpat_stats_update() in the same pass over memory, must outlive the stats and can
 * belong to one mpat_stats only. Without it the stats keep the previous bitmap themselves.
 *
 * -EINVAL: no region, a region of 0 pages, group_pages 0 or no multiple of 64, half_life_s below a
 * nanosecond (1e-9) or not finite, a history that does not fit. -ENOMEM.
 */
MPAT_API int mpat_stats_create(const uint64_t *region_pages, size_t n_regions,
                               uint32_t group_pages, double half_life_s, mpat_history *history,
                               mpat_stats **out);
MPAT_API void mpat_stats_destroy(mpat_stats *stats);

/*
 * Count one interval that lasted duration_s seconds: bitmaps[r] is region r's bitmap, seen[r] what
 * it did. One pass over memory. The bitmaps must not change during the call (the counts would not
 * add up) and may be reused as soon as it returns. -EINVAL: duration_s not positive and finite.
 * -EOVERFLOW: 2^31 - 1 intervals were counted, or more seconds than a double holds. Nothing is
 * counted on failure. -ESTALE: other statistics follow these.
 */
MPAT_API int mpat_stats_update(mpat_stats *stats, const uint64_t *const *bitmaps,
                               double duration_s, mpat_seen *seen);

/*
 * *out = new statistics that go on from these: region r of the n_regions has region_pages[r] pages
 * and comes from origins[r]. *history = the history that follows the one given to create, and is
 * to the new statistics what that one was to the old; NULL if none was given. The old objects can
 * still be read, their arrays as they were, take no more intervals (-ESTALE from update and follow)
 * and must be destroyed too. -ESTALE: followed already. -EINVAL: as for create; an origin out of
 * range, one that does not fit in its new region, or a page that is no multiple of group_pages; a
 * history that is NULL and should not be, or the other way round. -ENOMEM.
 */
MPAT_API int mpat_stats_follow(mpat_stats *stats, const uint64_t *region_pages, size_t n_regions,
                               const mpat_origin *origins, mpat_history **history,
                               mpat_stats **out);

/* The region's arrays. -EINVAL: no such region. */
MPAT_API int mpat_stats_groups(const mpat_stats *stats, size_t region, mpat_groups *out);

/*
 * out[g] = pages/s written by group g: the mean of the intervals' rates over the time observed so
 * far, weighted by 2^(-age / half_life); 0 before the first interval. n_groups entries.
 */
MPAT_API int mpat_stats_write_rate(mpat_stats *stats, size_t region, double *out);

/* Bytes reserved by the object, without a history given from outside; not NULL. What was never
 * written to is mostly not backed by memory. */
MPAT_API uint64_t mpat_stats_bytes(const mpat_stats *stats);
MPAT_API uint64_t mpat_history_bytes(const mpat_history *history);

/* ---- distinct pages by window ---------------------------------------------------------------- */

/*
 * D(t), the expected number of distinct pages dirtied in a window of length t, from windows of 1, 2,
 * 3, 4, 6, 8, 12, 16, ... successive intervals (2^j and 3 * 2^j, up to 2^20). Windows of one length
 * do not overlap, and each is the OR of its two halves (of its three intervals, for 3), so that an
 * interval costs a few passes over memory whatever the number of lengths. Adding up the intervals'
 * dirty pages instead would count a page as often as it was rewritten.
 *
 * A length's memory, one bit a page and 16 bytes a group, is taken when the first such window opens;
 * what no dirty page has needed is mostly not backed.
 */
typedef struct mpat_distinct mpat_distinct;

/* The complete windows of one length. Standard deviations divide by n - 1; 0 for one window. */
typedef struct mpat_window {
    uint32_t n_intervals;  /* in each */
    uint64_t n_windows;    /* complete ones */
    double duration_s;     /* mean */
    double duration_std_s;
    double pages;          /* mean of the distinct pages in a window */
    double pages_std;
} mpat_window;

/*
 * -EINVAL: no region, a region of 0 pages, group_pages 0 or no multiple of 64. -ENOMEM.
 */
MPAT_API int mpat_distinct_create(const uint64_t *region_pages, size_t n_regions,
                                  uint32_t group_pages, mpat_distinct **out);
MPAT_API void mpat_distinct_destroy(mpat_distinct *distinct);

/*
 * Count one interval that lasted duration_s seconds, from the end of the one before: bitmaps[r] is
 * region r's bitmap. They may be reused as soon as it returns. -EINVAL: duration_s not positive and
 * finite. -EOVERFLOW: more than 1e100 seconds were counted. -ENOMEM: for a new length. -ESTALE:
 * another object follows this one. Nothing is counted on failure.
 */
MPAT_API int mpat_distinct_update(mpat_distinct *distinct, const uint64_t *const *bitmaps,
                                  double duration_s);

/*
 * Count n successive intervals as n calls would, in fewer passes over memory: bitmaps[i * n_regions
 * + r] is region r's bitmap of interval i. The same errors.
 */
MPAT_API int mpat_distinct_update_all(mpat_distinct *distinct, const uint64_t *const *bitmaps,
                                      const double *durations_s, size_t n);

/*
 * The next interval does not begin where the last one ended, or what lies between is not known:
 * the open windows are dropped, the complete ones stay. -ESTALE.
 */
MPAT_API int mpat_distinct_break(mpat_distinct *distinct);

/*
 * *out = a new object that goes on from this one, its open windows too: region r of the n_regions
 * has region_pages[r] pages and comes from origins[r]. The old one can still be read, takes no more
 * intervals (-ESTALE from update, break and follow) and must be destroyed too. -ESTALE: it was
 * followed already. -EINVAL: as for create; an origin out of range, one that does not fit in its
 * new region, or a page that is no multiple of group_pages; an old region that none or two come from
 * (what all of them have together would not be known). -ENOMEM.
 */
MPAT_API int mpat_distinct_follow(mpat_distinct *distinct, const uint64_t *region_pages,
                                  size_t n_regions, const mpat_origin *origins,
                                  mpat_distinct **out);

/* Lengths of which there is at least one complete window: 0, 1, ... of the row above. */
MPAT_API size_t mpat_distinct_windows(const mpat_distinct *distinct);

/* Of the windows of one such length in one region, or, if that is -1, in all together. -EINVAL. */
MPAT_API int mpat_distinct_window(mpat_distinct *distinct, size_t window, int64_t region,
                                  mpat_window *out);

/*
 * pages[g], pages_std[g] = mean and standard deviation of the distinct pages of the region's group g
 * in a window. n_groups entries each. -EINVAL.
 */
MPAT_API int mpat_distinct_groups(mpat_distinct *distinct, size_t window, size_t region,
                                  double *pages, double *pages_std);

/* Bytes reserved, as for the others. */
MPAT_API uint64_t mpat_distinct_bytes(const mpat_distinct *distinct);

/* ---- pre-copy: which pages a migration has still to send ------------------------------------ */

/*
 * What was written in the intervals of one VM, kept as the lines of 512 pages that are not clean:
 * intervals are added, then it is sealed, and from then on any number of threads may read it.
 */
typedef struct mpat_recording mpat_recording;

/* -EINVAL: no region, a region of 0 pages. -ENOMEM, also for more than 2^41 pages. */
MPAT_API int mpat_recording_create(const uint64_t *region_pages, size_t n_regions,
                                   mpat_recording **out);
/* Not before the last migration over it is. */
MPAT_API void mpat_recording_destroy(mpat_recording *recording);

/*
 * One more interval, which follows the one before: its length and bitmaps[r] of each region.
 * -EINVAL: a length that is not positive and finite, or so short that the sum of all does not
 * grow by it. -EPERM: sealed. -EBUSY. -ENOMEM. -ENOSPC: a bitmap changed in the middle. Of an
 * interval that is refused nothing is kept.
 */
MPAT_API int mpat_recording_add(mpat_recording *recording, const uint64_t *const *bitmaps,
                                double duration);

/* No more; after its end it goes on with interval `loop`. -EINVAL: no such one. -EPERM: sealed. */
MPAT_API int mpat_recording_seal(mpat_recording *recording, uint64_t loop);

/* Into bitmaps[r], of mpat_bitmap_words() words each: the pages of an interval, and of all of them.
 * -EINVAL: not sealed, no such interval. */
MPAT_API int mpat_recording_read(const mpat_recording *recording, uint64_t interval,
                                 uint64_t *const *bitmaps);
MPAT_API int mpat_recording_ever(const mpat_recording *recording, uint64_t *const *bitmaps);

MPAT_API uint64_t mpat_recording_bytes(const mpat_recording *recording); /* reserved; not NULL */

/*
 * The pages of a recorded VM in a pre-copy migration as QEMU does it (migration/ram.c of QEMU 7.2),
 * driven from outside: the guest runs, the migration syncs and sends. At first all pages are to be
 * sent.
 */
typedef struct mpat_precopy mpat_precopy;

/* What one mpat_precopy_send sent. */
typedef struct mpat_sent {
    uint64_t pages;      /* with the zero pages */
    uint64_t zero_pages; /* of these */
    double cost;         /* of all, in the unit of the budget */
} mpat_sent;

/*
 * The recording is sealed, and outlives the migration. chunk_pages: the dirty log of so many pages
 * is cleared together, when the first of them is sent after a sync (2^clear-bitmap-shift;
 * KVM_CLEAR_DIRTY_LOG); 0: a sync clears it, as without KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. Regions
 * are sent in their order.
 * -EINVAL: a recording that is not sealed, chunk_pages no multiple of 64. -ENOMEM.
 */
MPAT_API int mpat_precopy_create(const mpat_recording *recording, uint64_t chunk_pages,
                                 mpat_precopy **out);
MPAT_API void mpat_precopy_destroy(mpat_precopy *precopy);

/*
 * Begin anew, that long into the recording; what lies after its end lies in the loop. zero: NULL,
 * or one bitmap a region, NULL too, of the pages that hold only zeros until they are written.
 * -EINVAL: a moment that is negative or not finite.
 */
MPAT_API int mpat_precopy_start(mpat_precopy *precopy, const uint64_t *const *zero, double at,
                                uint64_t seed);

/*
 * The guest runs for that long. Of a part of an interval it is not known which pages were written
 * in it: each is drawn, by a hash of the seed and the page, so that the parts of an interval make
 * up the whole. A page that comes back after the interval before is the likelier to be in several
 * parts. -EINVAL: a length that is negative or not finite.
 */
MPAT_API int mpat_precopy_run(mpat_precopy *precopy, double duration);

/* What was written is to be sent, again or for the first time; *pending_pages = all that is. */
MPAT_API int mpat_precopy_sync(mpat_precopy *precopy, uint64_t *pending_pages);

/* Into bitmaps[r]: the pages that were written between the last two syncs, until the guest's next
 * write becomes known; nothing from then on. */
MPAT_API int mpat_precopy_found(mpat_precopy *precopy, uint64_t *const *bitmaps);

/* *pages = what would be to be sent after a sync now, *zero_pages = those of it of zeros only. */
MPAT_API int mpat_precopy_outstanding(mpat_precopy *precopy, uint64_t *pages, uint64_t *zero_pages);

/* From now on these pages are not sent, in place of those deferred before; NULL: all are. */
MPAT_API int mpat_precopy_defer(mpat_precopy *precopy, const uint64_t *const *bitmaps);
MPAT_API uint64_t mpat_precopy_deferred(const mpat_precopy *precopy); /* of the pending ones; not NULL */

/*
 * Send pages in the order of their addresses, going on where the last call stopped and around, until
 * their cost reaches the budget (with the page that reaches it) or nothing is left to send.
 * -EINVAL: a budget that is negative or not a number, a cost that is not positive and finite.
 */
MPAT_API int mpat_precopy_send(mpat_precopy *precopy, double budget, double page_cost,
                               double zero_cost, mpat_sent *out);

MPAT_API uint64_t mpat_precopy_bytes(const mpat_precopy *precopy); /* reserved; not NULL */

/* ---- KVM: the dirty log and the dirty ring of a VM of this process -------------------------- */

/*
 * All of these take descriptors that the VMM opened and may close at any time: what is needed of
 * them is duplicated, so that a number that comes to mean another file does no harm. The VM lives
 * until they are closed. KVM refuses the VM's ioctls from another process, and so from a forked
 * child (-EIO).
 */

typedef struct mpat_memslot {
    uint32_t slot; /* as in kvm_userspace_memory_region: address space in bits 16-31, id in 0-15 */
    uint64_t n_pages;
} mpat_memslot;

/* What one collection cost and covered. */
typedef struct mpat_collection {
    int64_t start_ns;       /* end of the previous collection, or of open */
    int64_t end_ns;         /* end of this collection */
    int64_t collect_ns;     /* time spent in this collection */
    uint64_t lost_pages;    /* 0: none known to be missing; else a rough lower bound */
    uint64_t ring_entries;  /* entries harvested; 0 for the log */
} mpat_collection;

/* Where a KVM function failed; filled on failure only. May be NULL. */
typedef struct mpat_kvm_fault {
    uint32_t slot;     /* the memslot */
    uint64_t page;     /* the page, for a ring entry past the end of its memslot */
    const char *call;  /* the ioctl, capability or argument at fault, a static string */
} mpat_kvm_fault;

typedef struct mpat_kvm_log mpat_kvm_log;

#define MPAT_KVM_MANUAL_PROTECT 1 /* KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE */
#define MPAT_KVM_INITIALLY_SET 2  /* KVM_DIRTY_LOG_INITIALLY_SET, only with the above */

/*
 * Read the dirty log of memslots that already have KVM_MEM_LOG_DIRTY_PAGES. Each slot's size is
 * checked against the kernel's; the VM's manual-protect mode is set to exactly `flags` (it cannot
 * be read back, and a wrong guess would count wrongly; close leaves it so); and what was logged
 * before is dropped, so that the first collection covers exactly the time since open. A log has
 * one reader.
 *
 * -EBADF, -ENOTTY: not a VM descriptor. -ENOENT: no such memslot, or no dirty logging on it.
 * -ERANGE: the kernel's memslot has not n_pages pages. -EEXIST: a slot named twice.
 * -EINVAL: no slot, 0 pages or more than KVM allows, wrong flags. -ENXIO: the VM uses the dirty
 * ring. -EIO: the VM belongs to another process. -ENOTSUP: KVM lacks manual protect.
 */
MPAT_API int mpat_kvm_log_open(int vm_fd, const mpat_memslot *slots, size_t n_slots,
                               uint32_t flags, mpat_kvm_log **out, mpat_kvm_fault *fault);
MPAT_API void mpat_kvm_log_close(mpat_kvm_log *log);

/*
 * bitmaps[i] = pages of slots[i] written since the previous collection. Each must come from
 * mpat_bitmap_alloc() with the slot's n_pages. With manual protect the pages are write-protected
 * again before it returns, so their content may be read afterwards.
 *
 * -ERANGE: a memslot changed its size; without manual protect, one within its last 64 pages shows
 * only when a page past the end is dirty. On any failure the pages already taken from the kernel
 * are kept and come with the next collection; those of a memslot that changed its size cannot be,
 * where GET also clears, and are told in its lost_pages.
 */
MPAT_API int mpat_kvm_log_collect(mpat_kvm_log *log, uint64_t *const *bitmaps,
                                  mpat_collection *out, mpat_kvm_fault *fault);

typedef struct mpat_kvm_ring mpat_kvm_ring;

/*
 * Harvest the dirty rings of all the VM's vCPUs. The VMM has enabled KVM_CAP_DIRTY_LOG_RING (or
 * _ACQ_REL) with ring_entries entries before it made the vCPUs. List every memslot with dirty
 * logging: the rings are shared by all of them.
 *
 * -EBADF, -ENOTTY, -EIO, -EEXIST, -EINVAL: as for the log; -ENXIO: the VM has no dirty ring.
 * -ERANGE: the rings do not have ring_entries entries. -ENOTSUP: KVM lacks the ring. -EPROTO,
 * -EOVERFLOW: as for collect.
 */
MPAT_API int mpat_kvm_ring_open(int vm_fd, const int *vcpu_fds, size_t n_vcpus,
                                const mpat_memslot *slots, size_t n_slots, uint32_t ring_entries,
                                mpat_kvm_ring **out, mpat_kvm_fault *fault);
MPAT_API void mpat_kvm_ring_close(mpat_kvm_ring *ring);

/*
 * Empty every ring into the pending interval and reset the harvested pages. To be called on
 * KVM_EXIT_DIRTY_RING_FULL before the vCPU runs again, from any thread, at any time: the ring's
 * calls wait for one in progress instead of -EBUSY. Errors as for collect, which reports them
 * again. After -ENOENT, -ERANGE and -ESTALE the rings were drained all the same and the vCPU may
 * run.
 */
MPAT_API int mpat_kvm_ring_drain(mpat_kvm_ring *ring, mpat_kvm_fault *fault);

/*
 * Drain, then move the pending interval into bitmaps[i] (mpat_bitmap_words() words each). Waits for
 * a drain in progress. Pages in a vCPU's hardware buffer (Intel PML) reach its ring only when it
 * exits: kick every vCPU out of KVM_RUN first where the last page matters.
 *
 * -ENOENT: an entry named a memslot that was not given. -ERANGE: an entry lay past its memslot's
 * end. -ESTALE: somebody else harvested one of the rings. In each case the other pages are kept and
 * come with the next collection, whose lost_pages tells of those that cannot.
 *
 * Two are for ever, every later collection gives them again, and all pages must be taken as dirty.
 * -EPROTO: KVM did not reset what was harvested, so that it will not log these pages again; a vCPU
 * is not this VM's, or the rings have another reader. -EOVERFLOW: a ring was found full to its last
 * entry. KVM has overwritten entries and its rings cannot be used any more.
 */
MPAT_API int mpat_kvm_ring_collect(mpat_kvm_ring *ring, uint64_t *const *bitmaps,
                                   mpat_collection *out, mpat_kvm_fault *fault);

/* ---- another process's writes ---------------------------------------------------------------- */

/*
 * Linux 6.7 and later, x86-64: a userfaultfd is put into the target, whose memory it then
 * write-protects in asynchronous mode; PAGEMAP_SCAN tells which pages were written. The target
 * never waits for us: each first write to a page after a collection costs it a page fault. When
 * the object is closed, or our process dies, the kernel takes the protection away.
 *
 * Not seen: writes through another mapping of the same memory, in this process or another, and by
 * devices. The first read of a page of a shared mapping that was never touched through this one
 * counts as a write. A huge page is split by the first write to it.
 */

typedef struct mpat_process mpat_process;

/* Where a process function failed; filled on failure only. May be NULL. */
typedef struct mpat_process_fault {
    const char *call; /* the system call, file or condition at fault, a static string */
    uint64_t address; /* in the target, or 0 */
} mpat_process_fault;

/* Part of the target's address space, and where its pages lie in the regions' bitmaps. */
typedef struct mpat_mapping {
    uint64_t start, end; /* multiples of the page size */
    uint64_t first_page; /* bit of `start` in the region's bitmap */
    uint32_t region;
    uint32_t page_shift; /* 12, or of the huge pages of a hugetlbfs mapping */
    uint32_t flags;
} mpat_mapping;

#define MPAT_MAPPING_PRIVATE_FILE 1 /* MAP_PRIVATE of a file: the file's own pages are not writes */

/* What one collection cost and covered. */
typedef struct mpat_process_collection {
    int64_t start_ns;       /* end of the previous collection, or of protect */
    int64_t end_ns;         /* end of this collection */
    int64_t collect_ns;     /* time spent in this collection */
    uint64_t lost_pages;    /* 0: none known to be missing; else a rough lower bound */
    uint64_t written_pages; /* bits set, where mappings do not overlap */
    uint64_t huge_bytes;    /* in huge pages protected by it: each is split by its next write */
} mpat_process_collection;

/* Leave huge pages unprotected instead of letting writes split them; they count as lost_pages. */
#define MPAT_PROCESS_KEEP_HUGE 1

/*
 * Attach to a process. One of its threads is stopped for some hundred microseconds and makes two
 * system calls; it is left as it was, an interrupted system call goes on.
 *
 * -ESRCH: no such process, or it ended. -ENXIO: it has no memory (a kernel thread, a zombie).
 * -EPERM, -EACCES: not permitted (see ptrace(2), "Ptrace access mode checking"), or another tracer
 * holds it. -ENOTSUP: the kernel or the processor lacks what is needed. -ENOEXEC: a 32-bit process.
 * -EACCES with "seccomp": every thread has a system call filter that would not let the calls through,
 * or that may not be read (it takes CAP_SYS_ADMIN, and no filter of our own). -ETIMEDOUT: no
 * thread stopped in time; all sleep uninterruptibly. -EAGAIN: all are in restartable sequences, or
 * dispatch their own system calls. -EPIPE: the child that does it was killed.
 */
MPAT_API int mpat_process_open(int pid, uint32_t flags, mpat_process **out,
                               mpat_process_fault *fault);
MPAT_API void mpat_process_close(mpat_process *process);

/*
 * Try all of it on a page of our own. 0, or the reason why it does not work on this machine.
 * -EPROTO: the kernel did not see the write.
 */
MPAT_API int mpat_process_probe(mpat_process_fault *fault);

/* For how long a thread of the target was stopped by open. */
MPAT_API int64_t mpat_process_stopped_ns(const mpat_process *process);

/*
 * Start to follow these mappings: their writes up to now are dropped. *huge_bytes of them are in
 * huge pages, each of which is split by its next write. -EBUSY: another userfaultfd is registered
 * there. -EEXIST: there are huge pages, which are to be kept. -ESRCH: the process ended or executes
 * another program.
 */
MPAT_API int mpat_process_protect(mpat_process *process, const mpat_mapping *mappings,
                                  size_t n_mappings, uint64_t *huge_bytes,
                                  mpat_process_fault *fault);

/*
 * bitmaps[r] (mpat_bitmap_words(region_pages[r]) words) = pages of region r written since the
 * previous collection. The mappings are the target's as they are now; new ones are followed from
 * here on, and all that they hold was written since. -EINVAL: a mapping does not fit its region.
 * -ESRCH: the process ended or executes another program. On failure the pages already taken are
 * counted in the next collection's lost_pages.
 */
MPAT_API int mpat_process_collect(mpat_process *process, const mpat_mapping *mappings,
                                  size_t n_mappings, const uint64_t *region_pages,
                                  uint64_t *const *bitmaps, size_t n_regions,
                                  mpat_process_collection *out, mpat_process_fault *fault);

/* ---- QEMU's migration stream ---------------------------------------------------------------- */

/*
 * The RAM section of a migration that QEMU sends (migration/savevm.c and ram.c of QEMU 7.2): which
 * pages were sent in each pass. Their contents are skipped.
 *
 * A pass is told from the next one by the order of its pages. QEMU goes round its blocks once, from
 * the one after that in which the pass before ended, and looks for what was written only between
 * two sections. So a page that lies before its predecessor on the way begins a pass. Where that
 * happens inside a section, the new pass began with the section at the latest: the one before was
 * left unfinished (of what is left less than downtime-limit is needed to send), or had not come to
 * the blocks with which the new one begins. Sections of it before that are counted with the one
 * before. Passes that share no page and follow each other in order count as one.
 */
typedef struct mpat_ramstream mpat_ramstream;

#define MPAT_RAMSTREAM_NAME 256

/* A RAM block of the guest's, in the order of the stream. */
typedef struct mpat_ramblock {
    char name[MPAT_RAMSTREAM_NAME]; /* ended by 0; any bytes but 0 */
    uint64_t n_pages;               /* may be 0 */
} mpat_ramblock;

/* What has been read so far. */
typedef struct mpat_ramstream_state {
    uint64_t n_blocks;   /* 0 until they are known */
    uint32_t page_bytes; /* of the guest's architecture */
    uint32_t stopped;    /* QEMU has stopped the guest to send the rest */
    uint32_t closed;     /* mpat_ramstream_read: the other end has closed the stream */
    uint64_t passes;     /* ended */
    uint64_t untaken;    /* of these */
    uint64_t bytes;
} mpat_ramstream_state;

/* Passes that ended and were taken. */
typedef struct mpat_ramstream_pass {
    int64_t start_ns; /* of what was sent, the first may have been written then: the first page of
                         the pass before came; for the first pass of a stream as end_ns */
    int64_t end_ns;   /* the first page of the last pass came, so QEMU had looked just before */
    uint64_t first;   /* number of the first one, from 0: that one sends all pages */
    uint64_t n_passes;
    uint64_t pages;   /* sent; twice if in two passes */
    uint64_t zero_pages; /* of these, sent as zeros */
} mpat_ramstream_pass;

/* most_pages bounds the memory: 3 bits for each page of the blocks that the stream announces.
 * -EINVAL: most_pages of 0. */
MPAT_API int mpat_ramstream_create(uint64_t most_pages, mpat_ramstream **out);
MPAT_API void mpat_ramstream_destroy(mpat_ramstream *stream);

/*
 * The stream goes on with these bytes, which came at now_ns. Any division will do. *n_used of them
 * were read: all, or up to the end of a pass, of the list of blocks, or of what is understood
 * (`stopped`); give the rest again. Passes that were not taken until the next one ends are joined with it.
 * -EPROTO: no such stream, see mpat_ramstream_problem; every later call gives it again. -ENOMEM:
 * no memory for the blocks' bitmaps, likewise. *n_used is set also then.
 */
MPAT_API int mpat_ramstream_feed(mpat_ramstream *stream, const uint8_t *bytes, size_t n_bytes,
                                 int64_t now_ns, size_t *n_used);

/*
 * Read the socket, waiting for it, until the blocks become known, a pass ends, the guest is stopped
 * or the other end closes. In case of the guest's stop or an error the socket is shut down at once:
 * so QEMU gives the migration up, and the guest runs on.
 * -EPROTO, -ENOMEM: as above. Else what recv(2) says.
 */
MPAT_API int mpat_ramstream_read(mpat_ramstream *stream, int socket, mpat_ramstream_state *out);

MPAT_API int mpat_ramstream_state_of(mpat_ramstream *stream, mpat_ramstream_state *out);

/* -ENOENT: no such block. */
MPAT_API int mpat_ramstream_block(mpat_ramstream *stream, size_t i, mpat_ramblock *out);

/* Into bitmaps[i], of mpat_bitmap_words() words each, NULL for blocks of no page: the pages of the
 * passes that ended since the last call. -EAGAIN: none has. */
MPAT_API int mpat_ramstream_take(mpat_ramstream *stream, uint64_t *const *bitmaps,
                                 mpat_ramstream_pass *out);

/* Likewise the pages that held only zeros when they were sent last. -EAGAIN: no blocks yet. */
MPAT_API int mpat_ramstream_zeros(mpat_ramstream *stream, uint64_t *const *bitmaps);

/* Why -EPROTO, as the end of a sentence; "" if it was not. Owned by the stream. */
MPAT_API const char *mpat_ramstream_problem(const mpat_ramstream *stream);

/* cdef end */

#ifdef __cplusplus
}
#endif

#endif
