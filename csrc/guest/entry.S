/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multiboot v1 header and entry. Every vCPU of the micro VM starts here too, in the same state as a
 * multiboot loader leaves: flat 32-bit segments, interrupts off, EAX = magic, EBX = multiboot info.
 * .bss is zeroed by the loader, not here: a second vCPU must not wipe the first one's memory.
 */
#define MAGIC 0x1BADB002
#define MAX_VCPUS 8
#define STACK_SHIFT 12

    .section .multiboot, "a"
    .balign 4
    .long MAGIC
    .long 0                 /* flags: nothing is asked of the loader */
    .long -MAGIC            /* checksum: the three words add up to 0 */

    .text
    .globl _start
_start:
    cli
    cld
    movl $1, %ecx
    lock xaddl %ecx, vcpus_started      /* ECX = this vCPU's index */
    cmpl $MAX_VCPUS, %ecx
    jae halt
    leal 1(%ecx), %edx
    shll $STACK_SHIFT, %edx
    leal stacks(%edx), %esp             /* its own stack, from the top */
    xorl %ebp, %ebp
    pushl %ebx
    pushl %eax
    pushl %ecx
    call guest_main                     /* guest_main(index, magic, info) */
halt:
    cli
    hlt
    jmp halt

    .bss
    .balign 4096
stacks:
    .skip MAX_VCPUS << STACK_SHIFT
vcpus_started:
    .skip 4

    .section .note.GNU-stack, "", @progbits
