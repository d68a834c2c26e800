"""The HTTP adapter against real servers: every way in which no answer comes, and the load."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.integration.endpoints import Reply, Seen, free_port, raw, served

from ml_deploy.adapters.http import HttpEndpoint
from ml_deploy.checks.http import Answer, EndpointAccess, Request
from ml_deploy.checks.load import Load, Plan
from ml_deploy.errors import EndpointDown, InputError

GET = Request("GET", "/x?key=s3cret")


@contextmanager
def endpoint(
    url: str, *, seconds: float = 5.0, ca: str = "", headers: dict[str, str] | None = None
) -> Iterator[HttpEndpoint]:
    made = HttpEndpoint(EndpointAccess(url, headers or {}, ca, seconds))
    try:
        yield made
    finally:
        made.close()


def asked(url: str, **how: Any) -> Answer:
    with endpoint(url, **how) as made:
        return made.ask(GET)


def down(url: str, **how: Any) -> EndpointDown:
    with pytest.raises(EndpointDown) as caught:
        asked(url, **how)
    assert "s3cret" not in caught.value.message + caught.value.hint
    return caught.value


def tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def test_a_request_arrives_as_it_was_meant() -> None:
    seen: list[Seen] = []

    def behaviour(request: Seen) -> Reply:
        seen.append(request)
        return Reply({"ok": True}, 201, headers={"X-A": "b"}, delay=0.05)

    request = Request("POST", "/v1/ü p?q=a%2Fb&r=[1]", {"Content-Type": "a/b", "X-Own": "1"}, b"body")
    with served(behaviour) as url, endpoint(f"{url}/base/", headers={"X-Own": "0", "X-All": "2"}) as made:
        answer = made.ask(request)
    assert (answer.status, answer.body, answer.headers["X-A"]) == (201, b'{"ok": true}', "b")
    assert 0.05 <= answer.seconds < 1.0
    assert (seen[0].method, seen[0].path, seen[0].body) == ("POST", "/base/v1/%C3%BC%20p?q=a%2Fb&r=[1]", b"body")
    assert {k: seen[0].headers.get(k) for k in ("X-Own", "X-All", "Content-Type")} == {
        "X-Own": "1",
        "X-All": "2",
        "Content-Type": "a/b",
    }


def test_connections_are_kept_and_a_closed_one_is_no_failure() -> None:
    with served(lambda request: Reply(1)) as url, endpoint(url) as made:
        assert made.ask(GET).status == 200
        time.sleep(2.2)  # longer than connections are kept
        assert made.ask(Request("POST", "/", {}, b"x")).status == 200


def test_redirects_are_not_followed() -> None:
    with served(lambda request: Reply(b"", 302, headers={"Location": "https://elsewhere/"})) as url:
        assert asked(url).headers["Location"] == "https://elsewhere/"


def test_refused() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    error = down(url)
    assert error.message == f"GET {url}/x: connection refused."
    assert "Nothing listens there" in error.hint


def test_a_name_inside_a_cluster() -> None:
    assert "`service` and `port`" in down("http://web.ml.svc.cluster.local:80").hint


def test_a_name_that_does_not_exist() -> None:
    error = down("http://no-such-name.invalid")
    assert "the name no-such-name.invalid cannot be resolved" in error.message
    assert "DNS record" in error.hint


def test_the_proxy_of_the_environment_is_used_but_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(lambda request: Reply(request.path)) as proxy, served(lambda request: Reply("direct")) as url:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "other.invalid")
        assert asked("http://model.invalid/v1").body == b'"http://model.invalid/v1/x?key=s3cret"'
        assert asked(url).body == b'"direct"'
        assert "cannot be resolved" in down("http://other.invalid").message
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
        error = down("http://model.invalid")
    assert "the proxy of this machine does not lead there" in error.message
    assert "NO_PROXY" in error.hint


def test_no_answer_in_time() -> None:
    with served(lambda request: Reply(1, delay=1.0)) as url:
        error = down(url, seconds=0.3)
    assert "no complete answer within 0.3 s" in error.message
    assert "request-timeout" in error.hint


def test_a_slow_drip_is_cut_off_as_a_whole() -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(1000)
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000:
            connection.send(bytes([byte]))
            time.sleep(0.05)

    start = time.monotonic()
    with raw(drip) as url:
        assert "no complete answer within 0.5 s" in down(url, seconds=0.5).message
        assert time.monotonic() - start < 1.5


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "the connection was closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "cut in the middle of the answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "what came back is no HTTP"),
    ],
)
def test_broken_answers(said: bytes, words: str) -> None:
    def behaviour(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.send(said)

    with raw(behaviour) as url:
        assert words in down(url).message


def test_a_reset() -> None:
    def behaviour(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with raw(behaviour) as url:
        assert "reset" in down(url).message


def test_an_endless_answer_is_cut_off() -> None:
    with served(lambda request: Reply(b"x" * (33 * 2**20))) as url:
        assert "larger than 32 MiB" in down(url, seconds=20).message


def test_tls_with_a_ca_as_path_and_as_text(tmp_path: Path) -> None:
    ca = trustme.CA()
    pem = ca.cert_pem.bytes().decode()
    (tmp_path / "ca.pem").write_text(pem)
    with served(lambda request: Reply(1), tls(ca.issue_cert("localhost"))) as url:
        assert asked(url, ca=str(tmp_path / "ca.pem")).status == 200
        assert asked(url, ca=pem).status == 200


def test_tls_without_its_ca() -> None:
    with served(lambda request: Reply(1), tls(trustme.CA().issue_cert("localhost"))) as url:
        error = down(url)
    assert "TLS failed: the certificate is not trusted" in error.message
    assert "`ca`" in error.hint


def test_tls_for_another_name() -> None:
    ca = trustme.CA()
    with served(lambda request: Reply(1), tls(ca.issue_cert("other.example"))) as url:
        assert "the certificate is for another name" in down(url, ca=ca.cert_pem.bytes().decode()).message


def test_https_to_a_plain_port() -> None:
    with served(lambda request: Reply(1)) as url:
        error = down(url.replace("http:", "https:"))
    assert "does not speak TLS" in error.message
    assert "http://" in error.hint


def test_an_address_that_cannot_be_used() -> None:
    with pytest.raises(InputError, match="`url` is no HTTP address"):
        HttpEndpoint(EndpointAccess("example.org"))


@pytest.mark.parametrize("ca", ["/absent/ca.pem", "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----"])
def test_a_ca_that_is_none(ca: str) -> None:
    with pytest.raises(InputError, match="`ca`"):
        HttpEndpoint(EndpointAccess("https://x", ca=ca))


def loaded(url: str, plan: Plan, *requests: Request, seconds: float = 5.0) -> Load:
    with endpoint(url, seconds=seconds) as made:
        return made.load(plan, requests or [GET])


def test_a_load_is_sent_by_the_clock_in_turn_and_without_the_warm_up() -> None:
    times: list[float] = []

    def behaviour(request: Seen) -> Reply:
        times.append(time.monotonic())
        return Reply(request.path)

    with served(behaviour) as url:
        load = loaded(url, Plan(rate=50, count=50, warmup=10), Request("GET", "/a"), Request("GET", "/b"))
    assert (len(load.samples), load.dropped, len(times)) == (50, 0, 60)
    assert times[-1] - times[0] == pytest.approx(59 / 50, abs=0.4)
    assert load.answers == {(0, 200, b'"/a"'): 25, (1, 200, b'"/b"'): 25}
    assert all(sample.status == 200 and sample.late < 0.5 for sample in load.samples)


def test_a_stall_is_felt_by_all_requests_that_it_delays() -> None:
    """Open loop: a server that stands still for half a second is no excuse for not asking."""
    begun = time.monotonic()

    def stalls(request: Seen) -> Reply:
        since = time.monotonic() - begun
        return Reply(1, delay=max(0.0, 1.0 - since) if since > 0.5 else 0.0)

    with served(stalls) as url:
        begun = time.monotonic()
        load = loaded(url, Plan(rate=50, count=75, concurrency=100))
    slow = [sample.seconds for sample in load.samples if sample.seconds > 0.05]
    assert len(slow) >= 18
    assert 0.4 < max(slow) < 1.0


def test_more_than_may_be_under_way_is_dropped_and_counted() -> None:
    with served(lambda request: Reply(1, delay=0.4)) as url:
        load = loaded(url, Plan(rate=50, count=50, concurrency=5))
    assert load.dropped + len(load.samples) == 50
    assert load.dropped > 25


def test_failures_under_load_are_counted_with_their_reason() -> None:
    def behaviour(request: Seen) -> Reply:
        return Reply(1, 500 if request.path == "/bad" else 200, delay=0.6 if request.path == "/slow" else 0)

    requests = [Request("GET", path) for path in ("/good", "/bad", "/slow")]
    with served(behaviour) as url:
        load = loaded(url, Plan(rate=30, count=30), *requests, seconds=0.3)
    assert {(s.which, s.status, s.error) for s in load.samples} == {
        (0, 200, ""),
        (1, 500, ""),
        (2, 0, "no answer in time"),
    }
    refused = loaded(f"http://127.0.0.1:{free_port()}", Plan(rate=50, count=5))
    assert {(sample.status, sample.error) for sample in refused.samples} == {(0, "connection refused")}
