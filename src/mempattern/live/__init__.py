"""A live migration, steered by a policy: QEMU's over QMP, or a libvirt domain's.

`MigrationController` is in `controller`, what it tells in `decisions`, whom it steers in `over_qmp`
and `over_libvirt`. Needs the extra `qemu`, or `libvirt`; not imported unless asked for.
"""
