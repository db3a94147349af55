"""What the segmenters of the SAM family share: how weights, slices and points come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pooch
import torch
from PIL import Image

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.windows import to_uint8_rgb
from FoBSAMLib.models.checkpoints import load_checkpoint
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters.base import inside

#: Slices encoded together on a GPU; the CPU gains nothing by it.
AHEAD_ON_GPU = 4


def load_published(path: str | Path, sha256: str | None) -> tuple[dict[str, Any], str]:
    """What is in a weights file, and its checksum, which is ``sha256`` where that is given.

    Raises ``FoBSAMError``: ``weights_missing``, ``unreadable``, ``weights_corrupt``.
    """
    content = load_checkpoint(path)
    found = pooch.file_hash(str(path))
    if sha256 is not None and found != sha256:
        raise FoBSAMError(
            "weights_corrupt",
            f"The weights file {path} is not the one that was published "
            f"(its sha256 is {found[:12]}…, not {sha256[:12]}…).",
            "Get the file again.",
        )
    return content, found


def ahead_on(device: torch.device) -> int:
    """How many slices to encode together on a device."""
    return 1 if device.type == "cpu" else AHEAD_ON_GPU


def mask_index(image: np.ndarray) -> int:
    """Which of three masks to take (FoB, released code): 0 for organs in grey slices, 1 in
    photographs. The quality that the model predicts misleads on medical images."""
    return 0 if image.ndim == 2 else 1


def labelled_points(prompts: Prompts, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The points inside a slice of ``shape``, float32 [n, 2], foreground first, and their labels,
    int64 [n]: 1 foreground, 0 background."""
    foreground = inside(prompts.foreground, shape)
    background = inside(prompts.background, shape)
    labels = np.repeat([1, 0], [len(foreground), len(background)])
    return np.concatenate([foreground, background]).astype(np.float32), labels


def stack(
    images: list[np.ndarray], size: tuple[int, int] | None, device: torch.device
) -> torch.Tensor:
    """Slices of one shape in 8 bits, uint8 [B, 3, h, w] on ``device``.

    ``size`` is (h, w), None for the slices' own: resized by PIL, as SAM was trained, which torch
    meets only to within a grey level. One channel of a grey slice is resized and sent, and nothing
    waits for the device.
    """
    pixels = torch.stack([_channels(image, size) for image in images])
    if device.type == "cuda":
        pixels = pixels.pin_memory()
    return pixels.to(device, non_blocking=True).expand(-1, 3, -1, -1)


def _channels(image: np.ndarray, size: tuple[int, int] | None) -> torch.Tensor:
    """Uint8 [1, h, w] of a grey slice, [3, h, w] of a photograph."""
    rgb = to_uint8_rgb(image)
    pixels = rgb[..., 0] if image.ndim == 2 else rgb
    if size is not None:
        pixels = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    channels = pixels[None] if image.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.from_numpy(channels.copy())
