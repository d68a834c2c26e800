"""The objects of a deployment: read or generated, with images, notes and our mark, in the order they are applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ml_deploy.commands.deploy_inputs import Inputs
from ml_deploy.commands.ports import Adapters
from ml_deploy.images.reference import parse
from ml_deploy.releases import generate, manifests, ownership, preflight, substitution
from ml_deploy.releases.cluster import Object
from ml_deploy.releases.manifests import Manifest


def prepared(inputs: Inputs, adapters: Adapters, images: Sequence[str], tell: Callable[[str], None]) -> list[Manifest]:
    """The objects with images and notes, in the order in which they will be applied; no cluster is asked.

    Raises InputError or ManifestError for what cannot be read, and when nothing is left to deploy.
    """
    if inputs.manifests:
        found, puts = substitution.put_images(manifests.read(inputs.manifests, adapters.job.workspace), images)
        for put in puts:
            tell(f"{put.manifest.title}: container {put.container} gets {put.after} (was {put.before})")
    else:
        found = generate.objects(_app(inputs))
    for image in substitution.unpinned(images):
        adapters.console.warning(
            f"{image} is not named by digest: what it means may change between two pulls.", title="Image by tag"
        )
    preflight.refuse_none(found)
    notes = _notes(inputs, adapters, images)
    ordered = manifests.ordered(substitution.tie_configuration(found))
    return [replace(one, object=_noted(one.object, notes, inputs.app)) for one in ordered]


def _app(inputs: Inputs) -> generate.App:
    parse(inputs.image)
    env = dict(line.split("=", 1) for line in inputs.env)
    return generate.App(
        name=inputs.app, image=inputs.image, port=inputs.port, replicas=inputs.replicas,
        min_replicas=inputs.min_replicas, max_replicas=inputs.max_replicas, cpu=inputs.cpu, memory=inputs.memory,
        gpu=inputs.gpu, env=env, health_path=inputs.health_path, service_type=inputs.service_type,
    )  # fmt: skip


def _notes(inputs: Inputs, adapters: Adapters, images: Sequence[str]) -> dict[str, str]:
    """Where a release comes from, as annotations."""
    job = adapters.job
    notes = {"ml-deploy/images": " ".join(images), "ml-deploy/model-digest": inputs.model_digest,
             "ml-deploy/commit": job.commit, "ml-deploy/run": job.run_url}  # fmt: skip
    return {name: value for name, value in notes.items() if value}


def _noted(obj: Object, notes: dict[str, str], app: str) -> Object:
    """The object with our mark and the notes, in its own metadata only."""
    meta = obj["metadata"]
    annotations = {**(meta.get("annotations") or {}), **notes}
    return ownership.mark({**obj, "metadata": {**meta, "annotations": annotations}}, app)
