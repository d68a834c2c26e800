#!/usr/bin/env bash
# Locks requirements/*.in with hashes, for every platform and Python from 3.10 on. Needs uv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../requirements"
for set in uv serving base lint signing local dev; do
  uv pip compile --quiet --no-config --universal --python-version 3.10 --generate-hashes --no-annotate --custom-compile-command scripts/dev/lock.sh "$@" "$set.in" -o "$set.txt"
done
