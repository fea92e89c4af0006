"""A model hub on loopback that answers as the real one does, for the files of local folders."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def commit_of(repository: str) -> str:
    """The one commit of a repository: 40 hex digits, as git names them."""
    return hashlib.sha1(repository.encode()).hexdigest()


def _handler(repositories: dict[str, Path], log: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = self.path.partition("?")[0].lstrip("/")
            log.append(f"{self.command} {path}")
            for name, folder in repositories.items():
                if path.startswith(f"api/models/{name}/revision/"):
                    self._send_info(name, folder, body)
                    return
                if path.startswith(f"{name}/resolve/"):
                    self._send_file(name, folder, path.removeprefix(f"{name}/resolve/"), body)
                    return
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)

        def _send_info(self, name: str, folder: Path, body: bool) -> None:
            files = [{"rfilename": f.name} for f in sorted(folder.iterdir())]
            info = {"id": name, "modelId": name, "sha": commit_of(name), "siblings": files, "tags": []}
            self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body)

        def _send_file(self, name: str, folder: Path, rest: str, body: bool) -> None:
            revision, _, file = rest.partition("/")
            if revision not in ("main", "v1", commit_of(name)):
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
            elif not (folder / file).is_file():
                headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit_of(name)}
                self._send(404, b"", headers, body)
            else:
                data = (folder / file).read_bytes()
                tag = hashlib.sha1(data).hexdigest()
                headers = {"ETag": f'"{tag}"', "X-Repo-Commit": commit_of(name), "Accept-Ranges": "bytes"}
                self._send(200, data, headers, body)

        def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@contextmanager
def serve(repositories: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Address of the hub and the list of requests it has seen."""
    log: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(repositories, log))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", log
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
