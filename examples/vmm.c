/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VMM that watches its own guest by libmempattern, for x86-64:
 *
 *     cc vmm.c $(pkg-config --cflags --libs mempattern) -o vmm && ./vmm
 *
 * The guest has 192 pages of RAM. In each round it writes the first 16, and 4 others that move on
 * from page 64, and halts. The VMM takes every round as one interval.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS, O_CLOEXEC: also with -std=c11 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <mempattern.h>

#define PAGE_BYTES 4096
#define RAM_AT 0x10000
#define RAM_PAGES 192
#define GROUP_PAGES 64
#define ROUNDS 16

/* Real mode, at address 0. A segment counts 16 bytes, so a page is 0x100 segments. */
static const uint8_t guest_code[] = {
    0xbb, 0x00, 0x50,             /* mov bx, 0x5000: page 64 of the RAM */
    0xb8, 0x00, 0x10,             /* round: mov ax, 0x1000: its page 0 */
    0xb9, 0x10, 0x00,             /* mov cx, 16 */
    0x8e, 0xc0,                   /* hot: mov es, ax */
    0x26, 0xfe, 0x06, 0x00, 0x00, /* inc byte es:[0] */
    0x05, 0x00, 0x01,             /* add ax, 0x100 */
    0xe2, 0xf4,                   /* loop hot */
    0xb9, 0x04, 0x00,             /* mov cx, 4 */
    0x8e, 0xc3,                   /* sweep: mov es, bx */
    0x26, 0xfe, 0x06, 0x00, 0x00, /* inc byte es:[0] */
    0x81, 0xc3, 0x00, 0x01,       /* add bx, 0x100 */
    0xe2, 0xf3,                   /* loop sweep */
    0xf4,                         /* hlt */
    0xeb, 0xdb,                   /* jmp round */
};

/* What the library returns is 0 or a negative errno. */
static void check(int result, const char *call)
{
    if (result < 0) {
        fprintf(stderr, "vmm: %s: %s\n", call, strerror(-result));
        exit(1);
    }
}

static int ask(int fd, unsigned long request, void *argument, const char *call)
{
    int result = ioctl(fd, request, argument);

    check(result < 0 ? -errno : 0, call);
    return result;
}

static uint8_t *add_memory(int vm, uint32_t slot, uint64_t address, size_t bytes, uint32_t flags)
{
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region region = {.slot = slot,
                                                 .flags = flags,
                                                 .guest_phys_addr = address,
                                                 .memory_size = bytes,
                                                 .userspace_addr = (uintptr_t)memory};

    check(memory == MAP_FAILED ? -errno : 0, "mmap");
    ask(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
    return memory;
}

/* A vCPU that starts at address 0; *run is what it tells when it leaves the guest. */
static int add_vcpu(int kvm, int vm, struct kvm_run **run)
{
    int vcpu = ask(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
    size_t bytes = (size_t)ask(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
    struct kvm_regs regs = {.rip = 0, .rflags = 2};
    struct kvm_sregs sregs;

    ask(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
    sregs.cs.base = sregs.cs.selector = 0;
    ask(vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
    ask(vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
    *run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    check(*run == MAP_FAILED ? -errno : 0, "mmap of the vCPU");
    return vcpu;
}

static void print_groups(const mpat_stats *stats)
{
    mpat_groups groups;

    check(mpat_stats_groups(stats, 0, &groups), "mpat_stats_groups");
    printf("group  touched  dirty_total  active_intervals\n");
    for (size_t g = 0; g < groups.n_groups; g++)
        printf("%5zu  %7" PRIu32 "  %11" PRIu64 "  %16" PRIu32 "\n", g, groups.touched[g],
               groups.dirty_total[g], groups.active_intervals[g]);
}

static void print_curve(mpat_distinct *distinct)
{
    printf("intervals  windows       t_s  distinct_pages\n");
    for (size_t i = 0; i < mpat_distinct_windows(distinct); i++) {
        mpat_window window;

        check(mpat_distinct_window(distinct, i, -1, &window), "mpat_distinct_window");
        printf("%9" PRIu32 "  %7" PRIu64 "  %8.6f  %14.1f\n", window.n_intervals, window.n_windows,
               window.duration_s, window.pages);
    }
}

int main(void)
{
    const mpat_memslot slot = {.slot = 1, .n_pages = RAM_PAGES};
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, vcpu;
    struct kvm_run *run;
    uint64_t *bitmap;
    mpat_kvm_log *log;
    mpat_stats *stats;
    mpat_distinct *distinct;

    check(kvm < 0 ? -errno : 0, "/dev/kvm");
    vm = ask(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
    memcpy(add_memory(vm, 0, 0, PAGE_BYTES, 0), guest_code, sizeof guest_code);
    add_memory(vm, slot.slot, RAM_AT, RAM_PAGES * PAGE_BYTES, KVM_MEM_LOG_DIRTY_PAGES);
    vcpu = add_vcpu(kvm, vm, &run);

    check(mpat_bitmap_alloc(slot.n_pages, &bitmap), "mpat_bitmap_alloc");
    check(mpat_kvm_log_open(vm, &slot, 1, 0, &log, NULL), "mpat_kvm_log_open");
    check(mpat_stats_create(&slot.n_pages, 1, GROUP_PAGES, 10.0, NULL, &stats),
          "mpat_stats_create");
    check(mpat_distinct_create(&slot.n_pages, 1, GROUP_PAGES, &distinct), "mpat_distinct_create");

    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t *const bitmaps[] = {bitmap};
        mpat_collection collection;
        mpat_seen seen;
        double duration_s;

        ask(vcpu, KVM_RUN, NULL, "KVM_RUN"); /* a real VMM has a thread for it, and comes again */
        check(run->exit_reason == KVM_EXIT_HLT ? 0 : -EPROTO, "the guest");
        check(mpat_kvm_log_collect(log, &bitmap, &collection, NULL), "mpat_kvm_log_collect");
        duration_s = (double)(collection.end_ns - collection.start_ns) / 1e9;
        check(mpat_stats_update(stats, bitmaps, duration_s, &seen), "mpat_stats_update");
        check(mpat_distinct_update(distinct, bitmaps, duration_s), "mpat_distinct_update");
        printf("interval %d: %" PRIu64 " dirty, %" PRIu64 " redirtied, %" PRIu64 " fresh\n", round,
               seen.dirty_pages, seen.redirtied_pages, seen.fresh_pages);
    }
    print_groups(stats);
    print_curve(distinct);

    mpat_distinct_destroy(distinct); /* every object is its maker's, in any order here */
    mpat_stats_destroy(stats);
    mpat_kvm_log_close(log);
    mpat_bitmap_free(bitmap, slot.n_pages);
    return 0;
}
