"""What every session offers, in this process or through a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol

from FoBSAMLib.image.volume import Volume
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.support import Support

#: Asked between slices whether to stop.
Cancel = Callable[[], bool]


class Session(Protocol):
    """One image, its supports and its results; the models stay loaded between calls.

    Every method raises ``FoBSAMError`` where it says so and where a request makes no sense.
    """

    @property
    def models(self) -> dict[str, str]:
        """What computes: names, weights' checksums and device."""

    @property
    def notes(self) -> list[str]:
        """What the user should know of the last `segment` or `correct`, one sentence each."""

    @property
    def own(self) -> bool:
        """Whether the supports were drawn on the image itself."""

    def devices(self) -> list[dict[str, Any]]:
        """Where can be computed: name, and bytes of memory free and in all, where known."""

    def set_image(self, volume: Volume) -> str:
        """Choose the image to segment; returns its content key. Results are forgotten."""

    def set_supports(self, support: Support) -> None:
        """Set the annotated slices, of the image itself or of another one. Results are
        forgotten."""

    def segment(
        self,
        structures: list[str] | None = None,
        slices: range | None = None,
        cancel: Cancel = lambda: False,
        *,
        holding: bool = False,
    ) -> Iterator[SliceResult]:
        """Find the structures in the query slices; each result comes as soon as it is known.

        Between two results `correct` and `suggest` may be called; a new image or new supports end
        the run.

        Args:
            structures: names of those to find; all for None.
            slices: query slices along the support's axis; all for None. Annotated slices are
                never queries.
            cancel: asked between slices; True ends the run, what was found stays.
            holding: the structures are known to be in every wanted slice: none is judged empty
                for want of presence.
        """

    def correct(self, structure: str, index: int, prompts: Prompts) -> SliceResult:
        """A slice's mask again, after the user has edited its prompts; ``prompts`` are all of
        them, in the slice's pixels."""

    def suggest(self, structure: str) -> int | None:
        """The slice to annotate next, after `segment`; None if none is left."""

    def results(self, structure: str) -> dict[int, SliceResult]:
        """What was found of a structure, by slice, with corrections."""

    def restore(self, results: Iterable[SliceResult]) -> None:
        """Take results that another session found, for this image and these supports, as this
        session's own."""

    def release(self) -> None:
        """Give memory back; what was set and found stays, and the next call goes on."""

    def close(self) -> None:
        """Give everything back; the session is of no more use."""

    def __enter__(self) -> Session:
        """``with`` closes the session at its end."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
