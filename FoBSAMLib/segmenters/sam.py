"""Segment Anything (Kirillov et al. 2023) through the ``segment_anything`` package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.checkpoints import load_into
from FoBSAMLib.models.device import fast_dtype
from FoBSAMLib.models.torchvision_ops import ensure_torchvision
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters import sam_family

ensure_torchvision()
try:
    from segment_anything import sam_model_registry
    from segment_anything.utils.transforms import ResizeLongestSide
except ImportError as error:
    raise FoBSAMError(
        "bad_request",
        f"The SAM segmenters cannot be used ({error}).",
        "Install it: pip install segment-anything.",
    ) from error
from FoBSAMLib.segmenters.sam_encoder import SamEncoder  # noqa: E402

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


@dataclass(frozen=True)
class SamEmbedding:
    """One slice [H, W] as SAM's image encoder sees it.

    ``features`` [1, C, h, w] stay on the device, in the precision that they were computed in: in
    bfloat16 a slice takes 2 MB, whichever of the three encoders it was, and loses nothing.
    """

    features: torch.Tensor
    shape: tuple[int, int]
    mask_index: int

    @property
    def nbytes(self) -> int:
        """Bytes kept for the slice."""
        return self.features.nbytes


class SamSegmenter:
    """A model of the SAM family: points in, one of its three masks out.

    ``weights_sha256`` identifies the weights file, None for a model that was handed over built;
    ``precision`` is what the image encoder computes in. It encodes ``ahead`` slices together.
    """

    draws_on_prior = False

    def __init__(
        self,
        model: Sam,
        device: torch.device | str = "cpu",
        name: str = "sam",
        weights_sha256: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take over ``model``; ``dtype`` is for the products of the image encoder, the decoder
        stays in float32."""
        self.name = name
        self.weights_sha256 = weights_sha256
        self.precision = str(dtype).removeprefix("torch.")
        self._device = torch.device(device)
        self.ahead = sam_family.ahead_on(self._device)
        self._model = model.to(self._device).eval()
        self.encoder = SamEncoder(model.image_encoder, dtype)
        self._size: int = model.image_encoder.img_size

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
        state_dict, found = sam_family.load_published(path, sha256)
        model = sam_model_registry[architecture]()
        load_into(model, state_dict, path)
        name = f"sam-{architecture.replace('_', '-')}"
        return cls(model, device, name, found, fast_dtype(device))

    def embed(self, image: np.ndarray) -> SamEmbedding:
        """Run the image encoder on a slice [H, W] (organs) or [H, W, 3] (a photograph)."""
        return self.embed_all([image])[0]

    @torch.inference_mode()
    def embed_all(self, images: list[np.ndarray]) -> list[SamEmbedding]:
        """`embed` for several slices of one shape."""
        features = self.encoder(self._normalised(images))
        shape, index = images[0].shape[:2], sam_family.mask_index(images[0])
        # Cloned, so that the bytes of one slice are free when it is forgotten.
        return [SamEmbedding(one.clone(), shape, index) for one in features.split(1)]

    @torch.inference_mode()
    def segment(
        self, embedding: SamEmbedding, prompts: Prompts, prior: np.ndarray | None = None
    ) -> np.ndarray:
        """See ``Segmenter.segment``; ``prior`` is not used. No foreground point: all zero."""
        points, labels = sam_family.labelled_points(prompts, embedding.shape)
        if not labels.any():
            return np.zeros(embedding.shape, np.float32)
        model = self._model
        points = self._scaled(points, embedding.shape)
        given = [torch.from_numpy(array)[None].to(self._device) for array in (points, labels)]
        sparse, dense = model.prompt_encoder(points=tuple(given), boxes=None, masks=None)
        logits, quality = model.mask_decoder(
            image_embeddings=embedding.features.float(),
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        index = self._chosen(embedding, quality)
        logits = self._on_slice(logits[:, index : index + 1], embedding.shape)
        return np.asarray(logits[0, 0].sigmoid().cpu().numpy())

    def _normalised(self, images: list[np.ndarray]) -> torch.Tensor:
        """The long side as long as the network's input, the rest padded: [B, 3, S, S]."""
        pixels = sam_family.stack(images, self._resized(images[0].shape), self._device)
        return self._model.preprocess(pixels)

    def _resized(self, shape: tuple[int, ...]) -> tuple[int, int]:
        height, width = ResizeLongestSide.get_preprocess_shape(shape[0], shape[1], self._size)
        return height, width

    def _scaled(self, points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Points of a slice in pixels of the network's input."""
        return ResizeLongestSide(self._size).apply_coords(points, shape).astype(np.float32)

    def _chosen(self, embedding: SamEmbedding, quality: torch.Tensor) -> int:
        return embedding.mask_index

    def _on_slice(self, logits: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        """Logits of a mask as decoded, on the slice's own pixels."""
        return self._model.postprocess_masks(logits, self._resized(shape), shape)
