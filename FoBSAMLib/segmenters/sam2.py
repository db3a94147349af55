"""SAM 2.1 tiny (Ravi et al. 2024) for single slices, through the ``transformers`` package."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.checkpoints import load_into
from FoBSAMLib.models.device import fast_dtype
from FoBSAMLib.models.torchvision_ops import ensure_torchvision
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters import sam_family

ensure_torchvision()  # transformers imports it where it is installed
try:
    from transformers.models.sam2.configuration_sam2 import Sam2Config
    from transformers.models.sam2.modeling_sam2 import Sam2Model
except ImportError as error:
    raise FoBSAMError(
        "bad_request",
        f"The SAM 2 segmenter cannot be used ({error}).",
        "Install it: pip install transformers.",
    ) from error

_SIZE = 1024
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: What only the segmentation of videos needs of the published file.
_VIDEO = re.compile(
    "memory_|obj_ptr|no_obj_(ptr|embed)|no_mem_pos_enc|maskmem_tpos_enc|mask_downsample"
)
#: From the published file's names to those of transformers, in this order.
_RENAMED = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", "position"),
    (r"^sam_prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^sam_prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^sam_prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^sam_prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^sam_prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^sam_(prompt_encoder|mask_decoder)\.", r"\1."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    # Of the decoder's heads, which have three layers, the middle one; of all others the second.
    (r"(head|mlps\.\d)\.layers\.1\.", r"\1.middle."),
    (r"((?:head|mlps\.\d|mlp)\.)layers\.0\.", r"\1proj_in."),
    (r"((?:head|mlps\.\d)\.)layers\.2\.", r"\1proj_out."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
    (r"\.middle\.", ".layers.0."),
)


@dataclass(frozen=True)
class Sam2Embedding:
    """One slice [H, W] as SAM 2's image encoder sees it: features of three sizes, on the device
    and in the precision that they were computed in; in bfloat16 a slice takes 8 MB."""

    features: tuple[torch.Tensor, ...]
    shape: tuple[int, int]
    mask_index: int

    @property
    def nbytes(self) -> int:
        """Bytes kept for the slice."""
        return sum(one.nbytes for one in self.features)


class Sam2Segmenter:
    """SAM 2.1: points in, one of its three masks out, by the rule for SAM.

    ``weights_sha256`` identifies the weights file, None for a model that was handed over built;
    ``precision`` is what the image encoder computes in. It encodes ``ahead`` slices together.
    """

    draws_on_prior = False

    def __init__(
        self,
        model: Sam2Model,
        device: torch.device | str = "cpu",
        name: str = "sam2.1",
        weights_sha256: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.name = name
        self.weights_sha256 = weights_sha256
        self.precision = str(dtype).removeprefix("torch.")
        self._dtype = dtype
        self._device = torch.device(device)
        self.ahead = sam_family.ahead_on(self._device)
        self._model = model.to(self._device).eval()
        self._mean, self._std = (
            torch.tensor(values, device=self._device).view(3, 1, 1) for values in (_MEAN, _STD)
        )

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, device: torch.device | str = "cpu", sha256: str | None = None
    ) -> Sam2Segmenter:
        """Read the published checkpoint, whose entry ``model`` holds the weights.

        Raises ``FoBSAMError``: ``weights_missing``, or ``weights_corrupt`` when the file is
        damaged, does not fit, or has another checksum than ``sha256``.
        """
        content, found = sam_family.load_published(path, sha256)
        state_dict = content.get("model")
        if not isinstance(state_dict, dict):
            raise FoBSAMError(
                "weights_corrupt",
                f"The weights file {path} has no entry 'model'.",
                "Check that it is SAM 2.1's, as its authors published it.",
            )
        model = Sam2Model(Sam2Config())  # whose defaults are the tiny one
        load_into(model, renamed(state_dict), path)
        return cls(model, device, "sam2.1-tiny", found, fast_dtype(device))

    def embed(self, image: np.ndarray) -> Sam2Embedding:
        """Run the image encoder on a slice [H, W] (organs) or [H, W, 3] (a photograph)."""
        return self.embed_all([image])[0]

    @torch.inference_mode()
    def embed_all(self, images: list[np.ndarray]) -> list[Sam2Embedding]:
        """`embed` for several slices of one shape: stretched to a square, as SAM 2 wants them."""
        pixels = sam_family.stack(images, None, self._device).float()
        pixels = F.interpolate(
            pixels, (_SIZE, _SIZE), mode="bilinear", align_corners=False, antialias=True
        )
        low = self._dtype is not torch.float32
        with torch.autocast(self._device.type, self._dtype, enabled=low):
            maps = self._model.get_image_embeddings((pixels - self._mean) / self._std)
        shape, index = images[0].shape[:2], sam_family.mask_index(images[0])
        each = zip(*(one.to(self._dtype).split(1) for one in maps), strict=True)
        # Cloned, so that the bytes of one slice are free when it is forgotten.
        return [Sam2Embedding(tuple(m.clone() for m in one), shape, index) for one in each]

    @torch.inference_mode()
    def segment(
        self, embedding: Sam2Embedding, prompts: Prompts, prior: np.ndarray | None = None
    ) -> np.ndarray:
        """See ``Segmenter.segment``; ``prior`` is not used. No foreground point: all zero."""
        points, labels = sam_family.labelled_points(prompts, embedding.shape)
        if not labels.any():
            return np.zeros(embedding.shape, np.float32)
        points = points * (np.float32(_SIZE) / np.array(embedding.shape[::-1], np.float32))
        masks = self._model(
            image_embeddings=[one.float() for one in embedding.features],
            input_points=torch.from_numpy(points)[None, None].to(self._device),
            input_labels=torch.from_numpy(labels)[None, None].to(self._device),
            multimask_output=True,
        ).pred_masks
        logits = F.interpolate(
            masks[:, 0, embedding.mask_index, None],
            embedding.shape,
            mode="bilinear",
            align_corners=False,
        )
        return np.asarray(logits[0, 0].sigmoid().cpu().numpy())


def renamed(state_dict: dict[str, Any]) -> dict[str, Any]:
    """The published weights for single images by the names that transformers gives them."""
    found: dict[str, Any] = {}
    points: list[Any] = [None] * 4
    for name, value in state_dict.items():
        if _VIDEO.match(name):
            continue
        numbered = re.fullmatch(r"sam_prompt_encoder\.point_embeddings\.([0-3])\.weight", name)
        if numbered:
            points[int(numbered[1])] = value
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        found[name] = value
    if all(isinstance(one, torch.Tensor) for one in points):
        found["prompt_encoder.point_embed.weight"] = torch.cat(points)
    if "position" in found:  # kept twice
        position = found.pop("position")
        for owner in ("shared_image_embedding", "prompt_encoder.shared_embedding"):
            found[f"{owner}.positional_embedding"] = position
    return found
