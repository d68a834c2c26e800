#!/usr/bin/env bash
# Runs all tests in an environment of their own. Arguments pass through to pytest.
# usage: scripts/test.sh [PYTEST ARGUMENT ...]      e.g. scripts/test.sh tests/unit -k digest
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
env=$(python3 -E -s -u -X utf8 scripts/bootstrap.py base lint signing dev)
export PATH="$env/bin:$PATH"
[ $# -gt 0 ] || set -- -n 3 --dist loadfile  # all of it, on two cores: much of it waits
exec "$env/bin/python" -s -X utf8 -m pytest "$@"
