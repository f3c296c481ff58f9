"""A Hub on this machine: the few answers of the real one that downloading needs, over real HTTP."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """What it holds, and what it was asked.

    Attributes:
        repositories: files by name, or an error (status, X-Error-Code); keys such as "models/org/name".
        requests: (method, path, authorization header) of every request.
    """

    repositories: dict[str, dict[str, bytes] | tuple[int, str]] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def add(self, name: str, files: dict[str, bytes] | Path, kind: str = "models") -> None:
        """Publish files, or the files of a folder."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir()}
        self.repositories[f"{kind}/{name}"] = files

    def refuse(self, name: str, status: int, code: str, kind: str = "models") -> None:
        """Answer every question about a repository with an error."""
        self.repositories[f"{kind}/{name}"] = (status, code)

    def downloaded(self) -> set[str]:
        """The files that were fetched."""
        return {
            path.split(f"/resolve/{COMMIT}/")[-1].split("/resolve/main/")[-1]
            for method, path, _ in self.requests
            if method == "GET" and "/resolve/" in path
        }


@contextmanager
def serve() -> Iterator[FakeHub]:
    """A hub that listens until the block ends."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Authorization")))
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            kind, name, rest = parts[1], "/".join(parts[2:4]), parts[4:]
        else:
            kind = "datasets" if parts[0] == "datasets" else "models"
            parts = parts[1:] if kind == "datasets" else parts
            name, rest = "/".join(parts[:2]), parts[2:]
        held = self.hub.repositories.get(f"{kind}/{name}", (404, "RepoNotFound"))
        if isinstance(held, tuple):
            self._send(held[0], b"{}", {"X-Error-Code": held[1]})
        elif rest[:1] in ([], ["revision"]) and rest[1:] not in ([], ["main"], [COMMIT]):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif rest[:1] in ([], ["revision"]):
            siblings = [{"rfilename": file, "size": len(content)} for file, content in held.items()]
            self._send_json({"id": name, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False})
        elif rest[0] == "tree":
            self._send_json(
                [
                    {"type": "file", "path": file, "size": len(content), "oid": _oid(content)}
                    for file, content in held.items()
                ]
            )
        elif "/".join(rest[2:]) in held:
            content = held["/".join(rest[2:])]
            self._send(200, content, {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

    def _send_json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
