"""A local server with one file, which behaves as badly as it is told."""

from __future__ import annotations

import hashlib
import io
import json
import re
import ssl
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from FoBSAMLib.models import catalogue, download


class ModelServer:
    """Serves ``content`` at any path. ``fault`` is one of the words in `Handler`; ``seen`` are the
    requests (path and Range). With a certificate and its key it speaks TLS; with ``leads_to`` it
    sends everybody there."""

    def __init__(
        self, content: bytes, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        self.content = content
        self.fault = ""
        self.etag = '"one"'
        self.pause = 0.0
        self.leads_to = ""
        self.seen: list[tuple[str, str | None]] = []
        handler = type("Handler", (Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_port}"
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
        if owner.leads_to:
            self.send_response(302)
            self.send_header("Location", owner.leads_to)
            return self.end_headers()
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


def weights(value=0.5):
    """A small checkpoint with a refinement, as bytes."""
    tensors = {"refine.gcn.alpha": torch.tensor(value), "filler": torch.arange(300_000)}
    for n in (1, 2, 3):
        tensors[f"refine.norm{n}.weight"] = torch.ones(4)
        tensors[f"refine.norm{n}.bias"] = torch.zeros(4)
    written = io.BytesIO()
    torch.save(tensors, written)
    return written.getvalue()


def archive(extra=(), value=0.5):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as opened:
        for fold in range(5):
            opened.writestr(f"top/FSMIS_train_SABS_cv{fold}/ckpt.pth", weights(value))
        for name in extra:
            opened.writestr(name, b"x")
    return written.getvalue()


CONTENT = weights()


def serve(monkeypatch: Any, tmp_path: Path) -> ModelServer:
    """A server, and a catalogue with two models and the paper's archive that come from it."""
    served = ModelServer(CONTENT)
    entry = {
        "name": "one",
        "title": "A model",
        "kind": "segmenter",
        "file": "one.pth",
        "urls": [f"{served.url}/one.pth"],
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "bytes": len(CONTENT),
        "licence": "Apache-2.0",
        "citation": "Nobody",
    }
    other = {**entry, "name": "open", "file": "open.pth", "sha256": None, "bytes": None}
    shipped = json.loads(catalogue.resource("models.json").read_text())["models"]
    paper = next(one for one in shipped if one["name"] == "fob-paper-sabs")
    paper |= {"urls": [f"{served.url}/paper.zip"], "about_bytes": 1000}
    listed = tmp_path / "models.json"
    listed.write_text(json.dumps({"models": [entry, other, paper]}))
    monkeypatch.setenv("FOBSAM_CATALOGUE", str(listed))
    monkeypatch.setenv("FOBSAM_DATA", str(tmp_path / "data"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "PATIENCE", (2.0, 0.5))
    monkeypatch.setattr(download, "PAUSE", 0.01)
    return served
