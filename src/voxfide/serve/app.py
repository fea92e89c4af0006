"""The application: interface, page, problems and gate put together."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from voxfide import __version__
from voxfide.errors import VoxfideError
from voxfide.serve import schema
from voxfide.serve.gate import Gate
from voxfide.serve.pages import page_router
from voxfide.serve.problems import MEDIA_TYPE, ProblemError, problem_of_status
from voxfide.serve.routes import router
from voxfide.serve.service import Service
from voxfide.serve.streams import stream_router
from voxfide.serve.work import described

_DESCRIPTION = """\
Tells bona fide speech from spoofed speech, on this machine: nothing that is sent here goes any further,
and nothing is kept beyond the request. A higher score means more bona fide.

Live audio goes over `WebSocket /v1/stream`, which this description cannot express: see docs/service.md.
"""


def create_app(service: Service) -> ASGIApp:
    """The ASGI application of a service."""
    app = FastAPI(
        title="voxfide",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # it would load scripts of another host
        redoc_url=None,
    )
    app.include_router(router(service))
    app.include_router(stream_router(service))
    app.include_router(page_router())
    _describe(app, with_keys=service.keys is not None)
    _answer_problems(app)
    return Gate(app, service)


def _answer_problems(app: FastAPI) -> None:
    async def on_error(request: Request, error: Exception) -> Response:
        return _response(described(error))

    async def on_status(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = f"{request.method} {request.url.path[:200]}: {error.detail}."
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            # The framework names the methods of one route alone.
            methods = app.openapi()["paths"].get(request.url.path, {})
            headers["Allow"] = ", ".join(sorted(map(str.upper, methods))) or headers.get("Allow", "")
        return _response(problem_of_status(error.status_code, detail), headers)

    async def on_option(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        found = [f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()]
        return _response(ProblemError("invalid-option", f"{'; '.join(found)}."))

    async def on_hang_up(request: Request, error: Exception) -> Response:
        return Response(status_code=499)

    app.add_exception_handler(VoxfideError, on_error)
    app.add_exception_handler(HTTPException, on_status)
    app.add_exception_handler(RequestValidationError, on_option)
    app.add_exception_handler(ClientDisconnect, on_hang_up)
    app.add_exception_handler(Exception, on_error)


def _response(problem: ProblemError, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(
        problem.to_json(), problem.status, {**problem.headers, **(headers or {})}, media_type=MEDIA_TYPE
    )


def _describe(app: FastAPI, with_keys: bool) -> None:
    """The OpenAPI description, made once, with the answers' schemas."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            good = made["paths"]["/v1/detect"]["post"]["responses"]["200"]
            good["content"]["application/json"]["example"] = schema.EXAMPLE  # with its nulls
            parts = made.setdefault("components", {})
            parts["schemas"] = {**schema.COMPONENTS}
            if with_keys:
                parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                made["security"] = [{"key": []}]
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
