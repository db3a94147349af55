"""What a session knows, whoever computes for it: image, supports and results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.support import Support


class SessionState:
    """Results are kept as they were found, and corrections beside them: each starts from what was
    found. A new image and new supports forget both."""

    def __init__(self, *, closed: bool = False) -> None:
        self._closed = closed
        self._image: Volume | None = None
        self._support: Support | None = None
        self.found = Results()
        self.corrected = Results()

    def set_image(self, volume: Volume | None) -> None:
        """Choose the image; None for none. Raises FoBSAMError (``bad_request``) for what is no
        Volume, and in a closed session."""
        self._check(volume, Volume)
        self._image = volume
        self.found, self.corrected = Results(), Results()

    def set_supports(self, support: Support | None) -> None:
        """Choose the supports; None for none. Raises FoBSAMError as `set_image`."""
        self._check(support, Support)
        self._support = support
        self.found, self.corrected = Results(), Results()

    def _check(self, value: object, kind: type) -> None:
        if self._closed:
            raise FoBSAMError("bad_request", "The session is closed.", "Make another one.")
        if value is not None and not isinstance(value, kind):
            raise FoBSAMError(
                "bad_request",
                f"This takes a {kind.__name__}, not a {type(value).__name__}.",
                f"Make one: {kind.__name__}.read, or from NumPy arrays {kind.__name__}.from_…",
            )

    @property
    def image(self) -> Volume | None:
        """The image, None before there is one."""
        return self._image

    @property
    def support(self) -> Support | None:
        """The supports, None before there are any."""
        return self._support

    def chosen(self) -> tuple[Volume, Support]:
        """Image and supports; raises FoBSAMError (``bad_request``) where one is missing."""
        self._check(None, Volume)
        if self._image is None or self._support is None:
            raise FoBSAMError(
                "bad_request",
                "There is no image or no support.",
                "Call set_image and set_supports.",
            )
        return self._image, self._support

    @property
    def own(self) -> bool:
        """Whether the supports were drawn on the image itself."""
        image, support = self.chosen()
        same = image is support.volume
        return same or image.content_key() == support.volume.content_key()

    def structures(self, names: list[str] | None = None) -> list[Structure]:
        """The supports' structures with these names, in their order; all for None.

        Raises FoBSAMError (``bad_request``) for a name that none has.
        """
        _, support = self.chosen()
        if isinstance(names, str):
            names = [names]
        known = [structure.name for structure in support.structures]
        unknown = set(names or ()) - set(known)
        if unknown:
            raise FoBSAMError(
                "bad_request",
                f"There is no structure {', '.join(sorted(map(str, unknown)))} in the support.",
                f"It holds {', '.join(known)}.",
            )
        return [s for s in support.structures if names is None or s.name in names]

    def query_slices(self, slices: range | None) -> range:
        """The slices along the supports' axis, all for None; raises FoBSAMError
        (``bad_request``) for some that the image lacks, for none and for gaps between them."""
        image, support = self.chosen()
        count = image.slice_count(support.axis)
        wanted = slices if slices is not None else range(count)
        if not isinstance(wanted, range):
            raise FoBSAMError(
                "bad_request", f"Slices are given as {wanted!r}.", "Give range(first, last + 1)."
            )
        if wanted.step != 1 or not 0 <= wanted.start < wanted.stop <= count:
            raise FoBSAMError(
                "bad_request",
                f"There are no slices {wanted} along {support.axis}.",
                f"Slices run from 0 to {count - 1}, one by one.",
            )
        return wanted

    def structure(self, name: str) -> Structure:
        """The structure of a name; raises FoBSAMError (``bad_request``) for none, or several."""
        found = self.structures([name])
        if len(found) > 1:
            raise FoBSAMError(
                "bad_request",
                f"{len(found)} structures are called {name}.",
                "Give each a name of its own.",
            )
        return found[0]

    def add(self, result: SliceResult) -> None:
        """A slice was segmented: what was corrected there is replaced."""
        self.found.add(result)
        self.corrected.drop(result)

    def results(self, name: str) -> dict[int, SliceResult]:
        """The results of a structure by slice index, corrected where they were corrected."""
        structure = self.structure(name)
        return {**self.found.of(structure), **self.corrected.of(structure)}

    def annotation(self, structure: Structure, index: int) -> str:
        """How the user annotated a slice, "" if not at all."""
        _, support = self.chosen()
        if self.own and index in support.indices(structure):
            return "annotated"
        if self.own and index in support.absent.get(structure.name, ()):
            return "said not to hold it"
        return ""

    def original(self, structure: Structure, index: int) -> SliceResult:
        """What was found in a slice; raises FoBSAMError (``bad_request``) where nothing was."""
        found = self.found.of(structure)
        if index in found:
            return found[index]
        annotation = self.annotation(structure, index)
        if annotation:
            raise FoBSAMError(
                "bad_request",
                f"Slice {index} of {structure.name} is {annotation}.",
                "Edit the drawing itself.",
            )
        raise FoBSAMError(
            "bad_request",
            f"There is no result for {structure.name} in slice {index}.",
            "Call segment first.",
        )

    def restore(self, results: Iterable[SliceResult]) -> list[SliceResult]:
        """Take results found by another session; returns those taken.

        Those of slices that are annotated by now are left out. Raises FoBSAMError
        (``bad_request``) for results that are not of this image and support; none is taken then.
        """
        image, support = self.chosen()
        shape = image.take(support.axis, 0).shape[:2]
        taken = []
        for result in results:
            structure = self.structure(result.structure.name)
            inside = 0 <= result.index < image.slice_count(support.axis)
            if not inside or result.axis != support.axis or result.mask.shape != shape:
                raise FoBSAMError(
                    "bad_request",
                    f"Slice {result.index} along {result.axis} is none of this image's.",
                    "Set the image and the supports with which it was found.",
                )
            if not self.annotation(structure, result.index):
                taken.append(replace(result, structure=structure))
        for result in taken:
            self.add(result)
        return taken


class Results(dict[Structure, dict[int, SliceResult]]):
    """Results by structure and slice index."""

    def of(self, structure: Structure) -> dict[int, SliceResult]:
        """Those of a structure."""
        return self.get(structure, {})

    def add(self, result: SliceResult) -> None:
        """Keep a result in the place of an earlier one."""
        self.setdefault(result.structure, {})[result.index] = result

    def drop(self, result: SliceResult) -> None:
        """Forget what is kept in a result's place."""
        self.of(result.structure).pop(result.index, None)

    def all(self) -> list[SliceResult]:
        """All of them."""
        return [result for found in self.values() for result in found.values()]
