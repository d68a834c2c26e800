"""smoke-test and record-cases as a step runs them: own process, real servers, outputs and summary read back."""

from __future__ import annotations

import itertools
import json
import re
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.integration.endpoints import Reply, Seen, free_port, served
from tests.steps import MAIN, environment, step


def cases(tmp_path: Path, *lines: dict[str, Any]) -> str:
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return "cases.jsonl"


def doubled(request: Seen) -> Reply:
    """A model: twice the number."""
    if request.method != "POST":
        return Reply({"detail": "Method Not Allowed"}, 405)
    return Reply({"y": 2.0 * json.loads(request.body)["x"]})


GOOD = ({"name": "one", "request": {"x": 1}, "expect": {"y": 2.0}}, {"request": {"x": 2}, "expect": {"y": 4.0}})


def test_a_good_endpoint(tmp_path: Path) -> None:
    with served(doubled) as url:
        done = step(
            tmp_path,
            "smoke-test",
            url=url,
            cases=cases(tmp_path, *GOOD),
            rate=100,
            duration="1s",
            max_p50="450ms",
            max_p95="500ms",
        )
    assert done.code == 0, done.log
    outputs = done.outputs
    assert (outputs["healthy"], outputs["passed"], outputs["failed"], outputs.get("reason")) == ("true", "2", "0", None)
    assert outputs["error-rate"] == "0"
    assert float(outputs["throughput"]) == pytest.approx(100, rel=0.2)
    assert 0 < float(outputs["p50"]) <= float(outputs["p95"]) <= float(outputs["p99"]) < 500
    assert "2 of 2 golden predictions answered as expected" in done.summary
    assert "| p95 latency |" in done.summary
    assert "too few samples: 100 of 200" in done.summary
    assert "◀ p50" in done.summary
    assert (done.report["healthy"], done.report["load"]["due"], len(done.report["cases"])) == (True, 100, 2)


def test_wrong_predictions(tmp_path: Path) -> None:
    wrong = {"name": "low | <b>", "request": {"x": 3}, "expect": {"y": 7.0}}
    with served(doubled) as url:
        done = step(tmp_path, "smoke-test", url=url, cases=cases(tmp_path, GOOD[0], wrong), max_p95="1s")
    assert (done.code, done.outputs["reason"]) == (12, "wrong-answers")
    assert (done.outputs["healthy"], done.outputs["passed"], done.outputs["failed"], done.outputs["p95"]) == (
        "false",
        "1",
        "1",
        "",
    )
    assert "::error title=Wrong predictions::" in done.log
    assert (
        '1 of 2 golden predictions failed; first "low | <b>": $.y: expected 7.0, got 6.0 (off by 1, 0.14 of it).'
        in done.log
    )
    assert "low &#124; &lt;b&gt;" in done.summary
    assert "record-cases" in done.summary
    assert "Load:" not in done.log
    assert done.report["cases"][1]["differences"] == ["$.y: expected 7.0, got 6.0 (off by 1, 0.14 of it)"]


def test_too_slow(tmp_path: Path) -> None:
    with served(lambda request: Reply(1, delay=0.08)) as url:
        done = step(tmp_path, "smoke-test", url=url, rate=50, duration="1s", max_p95="50ms", max_p50="5s")
    assert (done.code, done.outputs["reason"]) == (13, "limits")
    assert re.search(r"Under load, p95 latency is \d+\.\d ms \(limit: at most 50\.0 ms\)\.", done.log)
    assert float(done.outputs["p95"]) > 80
    assert done.outputs["healthy"] == "false"
    assert "❌" in done.summary
    assert "No golden predictions were asked" in done.summary


def test_errors_under_load(tmp_path: Path) -> None:
    numbers = itertools.count()
    with served(lambda request: Reply(1, 503 if next(numbers) % 10 == 5 else 200)) as url:
        lenient = step(tmp_path, "smoke-test", url=url, rate=100, duration="1s", max_error_rate=0.2)
        strict = step(tmp_path, "smoke-test", url=url, rate=100, duration="1s", max_p50="1s")
    assert lenient.code == 0, lenient.log
    assert float(lenient.outputs["error-rate"]) == pytest.approx(0.1, abs=0.03)
    assert (strict.code, strict.outputs["reason"]) == (13, "limits")
    assert "× status 503" in strict.summary


def test_an_overloaded_endpoint_misses_its_throughput(tmp_path: Path) -> None:
    with served(lambda request: Reply(1, delay=0.3)) as url:
        done = step(
            tmp_path, "smoke-test", url=url, rate=50, duration="1s", concurrency=3, min_throughput=40, max_error_rate=1
        )
    assert done.code == 13
    assert "throughput is" in done.log
    assert "not sent, too many under way" in done.log


def test_wrong_only_under_load(tmp_path: Path) -> None:
    """A service that shares a buffer between requests: right when asked alone."""
    latest: list[float] = [0]

    def shared(request: Seen) -> Reply:
        latest[0] = json.loads(request.body)["x"]
        time.sleep(0.03)
        return Reply({"y": 2.0 * latest[0]})

    with served(shared) as url:
        done = step(tmp_path, "smoke-test", url=url, cases=cases(tmp_path, *GOOD), rate=100, duration="1s")
    assert (done.code, done.outputs["reason"]) == (12, "wrong-answers")
    assert "answers under load were wrong, though the same requests alone were answered rightly" in done.log
    assert (done.outputs["passed"], done.outputs["failed"]) == ("2", "0")
    assert done.report["wrong_under_load"]


def test_an_endpoint_that_answers_500(tmp_path: Path) -> None:
    with served(lambda request: Reply(b"Internal Server Error", 500, "text/plain")) as url:
        done = step(tmp_path, "smoke-test", url=url, cases=cases(tmp_path, *GOOD), ready_timeout="1s")
    assert (done.code, done.outputs["reason"], done.outputs["healthy"]) == (14, "endpoint", "false")
    assert "POST /predict is answered with status 500 (Internal Server Error)" in done.log
    assert "look at the log of the pod" in done.log


def test_nothing_there(tmp_path: Path) -> None:
    done = step(tmp_path, "smoke-test", url=f"http://127.0.0.1:{free_port()}", ready_timeout="500ms")
    assert (done.code, done.outputs["reason"]) == (14, "endpoint")
    assert "Not yet: GET http://127.0.0.1" in done.log
    assert "connection refused" in done.log


def test_an_endpoint_that_comes_up_late(tmp_path: Path) -> None:
    since = time.monotonic()

    def behaviour(request: Seen) -> Reply:
        return doubled(request) if time.monotonic() - since > 2 else Reply(b"no healthy upstream", 503, "text/plain")

    with served(behaviour) as url:
        done = step(tmp_path, "smoke-test", url=url, cases=cases(tmp_path, *GOOD))
    assert done.code == 0, done.log
    assert "Not yet: POST /predict is answered with status 503 (no healthy upstream)" in done.log


def test_an_endpoint_that_flaps(tmp_path: Path) -> None:
    numbers = itertools.count()
    with served(lambda request: Reply(b"", 502) if next(numbers) % 2 else doubled(request)) as url:
        done = step(tmp_path, "smoke-test", url=url, cases=cases(tmp_path, *GOOD, *GOOD))
    assert (done.code, done.outputs["reason"]) == (14, "endpoint")
    assert (done.outputs["passed"], done.outputs["failed"]) == ("2", "2")
    assert "status: expected 200, got 502 (empty body)" in done.log


def test_nothing_to_check_still_needs_a_2xx(tmp_path: Path) -> None:
    with served(
        lambda request: Reply("hello" if request.path == "/health" else None, 200 if request.path == "/health" else 404)
    ) as url:
        good = step(tmp_path, "smoke-test", url=url, url_path="/health")
        bad = step(tmp_path, "smoke-test", url=url, ready_timeout="300ms")
    assert good.code == 0, good.log
    assert "::notice::Only a GET was sent, and its answer was not judged" in good.log
    assert "Only a GET was sent" in good.summary
    assert (bad.code, bad.outputs["reason"]) == (14, "endpoint")


def test_tls_and_headers_that_stay_secret(tmp_path: Path) -> None:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    def guarded(request: Seen) -> Reply:
        given = request.headers.get("Authorization", "")
        return doubled(request) if given == "Bearer tok3n-value" else Reply(f"bad credentials {given}".encode(), 401)

    with served(guarded, context) as url:
        how = {"url": url, "ca": "ca.pem", "cases": cases(tmp_path, *GOOD)}
        good = step(tmp_path, "smoke-test", headers="Authorization: Bearer tok3n-value", **how)
        bad = step(tmp_path, "smoke-test", headers="Authorization: Bearer wr0ng-value", **how)
    assert good.code == 0, good.log
    assert (bad.code, bad.outputs["reason"]) == (14, "endpoint")
    assert "status 401 (bad credentials ***)" in bad.log
    unmasked = "".join(line for line in bad.log.splitlines() if not line.startswith("::add-mask::"))
    assert "wr0ng" not in unmasked + bad.summary
    assert "bad credentials ***" in json.dumps(bad.report) and "wr0ng" not in json.dumps(bad.report), (
        "it may be uploaded"
    )


def test_hostile_answers_issue_no_workflow_commands(tmp_path: Path) -> None:
    evil = b"::set-output name=x::y\n##[command]z\n::error::gotcha"
    with served(lambda request: Reply(evil, 200, "text/plain")) as url:
        done = step(tmp_path, "smoke-test", url=url, cases=cases(tmp_path, {"request": 1, "expect": 1}))
    assert done.code == 12
    ours = "::error title=Wrong predictions::"  # the runner reads nothing into the rest of a line that is a command
    others = [line for line in done.log.splitlines() if not line.startswith(ours)]
    assert [line for line in others if line.lstrip().startswith("::") or "##[" in line] == []


@pytest.mark.parametrize(
    ("inputs", "sentences"),
    [
        ({}, ["`url` is missing"]),
        ({"url": "http://x", "service": "s"}, ["`url` and `service` name two endpoints"]),
        ({"service": "s", "port": "80", "max_p95": "1s", "rate": "5", "ca": "x"}, ["`rate`, `max-p95` cannot be judged through `service`", "`ca` is for `url`"]),
        ({"service": "s", "port": "80", "headers": "authorization: Bearer x"}, ["the API server does not pass on"]),
        ({"url": "http://x", "ca": "x", "url_path": "predict"}, ["`ca` is for https", "`url-path` must start with /"]),
        ({"url": "http://x", "rate": "0", "max_error_rate": "5", "concurrency": "501"}, ["`rate` must be more than 0", "1% is 0.01", "500 or less"]),
        ({"url": "http://x", "min_throughput": "10"}, ["`min-throughput` must be less than `rate` (it is 10, and 10 requests"]),
        ({"url": "http://x", "duration": "1h"}, ["`duration` must be less than `timeout`"]),
        ({"url": "http://x", "max_p95": "fast", "rate": "many"}, ["`max-p95` must be a duration", "`rate` must be a number"]),
        ({"url": "http://x", "revision": "3"}, ["`app` is missing: `revision` needs it"]),
        ({"url": "http://x", "headers": "s3cret"}, ["Line 1 of the input `headers` is no header"]),
        ({"url": "http://x", "cases": "absent.jsonl"}, ["There is no file absent.jsonl"]),
        ({"url": "http://u:s3cret@x", "rate": "0"}, ["contains a user or password", "`rate` must be more than 0"]),
    ],
)  # fmt: skip
def test_misuse(tmp_path: Path, inputs: dict[str, str], sentences: list[str]) -> None:
    done = step(tmp_path, "smoke-test", timeout="10m", **inputs)
    assert (done.code, done.outputs["reason"]) == (2, "input"), done.log
    assert [sentence for sentence in sentences if sentence not in done.log.replace("%25", "%")] == []
    assert "s3cret" not in "".join(line for line in done.log.splitlines() if not line.startswith("::add-mask::"))


def test_a_malformed_case_is_annotated_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_text('{"request": 1, "expect": 1}\n{"request": 1, "expekt": 1}\n')
    done = step(tmp_path, "smoke-test", url="http://x", cases="cases.jsonl")
    assert (
        "::error title=Invalid inputs,file=cases.jsonl,line=2::cases.jsonl, line 2: has unknown keys 'expekt'"
        in done.log
    )


def test_a_cancelled_load_ends_at_once_and_quietly(tmp_path: Path) -> None:
    with served(lambda request: Reply(1, delay=0.2)) as url:
        process = subprocess.Popen(
            [sys.executable, "-E", "-s", "-u", "-X", "utf8", str(MAIN), "smoke-test"], cwd=tmp_path, text=True,
            env=environment(tmp_path, {"url": url, "rate": 50, "duration": "30s"}),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout
        lines = [process.stdout.readline()]
        while not lines[-1].startswith("Load:"):
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        time.sleep(0.5)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=10)[0]
    assert process.returncode == 130
    assert time.monotonic() - begun < 5
    assert "The job was cancelled (SIGINT)." in rest
    assert "Traceback" not in rest
    assert "destroyed" not in rest


def test_record_then_test(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text('{"x": 1}\n{"name": "two", "request": {"x": 2}, "rtol": 0.01}\n')
    with served(doubled) as url:
        done = step(tmp_path, "record-cases", url=url, requests="requests.jsonl", out="golden.jsonl")
        again = step(tmp_path, "record-cases", url=url, requests="golden.jsonl", out="golden.jsonl")
        tested = step(tmp_path, "smoke-test", url=url, cases="golden.jsonl")
        anew = step(tmp_path, "record-cases", url=url, requests="golden.jsonl", out="golden.jsonl", overwrite="true")
    assert (done.code, done.outputs["recorded"]) == (0, "2"), done.log
    assert [json.loads(line) for line in (tmp_path / "golden.jsonl").read_text().splitlines()] == [
        {"request": {"x": 1}, "expect": {"y": 2.0}},
        {"name": "two", "request": {"x": 2}, "rtol": 0.01, "expect": {"y": 4.0}},
    ]
    assert (again.code, again.outputs["reason"]) == (2, "input")
    assert "golden.jsonl exists." in again.log
    assert (tested.code, tested.outputs["passed"]) == (0, "2")
    assert anew.code == 0, anew.log


def test_record_writes_nothing_when_something_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text('{"x": 1}\n{"z": 2}\n')

    def picky(request: Seen) -> Reply:
        return doubled(request) if b'"x"' in request.body else Reply({"detail": "x is missing"}, 422)

    with served(picky) as url:
        done = step(tmp_path, "record-cases", url=url, requests="requests.jsonl", out="golden.jsonl")
    assert (done.code, done.outputs["reason"]) == (12, "wrong-answers")
    assert '"line 2": answered with status 422 ({"detail": "x is missing"})' in done.log
    assert not (tmp_path / "golden.jsonl").exists()


def test_record_says_what_varies(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text('{"x": 1}\n')
    numbers = itertools.count()
    with served(lambda request: Reply({"y": 2.0, "id": next(numbers)})) as url:
        done = step(tmp_path, "record-cases", url=url, requests="requests.jsonl", out="golden.jsonl")
        tested = step(tmp_path, "smoke-test", url=url, cases="golden.jsonl")
    assert done.code == 0
    assert "::warning title=Answers vary::The same request got different answers at $.id." in done.log
    assert tested.code == 0, tested.log
