"""Importing torchvision beside a torch that its compiled operators were not built for."""

from __future__ import annotations

import sys
from types import ModuleType

import torch

from FoBSAMLib.errors import FoBSAMError

# Schemas of the two operators torchvision names while it is being imported. They are only
# declared: calling one without torchvision's compiled library still raises.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A library's declarations last as long as it does.
_libraries: list[torch.library.Library] = []


def ensure_torchvision() -> ModuleType:
    """Import and return torchvision; call it before anything that imports torchvision itself.

    PyPI's torchvision is a CUDA build. Beside a CPU-only torch its operators do not load and its
    import fails with "operator torchvision::nms does not exist", although the networks and
    transforms need none of them. Only then are the missing schemas declared and the import
    tried again.

    Raises ``FoBSAMError`` (``bad_request``) where torchvision is not installed, or does not fit
    torch in any other way.
    """
    try:
        return _import()
    except ImportError as error:
        raise FoBSAMError(
            "bad_request",
            f"torchvision cannot be imported ({error}).",
            "Install it: pip install torchvision.",
        ) from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise FoBSAMError(
                "bad_request",
                f"torchvision does not fit torch {torch.__version__} ({error}).",
                "Install the torchvision of that torch version.",
            ) from error
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)
    return _import()


def _import() -> ModuleType:
    import torchvision

    return torchvision
