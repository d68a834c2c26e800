"""The objects of a deployment: read, rendered or generated, with images, notes and our mark, in the order they are applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ml_deploy.commands.deploy_inputs import Inputs
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import AuthFailed, Forbidden
from ml_deploy.images.reference import parse
from ml_deploy.releases import ownership, preflight
from ml_deploy.releases.cluster import Cluster, Object
from ml_deploy.releases.sources import generate, manifests, patching, rendering, substitution
from ml_deploy.releases.sources.image_paths import Paths
from ml_deploy.releases.sources.manifests import Manifest
from ml_deploy.releases.sources.rendering import Capabilities, Chart
from ml_deploy.releases.sources.variables import Variables

Tell = Callable[[str], None]


def prepared(
    inputs: Inputs, adapters: Adapters, images: Sequence[str], tell: Tell, connect: Callable[[], Cluster] | None
) -> list[Manifest]:
    """The objects with images and notes, in the order in which they will be applied.

    connect: gives the cluster, which only a chart asks (for its capabilities); None when there is none to ask.
    Raises InputError or ManifestError for what cannot be read, and when nothing is left to deploy.
    """
    found = _found(inputs, adapters, tell, connect)
    if inputs.patch:
        found = patching.merged(found, patching.read(inputs.patch, adapters.job.workspace))
    if not _generated(inputs):
        found, puts = substitution.put_images(found, images, Paths.read(inputs.image_paths))
        for put in puts:
            tell(f"{put.manifest.title}: {put.where} gets {put.after} (was {put.before})")
    for image in substitution.unpinned(images):
        adapters.console.warning(
            f"{image} is not named by digest: what it means may change between two pulls.", title="Image by tag"
        )
    preflight.refuse_none(found)
    notes = _notes(inputs, adapters, images)
    ordered = manifests.ordered(substitution.tie_configuration(found))
    return [replace(one, object=_noted(one.object, notes, inputs.app)) for one in ordered]


def _generated(inputs: Inputs) -> bool:
    return not (inputs.manifests or inputs.chart or inputs.kustomize)


def _found(inputs: Inputs, adapters: Adapters, tell: Tell, connect: Callable[[], Cluster] | None) -> list[Manifest]:
    """The objects from their one source, as their authors wrote them."""
    if _generated(inputs):
        return generate.objects(_app(inputs))
    if inputs.chart:
        return _of_chart(inputs, adapters, tell, connect)
    names, root = inputs.substitute, adapters.job.workspace
    variables = Variables(names, adapters.job.variables(names)) if names else None
    if inputs.kustomize:
        text = adapters.renderer().kustomization(inputs.kustomize)
        found = rendering.objects_of_kustomization(text, inputs.kustomize, variables)
    else:
        found = manifests.read(inputs.manifests, root, variables)
    if variables:
        variables.refuse_unused()
    return found


def _of_chart(inputs: Inputs, adapters: Adapters, tell: Tell, connect: Callable[[], Cluster] | None) -> list[Manifest]:
    """Rendered once, for a chart may render differently each time: what is checked is what is applied and recorded."""
    cluster = connect() if connect else None
    chart = Chart(
        reference=inputs.chart, version=inputs.chart_version, values=inputs.values, settings=inputs.set,
        release=inputs.app, namespace=cluster.namespace if cluster else inputs.namespace or "default",
    )  # fmt: skip
    chart.refuse_idle_version(adapters.job.workspace)
    chart = replace(chart, login=_login(chart, inputs, adapters, tell))
    capabilities = Capabilities(cluster.version(), tuple(cluster.api_versions())) if cluster else None
    text = adapters.renderer().chart(chart, capabilities)
    return rendering.objects_of_chart(text, chart, adapters.job.workspace, tell)


def _login(chart: Chart, inputs: Inputs, adapters: Adapters, tell: Tell) -> Mapping[str, str]:
    """To an Azure registry, as the identity that deploys; where that one is not let in, helm's own login is left to try."""
    if not (chart.registry and inputs.client_id):
        return {}
    try:
        return adapters.registry(inputs.reading(chart.registry)).login()
    except (AuthFailed, Forbidden) as error:
        tell(f"{error.message} {error.hint}".strip())
        return {}


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
