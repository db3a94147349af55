"""Which device computes."""

from __future__ import annotations

import os
from typing import Any

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


def devices() -> list[dict[str, Any]]:
    """Where can be computed, the best first: ``name``, and ``free`` and ``total`` bytes of memory
    where the system tells them."""
    found: list[dict[str, Any]] = []
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found.append({"name": "cuda", "free": free, "total": total})
    if torch.backends.mps.is_available():
        found.append({"name": "mps"})
    return [*found, {"name": "cpu", **_computer_memory()}]


def _computer_memory() -> dict[str, int]:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        free, total = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows, and what a system does not count
        return {}
    return {"free": page * free, "total": page * total}
