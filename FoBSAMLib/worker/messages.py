"""What a client and a worker say to each other: frames ↔ typed messages.

Every request carries an ``id``. Its replies carry the same one: any number of `Progress` and
`Result`, then exactly one `Done` or `Failed`. A peer ignores fields it does not know; a request
of an unknown type is answered by `Failed`, a reply of an unknown type is ignored. So a newer peer
may add either, and `PROTOCOL` changes only where an older one could not go on.
"""

from __future__ import annotations

import math
import sys
import types
import typing
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from FoBSAMLib.errors import ErrorCode, FoBSAMError
from FoBSAMLib.worker.frames import Buffer, Frame, FrameDecoder, encode_start

#: The version spoken, and the oldest one still understood.
PROTOCOL = OLDEST = 1
#: All payloads but an image's are small.
SMALL_PAYLOAD = 1 << 26

#: Of a content key: SHA-256 in hexadecimal.
KEY_LENGTH = 64
#: What voxels may be: bool, integers and floats, little-endian.
VOXELS = (
    *("|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8"),
    *("<f2", "<f4", "<f8"),
)

Points = tuple[tuple[float, float], ...]
#: Row and column of a mask's first pixel, height and width: all of it outside is empty.
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Message:
    """``payload`` are raw bytes beside the header's fields."""

    type: ClassVar[str]
    id: int

    def payload_fits(self, size: int) -> bool:
        """Whether a payload of ``size`` bytes belongs to this message."""
        return size == 0

    def start(self, size: int) -> bytes:
        """The bytes to be sent before a payload of ``size`` bytes."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return encode_start({"type": self.type, **values}, size)

    def frame(self, payload: Buffer = b"") -> bytes:
        """The bytes to be sent, with a small payload."""
        return self.start(len(payload)) + payload


@dataclass(frozen=True)
class Hello(Message):
    """First in both directions. The client's names the models to load, and is done when they are;
    the worker's comes at once, and says what runs there and under which process id."""

    type = "hello"
    protocol: int = PROTOCOL
    oldest: int = OLDEST
    version: str = ""
    generator: str = ""
    segmenter: str = ""
    device: str = ""
    pid: int = 0

    def check(self, peer: str) -> None:
        """Raise FoBSAMError (``version_mismatch``) where the two cannot understand each other."""
        if not (self.oldest <= PROTOCOL and self.protocol >= OLDEST):
            raise FoBSAMError(
                "version_mismatch",
                f"The {peer} is FoBSAM {self.version or 'of an unknown version'} and speaks "
                f"protocol {self.protocol}, this one speaks {PROTOCOL}.",
                "Install the same version of FoBSAM on both sides.",
            )


@dataclass(frozen=True)
class SetImage(Message):
    """An image by its content key; its voxels, in C order, only where the worker lacks them.

    An empty ``key`` follows the voxels, as `KEY_LENGTH` bytes: it is computed while they are sent.
    """

    type = "set_image"
    key: str
    shape: tuple[int, ...]
    dtype: str
    ijk_to_ras: tuple[float, ...]
    name: str = "image"
    modality: str = "auto"
    select: bool = True  # else it is only kept: supports were drawn on it

    def payload_fits(self, size: int) -> bool:
        if self.dtype not in VOXELS or not all(length > 0 for length in self.shape):
            return False
        voxels = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        return size == voxels + (0 if self.key else KEY_LENGTH)


@dataclass(frozen=True)
class SetSupports(Message):
    """The annotated slices, drawn on the image ``image``; the payload holds their masks in turn.

    ``structures`` are Structures as dicts; ``slices`` are (structure, slice, box, bytes).
    """

    type = "set_supports"
    image: str
    axis: str
    structures: tuple[dict[str, Any], ...]
    slices: tuple[tuple[int, int, Box, int], ...]
    absent: dict[str, tuple[int, ...]]

    def payload_fits(self, size: int) -> bool:
        return size <= SMALL_PAYLOAD


@dataclass(frozen=True)
class Segment(Message):
    """Find the structures named (all for None) in a range of slices: start, stop and step (all
    slices for None); ``holding``: they are known to be in all of these."""

    type = "segment"
    structures: tuple[str, ...] | None = None
    slices: tuple[int, int, int] | None = None
    holding: bool = False


@dataclass(frozen=True)
class Correct(Message):
    """The edited prompts of one slice."""

    type = "correct"
    structure: str
    index: int
    background: Points
    foreground: Points


@dataclass(frozen=True)
class Suggest(Message):
    """Which slice to annotate next; `Done` holds it as ``slice``."""

    type = "suggest"
    structure: str


@dataclass(frozen=True)
class Cancel(Message):
    """Stop the request ``target`` before its next slice."""

    type = "cancel"
    target: int


@dataclass(frozen=True)
class Ping(Message):
    """Answered at once, also while another request is at work."""

    type = "ping"


@dataclass(frozen=True)
class Shutdown(Message):
    """End the worker."""

    type = "shutdown"


@dataclass(frozen=True)
class Progress(Message):
    """``done`` of ``total`` slices of a request."""

    type = "progress"
    done: int
    total: int


@dataclass(frozen=True)
class _OneSlice(Message):
    """One structure in one slice; the payload is its mask, bit-packed, cropped and compressed."""

    structure: int  # its place among the supports' structures
    index: int
    box: Box
    background: Points
    foreground: Points
    presence: float
    confidence: float
    milliseconds: float
    doubt: float = 0.0

    def payload_fits(self, size: int) -> bool:
        return size <= SMALL_PAYLOAD


@dataclass(frozen=True)
class Result(_OneSlice):
    """A result, as soon as it is known."""

    type = "slice_result"


@dataclass(frozen=True)
class Restore(_OneSlice):
    """A result that the client had from a worker before this one."""

    type = "restore"


@dataclass(frozen=True)
class Done(Message):
    """The end of a request that went well; ``values`` depend on its type."""

    type = "done"
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed(Message):
    """The end of a request that did not; id 0 where it is about none."""

    type = "error"
    code: str
    message: str
    hint: str = ""
    retryable: bool = False

    @classmethod
    def from_error(cls, request: int, error: FoBSAMError) -> Failed:
        """What tells a client of an error."""
        return cls(request, error.code, error.message, error.hint, error.retryable)

    def to_error(self) -> FoBSAMError:
        """The error again; one of a code unknown here is ``internal``."""
        code = self.code if self.code in typing.get_args(ErrorCode) else "internal"
        return FoBSAMError(
            typing.cast(ErrorCode, code), self.message, self.hint, retryable=self.retryable
        )


@dataclass(frozen=True)
class Unknown(Failed):
    """What answers a message of a type that is not known here: a newer peer's."""


REQUESTS = (
    *(Hello, SetImage, SetSupports, Restore, Segment, Correct, Suggest, Cancel, Ping),
    Shutdown,
)
REPLIES = (Hello, Progress, Result, Done, Failed)


#: The type of every field of every message.
_HINTS: dict[type[Message], dict[str, Any]] = {
    kind: {one.name: typing.get_type_hints(kind)[one.name] for one in fields(kind)}
    for kind in (*REQUESTS, *REPLIES)
}


class Received(typing.NamedTuple):
    """A message with its payload."""

    message: Message
    payload: memoryview


class Decoder:
    """Bytes in, typed messages out: one for what a worker reads, one for what a client reads."""

    def __init__(self, known: tuple[type[Message], ...]) -> None:
        self._known = {kind.type: kind for kind in known}
        self._frames = FrameDecoder(self._admit)
        self.buffer = self._frames.buffer

    def advance(self, count: int) -> Received | Failed | None:
        """``count`` bytes of `buffer` were filled; what they complete, if anything.

        A message that is unknown or makes no sense gives the `Failed` to answer it with.
        Raises FrameError where the bytes are no messages at all.
        """
        frame = self._frames.advance(count)
        return None if frame is None else self._read(frame)

    def feed(self, data: Buffer) -> typing.Iterator[Received | Failed]:
        """The same for bytes that lie elsewhere."""
        yield from map(self._read, self._frames.feed(data))

    def _admit(self, header: dict[str, Any], size: int) -> bool:
        try:
            return self._message(header).payload_fits(size)
        except FoBSAMError:
            return False

    def _read(self, frame: Frame) -> Received | Failed:
        try:
            message = self._message(frame.header)
            if frame.too_large:
                raise FoBSAMError(
                    "out_of_memory",
                    f"The worker has no memory for this {message.type}.",
                    "Close other programs that use memory, or give a smaller image.",
                    retryable=True,
                )
            if frame.payload is None:
                raise _bad(f"A {message.type} came with a payload of another size.")
            return Received(message, frame.payload)
        except FoBSAMError as error:
            number: Any = frame.header.get("id")
            known = str(frame.header.get("type")) in self._known
            kind = Failed if known else Unknown
            return kind.from_error(int(number) if _fits(number, int) else 0, error)

    def _message(self, header: dict[str, Any]) -> Message:
        kind = self._known.get(str(header.get("type")))
        if kind is None:
            raise _bad(f"There is no message {str(header.get('type'))[:40]!r}.")
        values = {}
        try:
            for name, hint in _HINTS[kind].items():
                if name in header:
                    if not _fits(header[name], hint):
                        raise _bad(f"The field {name} of a {kind.type} is not as it should be.")
                    values[name] = _frozen(header[name], hint)
            return kind(**values)
        except (TypeError, RecursionError) as error:
            raise _bad(f"A {kind.type} lacks fields, or has too deep ones.") from error


def _bad(message: str) -> FoBSAMError:
    return FoBSAMError("bad_request", message, "Install the same version of FoBSAM on both sides.")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of a type: int, float (finite), str, bool, tuple, dict or a
    union of these."""
    inner = typing.get_args(hint)
    kind = typing.get_origin(hint) or hint
    if hint is Any:
        return True
    if kind is types.UnionType:
        return any(_fits(value, one) for one in inner)
    if kind is tuple:
        if not isinstance(value, list):
            return False
        if inner[-1] is Ellipsis:
            return all(_fits(one, inner[0]) for one in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if kind is dict:
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    if kind is float:
        return type(value) in (int, float) and abs(value) <= _LARGEST
    if kind is int:
        return type(value) is int and abs(value) < 1 << 63
    return type(value) is kind


_LARGEST = sys.float_info.max


def _frozen(value: Any, hint: Any) -> Any:
    """JSON's lists as the tuples that the fields hold."""
    if isinstance(value, list):
        return tuple(_frozen(one, None) for one in value)
    if isinstance(value, dict) and hint is not None:
        return {name: _frozen(one, None) for name, one in value.items()}
    return value
