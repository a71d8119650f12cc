/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's thread: its one rule, and what to do when KVM_RUN returns. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#if defined(__x86_64__) && defined(__linux__)

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

#include "machine.h"

#define SERIAL_DATA 0x3f8
#define SERIAL_LINE_STATUS 0x3fd
#define SERIAL_READY 0x60 /* transmitter empty */

/*
 * The most steps the guest gets at once, however far the target: its counters wrap at 2^32 and are
 * compared as signed, and the host must look at them before they wrap.
 */
#define MOST_STEPS_AT_ONCE (1u << 30)

/* ---- the steps ----------------------------------------------------------------------------- */

uint64_t mpat_vcpu_steps(mpat_vcpu *vcpu)
{
    if (vcpu->control) {
        uint32_t done = __atomic_load_n(&vcpu->control->done, __ATOMIC_ACQUIRE);
        vcpu->steps += (uint32_t)(done - vcpu->seen_done);
        vcpu->seen_done = done;
    }
    return vcpu->steps;
}

/* Bring the guest's limit in line with the target. A limit already passed stops it as well. */
static void set_limit(mpat_vcpu *vcpu)
{
    uint64_t steps = mpat_vcpu_steps(vcpu);
    uint64_t more = vcpu->target > steps ? vcpu->target - steps : 0;

    if (!vcpu->control)
        return;
    if (more > MOST_STEPS_AT_ONCE)
        more = MOST_STEPS_AT_ONCE;
    __atomic_store_n(&vcpu->control->limit, vcpu->seen_done + (uint32_t)more, __ATOMIC_RELEASE);
}

void mpat_vcpu_aim(mpat_vcpu *vcpu, uint64_t target)
{
    vcpu->target = target;
    vcpu->held = false;
    vcpu->trouble = 0;
    set_limit(vcpu);
    pthread_cond_broadcast(&vcpu->vm->changed); /* this may park it, or let it run */
}

/* It has finished or died. */
static bool is_over(const mpat_vcpu *vcpu)
{
    return vcpu->finished || vcpu->error;
}

/* The thread's one rule. Between two steps the guest's count cannot move: vcpu->steps is right. */
static bool should_run(const mpat_vcpu *vcpu)
{
    return !is_over(vcpu) && !vcpu->held &&
           !(vcpu->between_steps && vcpu->steps >= vcpu->target);
}

bool mpat_vcpu_is_parked(const mpat_vcpu *vcpu)
{
    return is_over(vcpu) || (vcpu->waiting && !should_run(vcpu));
}

/* ---- its ends ------------------------------------------------------------------------------ */

static void die(mpat_vcpu *vcpu, int error)
{
    struct kvm_regs registers;

    vcpu->error = error;
    vcpu->exit_reason = vcpu->run->exit_reason;
    if (ioctl(vcpu->fd, KVM_GET_REGS, &registers) == 0)
        vcpu->exit_rip = registers.rip;
}

/* ---- ports --------------------------------------------------------------------------------- */

/* Lines of several vCPUs come out whole. */
static void flush_line(mpat_vcpu *vcpu)
{
    mpat_microvm *vm = vcpu->vm;
    size_t room = MPAT_CONSOLE_BYTES - vm->console_length;
    size_t n = vcpu->line_length < room ? vcpu->line_length : room;

    memcpy(vm->console + vm->console_length, vcpu->line, n);
    vm->console_length += n;
    vcpu->line_length = 0;
}

static void serial_write(mpat_vcpu *vcpu, char c)
{
    vcpu->line[vcpu->line_length++] = c;
    if (c == '\n' || vcpu->line_length == MPAT_LINE_BYTES)
        flush_line(vcpu);
}

static void guest_ended(mpat_vcpu *vcpu, uint32_t how)
{
    mpat_vcpu_steps(vcpu);
    flush_line(vcpu);
    if (how == MPAT_END_DONE)
        vcpu->finished = true;
    else
        die(vcpu, -EINVAL);
}

static void guest_has_control(mpat_vcpu *vcpu, uint32_t address)
{
    vcpu->control = mpat_boot_control(vcpu->vm->boot, address);
    if (!vcpu->control) {
        die(vcpu, -EPROTO);
        return;
    }
    vcpu->seen_done = __atomic_load_n(&vcpu->control->done, __ATOMIC_ACQUIRE);
    set_limit(vcpu);
}

static void port_write(mpat_vcpu *vcpu, uint16_t port, uint32_t value)
{
    switch (port) {
    case SERIAL_DATA: serial_write(vcpu, (char)value); break;
    case MPAT_PORT_CONTROL: guest_has_control(vcpu, value); break;
    case MPAT_PORT_END: guest_ended(vcpu, value); break;
    default: break; /* as on a PC, writes to nothing go nowhere */
    }
}

static uint32_t port_read(mpat_vcpu *vcpu, uint16_t port)
{
    switch (port) {
    case SERIAL_LINE_STATUS: return SERIAL_READY;
    case MPAT_PORT_ASK:
        mpat_vcpu_steps(vcpu);
        set_limit(vcpu);
        vcpu->between_steps = true;
        return MPAT_ASK_LOOK;
    default: return UINT32_MAX;
    }
}

/* String instructions come as several values in one exit. */
static void handle_ports(mpat_vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    for (uint32_t i = 0; i < run->io.count && !is_over(vcpu); i++) {
        uint32_t value = 0;
        if (run->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&value, data, run->io.size);
            port_write(vcpu, run->io.port, value);
        } else {
            value = port_read(vcpu, run->io.port);
            memcpy(data, &value, run->io.size);
        }
        data += run->io.size;
    }
}

/* ---- exits --------------------------------------------------------------------------------- */

/* Drain without the lock: it may have to wait, and must not hold up the other vCPUs. */
static void handle_full_ring(mpat_vcpu *vcpu)
{
    mpat_microvm *vm = vcpu->vm;
    mpat_kvm_ring *ring = vm->ring;
    mpat_kvm_fault fault;
    int error;

    if (!ring) {
        vcpu->held = true;
        vcpu->trouble = -ENOBUFS;
        return;
    }
    pthread_mutex_unlock(&vm->lock);
    error = mpat_kvm_ring_drain(ring, &fault);
    pthread_mutex_lock(&vm->lock);
    /* These are the reader's to report: the rings were drained all the same. */
    if (error && error != -ENOENT && error != -ERANGE && error != -ESTALE)
        die(vcpu, error);
}

static void handle_exit(mpat_vcpu *vcpu)
{
    switch (vcpu->run->exit_reason) {
    case KVM_EXIT_IO: handle_ports(vcpu); break;
    case KVM_EXIT_DIRTY_RING_FULL: handle_full_ring(vcpu); break;
    case KVM_EXIT_INTR: break;
    case KVM_EXIT_MMIO: die(vcpu, -EFAULT); break; /* memory that no memslot has */
    default: die(vcpu, -EIO); break;
    }
}

/* The kick is pending, blocked, in this thread: take it away, or KVM_RUN would never run again. */
static void consume_kick(void)
{
    static const struct timespec now = {0, 0};
    sigset_t kick;

    sigemptyset(&kick);
    sigaddset(&kick, MPAT_KICK_SIGNAL);
    while (sigtimedwait(&kick, NULL, &now) > 0)
        ;
}

static void handle_return(mpat_vcpu *vcpu, int error)
{
    vcpu->n_exits++;
    if (error == 0)
        handle_exit(vcpu);
    else if (error == -EINTR)
        consume_kick();
    else if (error != -EAGAIN)
        die(vcpu, error);
    pthread_cond_broadcast(&vcpu->vm->changed);
}

/* ---- the thread ---------------------------------------------------------------------------- */

/* Wait, parked, for something to do. False: there will never be anything. */
static bool wait_to_run(mpat_vcpu *vcpu)
{
    mpat_microvm *vm = vcpu->vm;

    vcpu->waiting = true;
    if (!should_run(vcpu))
        pthread_cond_broadcast(&vm->changed);
    while (!vm->quit && !vcpu->error && !should_run(vcpu)) /* one that finished may be rebooted */
        pthread_cond_wait(&vm->changed, &vm->lock);
    vcpu->waiting = false;
    vcpu->between_steps = false;
    return !vm->quit && !vcpu->error;
}

static void *thread_main(void *argument)
{
    mpat_vcpu *vcpu = argument;
    mpat_microvm *vm = vcpu->vm;

    pthread_mutex_lock(&vm->lock);
    while (wait_to_run(vcpu)) {
        int error;
        pthread_mutex_unlock(&vm->lock);
        error = ioctl(vcpu->fd, KVM_RUN, 0) ? -errno : 0;
        pthread_mutex_lock(&vm->lock);
        handle_return(vcpu, error);
    }
    flush_line(vcpu);
    pthread_mutex_unlock(&vm->lock);
    return NULL;
}

int mpat_vcpu_start(mpat_vcpu *vcpu)
{
    sigset_t all, before;
    int error;

    /* The thread inherits the mask: at no moment could a signal be delivered to it. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&vcpu->thread, NULL, thread_main, vcpu);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    vcpu->has_thread = error == 0;
    return -error;
}

void mpat_vcpu_kick(const mpat_vcpu *vcpu)
{
    if (vcpu->has_thread)
        pthread_kill(vcpu->thread, MPAT_KICK_SIGNAL);
}

void mpat_vcpu_stop(mpat_vcpu *vcpu)
{
    if (!vcpu->has_thread)
        return;
    mpat_vcpu_kick(vcpu);
    pthread_join(vcpu->thread, NULL);
}

#endif
