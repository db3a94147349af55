"""Segment Anything (Kirillov et al. 2023) through the ``segment_anything`` package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pooch
import torch
from scipy.special import expit

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.windows import to_uint8_rgb
from FoBSAMLib.models.checkpoints import load_checkpoint, load_into
from FoBSAMLib.models.torchvision_ops import ensure_torchvision
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters.base import inside

ensure_torchvision()
try:
    from segment_anything import SamPredictor, sam_model_registry
except ImportError as error:
    raise FoBSAMError(
        "bad_request",
        f"The SAM segmenters cannot be used ({error}).",
        "Install it: pip install segment-anything.",
    ) from error
if TYPE_CHECKING:
    from segment_anything.modeling import Sam

# Which of SAM's three masks to take (FoB, released code): the predicted quality misleads on
# medical images.
_MASK_OF_ORGAN, _MASK_OF_PHOTOGRAPH = 0, 1


@dataclass(frozen=True)
class SamEmbedding:
    """One slice as SAM's image encoder sees it, held by a predictor of its own."""

    predictor: SamPredictor
    mask_index: int


class SamSegmenter:
    """A model of the SAM family: points in, one of its three masks out.

    ``weights_sha256`` identifies the weights file, None for a model that was handed over built.
    """

    draws_on_prior = False

    def __init__(
        self,
        model: Sam,
        device: torch.device | str = "cpu",
        name: str = "sam",
        weights_sha256: str | None = None,
    ) -> None:
        self.name = name
        self.weights_sha256 = weights_sha256
        self._model = model.to(device).eval()

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        architecture: str,
        device: torch.device | str = "cpu",
        sha256: str | None = None,
    ) -> SamSegmenter:
        """Build ``architecture`` (a key of segment_anything's registry, e.g. ``vit_b``).

        Raises ``FoBSAMError``: ``weights_missing``, or ``weights_corrupt`` when the file is
        damaged, does not fit the architecture, or has another checksum than ``sha256``.
        """
        state_dict = load_checkpoint(path)
        found = pooch.file_hash(str(path))
        if sha256 is not None and found != sha256:
            raise FoBSAMError(
                "weights_corrupt",
                f"The weights file {path} is not the one that was published "
                f"(its sha256 is {found[:12]}…, not {sha256[:12]}…).",
                "Get the file again.",
            )
        model = sam_model_registry[architecture]()
        load_into(model, state_dict, path)
        return cls(model, device, f"sam-{architecture.replace('_', '-')}", found)

    def embed(self, image: np.ndarray) -> SamEmbedding:
        """Run the image encoder on a slice [H, W] (organs) or [H, W, 3] (a photograph)."""
        predictor = SamPredictor(self._model)
        predictor.set_image(to_uint8_rgb(image))
        return SamEmbedding(predictor, _MASK_OF_ORGAN if image.ndim == 2 else _MASK_OF_PHOTOGRAPH)

    def segment(
        self, embedding: SamEmbedding, prompts: Prompts, prior: np.ndarray | None = None
    ) -> np.ndarray:
        """See ``Segmenter.segment``; ``prior`` is not used. No foreground point: all zero."""
        shape = embedding.predictor.original_size
        foreground = inside(prompts.foreground, shape)
        background = inside(prompts.background, shape)
        if not len(foreground):
            return np.zeros(shape, np.float32)
        logits, _, _ = embedding.predictor.predict(
            point_coords=np.concatenate([foreground, background]),
            point_labels=np.repeat([1, 0], [len(foreground), len(background)]),
            multimask_output=True,
            return_logits=True,
        )
        return expit(logits[embedding.mask_index].astype(np.float32))
