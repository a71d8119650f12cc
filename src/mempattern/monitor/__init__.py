"""QEMU's monitor: what QEMU is asked over QMP, what it answers, a migration it is told to do."""
