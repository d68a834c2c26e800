"""What helm, kustomize and kubectl say when they refuse, as errors of ours: which kind, and what to change."""

from __future__ import annotations

import re

from ml_deploy.errors import AuthFailed, Forbidden, ManifestError, MlDeployError, Unreachable

_LONGEST = 2000  # characters of a tool's complaint
_ADDRESS = (
    "Name a folder with a Chart.yaml or a .tgz relative to the workspace (is the repository checked out?), an "
    "oci:// address, the https:// address of a .tgz, or a chart of a repository that a step before added (`helm repo add`)."
)
_SIGN_IN = (
    "Sign in in a step before this one: `helm registry login HOST` for oci:// addresses (`docker login` and `az acr "
    "login` do, too), `helm repo add NAME ADDRESS --username … --password …` for repositories."
)
_VERSION = "Check `chart` and `chart-version`; an address is oci://HOST/PATH/NAME, and a version such as 1.2.3 or ~1.2."

# What was said, which kind of trouble it is, and what to change; the first that fits.
_SIGNS: tuple[tuple[str, type[MlDeployError], str], ...] = (
    (r"values don't meet the spec", ManifestError, "Give the values that the chart wants by `values` or `set`."),
    (r"execution error at", ManifestError, "The chart itself refuses: give the value that it misses by `values` or `set`."),
    (r"open \S+: no such file", ManifestError, "Correct the path in `values`: it starts from the workspace."),
    (r"template: |parse error|error converting", ManifestError, ""),  # whatever else they say is the chart's own words
    (r"missing in charts/ directory", ManifestError, "Add a step with `helm dependency build` before this one."),
    (r"x509: ", Unreachable, "The tool does not trust the server's certificate: name its CA in SSL_CERT_FILE (the step's `env:`)."),
    (r"status code 401|: 401 |unauthorized", AuthFailed, _SIGN_IN),
    (r"status code 403|: 403 |denied", Forbidden, "Grant the identity that is signed in there the right to read (AcrPull, for an Azure registry)."),
    (r"status code (429|5\d\d)|: (429|5\d\d) |dial tcp|connection reset|i/o timeout|deadline exceeded|unexpected EOF",
     Unreachable, "Check the address; if it is right, run the job again later."),
    (r'FetchReference.*not found|name unknown|invalid reference|improper constraint|version mismatch|no chart (name|version) found|not locate a version',
     ManifestError, _VERSION),
    (r'repo \S+ not found|failed to (download|fetch)|Chart\.yaml file is missing|non-absolute URLs|path ".*" not found',
     ManifestError, _ADDRESS),
    (r"unable to find one of 'kustomization\.yaml'|must build at directory", ManifestError,
     "Name the folder that has the kustomization.yaml, relative to the workspace."),
)  # fmt: skip


def refused(what: str, stderr: str) -> MlDeployError:
    """The error for a tool that ended with one. what: `The chart charts/wine`."""
    said = stderr.strip()[:_LONGEST]
    found = re.search(r'(?ms)^(?:Error|error): (.*)|err="(.*)"$', said)
    said = re.sub(r"\n\nUse --debug flag.*", "", (found[1] or found[2]) if found else said).strip()
    said = re.sub(r"://[^/\s@]+@", "://", said)  # a user and a password in an address
    kind, hint = next(((kind, hint) for sign, kind, hint in _SIGNS if re.search(sign, said)), (ManifestError, ""))
    if "helm repo update" in said:
        hint = f"{hint} `helm repo update` in a step before reads the repository anew."
    return kind(f"{what} cannot be rendered: {said or 'it gave no reason'}", hint=hint)
