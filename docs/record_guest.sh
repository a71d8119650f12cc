#!/usr/bin/env bash
# Records docs/guest.mpt: a 1 GiB guest under TCG that rewrites a hot block of 64 MiB in 160 MiB, with
# 300 MiB more that hold something. Needs qemu-system-x86_64 and the right to trace it.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
guest=
trap 'if [ -n "$guest" ]; then kill "$guest"; wait "$guest" || true; fi; rm -r "$work"' EXIT

head -c 300M /dev/urandom > "$work/fill"
kernel=$(.venv/bin/python -c 'from mempattern.microvm import guest_path; print(guest_path())')
qemu-system-x86_64 -accel tcg -m 1024 -display none -nodefaults -no-reboot \
    -serial "file:$work/serial" -qmp "unix:$work/qmp,server=on,wait=off" \
    -device "loader,file=$work/fill,addr=0x20000000,force-raw=on" \
    -kernel "$kernel" -append "pattern=hotset pages=40960 hot=16384 rate=60000 seed=7" &
guest=$!
until grep -q pattern= "$work/serial" 2>/dev/null; do sleep 0.1; done
sleep 3
.venv/bin/mempattern-trace --qmp "$work/qmp" -o docs/guest.mpt --force --duration 12 --quiet "$guest"
