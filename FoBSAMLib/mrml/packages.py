"""Which Python packages the worker needs that Slicer does not bring, and what of it is missing.

Nothing is imported for that: what is installed is told by the packages' metadata.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from pathlib import Path
from typing import Any

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.paths import resource

TORCH = "torch>=2.4"
TORCHVISION = "torchvision>=0.19"
#: Of the segmenters called so, besides the others.
SPECIAL = {
    "sam-": ("segment-anything>=1.0", TORCHVISION),
    "sam2": ("transformers>=5.0", TORCHVISION),
}


def missing(requirements: Path, models: tuple[str, str, str]) -> list[str]:
    """What is not installed in a version that will do, as pip's requirements.

    Args:
        requirements: the file with what is needed by all models, PyTorch apart.
        models: generator, segmenter and device by name.
    """
    lines = (
        line.partition("#")[0].strip() for line in requirements.read_text("utf-8").splitlines()
    )
    wanted = (TORCH, *filter(None, lines), *_special(models[1]))
    return [one for one in wanted if not _installed(one)]


def check_installed(models: tuple[str, str, str]) -> None:
    """Raise a FoBSAMError that names what these models need and is not installed."""
    lacking = missing(resource("requirements.txt"), models)
    if not lacking:
        return
    special = set(lacking) & set(_special(models[1]))
    chosen = f" with the segmenter {models[1]!r}" if special else ""
    raise FoBSAMError(
        "bad_request",
        f"FoBSAM needs Python packages that are missing: {names(lacking)}.",
        f"Open the module FoBSAM in Slicer, and press Segment once{chosen}: that installs them.",
    )


def _special(segmenter: str) -> tuple[str, ...]:
    return next((needed for start, needed in SPECIAL.items() if segmenter.startswith(start)), ())


def names(requirements: list[str]) -> str:
    """The names of packages, for people."""
    return ", ".join(str(parsed(one).name) for one in requirements)


def parsed(requirement: str) -> Any:
    """A requirement as an object; pip brings the parser where the packaging library is missing."""
    try:
        parser = importlib.import_module("packaging.requirements")
    except ImportError:
        parser = importlib.import_module("pip._vendor.packaging.requirements")
    return parser.Requirement(requirement)


def _installed(wanted: str) -> bool:
    requirement = parsed(wanted)
    try:
        found = importlib.metadata.distribution(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    # Its `version` parses all of the description, too: with ten packages the window would stop.
    version = re.search(r"^Version: *(\S+)", found.read_text("METADATA") or "", re.MULTILINE)
    # What an interrupted installation leaves has no version.
    return version is not None and bool(
        requirement.specifier.contains(version[1], prereleases=True)
    )
