"""What was said with a worker, recorded and played again: tests of a panel then need no torch.

A transcript is a text file of one JSON object a line: ``{"to": HEADER}`` for what the client sent
(never its payload: no voxels are kept) and ``{"from": FRAME}``, in base64, for what the worker
answered.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.worker import messages as m
from FoBSAMLib.worker.frames import Buffer, FrameDecoder, FrameError, encode_start
from FoBSAMLib.worker.transport import GRACE, Transport

#: A request's header, and its answers' headers and payloads.
Exchange = tuple[dict[str, Any], list[tuple[dict[str, Any], bytes]]]
#: What a replay answers by itself.
AT_ONCE = (m.Ping.type, m.Cancel.type, m.Shutdown.type)


class RecordingTransport:
    """Another transport that writes down what passes: masks and names too, so record only what
    may be kept."""

    def __init__(self, transport: Transport, path: str | os.PathLike[str]) -> None:
        """``path`` is written anew."""
        self._transport = transport
        self._path = Path(path)
        self._mode = "w"
        self._file: IO[str] | None = None

    def start(self) -> None:
        """See `Transport.start`. A second worker's words follow the first one's."""
        self._transport.start()
        self._file = self._path.open(self._mode, encoding="utf-8")
        self._mode = "a"
        self._to, self._from = FrameDecoder(lambda header, size: False), FrameDecoder()

    def write(self, pieces: Iterable[Buffer]) -> None:
        """See `Transport.write`."""
        known = list(pieces)
        for piece in known:
            for frame in self._to.feed(piece):
                self._put("to", frame.header)
        self._transport.write(known)

    def read(self, timeout: float) -> Buffer | None:
        """See `Transport.read`."""
        data = self._transport.read(timeout)
        with contextlib.suppress(FrameError):  # what is no message is not recorded
            for frame in self._from.feed(data or b""):
                payload = bytes(frame.payload or b"")
                whole = encode_start(frame.header, len(payload)) + payload
                self._put("from", base64.b64encode(whole).decode())
        return data

    def written(self) -> int:
        """See `Transport.written`."""
        return self._transport.written()

    def log(self) -> str:
        """See `Transport.log`."""
        return self._transport.log()

    def know_pid(self, pid: int) -> None:
        """See `Transport.know_pid`."""
        self._transport.know_pid(pid)

    def close(self, grace: float = GRACE) -> str:
        """See `Transport.close`."""
        if self._file is not None:
            self._put("end", None)
            self._file.close()
            self._file = None
        return self._transport.close(grace)

    def _put(self, which: str, what: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps({which: what}, separators=(",", ":")) + "\n")


class ReplayTransport:
    """Answers each request as a recorded worker did, message by message.

    Requests must come in the recorded order, types alone are compared. Pings are answered, and
    a cancel ends what is being played, whether they were recorded or not.
    """

    def __init__(self, path: str | os.PathLike[str], pause: float = 0.0) -> None:
        """``pause`` is how many seconds pass before every message of the worker.

        Raises FoBSAMError where ``path`` is no transcript.
        """
        self._pause = pause
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
            self._exchanges = _read_exchanges([json.loads(line) for line in lines])
        except (OSError, ValueError, LookupError, TypeError, StopIteration, FrameError) as error:
            raise FoBSAMError("unreadable", f"{path} is no transcript of a worker.") from error
        self._left: deque[Exchange] = deque()
        self._answers: deque[bytes] = deque()
        self._due = 0.0
        self._ended = False

    def start(self) -> None:
        """See `Transport.start`: the transcript from its beginning, or, where the recorded worker
        had ended, from its successor's."""
        if not self._ended:
            self._left = deque(self._exchanges)
        self._ended = False
        self._answers.clear()
        self._decoder = FrameDecoder(lambda header, size: False)
        self._playing = 0

    def write(self, pieces: Iterable[Buffer]) -> None:
        """See `Transport.write`."""
        for piece in pieces:
            for frame in self._decoder.feed(piece):
                self._take(frame.header)

    def read(self, timeout: float) -> Buffer | None:
        """See `Transport.read`."""
        wait = self._due - time.monotonic() if self._answers else timeout
        time.sleep(max(0.0, min(wait, timeout)))
        if not self._answers or wait > timeout:
            return None
        self._due = time.monotonic() + self._pause
        answer = self._answers.popleft()
        self._ended = not answer
        return answer

    def written(self) -> int:
        """Nothing is kept waiting."""
        return 0

    def log(self) -> str:
        """A transcript has none."""
        return ""

    def know_pid(self, pid: int) -> None:
        """The recorded worker is long gone."""

    def close(self, grace: float = GRACE) -> str:
        """See `Transport.close`."""
        return "exit status 0"

    def _take(self, header: dict[str, Any]) -> None:
        if header["type"] in AT_ONCE:
            if header["type"] == m.Cancel.type and header["target"] == self._playing:
                self._answers.clear()
                self._answer(m.Failed(self._playing, "cancelled", "The request was cancelled."))
            self._answer(m.Done(header["id"]))
            return
        recorded, answers = self._left.popleft() if self._left else ({}, [])
        if recorded.get("type") != header["type"]:
            problem = f"The transcript goes on with {recorded.get('type')}, not {header['type']}."
            self._answer(m.Failed(header["id"], "bad_request", problem, "Record another one."))
            return
        self._playing = header["id"]
        if not self._answers:
            self._due = time.monotonic() + self._pause
        for answer, payload in answers:
            start = encode_start({**answer, "id": header["id"]}, len(payload))
            self._answers.append(start + payload)
        if not any(answer["type"] in (m.Done.type, m.Failed.type) for answer, _ in answers):
            self._answers.append(b"")  # here the recorded worker ended

    def _answer(self, message: m.Message) -> None:
        self._answers.append(message.frame())


def _read_exchanges(lines: list[dict[str, Any]]) -> list[Exchange]:
    """Requests but pings, cancels and shutdowns, each with its answers. Ids begin anew with every
    worker: an answer belongs to the last request of its id."""
    exchanges: list[Exchange] = []
    latest: dict[int, Exchange] = {}
    for line in lines:
        if "to" in line:
            header = line["to"]
            latest[header["id"]] = header, []
            if header["type"] not in AT_ONCE:
                exchanges.append(latest[header["id"]])
        elif "from" in line:
            frame = next(FrameDecoder().feed(base64.b64decode(line["from"])))
            _, answers = latest[frame.header["id"]]
            answers.append((frame.header, bytes(frame.payload or b"")))
    return exchanges
