"""A Helm chart and a kustomization around the small app of the cluster tier, written where a test wants them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.cluster.apps import service, web

from ml_deploy.releases.cluster import Object

HELM = shutil.which("helm")
needs_helm = pytest.mark.skipif(HELM is None, reason="needs helm on the PATH")

_SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}-key, namespace: {{ .Release.Namespace }}}
stringData: {key: {{ randAlphaNum 20 | quote }}}
"""
_ABOUT = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: about}
data:
  kubernetes: {{ .Capabilities.KubeVersion.Version | quote }}
  gateways: {{ .Capabilities.APIVersions.Has "gateway.networking.k8s.io/v1" | quote }}
  deployments: {{ .Capabilities.APIVersions.Has "apps/v1/Deployment" | quote }}
  namespace: {{ .Release.Namespace }}
"""
_TEST_HOOK = """\
apiVersion: v1
kind: Pod
metadata: {name: asks, annotations: {"helm.sh/hook": test}}
spec: {containers: [{name: asks, image: busybox}]}
"""


def definition(
    plural: str = "models", kind: str = "Model", group: str = "example.com", fields: tuple[str, ...] = ()
) -> Object:
    """A CustomResourceDefinition of a kind with these fields in its spec, or a free-form one."""
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    spec_of = {
        "type": "object",
        "properties": {name: {"x-kubernetes-preserve-unknown-fields": True} for name in fields},
    }
    schema = {"type": "object", "properties": {"spec": spec_of}} if fields else free
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"}, "spec": spec}  # fmt: skip


def chart(folder: Path, image: str, *, answer: str = "v1", more: dict[str, str] | None = None) -> Path:
    """A chart `app` in `folder`: the app with an answer from `.Values.answer`, and a Secret that differs each time."""
    root = folder / "app"
    written = {
        "Chart.yaml": "apiVersion: v2\nname: app\nversion: 0.1.0\n",
        "values.yaml": f"answer: {answer}\nreplicas: 1\n",
        "templates/web.yaml": json.dumps(web(image, answer="@@")).replace("@@", "{{ .Values.answer }}"),
        "templates/service.yaml": json.dumps(service()),
        "templates/secret.yaml": _SECRET,
        "templates/about.yaml": _ABOUT,
        "templates/tests/asks.yaml": _TEST_HOOK,
        "templates/NOTES.txt": "Thank you for installing {{ .Chart.Name }}.\n",
        **(more or {}),
    }
    for name, text in written.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def kustomization(folder: Path, image: str, *, answer: str = "v1") -> Path:
    """A kustomization `overlay` over a base in `folder`, which changes the answer."""
    base, overlay = folder / "base", folder / "overlay"
    base.mkdir(exist_ok=True)
    overlay.mkdir(exist_ok=True)
    (base / "web.json").write_text(json.dumps(web(image, answer="base")))
    (base / "service.json").write_text(json.dumps(service()))
    (base / "kustomization.yaml").write_text("resources: [web.json, service.json]\n")
    patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/env/0/value",
              "value": json.dumps({"prediction": answer})}]  # fmt: skip
    patches = [{"target": {"kind": "Deployment"}, "patch": json.dumps(patch)}]
    content = {"resources": ["../base"], "patches": patches,
               "configMapGenerator": [{"name": "settings", "literals": [f"answer={answer}"]}]}  # fmt: skip
    (overlay / "kustomization.yaml").write_text(json.dumps(content))
    return overlay
