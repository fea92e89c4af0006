"""The web page: files of this package, served as they are."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from voxfide.serve.problems import ProblemError

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
INDEX: Final = "index.html"


def page_files() -> dict[str, tuple[bytes, str]]:
    """Content and media type of every file of the page, by name."""
    folder = files("voxfide.serve") / "page"
    found = {}
    for entry in folder.iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in TYPES:
            found[entry.name] = (entry.read_bytes(), TYPES[suffix])
    return found


def page_router() -> APIRouter:
    """``/`` and ``/page/NAME``; names are looked up among the files that exist, never opened."""
    routes = APIRouter(include_in_schema=False)
    found = page_files()
    tags = {name: f'"{hashlib.sha256(content).hexdigest()[:32]}"' for name, (content, _) in found.items()}

    def answer(request: Request, name: str) -> Response:
        if name not in found:
            raise ProblemError("not-found", f"The page has no file {name[:100]!r}.")
        headers = {"Cache-Control": "no-cache", "ETag": tags[name]}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        content, media_type = found[name]
        return Response(content, media_type=media_type, headers=headers)

    @routes.get("/")
    async def index(request: Request) -> Response:
        return answer(request, INDEX)

    @routes.get("/page/{name}")
    async def file(request: Request, name: str) -> Response:
        return answer(request, name)

    return routes
