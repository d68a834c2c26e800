"""push-acr as a job runs it: real engine, real registry, ACR's sign-in and Entra's from the stand-in."""

from __future__ import annotations

import copy
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.integration.conftest import ROOT, AzureStandIn, clean_environment
from tests.integration.images import read_outputs

UPLOAD = r"/blobs/uploads/"
MANIFEST = r"/manifests/"


@dataclass
class Done:
    """How a run ended, and what it said."""

    code: int
    text: str
    outputs: dict[str, str]
    report: dict[str, Any]


class Push:
    """Runs push-acr as the launcher does, from a folder of its own."""

    def __init__(self, folder: Path, env: dict[str, str], image: str) -> None:
        self.folder = folder
        self.image = image
        self.env = clean_environment(folder) | env

    def within(self, **changed: str) -> Push:
        """The same in another environment."""
        other = copy.copy(self)
        other.env = self.env | changed
        return other

    def __call__(self, **inputs: str) -> Done:
        output = self.folder / "output"
        output.write_text("")
        words = [
            word
            for name, value in ({"image": self.image} | inputs).items()
            for word in (f"--{name.replace('_', '-')}", value)
        ]
        done = subprocess.run(
            [sys.executable, "-E", "-s", "-u", "-X", "utf8", str(ROOT / "scripts/main.py"), "push-acr", *words],
            env=self.env | {"GITHUB_OUTPUT": str(output)},
            cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not done.stderr, done.stderr
        outputs = read_outputs(output.read_text())
        report = json.loads(Path(outputs["report"]).read_text()) if outputs.get("report") else {}
        return Done(done.returncode, done.stdout, outputs, report)


@pytest.fixture
def image(docker_engine: Any) -> Iterator[str]:
    """A small image that no registry has ever seen: two layers' worth of random bytes."""
    name = f"ml-deploy-test/push-{uuid.uuid4().hex[:12]}:v1"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("blob")
        info.size = 300_000
        tar.addfile(info, io.BytesIO(os.urandom(info.size)))
    repository, _, tag = name.partition(":")
    docker_engine.api.import_image_from_data(data.getvalue(), repository=repository, tag=tag)
    image_id = docker_engine.images.get(name).id
    yield name
    docker_engine.images.remove(image_id, force=True)


@pytest.fixture
def push(azure: AzureStandIn, tmp_path: Path, image: str) -> Push:
    """push-acr with the stand-in's environment."""
    return Push(tmp_path, azure.told["env"], image)


def oidc(azure: AzureStandIn) -> dict[str, str]:
    return {
        "registry": azure.registry,
        "repository": "ml/churn",
        "client_id": azure.oidc["client-id"],
        "tenant_id": azure.oidc["tenant-id"],
    }


def watched(azure: AzureStandIn, method: str, path: str) -> None:
    """A fault that does nothing but count."""
    azure.fault("registry", fault="delay", method=method, path=path, times=0)


# -- the way it should go ---------------------------------------------------------------------------


def test_github_s_token_pushes_and_the_registry_confirms_the_digest(
    azure: AzureStandIn, push: Push, docker_engine: Any
) -> None:
    done = push(**oidc(azure), tags="v1\nlatest")
    assert done.code == 0, done.text
    digest = done.outputs["digest"]
    assert done.outputs["image"] == f"{azure.registry}/ml/churn@{digest}"
    assert (done.outputs["repository"], done.outputs["pushed"], done.outputs.get("reason")) == (
        f"{azure.registry}/ml/churn",
        "true",
        None,
    )
    assert done.outputs["tags"].splitlines() == ["v1", "latest"]
    docker_engine.images.remove(f"{azure.registry}/ml/churn:v1", force=True)
    pulled = docker_engine.images.pull(f"{azure.registry}/ml/churn@{digest}")
    assert pulled.id == docker_engine.images.get(push.image).id
    docker_engine.images.remove(done.outputs["image"])


def test_the_second_push_of_the_same_image_sends_nothing(azure: AzureStandIn, push: Push, docker_engine: Any) -> None:
    first = push(**oidc(azure), tags="v1")
    watched(azure, "POST", UPLOAD)
    watched(azure, "PUT", MANIFEST)
    again = push(**oidc(azure), tags="v1")
    assert (again.outputs["pushed"], again.outputs["digest"]) == ("false", first.outputs["digest"])
    assert azure.hits("registry") == [0, 0]
    with_another = push(**oidc(azure), tags="v1\nv2")
    assert (with_another.code, with_another.outputs["pushed"]) == (0, "false")
    assert azure.hits("registry") == [0, 1], "one PUT of the manifest, for the tag that was missing"


def test_nothing_is_left_in_the_home_folder(azure: AzureStandIn, push: Push) -> None:
    assert push(**oidc(azure)).code == 0
    assert list((push.folder / "home").iterdir()) == []
    assert [path.name for path in (push.folder / "temp").iterdir()] == ["ml-deploy-reports"]


def test_a_registry_by_its_name_is_looked_up(azure: AzureStandIn, push: Push) -> None:
    done = push(**oidc(azure) | {"registry": "mllocal"})
    assert (done.code, done.outputs["repository"]) == (0, f"{azure.registry}/ml/churn")


def test_a_user_and_a_password(azure: AzureStandIn, push: Push) -> None:
    who = {"username": azure.told["username"], "password": azure.told["password"]}
    done = push(registry=azure.registry, repository="ml/churn", **who)
    assert done.code == 0, done.text
    wrong = push(registry=azure.registry, repository="ml/churn", **who | {"password": "guessed-it"})
    assert (wrong.code, wrong.outputs["reason"]) == (6, "auth")
    assert "`username` and `password`" in wrong.text
    assert "guessed-it" not in wrong.text


def test_what_docker_login_stored_is_used(azure: AzureStandIn, push: Push) -> None:
    import base64

    pair = base64.b64encode(f"{azure.told['username']}:{azure.told['password']}".encode()).decode()
    config = push.folder / "docker"
    config.mkdir()
    (config / "config.json").write_text(json.dumps({"auths": {azure.registry: {"auth": pair}}}))
    done = push.within(DOCKER_CONFIG=str(config))(registry=azure.registry, repository="ml/churn")
    assert done.code == 0, done.text
    assert "what `docker login` has stored" in done.text


def test_a_registry_without_sign_in(plain_registry: str, tmp_path: Path, image: str) -> None:
    push = Push(tmp_path, {}, image)
    done = push(registry=plain_registry, repository="ml/churn")
    assert (done.code, done.outputs["pushed"]) == (0, "true"), done.text
    digest = requests.head(
        f"http://{plain_registry}/v2/ml/churn/manifests/v1", timeout=10,
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
    ).headers["Docker-Content-Digest"]  # fmt: skip
    assert done.outputs["digest"] == digest
    assert push(registry=plain_registry, repository="ml/churn").outputs["pushed"] == "false"


def test_a_registry_with_basic_authentication(basic_registry: str, tmp_path: Path, image: str) -> None:
    push = Push(tmp_path, {}, image)
    done = push(registry=basic_registry, repository="ml/churn", username="somebody", password="registry-password")
    assert (done.code, done.outputs["pushed"]) == (0, "true"), done.text
    assert push(registry=basic_registry, repository="ml/churn", username="somebody", password="wrong").code == 6
    nobody = push(registry=basic_registry, repository="ml/churn")
    assert (nobody.code, "Set `username` and `password`" in nobody.text) == (6, True)


# -- refusals ---------------------------------------------------------------------------------------


def test_a_missing_right_is_found_before_anything_is_sent(azure: AzureStandIn, push: Push) -> None:
    azure.settings(denied=["push"])
    watched(azure, "POST", UPLOAD)
    done = push(**oidc(azure) | {"registry": "mllocal"})
    assert (done.code, done.outputs["reason"]) == (8, "forbidden")
    assert "may not push to" in done.text
    assert "the role `AcrPush`" in done.text
    assert azure.hits("registry") == [0]


def test_a_registry_with_permissions_per_repository_wants_another_role(azure: AzureStandIn, push: Push) -> None:
    azure.settings(denied=["push"], abac=True)
    done = push(**oidc(azure) | {"registry": "mllocal"})
    assert done.code == 8
    assert "`Container Registry Repository Writer`" in done.text
    assert "ignores AcrPush" in done.text


def test_an_identity_without_any_role_on_the_registry(azure: AzureStandIn, push: Push) -> None:
    azure.settings(unknown_to_registry=True)
    done = push(**oidc(azure))
    assert (done.code, done.outputs["reason"]) == (8, "forbidden")
    assert "does not let the application" in done.text
    assert "`AcrPush`" in done.text
    assert "`tenant-id`" in done.text


def test_an_expired_github_token_is_no_matter_and_a_stale_one_is_explained(azure: AzureStandIn, push: Push) -> None:
    azure.settings(oidc_lifetime=-1)
    done = push(**oidc(azure))
    assert (done.code, done.outputs["reason"]) == (6, "auth")
    assert "AADSTS700024" in done.text


def test_a_wrong_tenant(azure: AzureStandIn, push: Push) -> None:
    done = push(**oidc(azure) | {"tenant_id": "99999999-9999-4999-8999-999999999999"})
    assert (done.code, "`tenant-id`" in done.text) == (6, True)


def test_network_rules_of_the_registry(azure: AzureStandIn, push: Push) -> None:
    azure.fault("registry", fault="error", status=403, path="^/v2/$", times=0)
    done = push(**oidc(azure))
    assert (done.code, "network rules" in done.text) == (8, True)


def test_denied_in_the_middle_is_not_tried_again(azure: AzureStandIn, push: Push) -> None:
    azure.fault("registry", fault="error", status=403, method="PUT", path=MANIFEST, times=0)
    done = push(**oidc(azure))
    assert done.code == 8, done.text
    assert azure.hits("registry") == [1]


def test_no_engine(azure: AzureStandIn, push: Push) -> None:
    done = push.within(DOCKER_HOST="unix:///nowhere.sock")(**oidc(azure))
    assert (done.code, done.outputs["reason"]) == (5, "engine")


def test_an_image_that_the_engine_does_not_have(azure: AzureStandIn, push: Push) -> None:
    done = push(**oidc(azure) | {"image": "no/such:image"})
    assert (done.code, "has no image no/such:image" in done.text) == (2, True)


def test_a_registry_without_tls_elsewhere(push: Push) -> None:
    """On this machine the engine does without TLS; at any other address it must have been told to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # asks for a route, sends nothing
        try:
            probe.connect(("10.255.255.255", 1))
        except OSError as error:
            pytest.skip(f"this machine has no address but its own: {error}")
        address = probe.getsockname()[0]
    with ThreadingHTTPServer((address, 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = push(registry=f"{address}:{server.server_port}", repository="ml/churn")
        server.shutdown()
    assert (done.code, "insecure-registries" in done.text) == (7, True), done.text


def test_a_ca_file_that_is_not_there(azure: AzureStandIn, push: Push) -> None:
    done = push.within(REQUESTS_CA_BUNDLE="/no/such/file")(**oidc(azure))
    assert (done.code, "REQUESTS_CA_BUNDLE" in done.text) == (2, True), done.text


def test_something_that_is_no_registry(azure: AzureStandIn, push: Push) -> None:
    done = push(**oidc(azure) | {"registry": azure.told["azure"].removeprefix("https://")})
    assert (done.code, "does not answer as a registry does" in done.text) == (7, True)
    nobody = push(**oidc(azure) | {"registry": "localhost:1"})
    assert (nobody.code, "localhost:1 refuses connections" in nobody.text) == (9, True)


# -- faults that heal: each test shows that the fault happened ----------------------------------------


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"fault": "throttle", "method": "PUT", "path": MANIFEST, "retry_after": 1}, ""),
        ({"fault": "error", "status": 500, "method": "PUT", "path": MANIFEST}, "temporary"),
        ({"fault": "error", "status": 503, "method": "PUT", "path": MANIFEST}, "temporary"),
        ({"fault": "refuse", "method": "PUT", "path": MANIFEST}, "temporary"),
        ({"fault": "error", "status": 401, "method": "PUT", "path": MANIFEST}, ""),
    ],
    ids=["throttled", "500", "503", "reset", "unauthorized"],
)
def test_the_manifest_gets_through_after_a_fault(
    azure: AzureStandIn, push: Push, rule: dict[str, Any], kind: str
) -> None:
    azure.fault("registry", **rule)
    if rule["fault"] == "throttle":  # the registry still throttles when it is asked how long
        azure.fault("registry", fault="throttle", method="HEAD", path="ml-deploy-probe", retry_after=1)
    done = push(**oidc(azure))
    assert done.code == 0, done.text
    assert done.outputs["pushed"] == "true"
    assert all(hits == 1 for hits in azure.hits("registry")), azure.hits("registry")
    if kind:
        assert [one["kind"] for one in done.report["interruptions"]] == [kind]
    if rule["fault"] == "throttle":
        assert [(one["kind"], one["waited"]) for one in done.report["interruptions"]] == [("throttled", 1.5)]
        assert "as the registry asks" in done.text


def test_a_layer_that_is_cut_is_the_engines_own_business(azure: AzureStandIn, push: Push) -> None:
    azure.fault("registry", fault="refuse", method="PATCH", path=UPLOAD)
    done = push(**oidc(azure))
    assert (done.code, done.report["interruptions"]) == (0, []), done.text
    assert azure.hits("registry") == [1]
    assert done.text.count("the engine tries again in") == 1, "a line, not a countdown"


@pytest.mark.parametrize(
    ("where", "path"), [("registry", "/oauth2/exchange"), ("registry", "/oauth2/token"), ("registry", "^/v2/$")]
)
def test_the_sign_in_survives_throttling(azure: AzureStandIn, push: Push, where: str, path: str) -> None:
    azure.fault(where, fault="throttle", path=path, retry_after=1)
    began = time.monotonic()
    done = push(**oidc(azure))
    assert done.code == 0, done.text
    assert azure.hits(where) == [1]
    assert time.monotonic() - began > 1
    assert "HTTP 429, trying again in 1 s" in done.text


def test_a_registry_that_stays_down_ends_the_job(azure: AzureStandIn, push: Push) -> None:
    azure.fault("registry", fault="error", status=500, method="PUT", path=MANIFEST, times=0)
    done = push(**oidc(azure), retries="1")
    assert (done.code, done.outputs["reason"]) == (7, "registry")
    assert "after 2 attempts" in done.text
    assert azure.hits("registry") == [2]


# -- asked afterwards, as deploy-aks does ---------------------------------------------------------------


def asked(push: Push, azure: AzureStandIn, *images: str, anonymous: bool = False) -> dict[str, Any]:
    ids = ["", ""] if anonymous else [azure.oidc["client-id"], azure.oidc["tenant-id"]]
    probe = Path(__file__).with_name("availability_probe.py")
    done = subprocess.run(
        [sys.executable, str(probe), *ids, *images], env=push.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_whether_an_image_exists_is_asked_with_the_right_to_pull_alone(azure: AzureStandIn, push: Push) -> None:
    image = push(**oidc(azure), tags="v1").outputs["image"]
    azure.settings(denied=["push"])
    other = f"{azure.registry}/ml/churn@sha256:{'0' * 64}"
    found = asked(push, azure, image, other, f"{azure.registry}/ml/churn:v1", f"{azure.registry}/ml/none:v1")
    assert found[image] == [True, ["linux/amd64"], ""]
    assert found[f"{azure.registry}/ml/churn:v1"][0] is True
    assert found[other] == [False, [], ""] and found[f"{azure.registry}/ml/none:v1"][0] is False


def test_what_cannot_be_asked_is_unknown(azure: AzureStandIn, push: Push) -> None:
    closed = f"localhost:{free_port()}/ml/churn:v1"
    image = push(**oidc(azure), tags="v1").outputs["image"]
    found = asked(push, azure, closed, image, anonymous=True)
    assert found[closed][0] is None and "refuses connections" in found[closed][2]
    assert found[image][0] is True, "anybody may pull"
    azure.settings(anonymous_pull=False)
    closed_now = asked(push, azure, image, anonymous=True)
    assert closed_now[image][0] is None and closed_now[image][2]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
