/* SPDX-License-Identifier: Apache-2.0 */
/* Mappings that a caller got wrong are refused, before anything is scanned or shifted by them. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "mempattern.h"

#define PAGE UINT64_C(4096)
#define N_PAGES UINT64_C(8)

static const mpat_mapping wrong[] = {
    {.start = PAGE, .end = PAGE, .page_shift = 12},
    {.start = 2 * PAGE, .end = PAGE, .page_shift = 12},
    {.start = 1, .end = PAGE, .page_shift = 12},
    {.start = 0, .end = PAGE + 1, .page_shift = 12},
    {.start = 0, .end = PAGE, .page_shift = 21},
    {.start = 0, .end = PAGE, .page_shift = 0},
    {.start = 0, .end = PAGE, .page_shift = 11},
    {.start = 0, .end = UINT64_C(1) << 41, .page_shift = 41},
    {.start = 0, .end = PAGE, .page_shift = 64},
    {.start = 0, .end = PAGE, .page_shift = 64 + 12},
    {.start = 0, .end = PAGE, .page_shift = UINT32_MAX},
    {.start = 0, .end = PAGE, .page_shift = 12, .region = 1},
    {.start = 0, .end = (N_PAGES + 1) * PAGE, .page_shift = 12},
    {.start = 0, .end = PAGE, .page_shift = 12, .first_page = N_PAGES},
    {.start = 0, .end = PAGE, .page_shift = 12, .first_page = UINT64_MAX},
};

int main(void)
{
    const uint64_t n_pages = N_PAGES;
    uint64_t bitmap = 42, *const bitmaps[] = {&bitmap};
    mpat_process_collection out = {.written_pages = 42};
    mpat_process_fault fault;
    mpat_process *process;
    pid_t child;

    if (mpat_process_probe(NULL)) {
        printf("skipped: a process cannot be followed here\n");
        return 77;
    }
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    if (mpat_process_open((int)child, 0, &process, NULL) == 0) {
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
            fault = (mpat_process_fault){0};
            CHECK(mpat_process_collect(process, &wrong[i], 1, &n_pages, bitmaps, 1, &out,
                                       &fault) == -EINVAL);
            CHECK(fault.address == wrong[i].start);
        }
        CHECK(bitmap == 42 && out.written_pages == 42);
        mpat_process_close(process);
    } else {
        CHECK(!"opened");
    }
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
    return failures != 0;
}
