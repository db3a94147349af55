"""What the paper's prompt generator costs a slice here, beside the way it was released.

The usual way encodes support and query for every slice, one at a time in float32, takes prototypes
from upsampled features and gives the attention a matrix of 4096² biases. Weights are random unless
a checkpoint is given: speed does not depend on them, and how far the points part is told all the
same. Points of random weights need not be clear ones, so it is also told how many move when `NOISE`
is added to the slice.
"""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor, nn
from torch.nn import functional

from FoBSAMLib.bench.common import Progress, middle, ratio, read_image, silent, surroundings, timed
from FoBSAMLib.bench.common import table as table_of
from FoBSAMLib.generator.base import Remembered
from FoBSAMLib.generator.compatible import (
    EPSILON,
    SIZE,
    CompatibleFoB,
    MaskedAttention,
    arithmetic,
    foreground_points,
    heat_maps,
    peaks,
    positions,
)
from FoBSAMLib.generator.contour import background_points
from FoBSAMLib.generator.fob_paper import FobPaperGenerator
from FoBSAMLib.image.grid import NetworkGrid
from FoBSAMLib.image.windows import normalise
from FoBSAMLib.models.device import choose_device
from FoBSAMLib.prompts import Prompts

#: Slices of an image that are taken, and the radius in pixels of the structure in the first.
SLICES, RADIUS = 16, 32
#: Points further apart than this, in pixels, are not the same.
SAME = 0.5
#: Standard deviation in z-scores: what TensorFloat-32 rounds away of a value of 1, at most.
NOISE = 2.0**-11
#: Numbers of remembered slices that are compared.
SUPPORTS = (1, 2, 4)

Encoded = tuple[Tensor, Tensor]


def run(
    device: str = "auto",
    rounds: int = 3,
    image: str | Path | None = None,
    weights: str | Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure both ways turn by turn, ``rounds`` times; what was measured, JSON-ready.

    Args:
        image: any image file; its middle slices are taken. The demo's chest CT for None.
        weights: a checkpoint of the paper's network; random ones for None.

    Raises:
        FoBSAMError: no such device, or a file that cannot be read.
    """
    chosen = choose_device(device)
    slices, mask = _slices(image), _disc()
    usual = _model(weights).to(chosen)
    ours = copy.deepcopy(usual)
    ours.speed_up()
    support, *queries = slices
    encoded = ours.encode(support[None])
    seconds: dict[str, list[float]] = {}
    apart: list[float] = []
    unclear: list[float] = []
    for turn in range(rounds + 1):  # the first prepares
        progress(turn, rounds + 1)
        some = np.stack([queries[(turn + n) % len(queries)] for n in range(ours.together)])
        pair = torch.from_numpy(np.stack([support, some[0]])).to(chosen)
        with arithmetic(tf32=False):
            a, both = timed(partial(_encode, usual, pair), chosen)
            b, expected = timed(partial(_propose, usual, both, mask), chosen)
        c, features = timed(partial(ours.encode, some), chosen)
        d, found = timed(partial(ours.propose, encoded, mask, features), chosen)
        if not turn:
            continue
        taken = {"usual_encode": a, "usual_prompts": b, "usual": a + b}
        taken |= {"encode": c / len(some), "prompts": d / len(some), "ours": (c + d) / len(some)}
        for name, value in taken.items():
            seconds.setdefault(name, []).append(value)
        apart += _distances(expected, found[0])
        noise = np.random.default_rng(turn).normal(0, NOISE, (1, SIZE, SIZE))
        changed = ours.encode((some[:1] + noise).astype(np.float32))
        unclear += _distances(found[0], ours.propose(encoded, mask, changed)[0])
    return {
        **surroundings(chosen),
        "weights": Path(weights).name if weights else "random",
        "image": Path(image).name if image else "demo",
        "rounds": rounds,
        "together": ours.together,
        "precision": "tf32" if ours.tf32 else "float32",
        "seconds_a_slice": {name: round(median(taken), 5) for name, taken in seconds.items()},
        "ratio": ratio(seconds["usual"], seconds["ours"]),
        "points": {
            "compared": len(apart),
            "largest_distance": round(max(apart), 3),
            "moved": sum(one > SAME for one in apart),
            "moved_by_noise": sum(one > SAME for one in unclear),
        },
        "prompts_seconds_by_supports": _by_supports(ours, support, mask, chosen),
        "measured": seconds,
    }


def table(document: dict[str, Any]) -> str:
    """The figures as Markdown."""
    seconds, points = document["seconds_a_slice"], document["points"]
    by_supports = document["prompts_seconds_by_supports"].items()
    rows = [
        ("usual way: encode support and query", f"{seconds['usual_encode']:.4f} s a slice"),
        ("usual way: prompts", f"{seconds['usual_prompts']:.4f} s a slice"),
        (
            f"FoBSAM, {document['precision']}, {document['together']} together: encode the query",
            f"{seconds['encode']:.4f} s a slice",
        ),
        ("FoBSAM: prompts", f"{seconds['prompts']:.4f} s a slice"),
        ("ratio (median of the rounds' ratios)", f"{document['ratio']:.2f}"),
        ("largest distance between points", f"{points['largest_distance']:g} pixels"),
        (f"points further apart than {SAME}", f"{points['moved']} of {points['compared']}"),
        ("points that noise of half a TF32 step moves as far", f"{points['moved_by_noise']}"),
        *(
            (f"prompts from {count} encoded supports", f"{taken:.4f} s a slice")
            for count, taken in by_supports
        ),
    ]
    return table_of((f"the paper's generator, {document['machine']['processor']}", ""), rows)


def _slices(image: str | Path | None) -> np.ndarray:
    """The middle slices of an image on the network's grid, z-scored float32 [n, 256, 256]."""
    volume = read_image(image)
    planes = middle(normalise(volume), SLICES)
    grid = NetworkGrid(planes.shape[1:], volume.slice_spacing("k"))
    return np.stack([grid.image_to_network(plane) for plane in planes])


def _disc() -> np.ndarray:
    from_middle = np.arange(SIZE) - SIZE // 2
    return np.asarray(np.hypot.outer(from_middle, from_middle) <= RADIUS)


def _model(weights: str | Path | None) -> CompatibleFoB:
    """The network; random weights are such that what it computes stays of ordinary size."""
    if weights is not None:
        return CompatibleFoB.from_checkpoint(weights)
    torch.manual_seed(0)
    model = CompatibleFoB()
    nn.init.normal_(model.masked_attention.learnable_pos, std=0.3)
    for name, parameter in model.encoder.named_parameters():
        if name.endswith("bn3.weight"):  # the end of a residual branch
            nn.init.constant_(parameter, 0.3)
    return model


@torch.inference_mode()
def _encode(model: CompatibleFoB, pair: Tensor) -> list[Encoded]:
    """Slices [2, 256, 256], support and query, one after the other."""
    return [model.encoder(one.expand(1, 3, SIZE, SIZE)) for one in pair]


@torch.inference_mode()
def _propose(model: CompatibleFoB, encoded: list[Encoded], mask: np.ndarray) -> Prompts:
    """The forward pass as it was released."""
    (support, _), (query, threshold) = encoded
    full = functional.interpolate(support, (SIZE, SIZE), mode="bilinear")[0]
    inside = torch.from_numpy(mask[None].astype(np.float32))
    weights = torch.cat([inside, heat_maps(background_points(mask))]).to(full)
    means = [(full * one).sum((1, 2)) / (one.sum() + EPSILON) for one in weights]
    likeness = functional.cosine_similarity(query, means[0][:, None, None], dim=1)
    probability = 1 - torch.sigmoid(0.5 * (-20 * likeness - threshold))
    context = _attend(model.masked_attention, query, likeness, torch.stack(means[1:]))
    return Prompts(peaks(model.head(context))[0], foreground_points(probability)[0])


def _attend(
    part: MaskedAttention, features: Tensor, likeness: Tensor, prototypes: Tensor
) -> Tensor:
    """`MaskedAttention` of one query with a bias for every pair of cells."""
    tokens = (features * (1 - likeness[:, None]) + part.learnable_pos).flatten(2).permute(2, 0, 1)
    proposals = part.matching_head(tokens[:, 0], prototypes + positions(prototypes))
    bias = functional.relu(part.conv(proposals.unflatten(1, features.shape[2:]))).flatten()
    dense = bias[:, None] + bias[None, :]
    attended, _ = part.mha(tokens, tokens, tokens, attn_mask=dense, need_weights=False)
    tokens = part.norm1(tokens + attended)
    tokens = part.norm2(tokens + part.ffn(tokens))
    return tokens.permute(1, 2, 0).view_as(features)


def _distances(one: Prompts, other: Prompts) -> list[float]:
    """How far each point of one is from the same point of the other, in pixels; of foreground
    points, where their numbers differ, from the nearest."""
    background = np.linalg.norm(one.background - other.background, axis=1)
    if len(one.foreground) == len(other.foreground):
        foreground = np.linalg.norm(one.foreground - other.foreground, axis=1)
    else:
        foreground = cdist(one.foreground, other.foreground).min(axis=1)
    return [float(distance) for distance in (*background, *foreground)]


def _by_supports(
    model: CompatibleFoB, support: np.ndarray, mask: np.ndarray, device: torch.device
) -> dict[str, float]:
    """Seconds for the prompts of a slice from different numbers of remembered slices."""
    generator = FobPaperGenerator(model)
    (features,) = generator.encode(support[None])
    memory = [Remembered(features, mask.astype(np.float32))]
    seconds: dict[str, list[float]] = {str(count): [] for count in SUPPORTS}
    for _ in range(3):
        for count in SUPPORTS:
            work = partial(generator.propose, features, memory * count)
            seconds[str(count)].append(timed(work, device)[0])
    return {count: round(median(taken), 5) for count, taken in seconds.items()}
