/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What KVM logs of a micro VM's writes, in dirty logs and in rings; and its vCPUs drain a ring that is
 * full. Linked with --wrap for that call.
 */
#include "microvm_machine.h"

#include <stdatomic.h>
#include <sys/mman.h>

/* ---- dirty logging ------------------------------------------------------------------------- */

static void test_two_vcpus_over_odd_slots(void)
{
    uint64_t slots[] = {65, 1, 333};
    /* vCPU 0 on all 399 pages, vCPU 1 on pages 60 to 99 of them. */
    const char *cmdlines[] = {"pattern=uniform pages=399 seed=1",
                              "pattern=zipf pages=40 start=0x103c000 seed=2"};
    machine m;

    if (start_machine(&m, MPAT_MICROVM_LOG, 3, slots, 2, cmdlines) == 0) {
        uint64_t steps;
        CHECK_EQUAL(mpat_microvm_step(m.vm, 5000, LONG_NS), 0);
        CHECK_EQUAL(state_of(&m, 0).steps, 5000);
        CHECK_EQUAL(state_of(&m, 1).steps, 5000);
        /* `inc` is not locked: where both vCPUs write one page a count may be lost. */
        CHECK(writes(&m) <= 10000 && writes(&m) > 9900);
        for (size_t slot = 0; slot < 3; slot++)
            for (uint64_t page = 0; page < slots[slot]; page++)
                CHECK(counter(&m, slot, page) > 0);
        CHECK_EQUAL(mpat_microvm_resume(m.vm), 0);
        sleep_ms(20);
        CHECK_EQUAL(mpat_microvm_pause(m.vm), 0);
        steps = state_of(&m, 0).steps + state_of(&m, 1).steps;
        CHECK(steps > 10000);
        CHECK(mpat_microvm_memory(m.vm, 3) == NULL);
    }
    mpat_microvm_destroy(m.vm);
}

static bool get_dirty_log(const machine *m, size_t slot, uint64_t *bitmap)
{
    struct kvm_dirty_log log = {.slot = MPAT_MICROVM_FIRST_SLOT + (uint32_t)slot,
                                .dirty_bitmap = bitmap};

    return ioctl(mpat_microvm_vm_fd(m->vm), KVM_GET_DIRTY_LOG, &log) == 0;
}

static bool clear_dirty_log(const machine *m, size_t slot, uint64_t *bitmap)
{
    struct kvm_clear_dirty_log log = {.slot = MPAT_MICROVM_FIRST_SLOT + (uint32_t)slot,
                                      .num_pages = (uint32_t)m->slot_pages[slot],
                                      .dirty_bitmap = bitmap};

    return ioctl(mpat_microvm_vm_fd(m->vm), KVM_CLEAR_DIRTY_LOG, &log) == 0;
}

/* The log of each interval names exactly the pages whose counters moved in it. */
static void check_log(mpat_microvm_log mode)
{
    static uint64_t bitmap[16];
    static uint32_t before[2][1000];
    uint64_t slots[] = {131, 700};
    const char *cmdlines[] = {"pattern=hotset pages=831 seed=3 hot=50"};
    machine m;

    memset(before, 0, sizeof before);
    if (start_machine(&m, mode, 2, slots, 1, cmdlines) == 0) {
        bool all_set_at_first = mode == MPAT_MICROVM_INITIALLY_SET;
        for (int interval = 0; interval < 5; interval++) {
            CHECK_EQUAL(mpat_microvm_step(m.vm, 400, LONG_NS), 0);
            for (size_t slot = 0; slot < 2; slot++) {
                memset(bitmap, 0, sizeof bitmap);
                CHECK(get_dirty_log(&m, slot, bitmap));
                if (mode != MPAT_MICROVM_LOG)
                    CHECK(clear_dirty_log(&m, slot, bitmap));
                for (uint64_t page = 0; page < slots[slot]; page++) {
                    bool dirty = bitmap[page / 64] >> (page % 64) & 1;
                    uint32_t now = counter(&m, slot, page);
                    if (all_set_at_first && interval == 0)
                        CHECK(dirty);
                    else
                        CHECK_EQUAL(dirty, now != before[slot][page]);
                    before[slot][page] = now;
                }
            }
        }
    }
    mpat_microvm_destroy(m.vm);
}

static void test_log(void)
{
    check_log(MPAT_MICROVM_LOG);
    check_log(MPAT_MICROVM_MANUAL);
    check_log(MPAT_MICROVM_INITIALLY_SET);
}

/* Harvest a ring by hand; returns the entries found, whose pages it marks. */
static size_t harvest(const machine *m, struct kvm_dirty_gfn *ring, uint32_t *next, bool *dirty)
{
    size_t n = 0;

    for (;; n++, ++*next) {
        struct kvm_dirty_gfn *entry = &ring[*next % RING_ENTRIES];
        if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
            break;
        dirty[entry->offset] = true;
        __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
    }
    CHECK(ioctl(mpat_microvm_vm_fd(m->vm), KVM_RESET_DIRTY_RINGS, 0) >= 0);
    return n;
}

static void test_full_ring_without_a_drain(void)
{
    enum { N_PAGES = 3000 };
    static bool dirty[N_PAGES];
    uint64_t n_pages = N_PAGES;
    const char *cmdline = "pattern=sweep pages=3000";
    machine m;
    uint32_t next = 0;
    int n_full = 0;

    memset(dirty, 0, sizeof dirty);
    if (start_machine(&m, MPAT_MICROVM_RING, 1, &n_pages, 1, &cmdline) == 0) {
        size_t bytes = RING_ENTRIES * sizeof(struct kvm_dirty_gfn);
        struct kvm_dirty_gfn *ring =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, mpat_microvm_vcpu_fd(m.vm, 0),
                 KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);
        CHECK(ring != MAP_FAILED);
        while (ring != MAP_FAILED && state_of(&m, 0).steps < N_PAGES && n_full < 100) {
            int error = mpat_microvm_step(m.vm, N_PAGES - state_of(&m, 0).steps, LONG_NS);
            CHECK(error == 0 || error == -ENOBUFS);
            CHECK_EQUAL(state_of(&m, 0).running, 0);
            if (error == -ENOBUFS) {
                n_full++;
                CHECK_EQUAL(mpat_microvm_pause(m.vm), -ENOBUFS);
            }
            CHECK(harvest(&m, ring, &next, dirty) > 0);
        }
        CHECK(n_full > 1);
        CHECK_EQUAL(writes(&m), N_PAGES);
        for (size_t page = 0; page < N_PAGES; page++)
            CHECK(dirty[page]);
        if (ring != MAP_FAILED)
            munmap(ring, bytes);
    }
    mpat_microvm_destroy(m.vm);
}

/* ---- who drains a full ring -------------------------------------------------------------------- */

static atomic_int n_drains; /* by vCPUs that came out with a full ring */
static int drain_error;     /* what each says in the end, if not 0 */

int __real_mpat_kvm_ring_drain(mpat_kvm_ring *ring, mpat_kvm_fault *fault);
int __wrap_mpat_kvm_ring_drain(mpat_kvm_ring *ring, mpat_kvm_fault *fault);

int __wrap_mpat_kvm_ring_drain(mpat_kvm_ring *ring, mpat_kvm_fault *fault)
{
    int error = __real_mpat_kvm_ring_drain(ring, fault);

    n_drains++;
    return drain_error ? drain_error : error;
}

static void test_full_ring_is_drained(void)
{
    enum { N_PAGES = 6000 };
    uint64_t n_pages = N_PAGES, *bitmap = NULL;
    const char *cmdline = "pattern=sweep pages=6000";
    mpat_memslot slot = {MPAT_MICROVM_FIRST_SLOT, N_PAGES};
    mpat_kvm_ring *ring = NULL;
    mpat_collection collection;
    mpat_kvm_fault fault;
    machine m;

    if (start_machine(&m, MPAT_MICROVM_RING, 1, &n_pages, 1, &cmdline) == 0) {
        int fd = mpat_microvm_vcpu_fd(m.vm, 0);
        CHECK_EQUAL(mpat_bitmap_alloc(N_PAGES, &bitmap), 0);
        CHECK_EQUAL(mpat_kvm_ring_open(mpat_microvm_vm_fd(m.vm), &fd, 1, &slot, 1, RING_ENTRIES,
                                       &ring, &fault), 0);
        CHECK_EQUAL(mpat_microvm_set_ring(m.vm, ring), 0);
        n_drains = 0;
        CHECK_EQUAL(mpat_microvm_step(m.vm, N_PAGES - 100, LONG_NS), 0);
        CHECK(n_drains > 3);
        CHECK_EQUAL(mpat_kvm_ring_collect(ring, &bitmap, &collection, &fault), 0);
        CHECK_EQUAL(collection.lost_pages, 0);
        for (uint64_t page = 0; page < N_PAGES; page++)
            CHECK_EQUAL(bitmap[page / 64] >> (page % 64) & 1, page < N_PAGES - 100);
        CHECK_EQUAL(mpat_microvm_set_ring(m.vm, NULL), 0);
        mpat_kvm_ring_close(ring);
        mpat_bitmap_free(bitmap, N_PAGES);
    }
    mpat_microvm_destroy(m.vm);
}

/* What its reader will be told of later does not stop a vCPU; what lost writes ends it, and only it. */
static void test_drains_that_fail(void)
{
    enum { N_PAGES = 1500 };
    static const int harmless[] = {-ENOENT, -ERANGE, -ESTALE};
    uint64_t n_pages = N_PAGES;
    const char *cmdline = "pattern=sweep pages=1500";
    mpat_memslot slot = {MPAT_MICROVM_FIRST_SLOT, N_PAGES};
    mpat_kvm_ring *ring = NULL;
    machine m;

    if (start_machine(&m, MPAT_MICROVM_RING, 1, &n_pages, 1, &cmdline) == 0) {
        int fd = mpat_microvm_vcpu_fd(m.vm, 0);
        CHECK_EQUAL(mpat_kvm_ring_open(mpat_microvm_vm_fd(m.vm), &fd, 1, &slot, 1, RING_ENTRIES,
                                       &ring, NULL), 0);
        CHECK_EQUAL(mpat_microvm_set_ring(m.vm, ring), 0);
        for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
            n_drains = 0;
            drain_error = harmless[i];
            CHECK_EQUAL(mpat_microvm_step(m.vm, N_PAGES, LONG_NS), 0);
            CHECK(n_drains > 0);
        }
        drain_error = -EOVERFLOW;
        CHECK_EQUAL(mpat_microvm_step(m.vm, N_PAGES, LONG_NS), -EIO);
        drain_error = 0;
        CHECK_EQUAL(state_of(&m, 0).error, -EOVERFLOW);
        CHECK_EQUAL(state_of(&m, 0).exit_reason, KVM_EXIT_DIRTY_RING_FULL);
        CHECK_EQUAL(mpat_microvm_set_ring(m.vm, NULL), 0);
        mpat_kvm_ring_close(ring);
    }
    mpat_microvm_destroy(m.vm);
}

/* Three vCPUs fill their rings and drain all, while this thread collects: no page is lost. */
static void test_ring_in_a_free_run(void)
{
    enum { N_PAGES = 6003, N_VCPUS = 3 };
    static uint32_t before[N_PAGES];
    uint64_t n_pages = N_PAGES, steps = 0, *bitmap = NULL;
    const char *cmdlines[N_VCPUS] = {"pattern=sweep pages=2001",
                                     "pattern=sweep pages=2001 start=0x17d1000",
                                     "pattern=sweep pages=2001 start=0x1fa2000"};
    mpat_memslot slot = {MPAT_MICROVM_FIRST_SLOT, N_PAGES};
    mpat_kvm_ring *ring = NULL;
    mpat_collection collection;
    machine m;

    memset(before, 0, sizeof before);
    if (start_machine(&m, MPAT_MICROVM_RING, 1, &n_pages, N_VCPUS, cmdlines) == 0) {
        int fds[N_VCPUS];
        for (size_t i = 0; i < N_VCPUS; i++)
            fds[i] = mpat_microvm_vcpu_fd(m.vm, i);
        CHECK_EQUAL(mpat_bitmap_alloc(N_PAGES, &bitmap), 0);
        CHECK_EQUAL(mpat_kvm_ring_open(mpat_microvm_vm_fd(m.vm), fds, N_VCPUS, &slot, 1,
                                       RING_ENTRIES, &ring, NULL), 0);
        CHECK_EQUAL(mpat_microvm_set_ring(m.vm, ring), 0);
        for (int round = 0; round < 10; round++) {
            CHECK_EQUAL(mpat_microvm_resume(m.vm), 0);
            sleep_ms(30);
            CHECK_EQUAL(mpat_microvm_kick(m.vm), 0);
            CHECK_EQUAL(mpat_microvm_pause(m.vm), 0);
            CHECK_EQUAL(mpat_kvm_ring_collect(ring, &bitmap, &collection, NULL), 0);
            CHECK_EQUAL(collection.lost_pages, 0);
            for (uint64_t page = 0; page < N_PAGES; page++) {
                uint32_t now = counter(&m, 0, page);
                CHECK_EQUAL(bitmap[page / 64] >> (page % 64) & 1, now != before[page]);
                before[page] = now;
            }
        }
        for (size_t i = 0; i < N_VCPUS; i++)
            steps += state_of(&m, i).steps;
        CHECK_EQUAL(writes(&m), steps);
        CHECK_EQUAL(mpat_microvm_set_ring(m.vm, NULL), 0);
        mpat_kvm_ring_close(ring);
        mpat_bitmap_free(bitmap, N_PAGES);
    }
    mpat_microvm_destroy(m.vm);
}

int main(int argc, char **argv)
{
    load_guest(argc, argv);
    RUN(test_two_vcpus_over_odd_slots);
    RUN(test_log);
    RUN(test_full_ring_without_a_drain);
    RUN(test_full_ring_is_drained);
    RUN(test_drains_that_fail);
    RUN(test_ring_in_a_free_run);
    return end();
}
