"""Points alone, and the segmenter that draws a mask from them: FoB's way and the usual one.

The method's claim is that background points located directly beat those read off a confidence
map. Both ways get the same features, the same foreground points, as many background points and the
same segmenter here, and no dense probability, so that the background points alone differ.
Foreground points are spread over the likest part of a map: the likeness of every cell to the
support's foreground prototype, cut off where the support's own map fits its mask best. Background
points are:

- *fob-prompts*: as the generator locates them;
- *prototype-prompts* (ProtoSAM's way): spread over what is least like the prototype around the
  part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from FoBSAMLib.evaluation.baselines import Step
from FoBSAMLib.evaluation.metrics import dice
from FoBSAMLib.evaluation.settings import FOB_PROMPTS, PROTOTYPE_PROMPTS
from FoBSAMLib.generator.base import Remembered
from FoBSAMLib.generator.ring import POINTS, spread_points
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.cleanup import clean
from FoBSAMLib.session.foreign import STRIDE_MM
from FoBSAMLib.session.slices import ImageSlices

#: Cut-offs that are tried, in steps of the map's range on the support.
CUTS = 64
#: Background points lie within this many pixels of the part, not nearer than the second, where the
#: map is lowest: this share of the pixels there. The best of six for this method on training
#: subjects (protocol `fob`; CHAOS 1, 8, 13 and SABS 5, 9).
AROUND, APART, LOWEST = 24, 4, 0.6
#: Agreement of the `CycleGate` for chains of either kind: as the random walker's.
AGREEMENT = 0.25


@dataclass(frozen=True)
class KnownSlice:
    """A slice of an image with its mask, bool [J, I]."""

    slices: ImageSlices
    at: int
    mask: np.ndarray

    def remembered(self) -> Remembered:
        grid = self.slices.grid
        return Remembered(self.slices.features(self.at), grid.mask_to_network(self.mask))


#: Points in a slice, in pixels of the 256×256 grid, from what is remembered; the last is nearest.
Place = Callable[[ImageSlices, int, Sequence[Remembered], bool], Prompts]


def fob_points(
    slices: ImageSlices, index: int, memory: Sequence[Remembered], foreign: bool
) -> Prompts:
    """Background points as the generator locates them, foreground points of the likest part."""
    located = slices.generator.propose(slices.features(index), memory, foreign=foreign).prompts
    part, _, _ = _likest_part(slices, index, memory, foreign)
    return Prompts(located.background, spread_points(part, POINTS))


def prototype_points(
    slices: ImageSlices, index: int, memory: Sequence[Remembered], foreign: bool
) -> Prompts:
    """Both kinds from the map of likeness to the prototype of the first slice remembered."""
    part, likeness, cut = _likest_part(slices, index, memory, foreign)
    away = ndimage.distance_transform_edt(~part)
    around = (away > APART) & (away <= AROUND) & (likeness < cut)
    background = np.zeros((0, 2), np.float32)
    if around.any():
        low = np.quantile(likeness[around], LOWEST)
        background = spread_points(around & (likeness <= low), POINTS)
    return Prompts(background, spread_points(part, POINTS))


def _likest_part(
    slices: ImageSlices, index: int, memory: Sequence[Remembered], foreign: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """The part of the slice that is likest the prototype of the first slice remembered.

    Returns it, bool [256, 256], the map of likeness and the cut-off. Within one volume (not
    ``foreign``) the part is the one that overlaps the last mask remembered most.
    """
    prototype, cut = _prototype(memory[0])
    likeness = _likeness(slices.features(index), prototype)
    parts, count = ndimage.label(likeness >= cut)
    if not count:
        parts, count = ndimage.label(likeness >= likeness.max())
    weights = np.zeros(count + 1)
    if not foreign:
        weights = np.bincount(parts[memory[-1].inside], minlength=count + 1).astype(float)
    if not weights[1:].any():
        excess = np.maximum(likeness - cut, 1e-6)
        weights = np.bincount(parts.ravel(), excess.ravel(), minlength=count + 1)
    return parts == 1 + int(np.argmax(weights[1:])), likeness, cut


PLACES: dict[str, Place] = {FOB_PROMPTS: fob_points, PROTOTYPE_PROMPTS: prototype_points}


def draw(slices: ImageSlices, index: int, prompts: Prompts) -> np.ndarray:
    """The segmenter's mask from points alone, bool [J, I]; points as `Place` gives them."""
    grid = slices.grid
    own = Prompts(
        grid.points_from_network(prompts.background), grid.points_from_network(prompts.foreground)
    )
    return clean(slices.segmenter.segment(slices.embedding(index), own) >= 0.5)


def found_from(place: Place, slices: ImageSlices, index: int, support: KnownSlice) -> np.ndarray:
    """The mask in a slice, bool [J, I], straight from a slice of another image."""
    return draw(slices, index, place(slices, index, [support.remembered()], True))


def find_start(
    place: Place, slices: ImageSlices, supports: Sequence[KnownSlice]
) -> dict[int, np.ndarray]:
    """The slice in which a structure drawn in another image is found best, with its mask there.

    The best is the one whose mask, carried back to the support by the same points, fits it best.
    (The tool's anchor, `FoBSAMLib.session.foreign.survey`, is chosen among the same slices, but by
    the generator's own word as well, which points alone lack.) Empty where nothing is found.
    """
    stride = max(1, round(STRIDE_MM / slices.volume.step(slices.axis)))
    best, start = 0.0, {}
    for index, support in product(range(0, slices.count, stride), supports):
        mask = found_from(place, slices, index, support)
        if not mask.any():
            continue
        back = found_from(place, support.slices, support.at, KnownSlice(slices, index, mask))
        fit = dice(support.mask, back)
        if fit > best:
            best, start = fit, {index: mask}
    return start


def chain(place: Place, slices: ImageSlices, annotated: Mapping[int, np.ndarray]) -> Step:
    """The step of a chain outward from annotated slices of the image itself."""

    def step(index: int, current: int, mask: np.ndarray, source: int) -> np.ndarray:
        memory = [KnownSlice(slices, source, annotated[source]).remembered()]
        if current != source and mask.any():
            memory.append(KnownSlice(slices, current, mask).remembered())
        return draw(slices, index, place(slices, index, memory, False))

    return step


def _prototype(support: Remembered) -> tuple[Tensor, float]:
    """The mean feature inside the mask, [c], and the cut-off that fits the support's mask best."""
    features = _map(support.features)
    coverage = functional.adaptive_avg_pool2d(
        torch.from_numpy(support.mask)[None].to(features), features.shape[-1]
    )[0]
    prototype = (features * coverage).sum((1, 2)) / (coverage.sum() + 1e-5)
    likeness = _likeness(support.features, prototype)
    cuts = np.linspace(likeness.min(), likeness.max(), CUTS, endpoint=False)
    fits = [dice(support.inside, likeness >= cut) for cut in cuts]
    return prototype, float(cuts[int(np.argmax(fits))])


def _likeness(features: Any, prototype: Tensor) -> np.ndarray:
    """Cosine of a slice's features to a prototype, float32 [256, 256]."""
    cosine = functional.cosine_similarity(_map(features), prototype[:, None, None], dim=0)
    whole = functional.interpolate(
        cosine[None, None], scale_factor=256 / cosine.shape[-1], mode="bilinear"
    )
    return np.asarray(whole[0, 0].cpu().numpy(), np.float32)


def _map(features: Any) -> Tensor:
    """A generator's features of one slice, [c, h, w]: its matching keys, or its only map."""
    found = features.key if hasattr(features, "key") else features.maps
    return found[0].float()
