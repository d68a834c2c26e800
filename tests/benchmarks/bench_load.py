"""smoke-test's load beside k6, hey and wrk on the same endpoint, interleaved: do the figures agree, and what can it send.

usage: bench_load.py [ROUNDS [RATE ...]]      (defaults: 5 rounds, 50, 200 and 1000 requests a second; 4 s each)

k6, hey and wrk are used where they are on the PATH. The endpoint is a server of its own that answers after 5 ms, and
in a second part stands still for 300 ms in every two seconds: open loops (ours, k6) feel that in each request that was
due, closed ones (hey, wrk) hardly.

On two cores that did nothing else (November 2026), p50/p95/p99 in ms, ours counted from the intended start:

    rate    smoke-test         k6
     200    6.6 / 7.5 / 8.5    5.9 / 6.8 / 7.5
    1000    5.9 / 6.9 / 8.8    5.8 / 6.4 / 7.7

On busy cores ours shows longer tails than k6: one Python thread waits for its turn where Go has several. The log of
smoke-test then says that it sent late.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from ml_deploy.adapters.http import HttpEndpoint
from ml_deploy.checks.http import EndpointAccess, Request
from ml_deploy.checks.load import Plan
from ml_deploy.checks.statistics import figures

SECONDS = 4
BODY = b'{"inputs": [[1.0, 2.0, 3.0, 4.0]]}'
Row = tuple[float, float, float, float]  # p50, p95, p99 in ms, requests a second

K6 = """
import http from 'k6/http';
export const options = { scenarios: { a: { executor: 'constant-arrival-rate', rate: RATE, timeUnit: '1s',
  duration: 'SECONDSs', preAllocatedVUs: 200, maxVUs: 500 } }, summaryTrendStats: ['p(50)', 'p(95)', 'p(99)'] };
export default function () { http.post('URL', 'BODY', { headers: { 'Content-Type': 'application/json' } }); }
"""


class Server(asyncio.Protocol):
    """Answers each request after 5 ms; while it stands still, after that."""

    stalls = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        """Cut requests out of the stream."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"content-length: *(\d+)", self._buffer[:end].lower())
            end += 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < end:
                return
            self._buffer = self._buffer[end:]
            self._later()

    def _later(self) -> None:
        since = time.time() % 2
        wait = 0.005 + (max(0.0, 0.3 - since) if self.stalls else 0.0)
        answer = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"predictions":1}'
        asyncio.get_running_loop().call_later(wait, self._transport.write, answer)


def serve(stalls: bool) -> None:
    """Serve for ever; the port is the first line of the output."""
    Server.stalls = stalls

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def served(stalls: bool) -> Iterator[str]:
    """A server in a process of its own."""
    words = [sys.executable, __file__, "serve", "stalling" if stalls else "steady"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/predict"
        process.terminate()


def ours(url: str, rate: int) -> Row:
    """The load of smoke-test."""
    endpoint = HttpEndpoint(EndpointAccess(url.removesuffix("/predict")))
    plan = Plan(rate, rate * SECONDS, warmup=10, concurrency=500)
    load = endpoint.load(plan, [Request("POST", "/predict", {"Content-Type": "application/json"}, BODY)])
    endpoint.close()
    found = figures(plan, load, lambda sample: sample.status == 200)
    return found.p50 * 1000, found.p95 * 1000, found.p99 * 1000, found.throughput


def k6(url: str, rate: int) -> Row:
    """Open loop, as ours."""
    script = (
        K6.replace("RATE", str(rate))
        .replace("SECONDS", str(SECONDS))
        .replace("URL", url)
        .replace("BODY", BODY.decode())
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "k6.js").write_text(script)
        out = Path(folder) / "out.json"
        subprocess.run(["k6", "run", "-q", "--no-usage-report", "--summary-export", str(out), f"{folder}/k6.js"],
                       check=True, capture_output=True)  # fmt: skip
        metrics = json.loads(out.read_text())["metrics"]
    times = metrics["http_req_duration"]
    return times["p(50)"], times["p(95)"], times["p(99)"], metrics["http_reqs"]["rate"]


def hey(url: str, rate: int) -> Row:
    """Closed loop of ten clients, each held to a tenth of the rate."""
    words = ["hey", "-z", f"{SECONDS}s", "-c", "10", "-q", str(rate / 10), "-m", "POST", "-T", "application/json"]
    out = subprocess.run([*words, "-d", BODY.decode(), url], check=True, capture_output=True, text=True).stdout
    found = {name: float(value) * 1000 for name, value in re.findall(r"(\d+)%+ in ([\d.]+) secs", out)}
    rated = re.search(r"Requests/sec:\s*([\d.]+)", out)
    assert rated
    return found["50"], found["95"], found["99"], float(rated[1])


def wrk(url: str, _rate: int) -> Row:
    """Closed loop of ten clients, as fast as they can."""
    script = f"wrk.method='POST'; wrk.headers['Content-Type']='application/json'; wrk.body='{BODY.decode()}'"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as lua:
        lua.write(
            script
            + "\nfunction done(s, l, r) print(l:percentile(50), l:percentile(95), l:percentile(99), s.requests/s.duration*1e6) end"
        )
        lua.flush()
        out = subprocess.run(
            ["wrk", "-t1", "-c10", f"-d{SECONDS}s", "-s", lua.name, url], check=True, capture_output=True, text=True
        ).stdout
    p50, p95, p99, rate = map(float, out.splitlines()[-1].split())
    return p50 / 1000, p95 / 1000, p99 / 1000, rate


def main(rounds: int, rates: list[int]) -> None:
    """Interleave the tools and print medians."""
    tools = {"smoke-test": ours} | {t.__name__: t for t in (k6, hey, wrk) if shutil.which(t.__name__)}
    print(f"{'endpoint':<10}{'rate':>6}  {'tool':<12}{'p50':>9}{'p95':>9}{'p99':>9}{'sent/s':>9}   median of {rounds}")
    for stalls in (False, True):
        with served(stalls) as url:
            for rate in rates:
                rows: dict[str, list[Row]] = {name: [] for name in tools}
                for _ in range(rounds):
                    for name, tool in tools.items():
                        rows[name].append(tool(url, rate))
                for name, found in rows.items():
                    middle = [statistics.median(column) for column in zip(*found, strict=True)]
                    times = "".join(f"{value:>7.1f}ms" for value in middle[:3])
                    print(
                        f"{'stalling' if stalls else 'steady':<10}{rate:>6}  {name:<12}{times}{middle[3]:>9.1f}",
                        flush=True,
                    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2] == "stalling")
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, [int(word) for word in sys.argv[2:]] or [50, 200, 1000])
