"""FoBSAM: one annotated slice in, the segmented volume out.

The public names, each imported when first asked for: ``import FoBSAMLib`` is quick and loads
neither torch nor scikit-image, because 3D Slicer's own process imports it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from FoBSAMLib.version import __version__ as __version__

if TYPE_CHECKING:
    from FoBSAMLib.errors import FoBSAMError as FoBSAMError
    from FoBSAMLib.image.segmentation import Segmentation as Segmentation
    from FoBSAMLib.image.segmentation import Structure as Structure
    from FoBSAMLib.image.volume import Volume as Volume
    from FoBSAMLib.prompts import Prompts as Prompts
    from FoBSAMLib.session.local import LocalSession as LocalSession
    from FoBSAMLib.session.oneshot import segment as segment
    from FoBSAMLib.session.support import Support as Support
    from FoBSAMLib.worker.session import WorkerSession as WorkerSession

_HOME = {
    "FoBSAMError": "FoBSAMLib.errors",
    "LocalSession": "FoBSAMLib.session.local",
    "Prompts": "FoBSAMLib.prompts",
    "Segmentation": "FoBSAMLib.image.segmentation",
    "Structure": "FoBSAMLib.image.segmentation",
    "Support": "FoBSAMLib.session.support",
    "Volume": "FoBSAMLib.image.volume",
    "WorkerSession": "FoBSAMLib.worker.session",
    "segment": "FoBSAMLib.session.oneshot",
}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
