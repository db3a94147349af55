"""Which slice to annotate next."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from FoBSAMLib.session.results import SliceResult


def suggest_slice(
    drawn: Sequence[int], absent: Sequence[int], results: Mapping[int, SliceResult]
) -> int | None:
    """The query slice whose annotation promises most; "not here" is an answer, too.

    A mistake grows with the distance from where it was known better, about with its square. An
    annotated slice more brings the slices round it nearer to one: of what is doubtful in a slice,
    as much is thought to be settled. The slice is suggested by which most is, in all others and
    itself. With nothing annotated in this image (a support from another one) it is the slice that
    shows most. Chosen on development subjects, see Testing/benchmarks/accuracy.md.

    Args:
        drawn, absent: slices annotated with the structure, and said not to hold it.
        results: what was found, by slice.

    Returns:
        A slice index, or None where every slice that may hold the structure is annotated.
    """
    if not drawn:
        areas = {n: int(result.mask.sum()) for n, result in results.items() if result.mask.any()}
        return max(areas, key=areas.__getitem__, default=None)
    known = {*drawn, *absent}
    # By the root, lest one slice decide; where the models know no doubt each counts alike.
    worth = {
        n: math.sqrt(result.doubt + 1) if result.mask.any() else 0.0
        for n, result in results.items()
        if n not in known
    }
    found = [n for n in worth if worth[n]]
    before = {n: _distance(n, drawn) for n in worth}

    def settled(candidate: int) -> float:
        with_it = [*drawn, candidate]
        return sum(worth[n] * (1 - (_distance(n, with_it) / before[n]) ** 2) for n in found)

    # Of equals the one nearest to what is known: where nothing was found, it would go on there.
    return max(found or worth, key=lambda n: (settled(n), -before[n], -n), default=None)


def _distance(index: int, drawn: Collection[int]) -> float:
    """To the annotated slices, in slices: between two, from which it is found twice, like two
    resistances side by side."""
    sides = ([n - index for n in drawn if n >= index], [index - n for n in drawn if n <= index])
    nearest = [min(side) for side in sides if side]
    if 0 in nearest:
        return 0.0
    return 1 / sum(1 / distance for distance in nearest)
