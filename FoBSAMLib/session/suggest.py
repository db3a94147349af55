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
    step: float,
    drawn: Sequence[int],
    absent: Sequence[int],
    results: Mapping[int, SliceResult],
) -> int | None:
    """The query slice whose annotation promises most; "not here" is an answer, too.

    Mistakes grow with the distance from an annotated slice, and the end of a structure is where
    most of them lie. So the longest stretch of found slices without an annotation is cut: a
    stretch open to one side at 60 % of its length, one between two annotated slices in the middle.

    Args:
        count: slices along the axis; step: mm between them (all stretches are alike in it).
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
            ahead = sorted((n for n in known if (n - source) * direction > 0), key=abs)
            end = min(ahead, key=lambda n: abs(n - source), default=None)
            if end in drawn:
                length, share = GAP * (abs(end - source) - 1), 0.5
                reach = abs(end - source)
            else:
                side = [n for n in found if (n - source) * direction > 0]
                side = [n for n in side if end is None or abs(n - source) < abs(end - source)]
                # The slice after the last found one is where the structure was judged to end.
                reach = len(side) + 1
                length, share = float(reach), OUTWARD
            at = source + direction * max(1, round(share * reach))
            if not 0 <= at < count or at in known:
                continue
            if best is None or length > best[0]:
                best = (length, at)
    return best[1] if best else None
