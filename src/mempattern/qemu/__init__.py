"""QEMU as it runs: its guest's RAM, asked for over QMP or read off its mappings."""
