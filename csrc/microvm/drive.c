/* SPDX-License-Identifier: Apache-2.0 */
/* The VM: the calls that drive all its vCPUs together. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#if defined(__x86_64__) && defined(__linux__)

#include <errno.h>
#include <time.h>

#include "machine.h"

#define NS_PER_S INT64_C(1000000000)
#define PATIENCE_NS NS_PER_S /* for a guest to come to the end of its step */

/* ---- under the VM's lock ------------------------------------------------------------------- */

static bool all_parked(const mpat_microvm *vm)
{
    for (size_t i = 0; i < vm->n_vcpus; i++)
        if (!mpat_vcpu_is_parked(&vm->vcpus[i]))
            return false;
    return true;
}

static bool any_died(const mpat_microvm *vm)
{
    for (size_t i = 0; i < vm->n_vcpus; i++)
        if (vm->vcpus[i].error)
            return true;
    return false;
}

static struct timespec deadline_after(int64_t ns)
{
    struct timespec when;

    clock_gettime(CLOCK_MONOTONIC, &when);
    when.tv_sec += (time_t)(ns / NS_PER_S);
    when.tv_nsec += (long)(ns % NS_PER_S);
    if (when.tv_nsec >= NS_PER_S) {
        when.tv_sec++;
        when.tv_nsec -= NS_PER_S;
    }
    return when;
}

/* Has every vCPU the target it was given? Another call may have changed them meanwhile. */
static bool have_targets(const mpat_microvm *vm, const uint64_t *targets)
{
    for (size_t i = 0; i < vm->n_vcpus; i++)
        if (vm->vcpus[i].target != targets[i])
            return false;
    return true;
}

/*
 * 0, or -ETIMEDOUT after timeout_ns; a negative timeout never ends. With targets, -EINTR once the
 * vCPUs have others.
 */
static int wait_all_parked(mpat_microvm *vm, const uint64_t *targets, int64_t timeout_ns)
{
    struct timespec deadline = deadline_after(timeout_ns < 0 ? 0 : timeout_ns);
    bool late = false;

    for (;;) {
        if (targets && !have_targets(vm, targets))
            return -EINTR;
        if (all_parked(vm))
            return 0;
        if (late)
            return -ETIMEDOUT;
        if (timeout_ns < 0)
            pthread_cond_wait(&vm->changed, &vm->lock);
        else
            late = pthread_cond_timedwait(&vm->changed, &vm->lock, &deadline) == ETIMEDOUT;
    }
}

/* Kick the vCPUs that did not come to the end of a step, and park them where they stand. */
static void hold_stragglers(mpat_microvm *vm)
{
    for (size_t i = 0; i < vm->n_vcpus; i++) {
        mpat_vcpu *vcpu = &vm->vcpus[i];
        if (!mpat_vcpu_is_parked(vcpu)) {
            vcpu->held = true;
            mpat_vcpu_kick(vcpu);
        }
    }
    wait_all_parked(vm, NULL, -1);
}

static void park_all(mpat_microvm *vm)
{
    for (size_t i = 0; i < vm->n_vcpus; i++) {
        mpat_vcpu *vcpu = &vm->vcpus[i];
        if (!mpat_vcpu_is_parked(vcpu))
            mpat_vcpu_aim(vcpu, mpat_vcpu_steps(vcpu));
    }
    if (wait_all_parked(vm, NULL, PATIENCE_NS))
        hold_stragglers(vm);
}

int mpat_drive_park(mpat_microvm *vm)
{
    park_all(vm);
    return any_died(vm) ? -EIO : 0;
}

/* What the vCPUs that stopped too early have to say. */
static int outcome(mpat_microvm *vm)
{
    int result = 0;

    if (any_died(vm))
        return -EIO;
    for (size_t i = 0; i < vm->n_vcpus; i++) {
        mpat_vcpu *vcpu = &vm->vcpus[i];
        if (vcpu->trouble)
            return vcpu->trouble;
        if (vcpu->finished && vcpu->target != MPAT_RUN_FREELY && vcpu->steps < vcpu->target)
            result = -ENODATA;
    }
    return result;
}

static void aim_all(mpat_microvm *vm, uint64_t n_steps)
{
    for (size_t i = 0; i < vm->n_vcpus; i++) {
        mpat_vcpu *vcpu = &vm->vcpus[i];
        uint64_t steps = mpat_vcpu_steps(vcpu);
        bool overflows = n_steps > MPAT_RUN_FREELY - steps;
        mpat_vcpu_aim(vcpu, overflows ? MPAT_RUN_FREELY : steps + n_steps);
    }
}

/* ---- calls --------------------------------------------------------------------------------- */

int mpat_microvm_step(mpat_microvm *vm, uint64_t n_steps, int64_t timeout_ns)
{
    uint64_t targets[MPAT_MICROVM_MAX_VCPUS];
    int error;

    if (!mpat_is_ours(vm))
        return -ECHILD;
    pthread_mutex_lock(&vm->lock);
    error = any_died(vm) ? -EIO : 0;
    if (!error) {
        park_all(vm); /* a VM that runs freely stops first, and does n_steps after that */
        aim_all(vm, n_steps);
        for (size_t i = 0; i < vm->n_vcpus; i++)
            targets[i] = vm->vcpus[i].target;
        error = wait_all_parked(vm, targets, timeout_ns);
        if (error == -ETIMEDOUT)
            park_all(vm);
        if (!error || any_died(vm))
            error = outcome(vm);
    }
    pthread_mutex_unlock(&vm->lock);
    return error;
}

int mpat_microvm_resume(mpat_microvm *vm)
{
    int error;

    if (!mpat_is_ours(vm))
        return -ECHILD;
    pthread_mutex_lock(&vm->lock);
    error = any_died(vm) ? -EIO : 0;
    if (!error)
        aim_all(vm, MPAT_RUN_FREELY);
    pthread_mutex_unlock(&vm->lock);
    return error;
}

int mpat_microvm_pause(mpat_microvm *vm)
{
    int error;

    if (!mpat_is_ours(vm))
        return -ECHILD;
    pthread_mutex_lock(&vm->lock);
    park_all(vm);
    error = outcome(vm);
    pthread_mutex_unlock(&vm->lock);
    return error == -ENODATA ? 0 : error; /* nobody asked for a number of steps */
}

int mpat_microvm_kick(mpat_microvm *vm)
{
    uint64_t n_exits[MPAT_MICROVM_MAX_VCPUS];

    if (!mpat_is_ours(vm))
        return -ECHILD;
    pthread_mutex_lock(&vm->lock);
    for (size_t i = 0; i < vm->n_vcpus; i++) {
        n_exits[i] = vm->vcpus[i].n_exits;
        if (!mpat_vcpu_is_parked(&vm->vcpus[i]))
            mpat_vcpu_kick(&vm->vcpus[i]);
    }
    for (size_t i = 0; i < vm->n_vcpus; i++)
        while (!mpat_vcpu_is_parked(&vm->vcpus[i]) && vm->vcpus[i].n_exits == n_exits[i])
            pthread_cond_wait(&vm->changed, &vm->lock);
    pthread_mutex_unlock(&vm->lock);
    return 0;
}

int mpat_microvm_set_ring(mpat_microvm *vm, mpat_kvm_ring *ring)
{
    int error;

    if (!mpat_is_ours(vm))
        return -ECHILD;
    pthread_mutex_lock(&vm->lock);
    error = all_parked(vm) ? 0 : -EBUSY;
    if (!error)
        vm->ring = ring;
    pthread_mutex_unlock(&vm->lock);
    return error;
}

#endif
