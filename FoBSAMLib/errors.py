"""The one exception a user meets: what is wrong, and what to do about it."""

from __future__ import annotations

import re
from typing import Literal

ErrorCode = Literal[
    "bad_request",
    "bad_geometry",
    "unreadable",
    "unwritable",
    "weights_missing",
    "weights_corrupt",
    "out_of_memory",
    "cancelled",
    "worker_died",
    "version_mismatch",
    "internal",
]


class FoBSAMError(Exception):
    """An error with a code for programs, and a message and a hint for people.

    ``str(error)`` is one line: what is wrong, then what to do.
    """

    def __init__(
        self, code: ErrorCode, message: str, hint: str = "", *, retryable: bool = False
    ) -> None:
        super().__init__(code, message, hint)  # by which it is pickled, from worker processes
        self.code: ErrorCode = code
        self.message = message
        self.hint = hint
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, the computer's or a device's; told without importing torch.

    torch raises its ``OutOfMemoryError`` for CUDA alone: elsewhere, and from SimpleITK, it is a
    RuntimeError that says so.
    """
    if isinstance(error, MemoryError):
        return True
    said = r"not enough memory|out of memory|(can't|failed to) allocate|ALLOC_FAILED"
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return named or (
        isinstance(error, RuntimeError) and bool(re.search(said, str(error), re.IGNORECASE))
    )
