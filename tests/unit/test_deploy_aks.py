"""deploy-aks: which inputs go together, and what it renders without any cluster."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any, cast

import pytest

from ml_deploy.commands import deploy_aks
from ml_deploy.commands.deploy_report import Reporter
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import InputError, ManifestError, Unreachable
from ml_deploy.releases.cluster import ApiError, Cluster, ClusterAccess, Object, Ref
from ml_deploy.releases.history import Release
from ml_deploy.releases.sources.rendering import Capabilities, Chart, Renderer
from ml_deploy.releases.stage import Progress
from ml_deploy.runtime import fields
from ml_deploy.runtime.console import Console
from ml_deploy.runtime.github import Job

IMAGE = "r.azurecr.io/churn@sha256:" + "1" * 64
MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: churn}
spec:
  replicas: 2
  template: {spec: {containers: [{name: c, image: churn}]}}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {token: very-secret}
"""


class NoCluster:
    """Adapters of a job on a machine without any cluster."""

    clock = time

    def __init__(self, folder: Path) -> None:
        self.log = io.StringIO()
        self.console = Console(self.log, github=True)
        self.job = Job({"GITHUB_WORKSPACE": str(folder), "RUNNER_TEMP": str(folder), "GITHUB_SHA": "abc"})

    def cluster(self, access: ClusterAccess) -> Cluster:
        raise AssertionError("it asked for a cluster")


def refused(**given: str) -> str:
    values = {"app": "churn", "image": IMAGE, **{name.replace("_", "-"): value for name, value in given.items()}}
    with pytest.raises(InputError) as caught:
        fields.read(deploy_aks.Inputs, values)
    return caught.value.message


@pytest.mark.parametrize(
    "given, told",
    [
        ({"app": ""}, "`app` is required"),
        ({"app": "Churn_1"}, "`app` must be a name of lower-case letters"),
        ({"image": ""}, "`image` is missing"),
        ({"images": IMAGE}, "`image` and `images` are both set"),
        ({"image": "", "images": IMAGE}, "several `images` need one of those"),
        ({"manifests": "k8s", "port": "80"}, "`port` and `manifests` contradict"),
        ({"manifests": "k8s", "cpu": "1", "env": "A=b"}, "`cpu`, `env` and `manifests` contradict"),
        ({"min_replicas": "2"}, "`max-replicas` is missing"),
        ({"replicas": "3", "max_replicas": "5"}, "`replicas` and `max-replicas` contradict"),
        ({"min_replicas": "5", "max_replicas": "2"}, "`min-replicas` is greater"),
        ({"env": "A=b\n=c"}, "`env` has a line that is not NAME=value"),
        ({"env": "A=b\nC=d\nA=e"}, "`env` gives A more than one value"),
        ({"action": "rollback", "dry_run": "client"}, "The input `action` must be one of"),
        ({"model_digest": "abc"}, "`model-digest` must be a digest"),
        ({"kubeconfig": "x", "cluster_name": "y"}, "name two clusters"),
        ({"resource_group": "x"}, "`cluster-name` is missing"),
        ({"keep_old": "5m"}, "`keep-old` needs `strategy: blue-green`"),
        ({"keep_old": "5m", "strategy": "blue-green", "timeout": "4m"}, "`keep-old` must be shorter than `timeout`"),
        ({"keep_old": "long", "strategy": "blue-green"}, "`keep-old` must be until-next, or a duration"),
        ({"on_failure": "retry"}, "`on-failure` must be one of rollback, keep"),
        ({"timeout": "ten"}, "`timeout` must be a duration"),
    ],
)
def test_inputs_that_do_not_go_together(given: dict[str, str], told: str) -> None:
    assert told in refused(**given)


def test_the_value_of_an_env_line_is_never_shown() -> None:
    assert "s3cr3t" not in refused(env="bad name=s3cr3t")


def test_several_problems_are_told_together() -> None:
    assert refused(app="", env="x", timeout="y").startswith("3 inputs are not right")


def render(folder: Path, **given: str) -> tuple[deploy_aks.Result, str]:
    values = {"app": "churn", "image": IMAGE, "dry-run": "client", **{k.replace("_", "-"): v for k, v in given.items()}}
    adapters = NoCluster(folder)
    result = deploy_aks.run(fields.read(deploy_aks.Inputs, values), cast(Adapters, adapters))
    return result, adapters.log.getvalue()


def test_rendered_without_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "k8s.yaml").write_text(MANIFEST)
    result, log = render(tmp_path, manifests="k8s.yaml", model_digest="sha256:" + "2" * 64)
    assert (result.status, result.image, result.revision) == ("rendered", IMAGE, None)
    assert f"image: {IMAGE}" in result.diff and result.diff.index("kind: Secret") < result.diff.index(
        "kind: Deployment"
    )
    assert f"container c gets {IMAGE} (was churn)" in log
    assert "| Deployment | churn | k8s.yaml:1 |" in result.summary()
    for shown in (log, result.diff, result.summary(), Path(result.report).read_text()):
        assert "very-secret" not in shown


def test_fences_in_what_is_rendered_do_not_end_its_block_and_outputs_stay_short(tmp_path: Path) -> None:
    page = "\n    ".join(["", "```sh", "run", "```", "<b>", *["long" * 500] * 200])
    (tmp_path / "k8s.yaml").write_text(
        MANIFEST + f"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: p}}\ndata:\n  page: |{page}"
    )
    result, _ = render(tmp_path, manifests="k8s.yaml")
    assert result.summary().count("\n````") == 2 and "````yaml" in result.summary()
    assert len(result.diff) < 210_000 and result.diff.endswith("(cut here: too long)")


def test_generated_without_a_cluster(tmp_path: Path) -> None:
    result, _ = render(tmp_path, port="9000", max_replicas="3", env="A=b")
    assert "containerPort: 9000" in result.diff and "kind: HorizontalPodAutoscaler" in result.diff
    report = json.loads(Path(result.report).read_text())
    assert [one["kind"] for one in report["objects"]] == [
        "Service", "Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler",
    ]  # fmt: skip


def test_an_image_by_tag_is_warned_of(tmp_path: Path) -> None:
    assert (
        "::warning title=Image by tag::r.io/churn:v1 is not named by digest"
        in render(tmp_path, image="r.io/churn:v1")[1]
    )
    assert "::warning" not in render(tmp_path)[1]


def test_no_replicas_are_an_error_unless_an_autoscaler_rules(tmp_path: Path) -> None:
    (tmp_path / "k8s.yaml").write_text(MANIFEST.replace("replicas: 2", "replicas: 0"))
    with pytest.raises(ManifestError, match="0 replicas: nothing would serve") as caught:
        render(tmp_path, manifests="k8s.yaml")
    assert isinstance(caught.value.result, deploy_aks.Result) and caught.value.result.status == "failed"
    target = "{scaleTargetRef: {kind: Deployment, name: churn}}"
    ruled = f"---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: a}}\nspec: {target}\n"
    (tmp_path / "more.yaml").write_text(ruled)
    assert render(tmp_path, manifests="k8s.yaml\nmore.yaml")[0].status == "rendered"


@pytest.mark.parametrize(
    "given, told",
    [
        ({"manifests": "k8s", "chart": "c"}, "`manifests`, `chart` contradict each other"),
        ({"chart": "c", "kustomize": "k"}, "`chart`, `kustomize` contradict each other"),
        ({"chart": "c", "replicas": "3"}, "`replicas` and `chart` contradict"),
        ({"values": "v.yaml"}, "`chart` is missing: `values`"),
        ({"manifests": "k8s", "set": "a=b"}, "`chart` is missing: `set`"),
        ({"chart": "c", "set": "a"}, "`set` has a line that is not name=value"),
        ({"chart": "c", "substitute": "A"}, "a chart takes values by `set`"),
        ({"substitute": "A"}, "`substitute` needs `manifests` or `kustomize`"),
        ({"manifests": "k8s", "substitute": "${A}"}, "without $ and braces"),
        ({"image_paths": "Model:spec.image"}, "`image-paths` needs"),
        ({"action": "teardown"}, "`image` and `action: teardown` contradict each other"),
        ({"action": "teardown", "image": "", "dry_run": "client"}, "only the cluster knows"),
    ],
)
def test_sources_that_do_not_go_together(given: dict[str, str], told: str) -> None:
    assert told in refused(**given)


class Rendered:
    """A renderer that knows one chart and one kustomization."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.asked: list[object] = []

    def chart(self, chart: Chart, capabilities: Capabilities | None) -> str:
        self.asked.append((chart, capabilities))
        return self._text

    def kustomization(self, folder: str) -> str:
        self.asked.append(folder)
        return self._text


class Rendering(NoCluster):
    """A machine with a renderer and without a cluster."""

    def __init__(self, folder: Path, text: str) -> None:
        super().__init__(folder)
        self.tools = Rendered(text)

    def renderer(self) -> Renderer:
        return self.tools


def test_a_chart_without_a_cluster(tmp_path: Path) -> None:
    adapters = Rendering(tmp_path, "---\n# Source: churn/templates/a.yaml\n" + MANIFEST)
    values = {"app": "churn", "image": IMAGE, "dry-run": "client", "chart": "charts/churn", "values": "a.yaml\nb.yaml",
              "set": "x=1", "chart-version": "1.2.3", "patch": "kind: Deployment\nspec: {paused: true}"}  # fmt: skip
    result = deploy_aks.run(fields.read(deploy_aks.Inputs, values), cast(Adapters, adapters))
    (asked,) = adapters.tools.asked
    assert asked == (
        Chart(reference="charts/churn", version="1.2.3", values=("a.yaml", "b.yaml"), settings=("x=1",), release="churn",
              namespace="default"),
        None,
    )  # fmt: skip
    assert "paused: true" in result.diff and f"image: {IMAGE}" in result.diff
    assert "| Deployment | churn | churn/templates/a.yaml |" in result.summary()


def test_a_kustomization_with_variables_without_a_cluster(tmp_path: Path) -> None:
    adapters = Rendering(tmp_path, MANIFEST.replace("replicas: 2", "replicas: ${REPLICAS}"))
    adapters.job = Job({"RUNNER_TEMP": str(tmp_path), "REPLICAS": "7"})
    values = {"app": "churn", "image": IMAGE, "dry-run": "client", "kustomize": "k8s/prod", "substitute": "REPLICAS"}
    result = deploy_aks.run(fields.read(deploy_aks.Inputs, values), cast(Adapters, adapters))
    assert adapters.tools.asked == ["k8s/prod"] and "replicas: 7" in result.diff


class Away:
    """A cluster that went away when all was done."""

    namespace, patience = "ml", 60.0

    def get(self, ref: Ref) -> Object | None:
        raise Unreachable("The cluster does not answer")


def test_a_cluster_that_goes_away_after_the_last_step_fails_no_deployment(tmp_path: Path) -> None:
    adapters = NoCluster(tmp_path)
    inputs = fields.read(deploy_aks.Inputs, {"app": "churn", "image": IMAGE})
    reporter = Reporter(inputs, cast(Adapters, adapters), [IMAGE])
    service: Object = {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "churn"},
        "spec": {"selector": {"a": "b"}},
    }
    progress = Progress(release=Release("churn", "ml", 3, "good"), applied=[service])
    done = reporter.succeeded(cast(Cluster, Away()), progress)
    assert (done.status, done.revision, done.endpoint) == ("good", 3, "")
    assert "where it is reached cannot be asked: The cluster does not answer" in adapters.log.getvalue()


class Refusing:
    """A cluster that refuses whatever it is asked."""

    namespace, server, patience = "ml", "https://c", 60.0

    def __getattr__(self, name: str) -> Any:
        raise ApiError(400, "BadRequest", "the request is odd")


@pytest.mark.parametrize("given", [{"image": IMAGE}, {"action": "teardown"}, {"action": "promote"}])
def test_whatever_the_cluster_refuses_is_no_bug_of_ours(tmp_path: Path, given: dict[str, str]) -> None:
    class Odd(NoCluster):
        def cluster(self, access: ClusterAccess) -> Cluster:
            return cast(Cluster, Refusing())

    inputs = fields.read(deploy_aks.Inputs, {"app": "churn", **given})
    with pytest.raises(ManifestError, match="The cluster refused: the request is odd"):
        deploy_aks.run(inputs, cast(Adapters, Odd(tmp_path)))
