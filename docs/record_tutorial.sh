#!/usr/bin/env bash
# Records docs/tutorial.mpt by the tutorial's own commands, from the guest's boot to its end. What the
# tutorial shows is of that trace: write it anew then.
# Needs qemu-system-x86_64 and the right to trace it.
set -euo pipefail
cd "$(dirname "$0")"
PATH=$PWD/../.venv/bin:$PATH

work=$(mktemp -d)
trap 'if [ -n "${guest:-}" ]; then kill "$guest"; wait "$guest" || true; fi 2>/dev/null; rm -r "$work"' EXIT
commands=$(sed -n '/^## Boot a guest$/,/^## Ask about/p' tutorial.md | sed -n '/^```sh$/,/^```$/{/^```/!p}')
cd "$work"
eval "$commands"
mv guest.mpt "$OLDPWD/tutorial.mpt"
