/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is around the RAM in QEMU's migration stream: its header, the configuration, commands, and
 * the sections' own headers, all in migration/savevm.c.
 */
#include <errno.h>
#include <string.h>

#include "fields.h"

#define LONGEST_MACHINE 4096u

enum { FILE_MAGIC = 0x5145564d, FILE_VERSION = 3 }; /* migration/savevm.h */
enum { CMD_POSTCOPY_ADVISE = 3, CMD_PACKAGED = 7 }; /* enum qemu_vm_cmd, migration/savevm.c */
#define RAM_VERSION 4u
#define LEAST_PAGE_BITS 10u /* TARGET_PAGE_BITS_MIN: the flags need so many */
#define MOST_PAGE_BITS 24u

static int on_header(mpat_ramstream *s)
{
    if (be32(s->field) != FILE_MAGIC)
        return mpat_refuse(s, "it does not begin as QEMU's migration streams do");
    if (be32(s->field + 4) != FILE_VERSION)
        return mpat_refuse(s, "its version is %u, and not %d", be32(s->field + 4), FILE_VERSION);
    await(s, TYPE, 1);
    return 0;
}

static void stop(mpat_ramstream *s)
{
    mpat_passes_end(&s->passes);
    s->about.stopped = 1;
}

static int on_type(mpat_ramstream *s)
{
    s->section_type = s->field[0];
    switch (s->section_type) {
    case VM_CONFIGURATION:
        await(s, MACHINE_LENGTH, 4);
        return 0;
    case VM_SUBSECTION:
        await(s, SUBSECTION_NAME_LENGTH, 1);
        return 0;
    case VM_COMMAND:
        await(s, COMMAND, 4);
        return 0;
    case SECTION_START:
    case SECTION_PART:
    case SECTION_FOOTER:
        await(s, SECTION_ID, 4);
        return 0;
    case SECTION_FULL:
        if (!s->has_list) { /* of a device that must come first, as virtio-mem: to be named */
            await(s, SECTION_ID, 4);
            return 0;
        }
        stop(s);
        return 0;
    case SECTION_END:
    case VM_EOF:
        if (!s->has_list)
            return mpat_refuse(s, "it ends before the guest's RAM");
        stop(s);
        return 0;
    default:
        return mpat_refuse(s, "no section begins with the byte 0x%02x", s->section_type);
    }
}

static int on_section_id(mpat_ramstream *s)
{
    uint32_t id = be32(s->field);
    if (s->section_type == SECTION_START || s->section_type == SECTION_FULL) {
        s->ram_id = s->has_ram ? s->ram_id : id;
        await(s, SECTION_NAME_LENGTH, 1);
    } else if (!s->has_ram || id != s->ram_id) {
        return mpat_refuse(s, "a section has the number %u, which no section began with", id);
    } else if (s->section_type == SECTION_FOOTER) {
        await(s, TYPE, 1);
    } else {
        mpat_passes_section(&s->passes);
        await(s, RAM, 8);
    }
    return 0;
}

static int on_section_version(mpat_ramstream *s)
{
    if (strcmp(s->name, "ram") != 0)
        return mpat_refuse(s, "besides the RAM it has a section \"%s\", whose length is not known",
                           s->name);
    if (s->has_ram)
        return mpat_refuse(s, "the section of the RAM begins twice");
    if (be32(s->field + 4) != RAM_VERSION)
        return mpat_refuse(s, "the section of the RAM has version %u, and not %u",
                           be32(s->field + 4), RAM_VERSION);
    s->has_ram = 1;
    mpat_passes_section(&s->passes);
    await(s, RAM, 8);
    return 0;
}

static int on_machine_length(mpat_ramstream *s)
{
    s->skip = be32(s->field);
    if (s->skip > LONGEST_MACHINE)
        return mpat_refuse(s, "the machine's name has %u bytes", be32(s->field));
    await(s, TYPE, 1);
    return 0;
}

/* vmstate_configuration, migration/savevm.c */
static int on_subsection_version(mpat_ramstream *s)
{
    if (strcmp(s->name, "configuration/target-page-bits") == 0) {
        await(s, PAGE_BITS, 4);
    } else if (strcmp(s->name, "configuration/capabilities") == 0) {
        await(s, N_CAPABILITIES, 4);
    } else if (strcmp(s->name, "configuration/uuid") == 0) {
        s->skip = 16;
        await(s, TYPE, 1);
    } else {
        return mpat_refuse(s, "its configuration has a part \"%s\", whose length is not known",
                           s->name);
    }
    return 0;
}

static int on_page_bits(mpat_ramstream *s)
{
    uint32_t bits = be32(s->field);
    if (bits < LEAST_PAGE_BITS || bits > MOST_PAGE_BITS || s->has_ram)
        return mpat_refuse(s, "it has pages of 2^%u bytes", bits);
    s->page_bits = bits;
    await(s, TYPE, 1);
    return 0;
}

static void await_capability(mpat_ramstream *s)
{
    if (s->left > 0)
        await(s, CAPABILITY_LENGTH, 1);
    else
        await(s, TYPE, 1);
}

/* Only those are named that are on and change the format. */
static int on_capability(mpat_ramstream *s)
{
    if (strcmp(s->name, "x-ignore-shared") == 0 || strcmp(s->name, "mapped-ram") == 0)
        return mpat_switch_off(s, s->name);
    s->left--;
    await_capability(s);
    return 0;
}

static int on_command(mpat_ramstream *s)
{
    uint32_t command = be32(s->field) >> 16;
    if (command >= CMD_POSTCOPY_ADVISE && command <= CMD_PACKAGED)
        return mpat_switch_off(s, "postcopy-ram");
    s->skip = be32(s->field) & 0xffff;
    await(s, TYPE, 1);
    return 0;
}

int mpat_stream_on_section(mpat_ramstream *s)
{
    switch (s->state) {
    case HEADER: return on_header(s);
    case TYPE: return on_type(s);
    case SECTION_ID: return on_section_id(s);
    case SECTION_NAME_LENGTH: return await_name(s, SECTION_NAME);
    case SECTION_NAME: await(s, SECTION_VERSION, 8); return 0;
    case SECTION_VERSION: return on_section_version(s);
    case MACHINE_LENGTH: return on_machine_length(s);
    case SUBSECTION_NAME_LENGTH: return await_name(s, SUBSECTION_NAME);
    case SUBSECTION_NAME: await(s, SUBSECTION_VERSION, 4); return 0;
    case SUBSECTION_VERSION: return on_subsection_version(s);
    case PAGE_BITS: return on_page_bits(s);
    case N_CAPABILITIES: s->left = be32(s->field); await_capability(s); return 0;
    case CAPABILITY_LENGTH: return await_name(s, CAPABILITY);
    case CAPABILITY: return on_capability(s);
    case COMMAND: return on_command(s);
    default: return -EINVAL;
    }
}
