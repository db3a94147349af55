"""Which slice to annotate next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.warning import UNSURE

#: How far out on the longest unsupported stretch the next annotation helps most (of the way).
OUTWARD = 0.6


def suggest_slice(
    count: int,
    drawn: Sequence[int],
    absent: Sequence[int],
    results: Mapping[int, SliceResult],
) -> int | None:
    """The query slice whose annotation promises most; "not here" is an answer, too.

    Mistakes grow with the distance from an annotated slice. The longest stretch of found slices
    is cut: at 60 % of its length where it is open to one side, in the middle between two annotated
    slices. Slices in which the structure was probably lost do not count (`_worth_reaching`). With
    nothing annotated in this image (a support from another one) it is the slice that shows most.

    Args:
        count: slices along the axis.
        drawn, absent: slices annotated with the structure, and said not to hold it.
        results: what was found.

    Returns:
        A slice index, or None where every slice that may hold the structure is annotated.
    """
    found = {n: int(result.mask.sum()) for n, result in results.items() if result.mask.any()}
    if not drawn:
        return max(found, key=found.__getitem__, default=None)
    reached = _worth_reaching(found, results)
    known = set(drawn) | set(absent)
    best: tuple[int, int] | None = None
    for source in drawn:
        for direction in (-1, 1):
            ahead = [n for n in known if (n - source) * direction > 0]
            end = min(ahead, key=lambda n: abs(n - source)) if ahead else None
            if end is not None and end in drawn:
                length, way = abs(end - source) - 1, 0.5 * abs(end - source)
            else:
                limit = count if end is None else abs(end - source)
                # The slice after the last one is where the structure ends or is lost.
                length = sum(0 < (n - source) * direction < limit for n in reached) + 1
                way = OUTWARD * length
            at = source + direction * max(1, round(way))
            if not 0 <= at < count or at in known:
                continue
            if best is None or length > best[0]:
                best = (length, at)
    return best[1] if best else None


def _worth_reaching(found: Mapping[int, int], results: Mapping[int, SliceResult]) -> list[int]:
    """Found slices (with their areas) without those in which the structure was probably lost.

    Where the tool is sure of most of what it found, it has lost the structure in the unsure rest.
    Of a small or difficult structure it is unsure throughout; that says nothing then.
    """
    total = sum(area * results[n].confidence for n, area in found.items())
    if total < UNSURE * sum(found.values()):
        return list(found)
    return [n for n in found if results[n].confidence >= UNSURE]
