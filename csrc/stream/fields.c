/* SPDX-License-Identifier: Apache-2.0 */
/* Why a stream is not read on. */
#include "fields.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int mpat_refuse(mpat_ramstream *s, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(s->problem, sizeof(s->problem), format, arguments);
    va_end(arguments);
    return -EPROTO;
}

int mpat_switch_off(mpat_ramstream *s, const char *capability)
{
    return mpat_refuse(s, "it was sent with the capability %s, which must be switched off",
                       capability);
}
