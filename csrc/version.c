/* SPDX-License-Identifier: Apache-2.0 */
#include "mempattern.h"

const char *mpat_version(void)
{
    return MPAT_VERSION;
}
