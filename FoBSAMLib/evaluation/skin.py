"""Protocol `skin`: the lesion of one dermoscopy photograph from that of another of its class.

As published, the Dice is that of single photographs. Every photograph holds a lesion, and every
method may rely on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from FoBSAMLib.evaluation import points
from FoBSAMLib.evaluation.ablation import ablated_points
from FoBSAMLib.evaluation.baselines import Baseline
from FoBSAMLib.evaluation.datasets import Subject
from FoBSAMLib.evaluation.protocols import Query
from FoBSAMLib.evaluation.scoring import Answer, Given, Scored, score
from FoBSAMLib.evaluation.settings import ABLATION, TOOL, Settings
from FoBSAMLib.evaluation.tool import Tools
from FoBSAMLib.image.grid import NetworkGrid
from FoBSAMLib.image.windows import normalise

#: The only slice of a photograph.
ONLY = 0


def skin(
    subject: Subject, other: Subject, settings: Settings, tools: Tools, fold: str | None = None
) -> Iterator[Scored]:
    """Score every method on one photograph from another one."""
    query = Query(subject, settings, tools, fold)
    given = Given({}, fold=fold, support=other.id, asked=[ONLY])
    for organ in query.organs:
        for answer in _answers(query, other, organ):
            yield score(subject, organ, answer, given)


def _answers(query: Query, other: Subject, organ: str) -> Iterator[Answer]:
    (mask,) = other.masks[organ]
    for labels, session in query.sessions(organ):
        if TOOL in query.settings.methods:
            found = session.find(other.volume, organ, {ONLY: mask}, query.volume, range(1))
            seconds = found.seconds + session.preparing
            yield Answer(TOOL, "given", found.masks, seconds, labels, found.results)
        slices = session.slices(query.volume)
        support = points.KnownSlice(session.slices(other.volume), ONLY, mask)
        for name, place in query.places:
            started = time.perf_counter()
            drawn = points.found_from(place, slices, ONLY, support)
            seconds = time.perf_counter() - started
            yield Answer(name, "given", drawn[np.newaxis], seconds, labels)
        if query.settings.ablation:
            for variant, prompts in ablated_points(slices, ONLY, support):
                drawn = points.draw(slices, ONLY, prompts)[np.newaxis]
                yield Answer(ABLATION, "given", drawn, 0.0, labels, (), variant)
    for name, baseline in query.baselines:
        if baseline.interpolates:  # there is nothing between two photographs
            continue
        started = time.perf_counter()
        carried = _carry(query, other, mask, baseline)
        seconds = time.perf_counter() - started
        yield Answer(name, "given", carried[np.newaxis], seconds)


def _carry(query: Query, other: Subject, mask: np.ndarray, baseline: Baseline) -> np.ndarray:
    """A baseline's one step from a photograph to the query: bool [H, W].

    Of photographs the size in mm is unknown. On the models' grid a pixel is about as large as
    those of the volumes that the baselines' distances were chosen on, and counts as 1 mm.
    """
    image = normalise(other.volume)[ONLY]
    there = NetworkGrid(image.shape, other.volume.slice_spacing("k"))
    here = NetworkGrid(query.image.shape[1:], query.spacing)
    found = baseline.step(
        here.image_to_network(query.image[ONLY]),
        there.image_to_network(image),
        there.mask_to_network(mask) >= 0.5,
        (1.0, 1.0),
    )
    carried: np.ndarray = here.from_network(found) >= 0.5
    return carried
