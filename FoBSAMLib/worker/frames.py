"""Bytes ↔ frames, without any I/O: the reading side says where the next bytes belong.

A frame is a prefix of 16 bytes (magic, length of the header, length of the payload, both
little-endian), a header of UTF-8 JSON, an object, and the payload's raw bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from FoBSAMLib.errors import FoBSAMError

Buffer = bytes | bytearray | memoryview

MAGIC = b"FoB1"
PREFIX = struct.Struct("<4sIQ")
#: Longer ones are refused before any memory is taken for them.
MAX_HEADER = 1 << 24
MAX_PAYLOAD = 1 << 36
#: A payload that nobody wants is read into a buffer of this size, again and again.
SKIPPED_AT_ONCE = 1 << 16

#: Says of a header and its payload's length whether the payload is to be kept.
Admit = Callable[[dict[str, Any], int], bool]


class FrameError(Exception):
    """The bytes are no frames."""


class Frame(NamedTuple):
    """``payload`` is None where its bytes were skipped: it was not admitted, or is
    ``too_large`` for the memory there is."""

    header: dict[str, Any]
    payload: memoryview | None
    too_large: bool = False


def encode_start(header: dict[str, Any], size: int) -> bytes:
    """A frame up to its payload of ``size`` bytes; raises FoBSAMError where it is too long."""
    # In ASCII: a name made of a path that is no UTF-8 has characters that cannot be encoded.
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode("ascii")
    if len(text) > MAX_HEADER or size > MAX_PAYLOAD:
        raise FoBSAMError(
            "bad_request",
            f"This is too much for one message to a worker: {len(text)} + {size} bytes.",
            "Send fewer annotated slices or structures, or a smaller image.",
        )
    return PREFIX.pack(MAGIC, len(text), size) + text


class FrameDecoder:
    """Puts frames together from bytes that come in pieces of any size.

    Either fill `buffer` and say so by `advance`, which copies nothing, or hand pieces to `feed`.
    """

    _filled: int
    _missing: int
    _ended: Callable[[], Frame | None]

    def __init__(self, admit: Admit = lambda header, size: True) -> None:
        self._admit = admit
        self._header: dict[str, Any] = {}
        self._payload_size = 0
        self._start_part(PREFIX.size, self._end_of_prefix)

    def buffer(self) -> memoryview:
        """Where the next bytes go; never empty."""
        return self._part[self._filled :][: self._missing]

    def advance(self, count: int) -> Frame | None:
        """``count`` bytes of `buffer` were filled; the frame that they complete, if any.

        Raises FrameError, after which the decoder is of no more use: not a frame's start, too
        long, or a header that is no JSON object.
        """
        self._missing -= count
        # A payload that is passed over starts anew where the room for it ends.
        self._filled = (self._filled + count) % len(self._part)
        return None if self._missing else self._ended()

    def feed(self, data: Buffer) -> Iterator[Frame]:
        """The frames completed by ``data``; raises FrameError as `advance`."""
        rest = memoryview(data).cast("B")
        while rest:
            room = self.buffer()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            rest = rest[count:]
            frame = self.advance(count)
            if frame is not None:
                yield frame

    def _start_part(self, size: int, ended: Callable[[], Frame | None], room: int = -1) -> None:
        """Go on with ``size`` bytes, put into as much room, or less where they are passed over."""
        # Not a bytearray, which writes zeros first: half the time an image takes.
        self._part = np.empty(size if room < 0 else room, np.uint8).data
        self._filled = 0
        self._missing = size
        self._ended = ended

    def _end_of_prefix(self) -> Frame | None:
        magic, header_size, self._payload_size = PREFIX.unpack(self._part)
        if magic != MAGIC:
            raise FrameError("not the start of a message")
        if not 2 <= header_size <= MAX_HEADER or self._payload_size > MAX_PAYLOAD:
            raise FrameError(f"a message of {header_size} + {self._payload_size} bytes")
        self._start_part(header_size, self._end_of_header)
        return None

    def _end_of_header(self) -> Frame | None:
        try:
            header = json.loads(bytes(self._part), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise FrameError("a message whose header is not JSON") from error
        if not isinstance(header, dict):
            raise FrameError("a message whose header is not a JSON object")
        self._header = header
        size = self._payload_size
        if not size:
            return self._end_of_frame(memoryview(b""))
        admitted = self._admit(header, size)
        try:
            if admitted:
                self._start_part(size, lambda: self._end_of_frame(self._part))
                return None
        except MemoryError:
            pass
        room = min(size, SKIPPED_AT_ONCE)
        self._start_part(size, lambda: self._end_of_frame(None, admitted), room)
        return None

    def _end_of_frame(self, payload: memoryview | None, too_large: bool = False) -> Frame:
        header = self._header
        self._start_part(PREFIX.size, self._end_of_prefix)
        return Frame(header, payload, too_large)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
