"""Which device computes."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

import torch

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.errors import is_out_of_memory as is_out_of_memory

#: bfloat16 is taken on a CPU where it is faster by this: with AMX it is by far more.
_WORTH = 1.3

#: Those torch would use: of every core, or as many as ``OMP_NUM_THREADS`` says.
_THREADS = torch.get_num_threads()


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


def divide_cores() -> None:
    """Have torch compute with half as many threads as it would, for a process of our own alone: a
    session follows a structure in two directions at once.

    On two cores, one thread for each direction takes less time than two for each."""
    torch.set_num_threads(max(1, _THREADS // 2))


def explain_device(name: str = "auto") -> str:
    """Why `choose_device` takes what it takes, in one sentence; raises as it does."""
    kind = choose_device(name).type
    if name != "auto":
        return f"The device {kind} was asked for."
    if kind == "cuda":
        return f"PyTorch finds a CUDA GPU ({torch.cuda.get_device_name()}), the fastest there is."
    if kind == "mps":
        return "PyTorch finds no CUDA GPU, but Apple's (mps), which is faster than the CPU."
    return "PyTorch finds no GPU that it can use, neither CUDA nor Apple's, so the CPU computes."


def fast_dtype(device: torch.device | str) -> torch.dtype:
    """What large networks' matrix products are computed in: bfloat16 where that is faster.

    That is so on CUDA GPUs that have it, and on CPUs with instructions for it (AMX), which a short
    timing tells: elsewhere bfloat16 halves the speed. On Apple's GPUs, for want of a
    measurement, float32.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if kind == "cpu" and _cpu_gains_by_bfloat16() else torch.float32


@cache
def _cpu_gains_by_bfloat16() -> bool:
    """A product as in SAM's ViT-B in both precisions, turn by turn; about 0.1 s, once a process."""
    pairs = [
        (torch.ones(512, 768, dtype=dtype), torch.ones(768, 2048, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    ]
    best = [float("inf")] * 2
    with torch.inference_mode():
        for _ in range(4):  # the first also prepares
            for which, (one, other) in enumerate(pairs):
                began = time.perf_counter()
                one @ other
                best[which] = min(best[which], time.perf_counter() - began)
    return best[1] * _WORTH < best[0]


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
