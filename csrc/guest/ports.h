/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest and the micro VM say to each other; csrc/guest/README.md tells the whole story.
 * No device of QEMU's pc and q35 machines answers at these ports: there, writes go nowhere and
 * reads give all ones.
 */
#ifndef MPAT_GUEST_PORTS_H
#define MPAT_GUEST_PORTS_H

#include <stdint.h>

#define MPAT_PORT_CONTROL 0xd50 /* out: guest-physical address of this vCPU's mpat_control */
#define MPAT_PORT_ASK 0xd54     /* in: the limit is reached; the answer is an MPAT_ASK_* */
#define MPAT_PORT_END 0xd58     /* out: an MPAT_END_*; the vCPU does nothing any more */

#define MPAT_ASK_LOOK 0          /* look at the limit again */
#define MPAT_ASK_ALONE 0xffffffffu /* nobody is there: run for ever */

#define MPAT_END_DONE 0   /* all of steps= are done */
#define MPAT_END_FAILED 1 /* the last line on the serial port says why */

/*
 * One a vCPU, in the guest's own memory. Each word has one writer, so that neither side ever needs
 * a lock: the guest runs while (int32_t)(limit - done) > 0. Both wrap.
 */
typedef struct mpat_control {
    uint32_t done;  /* steps done; written by the guest, after each step's page write */
    uint32_t limit; /* steps to do; written by the host, at any time */
} mpat_control;

#endif
