/* SPDX-License-Identifier: Apache-2.0 */
/* The dirty log against a model of KVM, in each of its modes. */
#include "kvm_model.h"

#include "../kvm/log.c"

static void write_page(uint32_t slot, uint64_t page)
{
    if (faults(slot, page))
        kvm.dirty[slot][page / 64] |= UINT64_C(1) << page % 64;
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
        kvm.dirty[0][0] = 1;
        CHECK(mpat_kvm_log_open(5, both, 2, 0, &log, &fault) == expected);
        CHECK(kvm.dirty[0][0] == (expected != 0)); /* nothing is taken for a log that is refused */
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

/* Each call for memory of an open fails once: nothing is kept, and the next open works. */
static void test_log_memory_runs_out(void)
{
    int n_failed = 0;

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
}

/* What cannot be kept for want of memory is told as lost. */
static void test_log_has_no_memory_to_keep_pages_in(void)
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
    CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, NULL) == 0);
    CHECK(collection.lost_pages == 0); /* told once */
    mpat_kvm_log_close(log);
}

static void test_log_while_the_clock_stands(void)
{
    mpat_collection before, collection;
    mpat_kvm_log *log;

    start(130, 128);
    kvm.stands_at = 1000;
    log = open_log(0);
    CHECK(mpat_kvm_log_collect(log, bitmaps, &before, NULL) == 0);
    CHECK(mpat_kvm_log_collect(log, bitmaps, &collection, NULL) == 0);
    CHECK(before.end_ns == before.start_ns + 1 && collection.start_ns == before.end_ns);
    CHECK(collection.end_ns == collection.start_ns + 1);
    mpat_kvm_log_close(log);
}

int main(void)
{
    alloc_bitmaps();
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
    test_log_memory_runs_out();
    test_log_has_no_memory_to_keep_pages_in();
    test_log_while_the_clock_stands();
    free_bitmaps();
    return failures != 0;
}
