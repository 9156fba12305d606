"""A data set repository of a Hugging Face hub on loopback: commits, listing and downloads."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

REPOSITORY = "datasets/lab/ecg"
COMMIT = "a" * 40


class Hub(ThreadingHTTPServer):
    """The server, with the contents of the repository's files by path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Run a hub for the duration of a ``with`` block."""
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, args=[0.01], daemon=True).start()
        yield hub
        hub.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Suppress the log of requests."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            self._reply({"url": f"{self.server.address}/{REPOSITORY}"})
        elif self.path == "/api/validate-yaml":
            self._reply({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self._reply({"files": [{"path": f["path"]} | modes for f in json.loads(body)["files"]]})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    content = base64.b64decode(item["value"]["content"])
                    self.server.files[item["value"]["path"]] = content
            url = f"{self.server.address}/{REPOSITORY}/commit/{COMMIT}"
            self._reply({"commitUrl": url, "commitOid": COMMIT, "hookOutput": ""})
        else:
            self._reply({}, code=404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, files = unquote(urlsplit(self.path).path), self.server.files
        prefix = f"/{REPOSITORY}/resolve/"
        if path.startswith(prefix):
            content = files.get(path.removeprefix(prefix).partition("/")[2])
            if content is None:
                self._reply({}, code=404)
            else:
                self._reply(content, ETag=f'"{_blob_id(content)}"')
        elif path.startswith(f"/api/{REPOSITORY}/tree/"):
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": _blob_id(content)}
                for name, content in files.items()
            ]
            self._reply(entries)
        elif path.startswith(f"/api/{REPOSITORY}"):
            siblings = [{"rfilename": name} for name in files]
            self._reply({"id": "lab/ecg", "sha": COMMIT, "siblings": siblings})
        else:
            self._reply({}, code=404)

    def _reply(self, value: Any, code: int = 200, **headers: str) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        headers |= {"Content-Length": str(len(content)), "X-Repo-Commit": COMMIT}
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
