"""Segmenters by name; what a segmenter needs is imported when it is created."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.catalogue import find
from FoBSAMLib.models.paths import require_weights, split_name
from FoBSAMLib.segmenters.base import Segmenter


def create(name: str, device: str = "auto") -> Segmenter:
    """The segmenter called ``name``, computing on ``device`` (see ``choose_device``).

    ``sam-vit-b:FILE`` takes the weights from FILE instead of the models folder.
    Raises ``FoBSAMError``: ``bad_request`` for an unknown name (the nearest is named) or a file
    for a segmenter without weights, ``weights_missing``, ``weights_corrupt``.
    """
    kind, file = _split(name)
    return _FACTORIES[kind](file, device)


def weights_file(name: str) -> Path | None:
    """Where `create` would read the weights; None for a segmenter without any.

    Raises ``FoBSAMError`` as `create` does, but for ``weights_corrupt``: nothing is read.
    """
    kind, file = _split(name)
    factory = _FACTORIES[kind]
    if isinstance(factory, _PublishedSam):
        return factory.path(file)
    _refuse_file(kind, file)
    return None


def _split(name: str) -> tuple[str, str]:
    """A known kind of segmenter, and the file named with it."""
    kind, file = split_name(name)
    if kind not in _FACTORIES:
        nearest = difflib.get_close_matches(kind, _FACTORIES, n=1, cutoff=0.4)
        hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
        raise FoBSAMError(
            "bad_request", f"There is no segmenter {kind!r}.", f"{hint}Known: {', '.join(names())}."
        )
    return kind, file


def names() -> tuple[str, ...]:
    """The names ``create`` knows."""
    return tuple(_FACTORIES)


def _compact(file: str, device: str) -> Segmenter:
    from FoBSAMLib.segmenters.random_walker import CompactSegmenter

    _refuse_file(CompactSegmenter.name, file)
    return CompactSegmenter()


def _random_walker(file: str, device: str) -> Segmenter:
    from FoBSAMLib.segmenters.random_walker import RandomWalkerSegmenter

    _refuse_file(RandomWalkerSegmenter.name, file)
    return RandomWalkerSegmenter()


def _refuse_file(name: str, file: str) -> None:
    if file:
        raise FoBSAMError(
            "bad_request", f"The segmenter {name!r} has no weights.", f"Leave out ':{file}'."
        )


@dataclass(frozen=True)
class _PublishedSam:
    """A SAM of the catalogue, whose weights are expected in the models folder."""

    name: str

    def path(self, file: str) -> Path:
        """The weights file: the user's, or the published one where it is expected."""
        if not file:
            return self._published()
        return require_weights(Path(file).expanduser())

    def _published(self) -> Path:
        try:
            return find(self.name).require()
        except FoBSAMError as error:
            hint = f"{error.hint}, or name a file of yours: {self.name}:FILE"
            raise FoBSAMError(error.code, error.message, hint) from None

    def __call__(self, file: str, device: str) -> Segmenter:
        path = self.path(file)
        from FoBSAMLib.models.device import choose_device

        chosen = choose_device(device)
        # A file given by the user may be a fine-tuned one: only the published one is compared.
        sha256 = None if file else find(self.name).expected
        if self.name == "sam2.1-tiny":
            from FoBSAMLib.segmenters.sam2 import Sam2Segmenter

            return Sam2Segmenter.from_checkpoint(path, chosen, sha256)
        if self.name == "sam-med2d":
            from FoBSAMLib.segmenters.sam_med2d import SamMed2DSegmenter

            return SamMed2DSegmenter.from_checkpoint(path, chosen, sha256)
        from FoBSAMLib.segmenters.sam import SamSegmenter

        architecture = self.name.removeprefix("sam-").replace("-", "_")
        return SamSegmenter.from_checkpoint(path, architecture, chosen, sha256)


_PUBLISHED = ("sam-vit-b", "sam-vit-l", "sam-vit-h", "sam2.1-tiny", "sam-med2d")
_FACTORIES: dict[str, Callable[[str, str], Segmenter]] = {
    "compact": _compact,
    "random-walker": _random_walker,
    **{name: _PublishedSam(name) for name in _PUBLISHED},
}
