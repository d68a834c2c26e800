"""HTTP to services that answer JSON (ARM, registries): one session, temporary failures retried."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ml_deploy.errors import InputError, Unreachable

if TYPE_CHECKING:
    import requests

ATTEMPTS = 4
_LONGEST_WAIT = 60.0
_TEMPORARY = (429, 500, 502, 503, 504)


class Rest:
    """A keep-alive session. The environment's proxies and REQUESTS_CA_BUNDLE are honoured."""

    def __init__(
        self, *, sleep: Callable[[float], None] = time.sleep, log: Callable[[str], None] = lambda _: None,
        attempts: int = ATTEMPTS,
    ) -> None:  # fmt: skip
        self._sleep = sleep
        self._log = log
        self._attempts = attempts
        self._session: requests.Session | None = None

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: Any = None,
        auth: tuple[str, str] | None = None,
        timeout: float = 30.0,
        attempts: int = 0,
    ) -> requests.Response:
        """The answer, whatever its status; 429, 5xx and cut connections are tried again. Raises Unreachable.

        form: sent as application/x-www-form-urlencoded; body: bytes as they are, else as JSON.
        timeout: seconds for connecting, and for each wait on the server's bytes. attempts: instead of the session's own.
        """
        attempts = attempts or self._attempts
        data = form if form is not None else body if body is None or isinstance(body, bytes) else json.dumps(body)
        sent = dict(headers or {}) | ({"Content-Type": "application/json"} if isinstance(data, str) else {})
        redirects = method in ("GET", "HEAD")
        request = {"headers": sent, "data": data, "auth": auth, "timeout": timeout, "allow_redirects": redirects}
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            try:
                answer = self._once(method, url, request)
            except _MayHeal:
                if last:
                    raise
                self._wait(url, "no answer", 0.5 * 2**attempt)
                continue
            if last or answer.status_code not in _TEMPORARY:
                return answer
            self._wait(url, f"HTTP {answer.status_code}", _pause(answer.headers, attempt))
        raise AssertionError("not reached")

    def _once(self, method: str, url: str, request: dict[str, Any]) -> requests.Response:
        import requests

        if self._session is None:
            self._session = requests.Session()
        try:
            return self._session.request(method, url, **request)
        except requests.RequestException as error:
            raise unreachable(url, error) from error
        except OSError as error:
            raise InputError(
                f"The CA file for {urlsplit(url).netloc} cannot be read: {error}",
                hint="Check REQUESTS_CA_BUNDLE (or CURL_CA_BUNDLE).",
            ) from error

    def _wait(self, url: str, why: str, seconds: float) -> None:
        self._log(f"{urlsplit(url).netloc}: {why}, trying again in {seconds:.0f} s")
        self._sleep(seconds)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, or None when it does not say (or says a date)."""
    value = headers.get("Retry-After", "").strip()
    return float(value) if value.isdigit() else None


def _pause(headers: Mapping[str, str], attempt: int) -> float:
    told = retry_after(headers)
    return min(_LONGEST_WAIT, 0.5 * 2**attempt if told is None else told)


class _MayHeal(Unreachable):
    """A connection that broke. A name that does not resolve or a closed port outlasts our patience instead."""


def unreachable(url: str, error: Exception) -> Unreachable:
    """Our error for a server that gives no HTTP answer."""
    host = urlsplit(url).netloc
    text = repr(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return Unreachable(
            f"The TLS certificate of {host} is signed by nobody this machine trusts.",
            hint="Set REQUESTS_CA_BUNDLE to a file that holds the CA of that server (or of the proxy in between).",
        )
    if "NameResolutionError" in text or "Name or service not known" in text:
        return Unreachable(f"The name {host} does not resolve.", hint="Check its spelling and this runner's DNS.")
    if "Connection refused" in text:
        return Unreachable(f"{host} refuses connections.", hint="Check the address and that the server is running.")
    if "InvalidURL" in text or "TooManyRedirects" in text or "SSLError" in text:
        return Unreachable(f"{host} cannot be asked: {_short(error)}", hint="Check the address.")
    if "timed out" in text.lower() or "timeout" in text.lower():
        return _MayHeal(f"{host} does not answer in time.", hint="Check firewalls and network rules on the way.")
    return _MayHeal(f"The connection to {host} failed: {_short(error)}", hint="Run the job again if it was the net.")


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."


def decoded(answer: requests.Response) -> Any:
    """The JSON of an answer; an empty dict when it is none."""
    try:
        return answer.json()
    except ValueError:
        return {}
