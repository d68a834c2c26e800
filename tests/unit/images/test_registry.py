"""Judging what the engine says of a push."""

from __future__ import annotations

import json

import pytest

from ml_deploy.images.registry import Failure, Manifest, Progress, judge, pause


@pytest.mark.parametrize(
    ("message", "failure"),
    [
        ("toomanyrequests: too many requests", Failure.THROTTLED),
        ("error parsing HTTP 429 response body: unexpected end of JSON input", Failure.THROTTLED),
        ("received unexpected HTTP status: 500 Internal Server Error", Failure.TEMPORARY),
        ("received unexpected HTTP status: 503 Service Unavailable", Failure.TEMPORARY),
        ('Put "https://r.azurecr.io/v2/a/manifests/1": EOF', Failure.TEMPORARY),
        ("write tcp 10.0.0.1:1->10.0.0.2:443: write: connection reset by peer", Failure.TEMPORARY),
        ("net/http: TLS handshake timeout", Failure.TEMPORARY),
        ("dial tcp: lookup r.azurecr.io: i/o timeout", Failure.TEMPORARY),
        ("blob upload unknown", Failure.TEMPORARY),
        ("denied: requested access to the resource is denied", Failure.DENIED),
        ("denied: The operation is disallowed on this registry, repository or image.", Failure.DENIED),
        ("unauthorized: authentication required, visit https://aka.ms/acr/authorization", Failure.UNAUTHORIZED),
        ("manifest invalid: manifest invalid", Failure.FATAL),
        ("http: server gave HTTP response to HTTPS client", Failure.FATAL),
        ("x509: certificate signed by unknown authority", Failure.FATAL),
        ("something nobody has ever seen", Failure.FATAL),
    ],
)
def test_messages_of_the_engine(message: str, failure: Failure) -> None:
    assert judge(message) is failure


def test_the_registry_says_how_long_to_wait() -> None:
    assert pause(Failure.THROTTLED, 1, 7.0) == 7.5
    assert pause(Failure.THROTTLED, 1, 10_000.0) < 130


def test_throttling_of_unknown_length_is_waited_for_at_least_a_minute_in_all() -> None:
    assert sum(pause(Failure.THROTTLED, n, None) for n in (1, 2, 3)) >= 60


def test_other_failures_are_tried_again_soon_and_then_slower() -> None:
    waits = [pause(Failure.TEMPORARY, n, None) for n in (1, 2, 3, 9)]
    assert waits == [2, 4, 8, 20]


def test_an_image_is_known_by_its_configuration_or_its_manifest() -> None:
    body = json.dumps({"config": {"digest": "sha256:config"}}).encode()
    manifest = Manifest("sha256:manifest", "application/json", body)
    assert manifest.is_image("sha256:config")
    assert manifest.is_image("sha256:manifest")
    assert not manifest.is_image("sha256:other")
    assert not Manifest("sha256:index", "application/json", b'{"manifests": []}').is_image("sha256:config")
    assert not Manifest("sha256:x", "text/html", b"<html>").is_image("sha256:config")


def test_progress_is_a_line_every_few_seconds() -> None:
    progress = Progress(0.0, every=5.0)
    pushing = {"status": "Pushing", "id": "a", "progressDetail": {"current": 2_000_000, "total": 4_000_000}}
    assert progress.line(pushing, 1.0) == ""
    assert progress.line({"status": "Layer already exists", "id": "b", "progressDetail": {}}, 2.0) == ""
    assert progress.line(pushing, 6.0) == "1 of 2 layers, 2 of 4 MB"
    assert progress.line(pushing, 7.0) == ""


def test_progress_tells_the_end_and_the_engines_own_retries() -> None:
    progress = Progress(0.0)
    assert (
        progress.line({"status": "Retrying in 5 seconds", "id": "a"}, 0.0)
        == "layer a: the engine tries again in 5 seconds"
    )
    assert progress.line({"status": "Retrying in 4 seconds", "id": "a"}, 0.0) == "", "one line, not a countdown"
    progress.line({"progressDetail": {}, "aux": {"Tag": "v1", "Digest": "sha256:d", "Size": 1}}, 0.0)
    progress.line({"errorDetail": {"message": "EOF"}, "error": "EOF"}, 0.0)
    assert (progress.digest, progress.error) == ("sha256:d", "EOF")
