"""Kubeconfigs: who one is there, and what cannot be used, against a small API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.api_double import Server, config, kubeconfig, serving, status, to

from ml_deploy.adapters.kubeconfig import Endpoint, endpoint, find
from ml_deploy.errors import AuthFailed, InputError
from ml_deploy.releases.cluster import Ref

NAME = Ref("v1", "ConfigMap", "ml", "c")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


# tokens


def test_a_401_with_a_static_token_stops(server: Server) -> None:
    server.answers = [status(401)]
    cluster = to(kubeconfig(server.port))
    with pytest.raises(AuthFailed, match="does not accept our credentials"):
        cluster.get(NAME)
    assert server.tokens == ["Bearer first"]
    cluster.close()


def test_a_401_is_cured_by_a_fresh_token_once(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    cluster = to(kubeconfig(server.port, f"{{tokenFile: '{file}'}}"))
    server.answers = [{"body": config()}, status(401), {"body": config()}, status(401), status(401)]
    cluster.get(NAME)
    file.write_text("new\n")
    assert cluster.get(NAME)
    assert server.tokens[:3] == ["Bearer old", "Bearer old", "Bearer new"]
    with pytest.raises(AuthFailed):
        cluster.get(NAME)
    cluster.close()


def plugin(tmp_path: Path, body: str) -> str:
    script = tmp_path / "plugin"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return f"{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: '{script}', args: [a], env: [{{name: E, value: v}}]}}}}"


def test_an_exec_plugin_gives_the_token(server: Server, tmp_path: Path) -> None:
    body = 'echo "{\\"status\\": {\\"token\\": \\"$1-$E\\"}}"; echo "$KUBERNETES_EXEC_INFO" >&2'
    cluster = to(kubeconfig(server.port, plugin(tmp_path, body)))
    server.answers = [{"body": config()}]
    cluster.get(NAME)
    assert server.tokens == ["Bearer a-v"]
    cluster.close()


def test_an_exec_plugin_that_fails_says_why(server: Server, tmp_path: Path) -> None:
    with pytest.raises(AuthFailed, match=r"exit code 4\): please log in"):
        to(kubeconfig(server.port, plugin(tmp_path, "echo please log in >&2; exit 4")))
    with pytest.raises(AuthFailed, match="`kubelogin-not-there`, which is not installed here") as caught:
        to(kubeconfig(server.port, "{exec: {command: kubelogin-not-there}}"))
    assert "cluster-name" in caught.value.hint


def test_a_legacy_provider_gives_the_token_that_it_left(server: Server) -> None:
    cluster = to(kubeconfig(server.port, "{auth-provider: {name: oidc, config: {id-token: left}}}"))
    server.answers = [{"body": config()}]
    cluster.get(NAME)
    assert server.tokens == ["Bearer left"]
    cluster.close()
    for name in ("azure", "oidc"):
        with pytest.raises(AuthFailed, match=f"auth-provider .{name}") as caught:
            to(kubeconfig(server.port, f"{{auth-provider: {{name: {name}}}}}"))
        assert "kubeconfig" in caught.value.hint


# kubeconfigs


@pytest.mark.parametrize(
    "text, message",
    [
        ("/nowhere/kubeconfig", "cannot be read: No such file"),
        ("clusters: [\n", "is not YAML, line"),
        ("Y2x1c3Rlcn" * 100, "neither a path nor the text"),
        ("a: b\nc: d\n", "it has no `clusters`"),
        ("clusters: []\ncontexts: []\n", "has no current context"),
        ("clusters: {name: c}\n", "`clusters` must be a list of `name` and `cluster`"),
        ("clusters: []\ncontexts: [null]\n", "`contexts` must be a list of `name` and `context`, and entry 1 is not"),
        (kubeconfig(1, "3"), "`users` must be a list of `name` and `user`"),
        (kubeconfig(1, "{exec: [kubelogin]}"), "`users` must be a list"),
        (kubeconfig(1, "{client-key: 5}"), "cannot be read: No such file"),
        (kubeconfig(1).replace("cluster: c,", "cluster: other,"), "names cluster 'other'"),
        (kubeconfig(1).replace("http://", "ftp://"), "has no server address"),
        (kubeconfig(1, "{client-certificate: nowhere.pem}"), "cannot be read"),
        (kubeconfig(1, "{client-certificate-data: '%%%'}"), "is not base64"),
    ],
)
def test_kubeconfigs_that_cannot_be_used(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        to(text)
    assert message in caught.value.message


def test_a_path_may_be_called_anything(tmp_path: Path) -> None:
    (tmp_path / "clusters").mkdir()
    path = tmp_path / "clusters" / "config"
    path.write_text(kubeconfig(1))
    assert to(str(path)).server == "http://127.0.0.1:1"


def test_base64_may_be_folded() -> None:
    folded = "{client-certificate-data: 'LS0t\n  LS0t', client-key-data: ''}"
    assert to(kubeconfig(1, folded)).server


def test_a_context_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(InputError, match="no context 'y'") as caught:
        to(kubeconfig(1), context="y")
    assert "x" in caught.value.hint


# several files in KUBECONFIG


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two folders with files of the same names."""
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        plugin(folder, f'echo "{{\\"status\\": {{\\"token\\": \\"plugin of {folder.name}\\"}}}}"')
        for name in ("ca.pem", "cert.pem", "key.pem", "token"):
            (folder / name).write_text(f"{name} of {folder.name}")
    yield tmp_path / "a", tmp_path / "b"


def of_both(folders: tuple[Path, Path], user: str) -> Endpoint:
    """The endpoint of a context in the first file, whose cluster and user are in the second."""
    one, other = (folder / "config" for folder in folders)
    one.write_text("clusters: []\ncontexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n")
    other.write_text(
        "clusters: [{name: c, cluster: {server: 'https://here', certificate-authority: ca.pem}}]\n"
        f"users: [{{name: u, user: {user}}}]\n"
    )
    return endpoint(find("", {"KUBECONFIG": f"{one}:{one.parent / 'none'}:{other}"}))


def test_paths_are_relative_to_the_file_that_they_are_written_in(folders: tuple[Path, Path]) -> None:
    found = of_both(folders, "{client-certificate: cert.pem, client-key: ./key.pem, tokenFile: ../b/token}")
    proof = found.credentials
    assert (found.ca, proof.certificate, proof.key) == ("ca.pem of b", "cert.pem of b", "key.pem of b")
    assert proof.token and proof.token(False) == "token of b"
    proof = of_both(folders, f"{{tokenFile: '{folders[0]}/token'}}").credentials
    assert proof.token and proof.token(False) == "token of a"


@pytest.mark.parametrize("command", ["./plugin", "../b/plugin"])
def test_a_plugin_with_a_slash_is_looked_for_there_too(folders: tuple[Path, Path], command: str) -> None:
    found = of_both(folders, f"{{exec: {{command: {command}}}}}").credentials
    assert found.token and found.token(False) == "plugin of b"


def test_a_plugin_without_a_slash_is_on_the_path_alone(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AuthFailed, match="`plugin`, which is not installed"):
        of_both(folders, "{exec: {command: plugin}}")
    monkeypatch.setenv("PATH", str(folders[0]), prepend=":")
    found = of_both(folders, "{exec: {command: plugin}}").credentials
    assert found.token and found.token(False) == "plugin of a"


def test_a_kubeconfig_beside_us_names_a_plugin_beside_us(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_both(folders, "{exec: {command: ./plugin}}")
    with (folders[1] / "config").open("a") as file:
        file.write("contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n")
    monkeypatch.chdir(folders[1])
    found = endpoint(find("config", {})).credentials
    assert found.token and found.token(False) == "plugin of b"
