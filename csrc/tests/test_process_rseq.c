/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching to a process whose thread is in a restartable sequence (rseq(2)), which it must not go on
 * with after it was stopped there. Linked with --wrap for ptrace.
 */
#include "process_child.h"

#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/rseq.h>

static struct sequence {
    uint32_t n_begun; /* again each time that the kernel aborted it */
    uint32_t may_end;
    uint32_t stopped_in; /* the how manieth, when its thread was first looked at */
    pid_t tid;
} *sequence; /* shared with the child, and with the process that attaches */

long __real_ptrace(enum __ptrace_request request, pid_t pid, void *address, void *data);
long __wrap_ptrace(enum __ptrace_request request, pid_t pid, void *address, void *data);

/* The thread stands still where its registers are read. */
long __wrap_ptrace(enum __ptrace_request request, pid_t pid, void *address, void *data)
{
    if (request == PTRACE_GETREGS && pid == sequence->tid && !sequence->may_end) {
        sequence->stopped_in = sequence->n_begun;
        sequence->may_end = 1;
    }
    return __real_ptrace(request, pid, address, data);
}

/* Goes round in a sequence until it may end. */
static int in_sequence(const struct child *child, const void *argument)
{
    struct rseq *rseq = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);

    (void)argument;
    sequence->tid = getpid();
    say_ready(child);
    __asm__ volatile(".pushsection __rseq_cs, \"aw\"\n"
                     ".balign 32\n"
                     "1: .long 0, 0\n" /* struct rseq_cs */
                     ".quad 3f, 5f - 3f, 6f\n"
                     ".popsection\n"
                     "2: leaq 1b(%%rip), %%rax\n"
                     "movq %%rax, %[section]\n"
                     "3: incl %[n_begun]\n" /* the sequence */
                     "4: pause\n"
                     "cmpl $0, %[may_end]\n"
                     "je 4b\n"
                     "5:\n"
                     ".pushsection __rseq_abort, \"ax\"\n"
                     ".byte 0x0f, 0xb9, 0x3d\n" /* RSEQ_SIG as an instruction: ud1 */
                     ".long %c[signature]\n"
                     "6: jmp 2b\n"
                     ".popsection\n"
                     : [section] "=m"(rseq->rseq_cs), [n_begun] "+m"(sequence->n_begun)
                     : [may_end] "m"(sequence->may_end), [signature] "i"(RSEQ_SIG)
                     : "rax", "cc", "memory");
    rseq->rseq_cs = 0;
    return 0;
}

/*
 * Sent to make a call at once, the thread would come back to a sequence that the kernel has forgotten
 * by then, and end what it had begun before. So it has to be let go first, whereupon it begins again.
 */
static void test_restartable_sequence(void)
{
    int n_attached = 0;

    for (int i = 0; i < 10; i++) {
        mpat_process *process = NULL;
        struct child child;
        int error;

        *sequence = (struct sequence){0};
        child = begin(in_sequence, NULL);
        wait_ready(&child);
        while (__atomic_load_n(&sequence->n_begun, __ATOMIC_RELAXED) == 0)
            usleep(1000);
        error = mpat_process_open(child.pid, 0, &process, NULL);
        CHECK(error == 0 || error == -EAGAIN);
        n_attached += error == 0;
        mpat_process_close(process);
        __atomic_store_n(&sequence->may_end, 1, __ATOMIC_RELAXED); /* if another thread was taken */
        CHECK(end(&child) == 0);
        CHECK(sequence->n_begun > sequence->stopped_in);
    }
    CHECK(n_attached > 0); /* on a machine that is not busy, all */
}

int main(void)
{
    probe();
    if (__rseq_size == 0) {
        printf("skipped: the C library registers no restartable sequences\n");
        return 77;
    }
    sequence = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sequence == MAP_FAILED)
        return 1;
    test_restartable_sequence();
    return failures != 0;
}
