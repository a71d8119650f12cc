/* SPDX-License-Identifier: Apache-2.0 */
/* Boot memory: the guest's image above 1 MiB, what a multiboot loader would leave below. */
#if defined(__x86_64__) && defined(__linux__)

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

#define IMAGE_BASE 0x100000
#define INFO_BASE 0x10000 /* one page a vCPU: the multiboot information, then the command line */
#define CMDLINE_OFFSET 128
#define MULTIBOOT_HAS_CMDLINE (1u << 2)

_Static_assert(INFO_BASE + MPAT_MICROVM_MAX_VCPUS * MPAT_PAGE_BYTES <= IMAGE_BASE,
               "the multiboot information must not reach the image");
_Static_assert(CMDLINE_OFFSET + MPAT_MICROVM_MAX_CMDLINE + 64 <= MPAT_PAGE_BYTES,
               "a command line and the frequency must fit a page");

/* Whether [offset, offset + length) lies within `size` bytes. */
static bool lies_within(uint64_t offset, uint64_t length, uint64_t size)
{
    return offset <= size && length <= size - offset;
}

static bool is_executable(const Elf32_Ehdr *header)
{
    return memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
           header->e_ident[EI_CLASS] == ELFCLASS32 && header->e_ident[EI_DATA] == ELFDATA2LSB &&
           header->e_type == ET_EXEC && header->e_machine == EM_386 &&
           header->e_phentsize == sizeof(Elf32_Phdr);
}

static bool is_loadable(const Elf32_Phdr *segment, size_t image_bytes)
{
    return segment->p_filesz <= segment->p_memsz && segment->p_paddr >= IMAGE_BASE &&
           lies_within(segment->p_offset, segment->p_filesz, image_bytes) &&
           lies_within(segment->p_paddr, segment->p_memsz, MPAT_BOOT_BYTES);
}

static bool contains(const Elf32_Phdr *segment, uint32_t address)
{
    return address >= segment->p_paddr && address - segment->p_paddr < segment->p_filesz;
}

int mpat_boot_load_image(uint8_t *boot, const void *image, size_t image_bytes, uint32_t *entry)
{
    const uint8_t *bytes = image;
    Elf32_Ehdr header;
    bool has_entry = false;

    if (image_bytes < sizeof header)
        return -EINVAL;
    memcpy(&header, bytes, sizeof header);
    if (!is_executable(&header) ||
        !lies_within(header.e_phoff, (uint64_t)header.e_phnum * sizeof(Elf32_Phdr), image_bytes))
        return -EINVAL;

    for (size_t i = 0; i < header.e_phnum; i++) {
        Elf32_Phdr segment;
        memcpy(&segment, bytes + header.e_phoff + i * sizeof segment, sizeof segment);
        if (segment.p_type != PT_LOAD)
            continue;
        if (!is_loadable(&segment, image_bytes))
            return -EINVAL;
        /* Boot memory is fresh: what p_memsz has more than p_filesz is zero already. */
        memcpy(boot + segment.p_paddr, bytes + segment.p_offset, segment.p_filesz);
        has_entry |= contains(&segment, header.e_entry);
    }
    if (!has_entry)
        return -EINVAL;
    *entry = header.e_entry;
    return 0;
}

uint32_t mpat_boot_write_info(uint8_t *boot, size_t index, const char *cmdline, uint32_t tsc_khz)
{
    uint32_t address = (uint32_t)(INFO_BASE + index * MPAT_PAGE_BYTES);
    /* Multiboot 0.6.96, 3.3: flags, mem_lower, mem_upper, boot_device, cmdline. */
    uint32_t words[5] = {MULTIBOOT_HAS_CMDLINE, 0, 0, 0, address + CMDLINE_OFFSET};
    char *text = (char *)boot + address + CMDLINE_OFFSET;
    size_t room = MPAT_PAGE_BYTES - CMDLINE_OFFSET;

    memcpy(boot + address, words, sizeof words);
    /* In front, where a loader puts the file name: a later tsc_khz= of the caller's own wins. */
    if (tsc_khz)
        snprintf(text, room, "tsc_khz=%u %s", (unsigned)tsc_khz, cmdline);
    else
        snprintf(text, room, "%s", cmdline);
    return address;
}

mpat_control *mpat_boot_control(uint8_t *boot, uint32_t address)
{
    if (address % sizeof(uint32_t) || !lies_within(address, sizeof(mpat_control), MPAT_BOOT_BYTES))
        return NULL;
    return (mpat_control *)(void *)(boot + address);
}

#endif
