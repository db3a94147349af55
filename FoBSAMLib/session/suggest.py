"""Which slice to annotate next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from FoBSAMLib.session.results import SliceResult

#: How far out on the longest unsupported side the next annotation helps most (of the way).
OUTWARD = 0.6
#: A gap between two annotated slices counts this much of a side with one: both ends hold it.
GAP = 0.5


def suggest_slice(
    count: int,
    drawn: Sequence[int],
    absent: Sequence[int],
    results: Mapping[int, SliceResult],
) -> int | None:
    """The query slice whose annotation promises most; "not here" is an answer, too.

    Mistakes grow with the distance from an annotated slice, and the end of a structure is where
    most of them lie. So the longest stretch of found slices without an annotation is cut: a
    stretch open to one side at 60 % of its length, one between two annotated slices in the middle.

    Args:
        count: slices along the axis.
        drawn, absent: slices annotated with the structure, and said not to hold it.
        results: what was found.

    Returns:
        A slice index, or None where every slice that may hold the structure is annotated.
    """
    found = sorted(n for n, result in results.items() if result.mask.any())
    known = set(drawn) | set(absent)
    best: tuple[float, int] | None = None
    for source in drawn or found[len(found) // 2 : len(found) // 2 + 1]:
        for direction in (-1, 1):
            ahead = [n for n in known if (n - source) * direction > 0]
            end = min(ahead, key=lambda n: abs(n - source)) if ahead else None
            if end is not None and end in drawn:
                reach, share = abs(end - source), 0.5
                length = GAP * (reach - 1)
            else:
                limit = count if end is None else abs(end - source)
                side = [n for n in found if 0 < (n - source) * direction < limit]
                # The slice after the last found one is where the structure was judged to end.
                reach, share = len(side) + 1, OUTWARD
                length = float(reach)
            at = source + direction * max(1, round(share * reach))
            if not 0 <= at < count or at in known:
                continue
            if best is None or length > best[0]:
                best = (length, at)
    return best[1] if best else None
