"""Weights files, read without ever running what is in them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.paths import require_weights

_SHOWN = 3
#: Key of the training record in the metadata of a safetensors file.
RECORD = "fobsam"


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a weights file into a dict whose tensors lie on the CPU.

    ``*.safetensors`` is read by safetensors, anything else by ``torch.load`` restricted to
    tensors and plain containers (``weights_only=True``): no code in the file is executed.

    Raises ``FoBSAMError``: ``weights_missing`` (no such file), ``unreadable`` (no permission),
    ``weights_corrupt`` (cut short, not a weights file, or holding anything but weights).
    """
    path = require_weights(Path(path))
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickles that are refused anyway
                content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise FoBSAMError(
            "unreadable", f"Not allowed to read {path}.", "Check the file's permissions."
        ) from error
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        raise _corrupt(path, "is cut short, or no plain weights file") from error
    if not isinstance(content, dict):
        raise _corrupt(path, f"holds a {type(content).__name__}, not named tensors")
    return content


def training_record(path: str | Path) -> dict[str, Any] | None:
    """What `fobsam train` wrote into a weights file about how the weights came to be.

    Returns:
        ``model`` (name), ``trained_on`` (subject ids by data set), ``labels`` (organs whose labels
        were used, by data set), ``leave_out`` (organs no slice of which was shown, by data set),
        ``steps`` and ``command``; None for a file without a record: nothing is known of it then.

    Raises ``FoBSAMError`` (``weights_missing``, ``unreadable``, ``weights_corrupt``) as
    `load_checkpoint` does, for ``*.safetensors``.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return None
    require_weights(path)
    try:
        with safe_open(path, "pt") as weights:
            text = (weights.metadata() or {}).get(RECORD)
        record = None if text is None else json.loads(text)
        if record is not None and not isinstance(record["trained_on"], dict):
            raise ValueError(text)
    except PermissionError as error:
        raise FoBSAMError(
            "unreadable", f"Not allowed to read {path}.", "Check the file's permissions."
        ) from error
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _corrupt(path, "is cut short, or its training record is damaged") from error
    return record


def load_into(
    module: torch.nn.Module,
    state_dict: Mapping[str, Any],
    path: str | Path,
    ignore: Iterable[str] = (),
) -> None:
    """Copy ``state_dict`` into ``module``; every name and shape must agree.

    ``path`` is named in the error; the names in ``ignore`` may be in ``state_dict`` and are
    skipped. On a disagreement ``module`` is left as it was and ``FoBSAMError``
    (``weights_corrupt``) lists the first missing, unexpected and mis-shaped names.
    """
    expected = module.state_dict()
    skipped = set(ignore)
    given = {name: value for name, value in state_dict.items() if name not in skipped}
    problems = {
        "missing": [name for name in expected if name not in given],
        "unexpected": [str(name) for name in given if name not in expected],
        "of another shape": [
            name
            for name, value in given.items()
            if name in expected and _shape(value) != expected[name].shape
        ],
    }
    found = [f"{_brief(names)} {problem}" for problem, names in problems.items() if names]
    if found:
        raise FoBSAMError(
            "weights_corrupt",
            f"The weights file {path} does not fit the model ({'; '.join(found)}).",
            "Check that it was made for this model.",
        )
    module.load_state_dict(given)


def _corrupt(path: Path, problem: str) -> FoBSAMError:
    return FoBSAMError(
        "weights_corrupt", f"The weights file {path} {problem}.", "Get the file again."
    )


def _shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, torch.Tensor) else None


def _brief(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
