"""A release as Secrets: a head with labels, notes and the compressed objects, and parts where those are large."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ml_deploy.releases.cluster import Object
from ml_deploy.releases.history import Release, Verdict

APP = "ml-deploy/app"
REVISION = "ml-deploy/revision"
STATE = "ml-deploy/state"
GOOD = "ml-deploy/good"
RECORD = "ml-deploy/record"
SECRET_TYPE = "ml-deploy/release.v1"  # noqa: S105

#: Compressed bytes of objects in one Secret; with all else it stays under 900 KiB.
CHUNK = 800 * 1024
_VERDICTS_KEPT = 20


def pack(objects: Sequence[Object]) -> bytes:
    """Objects, compressed; the same bytes for the same objects."""
    return gzip.compress(json.dumps(list(objects), separators=(",", ":")).encode(), mtime=0)


def unpack(packed: bytes) -> list[Object]:
    """What `pack` packed."""
    objects: list[Object] = json.loads(gzip.decompress(packed))
    return objects


def encode(release: Release) -> list[Object]:
    """The Secrets of a release: parts first, so that a head is never without them."""
    packed = pack(release.objects)
    chunks = [packed[start : start + CHUNK] for start in range(0, len(packed), CHUNK)]
    parts = [
        _secret(release, f"{release.name}.p{number}", "part", {"objects": chunk}, {})
        for number, chunk in enumerate(chunks[1:], 1)
    ]
    head_data = {"objects": chunks[0], "uids": json.dumps(dict(release.uids)).encode()}
    head = _secret(release, release.name, "release", head_data, {**_notes(release), "ml-deploy/parts": str(len(parts))})
    return [*parts, head]


def _secret(release: Release, name: str, record: str, data: dict[str, bytes], notes: dict[str, str]) -> Object:
    labels = {
        APP: release.app,
        RECORD: record,
        REVISION: str(release.revision),
        "app.kubernetes.io/managed-by": "ml-deploy",
    }
    if record == "release":
        labels |= _labels(release)
    meta = {"name": name, "namespace": release.namespace, "labels": labels, "annotations": notes}
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE, "metadata": meta, "data": encoded}


def _labels(release: Release) -> dict[str, str]:
    good = "unknown" if release.good is None else "true" if release.good else "false"
    return {STATE: release.state, GOOD: good}


def _notes(release: Release) -> dict[str, str]:
    verdicts = [vars(verdict) for verdict in release.verdicts[-_VERDICTS_KEPT:]]
    return {
        "ml-deploy/activated": str(release.activated), "ml-deploy/strategy": release.strategy,
        "ml-deploy/images": "\n".join(release.images), "ml-deploy/model-digest": release.model_digest,
        "ml-deploy/commit": release.commit, "ml-deploy/run": release.run_url, "ml-deploy/created": release.created,
        "ml-deploy/why": release.why, "ml-deploy/verdicts": json.dumps(verdicts),
    }  # fmt: skip


def patch_of(release: Release, secret: Object, *, with_uids: bool) -> dict[str, Any]:
    meta = {
        "resourceVersion": secret["metadata"]["resourceVersion"],
        "labels": _labels(release),
        "annotations": _notes(release),
    }
    patch: dict[str, Any] = {"metadata": meta}
    if with_uids:
        patch["data"] = {"uids": base64.b64encode(json.dumps(dict(release.uids)).encode()).decode()}
    return patch


def changed(
    release: Release, state: str | None, verdict: Verdict | None, activated: int | None,
    uids: Mapping[str, str] | None, why: str | None,
) -> Release:  # fmt: skip
    if state is not None:
        release = replace(release, state=state)
    if verdict is not None and verdict not in release.verdicts:  # it may be there from an attempt whose answer was lost
        release = replace(release, verdicts=(*release.verdicts, verdict), good=verdict.good)
    if activated is not None:
        release = replace(release, activated=activated)
    if uids is not None:
        release = replace(release, uids=dict(uids))
    return replace(release, why=why) if why is not None else release


def decode(secret: Object) -> Release:
    meta, notes = secret["metadata"], notes_of(secret)
    labels = meta["labels"]
    return Release(
        app=labels[APP], namespace=meta["namespace"], revision=int(labels[REVISION]), state=labels[STATE],
        strategy=notes.get("ml-deploy/strategy", ""), images=tuple(notes.get("ml-deploy/images", "").split()),
        model_digest=notes.get("ml-deploy/model-digest", ""), commit=notes.get("ml-deploy/commit", ""),
        run_url=notes.get("ml-deploy/run", ""), created=notes.get("ml-deploy/created", ""),
        activated=int(notes.get("ml-deploy/activated", "0")), good={"true": True, "false": False}.get(labels[GOOD]),
        why=notes.get("ml-deploy/why", ""),
        verdicts=tuple(Verdict(**verdict) for verdict in json.loads(notes.get("ml-deploy/verdicts", "[]"))),
        uids=json.loads(data_of(secret, "uids") or b"{}"), born=meta.get("creationTimestamp") or "",
    )  # fmt: skip


def is_of(secret: Object, app: str, records: Sequence[str] = ("release", "part")) -> bool:
    """Whether a Secret is a record of this app, or a part of one."""
    labels = secret["metadata"].get("labels") or {}
    return bool(labels.get(APP) == app and labels.get(RECORD) in records)


def is_head(secret: Object, app: str) -> bool:
    return is_of(secret, app, ("release",))


def notes_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def data_of(secret: Object, name: str) -> bytes:
    return base64.b64decode((secret.get("data") or {}).get(name, ""))
