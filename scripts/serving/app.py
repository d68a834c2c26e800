"""HTTP around a loaded model: `/predict`, and the Open Inference Protocol v2."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from serving import protocol
from serving.models import Model
from serving.protocol import BadRequest

_LOG = logging.getLogger("serving")
_EXTENSIONS: tuple[str, ...] = ()


class TooLarge(Exception):
    """The body is larger than allowed."""


def make(model: Model, name: str, version: str, *, threads: int, max_bytes: int) -> FastAPI:
    """The application. `threads` predictions run at the same time; bodies over `max_bytes` are refused with 413."""
    app = FastAPI(title=name, version=version, docs_url=None, redoc_url=None)
    limiter = CapacityLimiter(threads)
    _answer_errors(app, name)
    _health(app, model, name, version)

    async def run(request: Request, work: Callable[[bytes], bytes]) -> Response:
        body = await _body(request, max_bytes)
        return Response(await to_thread.run_sync(work, body, limiter=limiter), media_type="application/json")

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        return await run(request, lambda body: _predict(model, body))

    @app.post("/v2/models/{name}/infer")
    @app.post("/v2/models/{name}/versions/{version}/infer")
    async def infer(request: Request) -> Response:
        _known(request, name, version)
        return await run(request, lambda body: _infer(model, name, version, body))

    return app


def _predict(model: Model, body: bytes) -> bytes:
    arrays = protocol.predict_inputs(protocol.read(body), model.inputs, model.features)
    return protocol.write(model.summary(model.run(arrays)))


def _infer(model: Model, name: str, version: str, body: bytes) -> bytes:
    request = protocol.read(body)
    outputs = model.run(protocol.infer_inputs(request, model.inputs))
    return protocol.write(protocol.infer_answer(name, request, outputs, version))


def _health(app: FastAPI, model: Model, name: str, version: str) -> None:
    """The protocol's GET routes. The model is loaded before the server listens, so who is live is ready."""

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.get("/v2")
    async def server() -> dict[str, Any]:
        return {"name": "ml-deploy", "version": version, "extensions": list(_EXTENSIONS)}

    @app.get("/v2/models/{name}/ready")
    @app.get("/v2/models/{name}/versions/{version}/ready")
    async def model_ready(request: Request) -> dict[str, Any]:
        _known(request, name, version)
        return {"name": name, "ready": True}

    @app.get("/v2/models/{name}")
    @app.get("/v2/models/{name}/versions/{version}")
    async def metadata(request: Request) -> dict[str, Any]:
        _known(request, name, version)
        return {
            "name": name, "versions": [version], "platform": model.platform,
            "inputs": [tensor.as_dict() for tensor in model.inputs],
            "outputs": [tensor.as_dict() for tensor in model.outputs],
        }  # fmt: skip


def _known(request: Request, name: str, version: str) -> None:
    asked = request.path_params
    if asked["name"] != name or asked.get("version", version) != version:
        raise HTTPException(404, f"there is no such model; this server has {name!r}, version {version!r}")


async def _body(request: Request, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise TooLarge
        parts.append(part)
    return b"".join(parts)


def _answer_errors(app: FastAPI, name: str) -> None:
    """One shape for every error, the protocol's: `{"error": "..."}`."""

    def say(status: int, text: str) -> Response:
        return Response(protocol.write({"error": text}), status, media_type="application/json")

    @app.exception_handler(BadRequest)
    async def bad_request(_: Request, error: Exception) -> Response:
        return say(400, str(error))

    @app.exception_handler(TooLarge)
    async def too_large(_: Request, __: Exception) -> Response:
        return say(413, "the body is too large (MAX_REQUEST_BYTES sets the limit)")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return say(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def bug(_: Request, error: Exception) -> Response:
        _LOG.error("the model failed: %s: %s", type(error).__name__, " ".join(str(error).split())[:500])
        return say(500, f"the model {name!r} failed; the server's log says why")
