#!/usr/bin/env bash
# Runs the example's own workflow with act on this machine: from the model file to a verified endpoint. No cloud needed.
# usage: scripts/try.sh [--bad-model malicious|wrong|wrong-there|crashing|slow] [--kubeconfig FILE [--registry HOST] | --kind]
#                       [--container] | --down | --help
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
for tool in python3 git; do
  command -v "$tool" >/dev/null || { echo "try.sh: needs $tool (Debian, Ubuntu: apt-get install $tool)" >&2; exit 2; }
done
# The environment is kept with everything else that try.sh keeps, so that a second run finds it.
kept=${XDG_STATE_HOME:-$HOME/.local/state}/ml-deploy-try
mkdir -p "$kept"
env=$(RUNNER_TEMP=$kept python3 -E -s -u -X utf8 "$here/bootstrap.py" base local)
exec "$env/bin/python" -E -s -u -X utf8 "$here/local/try.py" "$@"
