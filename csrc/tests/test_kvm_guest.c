/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KVM sources on a real guest, without Python: every source must report exactly the pages whose
 * counters in the guest's memory moved. Usage: test_kvm_guest GUEST.ELF
 * Exit status 0: all passed, 1: not, 77: there is no KVM here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "check.h"
#include "mempattern.h"
#include "microvm.h"

#define N_SLOTS 3
#define WORDS_A_PAGE 1024
#define RING_ENTRIES 1024
#define SECOND INT64_C(1000000000)

static const uint64_t slot_pages[N_SLOTS] = {1003, 64, 2500};
static const char *const cmdlines[] = {
    "pattern=uniform pages=3567 seed=7",
    "pattern=phased a=zipf b=sweep phase=100 pages=3567 seed=8",
};

struct guest {
    mpat_microvm *vm;
    mpat_kvm_log *log;
    mpat_kvm_ring *ring;
    uint64_t *bitmaps[N_SLOTS];
    uint32_t *counters[N_SLOTS]; /* as of the last collection */
};

static void *image;
static size_t image_bytes;

static uint32_t counter(const struct guest *g, size_t slot, uint64_t page)
{
    const uint32_t *memory = mpat_microvm_memory(g->vm, slot);

    return memory[page * WORDS_A_PAGE];
}

static int start(struct guest *g, mpat_microvm_log logging)
{
    const mpat_microvm_config config = {.image = image, .image_bytes = image_bytes,
                                        .slot_pages = slot_pages, .n_slots = N_SLOTS,
                                        .cmdlines = cmdlines, .n_vcpus = 2, .log = logging,
                                        .ring_entries = RING_ENTRIES};
    mpat_memslot memslots[N_SLOTS];
    int vcpus[2], error = mpat_microvm_create(&config, &g->vm);

    if (error)
        return error;
    for (size_t i = 0; i < N_SLOTS; i++) {
        memslots[i] = (mpat_memslot){MPAT_MICROVM_FIRST_SLOT + (uint32_t)i, slot_pages[i]};
        CHECK(mpat_bitmap_alloc(slot_pages[i], &g->bitmaps[i]) == 0);
        g->counters[i] = calloc(slot_pages[i], sizeof(uint32_t));
    }
    for (size_t i = 0; i < 2; i++)
        vcpus[i] = mpat_microvm_vcpu_fd(g->vm, i);
    if (logging == MPAT_MICROVM_RING) {
        CHECK(mpat_kvm_ring_open(mpat_microvm_vm_fd(g->vm), vcpus, 2, memslots, N_SLOTS,
                                 RING_ENTRIES, &g->ring, NULL) == 0);
        CHECK(mpat_microvm_set_ring(g->vm, g->ring) == 0);
    } else {
        static const uint32_t flags[] = {[MPAT_MICROVM_LOG] = 0, [MPAT_MICROVM_MANUAL] = 1,
                                         [MPAT_MICROVM_INITIALLY_SET] = 3};
        CHECK(mpat_kvm_log_open(mpat_microvm_vm_fd(g->vm), memslots, N_SLOTS, flags[logging],
                                &g->log, NULL) == 0);
    }
    return 0;
}

static void stop(struct guest *g)
{
    mpat_microvm_destroy(g->vm);
    mpat_kvm_log_close(g->log);
    mpat_kvm_ring_close(g->ring);
    for (size_t i = 0; i < N_SLOTS; i++) {
        mpat_bitmap_free(g->bitmaps[i], slot_pages[i]);
        free(g->counters[i]);
    }
}

static mpat_collection collect(struct guest *g)
{
    mpat_collection collection = {0};

    CHECK((g->ring ? mpat_kvm_ring_collect(g->ring, g->bitmaps, &collection, NULL)
                   : mpat_kvm_log_collect(g->log, g->bitmaps, &collection, NULL)) == 0);
    CHECK(collection.lost_pages == 0);
    return collection;
}

/* The bitmaps of a parked guest against its counters. Returns the number of dirty pages. */
static uint64_t check_exact(struct guest *g)
{
    uint64_t n_dirty = 0, n_wrong = 0;

    for (size_t slot = 0; slot < N_SLOTS; slot++)
        for (uint64_t page = 0; page < slot_pages[slot]; page++) {
            uint32_t now = counter(g, slot, page);
            uint64_t dirty = g->bitmaps[slot][page / 64] >> page % 64 & 1;

            n_wrong += dirty != (now != g->counters[slot][page]);
            n_dirty += dirty;
            g->counters[slot][page] = now;
        }
    CHECK(n_wrong == 0);
    return n_dirty;
}

static void test_exact_steps(mpat_microvm_log logging)
{
    static const uint64_t steps[] = {1, 63, 500, 4000};
    struct guest g = {0};

    if (start(&g, logging) == 0) {
        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
            CHECK(mpat_microvm_step(g.vm, steps[i], 60 * SECOND) == 0);
            collect(&g);
            CHECK(check_exact(&g) > 0);
        }
        collect(&g);
        CHECK(check_exact(&g) == 0); /* nothing was left behind */
    } else {
        CHECK(!"the VM could not be made");
    }
    stop(&g);
}

/* Collected while the guest runs, nothing is seen twice or missed: one more collection after the
 * vCPUs have stopped makes the union exact. */
static void test_running_guest(mpat_microvm_log logging)
{
    struct guest g = {0};
    uint64_t *seen[N_SLOTS];

    if (start(&g, logging)) {
        CHECK(!"the VM could not be made");
        stop(&g);
        return;
    }
    for (size_t slot = 0; slot < N_SLOTS; slot++)
        seen[slot] = calloc(mpat_bitmap_words(slot_pages[slot]), sizeof(uint64_t));
    CHECK(mpat_microvm_resume(g.vm) == 0);
    for (int round = 0; round < 20; round++) {
        const struct timespec pause = {0, 10 * 1000 * 1000};

        nanosleep(&pause, NULL);
        if (round == 19)
            CHECK(mpat_microvm_pause(g.vm) == 0);
        else
            CHECK(mpat_microvm_kick(g.vm) == 0);
        collect(&g);
        for (size_t slot = 0; slot < N_SLOTS; slot++)
            for (uint64_t w = 0; w < mpat_bitmap_words(slot_pages[slot]); w++)
                seen[slot][w] |= g.bitmaps[slot][w];
    }
    for (size_t slot = 0; slot < N_SLOTS; slot++)
        memcpy(g.bitmaps[slot], seen[slot], mpat_bitmap_words(slot_pages[slot]) * 8);
    CHECK(check_exact(&g) > 0);
    collect(&g);
    CHECK(check_exact(&g) == 0);
    for (size_t slot = 0; slot < N_SLOTS; slot++)
        free(seen[slot]);
    stop(&g);
}

static void load_image(const char *path)
{
    FILE *file = fopen(path, "rb");

    if (!file) {
        perror(path);
        exit(1);
    }
    image = malloc(1 << 20);
    image_bytes = fread(image, 1, 1 << 20, file);
    fclose(file);
}

int main(int argc, char **argv)
{
    static const mpat_microvm_log all[] = {MPAT_MICROVM_LOG, MPAT_MICROVM_MANUAL,
                                           MPAT_MICROVM_INITIALLY_SET, MPAT_MICROVM_RING};
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (argc != 2) {
        fprintf(stderr, "usage: test_kvm_guest GUEST.ELF\n");
        return 1;
    }
    if (kvm < 0 || ioctl(kvm, KVM_GET_API_VERSION, 0) < 0) {
        printf("skipped: /dev/kvm: %s\n", strerror(errno));
        return 77;
    }
    close(kvm);
    load_image(argv[1]);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        test_exact_steps(all[i]);
        test_running_guest(all[i]);
    }
    free(image);
    return failures != 0;
}
