"""What SAM's image encoder costs a slice here, beside the same weights computed the usual way.

Weights are random, for none have to be there: speed does not depend on them, and how far the masks
part is told all the same. The usual way is segment_anything's own predictor in float32, one slice
at a time; for SAM 2.1, which segment_anything does not have, the same model in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from FoBSAMLib.bench.common import (
    Progress,
    middle,
    ratio,
    read_image,
    silent,
    surroundings,
    timed,
)
from FoBSAMLib.bench.common import table as table_of
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.windows import normalise, to_uint8_rgb
from FoBSAMLib.models.device import choose_device, fast_dtype
from FoBSAMLib.prompts import Prompts

ARCHITECTURES = ("vit_b", "vit_l", "vit_h", "sam2.1-tiny")
#: At most so many slices of which a mask is compared, and points of each kind that ask for it.
COMPARED, POINTS = 4, 10
#: Slices of an image that are taken.
SLICES = 16


def run(
    architecture: str,
    device: str = "auto",
    rounds: int = 3,
    image: str | Path | None = None,
    compiled: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure both ways turn by turn, ``rounds`` times; what was measured, JSON-ready.

    Args:
        architecture: of ``ARCHITECTURES``.
        image: any image file; its middle slices are taken. The demo's chest CT for None.
        compiled: also with torch.compile, and after how many slices that pays.

    Raises:
        FoBSAMError: no such architecture or device, the package for it is missing, or the image
            cannot be read.
    """
    chosen = choose_device(device)
    slices = _slices(image)
    usual, ours = _both(architecture, chosen)
    batch = ours.ahead
    ways: dict[str, tuple[Callable[[list[np.ndarray]], Any], int]] = {
        "usual": (lambda images: usual.embed(images[0]), 1),
        "ours": (ours.embed_all, batch),
    }
    total = (rounds + 1) * len(ways)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):  # the first prepares
        for number, (name, (embed, together)) in enumerate(ways.items()):
            progress(turn * len(ways) + number, total)
            images = _some(slices, together)
            taken, _ = timed(partial(embed, images), chosen)
            seconds[name] += [taken / together] if turn else []
    document: dict[str, Any] = {
        **surroundings(chosen),
        "architecture": architecture,
        "weights": "random",
        "image": Path(image).name if image else "demo",
        "slice": list(slices[0].shape),
        "rounds": rounds,
        "precision": ours.precision,
        "batch": batch,
        "seconds_a_slice": {name: round(median(taken), 5) for name, taken in seconds.items()},
        "ratio": ratio(seconds["usual"], seconds["ours"]),
        "iou": _agreement(usual, ours, slices, min(rounds, COMPARED)),
        "embedding_bytes": ours.embed(slices[0]).nbytes,
        "measured": seconds,
    }
    if chosen.type == "cuda":
        document["peak_gpu_bytes"] = _peak(ours, slices, batch)
    if compiled:
        document["compiled"] = _compiled(ours, slices, document["seconds_a_slice"]["ours"], chosen)
    return document


def table(document: dict[str, Any]) -> str:
    """The figures as Markdown."""
    seconds, iou = document["seconds_a_slice"], document["iou"]
    rows = [
        ("usual way, float32, one slice at a time", f"{seconds['usual']:.4f} s a slice"),
        (
            f"FoBSAM, {document['precision']}, {document['batch']} together",
            f"{seconds['ours']:.4f} s a slice",
        ),
        ("ratio (median of the rounds' ratios)", f"{document['ratio']:.2f}"),
        ("IoU of the masks, mean and least", f"{iou['mean']:.4f}, {iou['least']:.4f}"),
    ]
    if "compiled" in document:
        compiled = document["compiled"]
        pays = compiled["pays_after_slices"]
        rows += [
            ("compiled", f"{compiled['seconds_a_slice']:.4f} s a slice"),
            ("to compile", f"{compiled['seconds_to_compile']:.1f} s"),
            ("compiling pays after", f"{pays} slices" if pays else "never"),
        ]
    heading = f"{document['architecture']}, {document['machine']['processor']}"
    return table_of((heading, ""), rows)


class _Usual:
    """segment_anything's predictor, as its documentation has it."""

    def __init__(self, model: Any) -> None:
        from segment_anything import SamPredictor

        self._predictor = SamPredictor(model)

    def embed(self, image: np.ndarray) -> None:
        self._predictor.set_image(to_uint8_rgb(image))

    def mask(self, image: np.ndarray, prompts: Prompts) -> np.ndarray:
        self.embed(image)
        points = np.concatenate([prompts.foreground, prompts.background])
        labels = np.repeat([1, 0], [len(prompts.foreground), len(prompts.background)])
        masks, _, _ = self._predictor.predict(points, labels, multimask_output=True)
        return np.asarray(masks[0])


class _Segmenter:
    """A segmenter of ours that computes in float32."""

    def __init__(self, segmenter: Any) -> None:
        self._segmenter = segmenter
        self.embed = segmenter.embed

    def mask(self, image: np.ndarray, prompts: Prompts) -> np.ndarray:
        return np.asarray(self._segmenter.segment(self.embed(image), prompts) > 0.5)


def _both(architecture: str, device: torch.device) -> tuple[Any, Any]:
    """The usual way and ours, with the same random weights."""
    if architecture not in ARCHITECTURES:
        raise FoBSAMError(
            "bad_request",
            f"There is no architecture {architecture!r}.",
            f"Known: {', '.join(ARCHITECTURES)}.",
        )
    torch.manual_seed(0)
    dtype = fast_dtype(device)
    if architecture == "sam2.1-tiny":
        from FoBSAMLib.segmenters.sam2 import Sam2Config, Sam2Model, Sam2Segmenter

        small = Sam2Model(Sam2Config())
        plain = _Segmenter(Sam2Segmenter(copy.deepcopy(small), device))
        return plain, Sam2Segmenter(small, device, dtype=dtype)
    from FoBSAMLib.segmenters.sam import SamSegmenter, sam_model_registry

    model = sam_model_registry[architecture]()
    for name, parameter in model.image_encoder.named_parameters():
        if "pos" in name:  # zero at first, and then nothing would depend on positions
            torch.nn.init.normal_(parameter, std=0.02)
    usual = _Usual(copy.deepcopy(model).to(device).eval())
    return usual, SamSegmenter(model, device, dtype=dtype)


def _slices(image: str | Path | None) -> list[np.ndarray]:
    """The middle slices of an image, normalised [H, W] as a session does it."""
    volume = read_image(image)
    planes = volume.array if volume.array.ndim == 4 else normalise(volume)
    return list(middle(planes, SLICES))


def _some(slices: list[np.ndarray], count: int) -> list[np.ndarray]:
    return [slices[n % len(slices)] for n in range(count)]


def _agreement(usual: Any, ours: Any, slices: list[np.ndarray], count: int) -> dict[str, float]:
    """IoU of both ways' masks from the same points, in several slices."""
    random = np.random.default_rng(0)
    found = []
    for image in slices[:: max(1, len(slices) // count)][:count]:
        size = np.array(image.shape[1::-1])
        background, foreground = (random.random((2, POINTS, 2)) * (size - 1)).astype(np.float32)
        prompts = Prompts(background, foreground)
        one = usual.mask(image, prompts)
        other = ours.segment(ours.embed(image), prompts) > 0.5
        either = np.count_nonzero(one | other)
        found.append(np.count_nonzero(one & other) / either if either else 1.0)
    return {"mean": round(float(np.mean(found)), 5), "least": round(min(found), 5)}


def _compiled(
    ours: Any, slices: list[np.ndarray], before: float, device: torch.device
) -> dict[str, Any]:
    """What torch.compile saves a slice, and after how many its cost is earned."""
    if not hasattr(ours, "encoder"):
        raise FoBSAMError(
            "bad_request", "Only SAM's own encoders are compiled here.", "Leave out --compile."
        )
    images = _some(slices, ours.ahead)
    ours.encoder.compile()
    embed = partial(ours.embed_all, images)
    first, _ = timed(embed, device)
    after = median(timed(embed, device)[0] for _ in range(3)) / len(images)
    cost = first - after * len(images)
    gain = before - after
    return {
        "seconds_to_compile": round(cost, 2),
        "seconds_a_slice": round(after, 5),
        "pays_after_slices": round(cost / gain) if gain > 0 else None,
    }


def _peak(ours: Any, slices: list[np.ndarray], batch: int) -> int:
    """Bytes at most on the GPU while slices are encoded, both ways' weights included."""
    torch.cuda.reset_peak_memory_stats()
    ours.embed_all(_some(slices, batch))
    return torch.cuda.max_memory_allocated()
