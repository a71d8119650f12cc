/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writes of a process are seen exactly, memory that it never touched stays so, and a tracer that is
 * killed leaves nothing behind.
 */
#include "process_child.h"

#include <poll.h>
#include <sys/mman.h>

#define N_KILLS 200

/* ---- writes ----------------------------------------------------------------------------------- */

#define N_PAGES 1024

struct shared {
    uint32_t rounds; /* of writing the pages it was told to */
    uint32_t wanted;
    uint32_t stride;
};

static struct shared *shared;
static char *memory;

/* Writes every stride-th page once a round. */
static int writing(const struct child *child, const void *argument)
{
    struct pollfd go = {.fd = child->go[0], .events = POLLIN};

    (void)argument;
    say_ready(child);
    while (poll(&go, 1, 0) == 0) {
        if (shared->rounds == __atomic_load_n(&shared->wanted, __ATOMIC_ACQUIRE))
            continue;
        for (size_t page = 0; page < N_PAGES; page += shared->stride)
            memory[page * PAGE]++;
        __atomic_store_n(&shared->rounds, shared->rounds + 1, __ATOMIC_RELEASE);
    }
    return 0;
}

static void write_round(uint32_t stride)
{
    int64_t deadline_ns = now_ns() + 20000000000;

    shared->stride = stride;
    __atomic_store_n(&shared->wanted, shared->rounds + 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&shared->rounds, __ATOMIC_ACQUIRE) != shared->wanted)
        if (now_ns() > deadline_ns) {
            fprintf(stderr, "the target does not write any more\n");
            exit(1);
        }
}

static mpat_mapping whole_memory(void)
{
    return (mpat_mapping){.start = (uintptr_t)memory, .end = (uintptr_t)memory + N_PAGES * PAGE,
                          .page_shift = 12};
}

static void test_writes(void)
{
    static const uint32_t strides[] = {1, 2, 3, 64, 7, 1000, 1};
    struct child child = begin(writing, NULL);
    mpat_mapping mapping = whole_memory();
    uint64_t n_pages = N_PAGES, huge_bytes, *bitmap;
    mpat_process_collection out;
    mpat_process *process;

    CHECK(mpat_bitmap_alloc(N_PAGES, &bitmap) == 0);
    wait_ready(&child);
    write_round(1);
    CHECK(mpat_process_open(child.pid, 0, &process, NULL) == 0);
    CHECK(mpat_process_protect(process, &mapping, 1, &huge_bytes, NULL) == 0);
    for (size_t i = 0; i < sizeof strides / sizeof strides[0]; i++) {
        write_round(strides[i]);
        CHECK(mpat_process_collect(process, &mapping, 1, &n_pages, &bitmap, 1, &out, NULL) == 0);
        for (uint64_t page = 0; page < N_PAGES; page++)
            CHECK((bitmap[page / 64] >> page % 64 & 1) == (page % strides[i] == 0));
        CHECK(out.lost_pages == 0 && out.end_ns > out.start_ns);
        CHECK(mpat_process_collect(process, &mapping, 1, &n_pages, &bitmap, 1, &out, NULL) == 0);
        CHECK(out.written_pages == 0);
    }
    mapping.first_page = 1;
    CHECK(mpat_process_collect(process, &mapping, 1, &n_pages, &bitmap, 1, &out, NULL) == -EINVAL);
    mapping.first_page = 0;
    CHECK(end(&child) == 0);
    CHECK(mpat_process_collect(process, &mapping, 1, &n_pages, &bitmap, 1, &out, NULL) == -ESRCH);
    mpat_process_close(process);
    mpat_bitmap_free(bitmap, N_PAGES);
}

/* ---- memory that was never touched ------------------------------------------------------------ */

#define SPARSE_PAGES ((uint64_t)1 << 20) /* 4 GiB, which take 8 MiB of page tables when all are made */

static char *sparse, *for_huge;

static int touching(const struct child *child, const void *argument)
{
    char byte;

    (void)argument;
    sparse[77 * PAGE] = 1;
    say_ready(child);
    while (read(child->go[0], &byte, 1) < 0)
        ;
    for (size_t page = 0; page < N_PAGES; page++)
        for_huge[page * PAGE] = 1;
    say_ready(child);
    pause();
    return 0;
}

static long number_in(pid_t pid, const char *file, const char *key)
{
    char path[64], line[512];
    long number = 0;
    FILE *from;

    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    from = fopen(path, "re");
    while (from && fgets(line, sizeof line, from))
        if (strncmp(line, key, strlen(key)) == 0)
            number += strtol(line + strlen(key), NULL, 10);
    if (from)
        fclose(from);
    return number;
}

/* Of the same target, traced while nothing is there yet, or never. KiB in huge pages at the end. */
static long huge_after(int is_traced)
{
    struct child child = begin(touching, NULL);
    mpat_mapping mappings[] = {
        {.start = (uintptr_t)sparse, .end = (uintptr_t)sparse + SPARSE_PAGES * PAGE,
         .page_shift = 12},
        {.start = (uintptr_t)for_huge, .end = (uintptr_t)for_huge + N_PAGES * PAGE,
         .page_shift = 12, .region = 1},
    };
    uint64_t n_pages[] = {SPARSE_PAGES, N_PAGES}, huge_bytes, *bitmaps[2];
    mpat_process_collection out;
    mpat_process *process;
    long huge, tables;

    wait_ready(&child);
    tables = number_in(child.pid, "status", "VmPTE:");
    if (is_traced) {
        CHECK(mpat_bitmap_alloc(n_pages[0], &bitmaps[0]) == 0);
        CHECK(mpat_bitmap_alloc(n_pages[1], &bitmaps[1]) == 0);
        CHECK(mpat_process_open(child.pid, 0, &process, NULL) == 0);
        CHECK(mpat_process_protect(process, mappings, 2, &huge_bytes, NULL) == 0);
        for (int i = 0; i < 2; i++) {
            CHECK(mpat_process_collect(process, mappings, 2, n_pages, bitmaps, 2, &out, NULL) == 0);
            CHECK(out.written_pages == 0);
        }
        CHECK(number_in(child.pid, "status", "VmPTE:") - tables < 64);
        mpat_process_close(process);
        mpat_bitmap_free(bitmaps[0], n_pages[0]);
        mpat_bitmap_free(bitmaps[1], n_pages[1]);
    }
    close(child.go[1]);
    wait_ready(&child);
    huge = number_in(child.pid, "smaps", "AnonHugePages:");
    kill(child.pid, SIGKILL);
    waitpid(child.pid, NULL, 0);
    close(child.ready[0]);
    return huge;
}

/* It gets no page tables by being looked at, and may become huge pages afterwards as ever. */
static void test_untouched_memory(void)
{
    size_t huge_page = (size_t)2 << 20;
    char *map = mmap(NULL, N_PAGES * PAGE + huge_page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    sparse = mmap(NULL, SPARSE_PAGES * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(map != MAP_FAILED && sparse != MAP_FAILED);
    madvise(sparse, SPARSE_PAGES * PAGE, MADV_NOHUGEPAGE);
    for_huge = map + (huge_page - (uintptr_t)map % huge_page) % huge_page;
    madvise(for_huge, N_PAGES * PAGE, MADV_HUGEPAGE);
    CHECK(huge_after(1) == huge_after(0));
    munmap(map, N_PAGES * PAGE + huge_page);
    munmap(sparse, SPARSE_PAGES * PAGE);
}

/* ---- a tracer that is killed ------------------------------------------------------------------ */

/* Attach, collect, detach, again and again, until it is killed. */
_Noreturn static void trace_for_ever(pid_t pid)
{
    mpat_mapping mapping = whole_memory();
    uint64_t n_pages = N_PAGES, huge_bytes, *bitmap;
    mpat_process_collection out;
    mpat_process *process;

    if (mpat_bitmap_alloc(N_PAGES, &bitmap))
        _exit(1);
    for (;;) {
        if (mpat_process_open(pid, 0, &process, NULL))
            continue; /* the helper of the tracer before may hold the target for a moment */
        mpat_process_protect(process, &mapping, 1, &huge_bytes, NULL);
        for (int i = 0; i < 3; i++)
            mpat_process_collect(process, &mapping, 1, &n_pages, &bitmap, 1, &out, NULL);
        mpat_process_close(process);
    }
}

static int has_no_userfaultfd(pid_t pid)
{
    char *state = snapshot(pid), path[64], line[512];
    int clean = strstr(state, "userfaultfd") == NULL;
    FILE *smaps;

    snprintf(path, sizeof path, "/proc/%d/smaps", pid);
    smaps = fopen(path, "re");
    while (smaps && fgets(line, sizeof line, smaps))
        if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " uw"))
            clean = 0;
    if (smaps)
        fclose(smaps);
    free(state);
    return clean;
}

static void test_killed_tracer(void)
{
    struct child child = begin(writing, NULL);
    uint32_t total = 0;
    char *before, *after;

    memset(memory, 0, N_PAGES * PAGE);
    wait_ready(&child);
    before = snapshot(child.pid);
    srand(1);
    for (int i = 0; i < N_KILLS; i++) {
        pid_t tracer = fork();

        if (tracer == 0)
            trace_for_ever(child.pid);
        usleep((useconds_t)(rand() % 3000));
        write_round(1);
        total++;
        kill(tracer, SIGKILL);
        waitpid(tracer, NULL, 0);
    }
    write_round(1);
    total++;
    usleep(20000); /* the last helper */
    for (size_t page = 0; page < N_PAGES; page++)
        CHECK(memory[page * PAGE] == (char)total);
    CHECK(has_no_userfaultfd(child.pid));
    after = snapshot(child.pid);
    CHECK(strcmp(before, after) == 0);
    CHECK(end(&child) == 0);
    free(before);
    free(after);
}

int main(void)
{
    probe();
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memory = mmap(NULL, N_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || memory == MAP_FAILED)
        return 1;
    shared->stride = 1;
    test_writes();
    test_untouched_memory();
    test_killed_tracer();
    return failures != 0;
}
