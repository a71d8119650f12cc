/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest: reads its command line, then dirties memory one page a step, as csrc/guest/README.md
 * says. Runs alone under QEMU, or on the leash of the micro VM (ports.h).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "patterns.h"
#include "pc.h"
#include "ports.h"
#include "settings.h"

#define MAX_VCPUS 8
#define FREE_RUN (1u << 30) /* steps between two looks at the limit when alone */

#define MULTIBOOT_MAGIC 0x2BADB002
#define MULTIBOOT_HAS_CMDLINE (1u << 2)

struct multiboot_info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline;
};

struct vcpu {
    mpat_control control; /* shared with the host */
    bool alone;           /* nobody answers the port */
    uint64_t ticks_per_step, next_tsc, most_debt;
};

static struct vcpu vcpus[MAX_VCPUS];

void guest_main(uint32_t index, uint32_t magic, const struct multiboot_info *info);

/* ---- time ---------------------------------------------------------------------------------- */

#define PIT_HZ 1193182u
#define PIT_COUNT 59659u /* 50 ms */

/* TSC ticks in a millisecond by channel 2 of the interval timer, the one that software can gate. */
static uint32_t calibrate_tsc(void)
{
    uint64_t begin, end_tsc;
    uint8_t gate = (uint8_t)(in8(0x61) & ~3); /* gate closed, speaker off */

    out8(0x61, gate);
    out8(0x43, 0xb0); /* channel 2, both bytes, mode 0: output rises when the count ends */
    out8(0x42, PIT_COUNT & 0xff);
    out8(0x42, PIT_COUNT >> 8);
    out8(0x61, gate | 1);
    begin = read_tsc();
    if (in8(0x61) & 0x20)
        refuse("there is no timer to measure the TSC with: give tsc_khz=");
    do {
        end_tsc = read_tsc();
        if (end_tsc - begin > 100000000000u) /* tens of seconds on any machine */
            refuse("the timer does not run: give tsc_khz=");
    } while (!(in8(0x61) & 0x20));
    return (uint32_t)divide(divide(end_tsc - begin, PIT_COUNT) * PIT_HZ, 1000);
}

static void set_pace(struct vcpu *cpu, const struct settings *s)
{
    cpu->ticks_per_step = divide((uint64_t)s->tsc_khz * 1000, s->rate);
    cpu->most_debt = (uint64_t)s->tsc_khz * 100; /* 100 ms */
}

/* Whether the next step's time has come; if so, the step after it is put in the book. */
static __attribute__((noinline)) bool is_due(struct vcpu *cpu)
{
    uint64_t now = read_tsc(), late = now - cpu->next_tsc;

    if ((int64_t)late < 0)
        return false;
    if (late > cpu->most_debt)
        cpu->next_tsc = now;
    cpu->next_tsc += cpu->ticks_per_step;
    return true;
}

/* ---- the steps ----------------------------------------------------------------------------- */

/* The limit is reached. The host parks the vCPU here; alone, the limit moves on by itself. */
static __attribute__((noinline)) void ask_for_steps(struct vcpu *cpu)
{
    volatile mpat_control *control = &cpu->control;

    if (!cpu->alone && in32(MPAT_PORT_ASK) == MPAT_ASK_ALONE)
        cpu->alone = true;
    if (cpu->alone)
        control->limit = control->done + FREE_RUN;
}

ALWAYS_INLINE void write_page(uint32_t start, uint32_t page)
{
    __asm__ volatile("incl (%0)" : : "r"(start + (page << PAGE_SHIFT)) : "memory", "cc");
}

/*
 * Do n steps (0: 2^32), as far and as fast as the host and the pace allow; without `next` they
 * write nothing. It is inlined once a pattern, which keeps the pattern's state in registers: an
 * instruction may cost as much as a microsecond under an emulating KVM. A step is counted after its
 * write, so that at every ask the page counters add up to `done`.
 */
ALWAYS_INLINE void run(struct vcpu *cpu, struct pattern *pattern, uint32_t start, uint32_t n,
                       uint32_t (*next)(struct pattern *), const bool paced)
{
    volatile mpat_control *control = &cpu->control;
    struct pattern p = *pattern;
    uint32_t done = control->done, until = done + n;

    for (;;) {
        if ((int32_t)(control->limit - done) <= 0) {
            ask_for_steps(cpu);
            continue;
        }
        if (paced && !is_due(cpu)) {
            __asm__ volatile("pause");
            continue;
        }
        if (next)
            write_page(start, next(&p));
        control->done = ++done;
        if (done == until)
            break;
    }
    *pattern = p;
}

/* A function for each pattern, so that the compiler gives each its own registers. */
#define DEFINE_RUN(name, next)                                                                    \
    static __attribute__((noinline)) void name(struct vcpu *cpu, struct pattern *pattern,         \
                                               uint32_t start, uint32_t n)                        \
    {                                                                                             \
        if (cpu->ticks_per_step)                                                                  \
            run(cpu, pattern, start, n, next, true);                                              \
        else                                                                                      \
            run(cpu, pattern, start, n, next, false);                                             \
    }

DEFINE_RUN(run_idle, NULL)
DEFINE_RUN(run_sweep, sweep_next)
DEFINE_RUN(run_hotset, hotset_next)
DEFINE_RUN(run_uniform, uniform_next)
DEFINE_RUN(run_zipf, zipf_next)
DEFINE_RUN(run_stride, stride_next)
DEFINE_RUN(run_grow, grow_next)

static void (*const run_kind[])(struct vcpu *, struct pattern *, uint32_t, uint32_t) = {
    [IDLE] = run_idle,       [SWEEP] = run_sweep, [HOTSET] = run_hotset,
    [UNIFORM] = run_uniform, [ZIPF] = run_zipf,   [STRIDE] = run_stride,
    [GROW] = run_grow,
};

/* Steps until something changes: the other phase's turn, or the end; 0 when nothing will. */
static uint32_t steps_of_turn(const struct settings *s, uint32_t done)
{
    uint32_t turn = s->kind == PHASED ? s->phase : 0;
    uint32_t left = s->steps - done;

    return s->steps && (!turn || left < turn) ? left : turn;
}

static void run_all(struct vcpu *cpu, const struct settings *s)
{
    bool phased = s->kind == PHASED;
    uint32_t kinds[2] = {phased ? s->a : s->kind, phased ? s->b : s->kind};
    struct pattern patterns[2] = {
        make_pattern(s->pages, s->stride, s->hot, s->seed, 0),
        make_pattern(s->pages, s->stride, s->hot, s->seed, 1),
    };
    volatile mpat_control *control = &cpu->control;

    for (uint32_t turn = 0; !s->steps || control->done != s->steps; turn ^= phased)
        run_kind[kinds[turn]](cpu, &patterns[turn], s->start, steps_of_turn(s, control->done));
}

void guest_main(uint32_t index, uint32_t magic, const struct multiboot_info *info)
{
    struct vcpu *cpu = &vcpus[index];
    struct settings s;

    out32(MPAT_PORT_CONTROL, (uint32_t)(uintptr_t)&cpu->control);
    if (magic != MULTIBOOT_MAGIC)
        refuse("not started by a multiboot loader");
    s = read_cmdline(info->flags & MULTIBOOT_HAS_CMDLINE
                         ? (const char *)(uintptr_t)info->cmdline : "");
    if (s.rate) {
        if (!s.tsc_khz)
            s.tsc_khz = calibrate_tsc();
        set_pace(cpu, &s);
    }
    print_settings(&s);
    run_all(cpu, &s);
    print_setting("done steps=", s.steps);
    print("\n");
    end(MPAT_END_DONE);
}

/* gcc may call these two for its own copies and clearings, even freestanding. */
void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memset(void *to, int value, size_t n);

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    void *begin = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return begin;
}

void *memset(void *to, int value, size_t n)
{
    void *begin = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
    return begin;
}
