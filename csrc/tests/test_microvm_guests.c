/* SPDX-License-Identifier: Apache-2.0 */
/* Guests, images and configurations that are wrong: what is refused, and how what runs dies. */
#include "microvm_machine.h"

#include <elf.h>

#define ANY_REASON UINT32_MAX

/* ---- guests that die ----------------------------------------------------------------------- */

static void check_refused(const char *cmdline, const char *said)
{
    machine m;

    if (start_simple(&m, 64, cmdline) == 0) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 1, LONG_NS), -EIO);
        CHECK_EQUAL(state_of(&m, 0).error, -EINVAL);
        CHECK_EQUAL(state_of(&m, 0).running, 0);
        CHECK_EQUAL(state_of(&m, 0).steps, 0);
        CHECK(console_has(&m, said));
        CHECK_EQUAL(mpat_microvm_step(m.vm, 1, LONG_NS), -EIO);
        CHECK_EQUAL(mpat_microvm_resume(m.vm), -EIO);
        CHECK_EQUAL(mpat_microvm_pause(m.vm), -EIO);
    }
    mpat_microvm_destroy(m.vm);
}

static void test_bad_cmdlines(void)
{
    check_refused("pattern=sweep pages=0", "error: unusable value: pages=0\n");
    check_refused("pattern=sweet", "error: unusable value: pattern=sweet\n");
    check_refused("page=12", "error: unknown key: page=12\n");
    check_refused("pages=", "error: unusable value: pages=\n");
    check_refused("pages=12x", "error: unusable value: pages=12x\n");
    check_refused("pages=0x", "error: unusable value: pages=0x\n");
    check_refused("pages=4294967296", "error: unusable value: pages=4294967296\n");
    check_refused("start=4G", "error: unusable value: start=4G\n");
    check_refused("start=1M", "error: unusable value: start=1M\n");
    check_refused("start=16777217", "error: start= must be");
    check_refused("pattern=hotset pages=10 hot=11", "error: hot= is more");
    check_refused("pattern=grow pages=10 hot=11", "error: hot= is more");
    check_refused("start=0xfffff000 pages=2", "error: start= and pages= reach past 4 GiB");
    check_refused("pattern=phased a=idle phase=10", "error: pattern=phased needs");
    check_refused("a=phased", "error: unusable value: a=phased");
}

static void test_good_cmdlines(void)
{
    machine m;

    if (start_simple(&m, 64, "/boot/a=b.elf  what = pages=0x10 pages=32 start=16m "
                             "seed=0xffFFffff") == 0) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 1, LONG_NS), 0);
        CHECK(console_has(&m, "pattern=idle pages=32 start=0x01000000 seed=4294967295 rate=0\n"));
    }
    mpat_microvm_destroy(m.vm);
}

static void test_write_outside_ram(void)
{
    const char *cmdlines[] = {"pattern=sweep pages=65", "pattern=idle"};
    uint64_t n_pages = 64;
    machine m;

    if (start_machine(&m, MPAT_MICROVM_LOG, 1, &n_pages, 2, cmdlines) == 0) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 64, LONG_NS), 0);
        CHECK_EQUAL(mpat_microvm_step(m.vm, 10, LONG_NS), -EIO);
        CHECK_EQUAL(state_of(&m, 0).error, -EFAULT);
        CHECK_EQUAL(state_of(&m, 0).exit_reason, KVM_EXIT_MMIO);
        CHECK(state_of(&m, 0).exit_rip >= 0x100000 && state_of(&m, 0).exit_rip < 0x200000);
        CHECK_EQUAL(state_of(&m, 0).steps, 64);
        CHECK_EQUAL(state_of(&m, 1).error, 0);
        CHECK_EQUAL(state_of(&m, 1).steps, 74);
        CHECK_EQUAL(writes(&m), 64);
    }
    mpat_microvm_destroy(m.vm);
}

/* ---- guests of another kind ---------------------------------------------------------------- */

/* An executable with one segment at 1 MiB, which is `code`. */
typedef struct tiny_image {
    Elf32_Ehdr header;
    Elf32_Phdr segment;
    uint8_t code[64];
} tiny_image;

static tiny_image make_tiny(const uint8_t *code, size_t n)
{
    tiny_image image = {
        .header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
                   .e_type = ET_EXEC, .e_machine = EM_386, .e_version = EV_CURRENT,
                   .e_entry = 0x100000, .e_phoff = offsetof(tiny_image, segment),
                   .e_ehsize = sizeof(Elf32_Ehdr), .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = 1},
        .segment = {.p_type = PT_LOAD, .p_offset = offsetof(tiny_image, code), .p_vaddr = 0x100000,
                    .p_paddr = 0x100000, .p_filesz = 64, .p_memsz = 64},
    };
    memcpy(image.code, code, n);
    return image;
}

static int create_tiny(const void *image, size_t bytes, mpat_microvm **vm)
{
    uint64_t n_pages = 10;
    const char *cmdline = "";
    mpat_microvm_config config = {.image = image, .image_bytes = bytes, .slot_pages = &n_pages,
                                  .n_slots = 1, .cmdlines = &cmdline, .n_vcpus = 1};

    *vm = NULL;
    return mpat_microvm_create(&config, vm);
}

static void check_tiny_dies(const uint8_t *code, size_t n, int error, uint32_t exit_reason)
{
    tiny_image image = make_tiny(code, n);
    machine m = {.n_slots = 1, .slot_pages = {10}};

    CHECK_EQUAL(create_tiny(&image, sizeof image, &m.vm), 0);
    if (m.vm) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 1, LONG_NS), -EIO);
        CHECK_EQUAL(state_of(&m, 0).error, error);
        if (exit_reason != ANY_REASON)
            CHECK_EQUAL(state_of(&m, 0).exit_reason, exit_reason);
        CHECK_EQUAL(state_of(&m, 0).steps, 0);
    }
    mpat_microvm_destroy(m.vm);
}

static void test_foreign_guests_die(void)
{
    static const uint8_t halt[] = {0xf4};
    /* lidt of an empty table; int3 */
    static const uint8_t triple_fault[] = {0x0f, 0x01, 0x1d, 0x20, 0, 0x10, 0, 0xcc};
    /* mov dx, control port; mov eax, 0x1ffffc; out dx, eax: a block that ends past boot memory */
    static const uint8_t bad_control[] = {0x66, 0xba, 0x50, 0x0d, 0xb8, 0xfc, 0xff, 0x1f, 0, 0xef};

    check_tiny_dies(halt, sizeof halt, -EIO, KVM_EXIT_HLT);
    /* KVM_EXIT_SHUTDOWN on hardware; KVM's emulator gives up with an internal error before. */
    check_tiny_dies(triple_fault, sizeof triple_fault, -EIO, ANY_REASON);
    check_tiny_dies(bad_control, sizeof bad_control, -EPROTO, KVM_EXIT_IO);
}

static void test_guest_that_never_asks(void)
{
    static const uint8_t spin[] = {0xeb, 0xfe};
    tiny_image image = make_tiny(spin, sizeof spin);
    machine m = {.n_slots = 1, .slot_pages = {10}};

    CHECK_EQUAL(create_tiny(&image, sizeof image, &m.vm), 0);
    if (m.vm) {
        CHECK_EQUAL(mpat_microvm_step(m.vm, 1, 1000000), -ETIMEDOUT);
        CHECK_EQUAL(state_of(&m, 0).running, 0);
        CHECK_EQUAL(mpat_microvm_resume(m.vm), 0);
        CHECK_EQUAL(mpat_microvm_kick(m.vm), 0);
        CHECK_EQUAL(state_of(&m, 0).running, 1);
    }
    mpat_microvm_destroy(m.vm);
}

static void check_hostile(const void *image, size_t bytes)
{
    mpat_microvm *vm;
    uint8_t *copy = malloc(bytes ? bytes : 1); /* on the heap: the sanitizer sees an overrun */

    if (!copy)
        abort();
    memcpy(copy, image, bytes);
    CHECK_EQUAL(create_tiny(copy, bytes, &vm), -EINVAL);
    CHECK(vm == NULL);
    mpat_microvm_destroy(vm);
    free(copy);
}

static void test_hostile_images(void)
{
    static const uint8_t halt[] = {0xf4};
    const tiny_image good = make_tiny(halt, sizeof halt);
    tiny_image bad;

    for (size_t n = 0; n < sizeof good; n++)
        check_hostile(&good, n);

#define HOSTILE(field, value)                  \
    do {                                       \
        bad = good;                            \
        bad.field = value;                     \
        check_hostile(&bad, sizeof bad);       \
    } while (0)

    HOSTILE(header.e_ident[0], 0);
    HOSTILE(header.e_ident[EI_CLASS], ELFCLASS64);
    HOSTILE(header.e_ident[EI_DATA], ELFDATA2MSB);
    HOSTILE(header.e_type, ET_DYN);
    HOSTILE(header.e_machine, EM_X86_64);
    HOSTILE(header.e_phentsize, 0);
    HOSTILE(header.e_phnum, 0);
    HOSTILE(header.e_phnum, 0xffff);
    HOSTILE(header.e_phoff, 0xffffffff);
    HOSTILE(header.e_entry, 0x0fffff);
    HOSTILE(header.e_entry, 0x100040);
    HOSTILE(segment.p_type, PT_NOTE);
    HOSTILE(segment.p_offset, 0xfffffff0);
    HOSTILE(segment.p_filesz, 65);
    HOSTILE(segment.p_filesz, 0xffffffff);
    HOSTILE(segment.p_memsz, 0xffffffff);
    HOSTILE(segment.p_memsz, 0x100001);
    HOSTILE(segment.p_memsz, 63);
    HOSTILE(segment.p_paddr, 0);
    HOSTILE(segment.p_paddr, 0xfffff);
    HOSTILE(segment.p_paddr, 0x1fffc1);
    HOSTILE(segment.p_paddr, 0xffffffff);
#undef HOSTILE
}

static void test_bad_configs(void)
{
    static const uint64_t too_much[] = {700000, 82339};
    static const uint64_t just_fits[] = {700000, 82336};
    static char long_cmdline[MPAT_MICROVM_MAX_CMDLINE + 2];
    uint64_t one = 1, none = 0;
    const char *cmdlines[9] = {"", "", "", "", "", "", "", "", ""};
    mpat_microvm_config good = {.image = guest, .image_bytes = guest_bytes, .slot_pages = &one,
                                .n_slots = 1, .cmdlines = cmdlines, .n_vcpus = 8};
    mpat_microvm_config config;
    mpat_microvm *vm = NULL;

#define BAD(field, value)                                       \
    do {                                                        \
        config = good;                                          \
        config.field = value;                                   \
        CHECK_EQUAL(mpat_microvm_create(&config, &vm), -EINVAL); \
        CHECK(vm == NULL);                                      \
    } while (0)

    BAD(image, NULL);
    BAD(slot_pages, NULL);
    BAD(slot_pages, &none);
    BAD(n_slots, 0);
    BAD(cmdlines, NULL);
    BAD(n_vcpus, 0);
    BAD(n_vcpus, 9);
    BAD(log, (mpat_microvm_log)4);
    BAD(log, MPAT_MICROVM_RING); /* of 0 entries */
    config = good;
    config.slot_pages = too_much;
    config.n_slots = 2;
    CHECK_EQUAL(mpat_microvm_create(&config, &vm), -EINVAL);
    config.slot_pages = just_fits;
    CHECK_EQUAL(mpat_microvm_create(&config, &vm), 0);
    mpat_microvm_destroy(vm);
    vm = NULL;
    memset(long_cmdline, ' ', sizeof long_cmdline - 1);
    cmdlines[7] = long_cmdline;
    CHECK_EQUAL(mpat_microvm_create(&good, &vm), -EINVAL);
    long_cmdline[MPAT_MICROVM_MAX_CMDLINE] = 0;
    CHECK_EQUAL(mpat_microvm_create(&good, &vm), 0);
    if (vm) { /* 8 vCPUs, and a ring set while they run */
        CHECK_EQUAL(mpat_microvm_step(vm, 3, LONG_NS), 0);
        CHECK_EQUAL(mpat_microvm_vcpu_fd(vm, 8), -EINVAL);
        CHECK_EQUAL(mpat_microvm_resume(vm), 0);
        CHECK_EQUAL(mpat_microvm_set_ring(vm, NULL), -EBUSY);
    }
    mpat_microvm_destroy(vm);
    mpat_microvm_destroy(NULL);
    CHECK_EQUAL(mpat_microvm_create(&good, NULL), -EINVAL);
    CHECK_EQUAL(mpat_microvm_create(NULL, &vm), -EINVAL);
#undef BAD
}

int main(int argc, char **argv)
{
    load_guest(argc, argv);
    RUN(test_bad_cmdlines);
    RUN(test_good_cmdlines);
    RUN(test_write_outside_ram);
    RUN(test_foreign_guests_die);
    RUN(test_guest_that_never_asks);
    RUN(test_hostile_images);
    RUN(test_bad_configs);
    return end();
}
