"""Which device computes."""

from __future__ import annotations

import torch

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.errors import is_out_of_memory as is_out_of_memory


def choose_device(name: str = "auto") -> torch.device:
    """The torch device for ``auto``, ``cpu``, ``cuda`` or ``mps``.

    ``auto`` takes the first there is of cuda, mps, cpu. Raises ``FoBSAMError``
    (``bad_request``) for another name, or a device that this machine does not offer.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if name not in available:
        raise FoBSAMError(
            "bad_request", f"There is no device {name!r}.", "Use auto, cpu, cuda or mps."
        )
    if not available[name]:
        raise FoBSAMError(
            "bad_request",
            f"The device {name!r} is not available on this machine.",
            "Use --device auto, or install a PyTorch built for it.",
        )
    return torch.device(name)
