"""A local server with one file, which behaves as badly as it is told."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ModelServer:
    """Serves ``content`` at any path. ``fault`` is one of the words in `Handler`; ``seen`` are the
    requests (path and Range)."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.fault = ""
        self.etag = '"one"'
        self.pause = 0.0
        self.seen: list[tuple[str, str | None]] = []
        handler = type("Handler", (Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    owner: Any

    def do_GET(self) -> None:
        owner, fault = self.owner, self.owner.fault
        wanted = self.headers.get("Range")
        owner.seen.append((self.path, wanted))
        if fault.isdecimal():
            return self.send_error(int(fault))
        if fault == "redirect" and not self.path.endswith("there"):
            self.send_response(302)
            self.send_header("Location", "/there")
            return self.end_headers()
        if fault == "circle":
            self.send_response(302)
            self.send_header("Location", self.path)
            return self.end_headers()
        content = owner.content[::-1] if fault == "wrong bytes" else owner.content
        start = 0
        same = self.headers.get("If-Range") == owner.etag
        if wanted and same and fault != "no ranges":
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            return self.end_headers()
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", owner.etag)
        told = {"long": 10, "short": -10}.get(fault, 0)
        self.send_header("Content-Length", str(len(body) + told))
        self.end_headers()
        half = len(content) // 2
        if fault in ("cut", "cut once", "stall"):
            self.write(body[: max(half - start, 0)] or (body[:1] if fault == "cut once" else b""))
            if fault == "stall":
                time.sleep(3)
            if fault == "cut once":
                owner.fault = ""
            return None
        return self.write(body)

    def write(self, body: bytes) -> None:
        step = max(len(self.owner.content) // 20, 1)
        for at in range(0, len(body), step):
            self.wfile.write(body[at : at + step])
            if self.owner.pause:
                time.sleep(self.owner.pause)

    def log_message(self, *_: object) -> None:
        pass
