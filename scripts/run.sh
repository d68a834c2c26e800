#!/usr/bin/env bash
# The one launcher: finds a Python, makes the locked environment once per job, becomes main.py.
# usage: run.sh COMMAND [--input VALUE ...]
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

# lint-model reads model files and nothing else, build-image reads them, too.
case ${1:-} in lint-model) sets="lint" ;; build-image) sets="base lint" ;; *) sets="base" ;; esac
# Signatures are verified with libraries that nothing else needs.
case "${1:-} ${ML_DEPLOY_SIGNATURE:+--signature }$*" in "lint-model "*"--signature"[\ =]*) sets="base lint signing" ;; esac

for python in "${ML_DEPLOY_PYTHON:-}" python3 "${pythonLocation:-/nonexistent}/bin/python3" /usr/bin/python3 python3.13 python3.12 python3.11 python3.10 python; do
  if [ -z "$python" ] || ! command -v "$python" >/dev/null; then continue; fi
  env=$("$python" -E -s -u -X utf8 "$here/bootstrap.py" $sets) &&
    exec "$env/bin/python" -E -s -u -X utf8 -X pycache_prefix="$env/pycache" "$here/main.py" "$@"
  status=$?
  [ "$status" = 3 ] || exit "$status"  # 3: older than 3.10
done
echo "::error title=No Python::ml-deploy needs Python 3.10 or newer and found none. Add actions/setup-python before this step, or install python3 in the container's image."
exit 2
