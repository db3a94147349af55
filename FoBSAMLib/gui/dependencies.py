"""What the worker needs and Slicer does not bring: asked for once, then installed.

Never at import, never in a constructor: when the user presses Segment and something is missing.
PyTorch comes through the PyTorch extension, which chooses the build that fits the computer; it is
looked for by its metadata, never imported in Slicer's own process.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from slicer.i18n import tr as _

from FoBSAMLib.errors import FoBSAMError

TORCH = "torch>=2.4"
#: What is told about sizes: measured on Linux, unpacked, with what they need themselves.
SIZES = {"torch": "0.8 GB, or 6 GB where there is an NVIDIA GPU", "others": "0.2 GB"}


def missing(requirements: Path) -> list[str]:
    """What is not installed in a version that will do, of a requirements file and PyTorch."""
    lines = (
        line.partition("#")[0].strip() for line in requirements.read_text("utf-8").splitlines()
    )
    return [one for one in (TORCH, *filter(None, lines)) if not _installed(one)]


def ensure(requirements: Path) -> bool:
    """Install what is missing, if the user says yes; whether all is there now.

    Raises FoBSAMError where an installation fails or the PyTorch extension is missing.
    """
    lacking = missing(requirements)
    if not lacking:
        return True
    others = [one for one in lacking if one != TORCH]
    # Before anything is asked: without the extension a yes would be of no use.
    torch_utils = _torch_utils() if TORCH in lacking else None
    if not slicer.util.confirmOkCancelDisplay(_question(lacking), _("FoBSAM needs more")):
        return False
    try:
        if torch_utils is not None:
            # The user has agreed already, with names and sizes.
            torch_utils.PyTorchUtilsLogic().installTorch(
                askConfirmation=False, torchVersionRequirement=str(_requirement(TORCH).specifier)
            )
        if others:
            _install(others)
    except Exception as error:  # pip's, as slicer.util and the PyTorch extension hand it on
        raise FoBSAMError(
            "internal",
            _("Not all that FoBSAM needs could be installed: {error}.").format(
                error=str(error).rstrip(".")
            ),
            _("Check the internet connection, look into Slicer's log, and press Segment again."),
            retryable=True,
        ) from error
    importlib.invalidate_caches()
    still = missing(requirements)
    if still:
        raise FoBSAMError(
            "internal",
            _("After the installation this is still missing: {names}.").format(
                names=", ".join(still)
            ),
            _("Restart Slicer and press Segment again."),
        )
    return True


def _question(lacking: list[str]) -> str:
    names = ", ".join(str(_requirement(one).name) for one in lacking)
    sizes = []
    if TORCH in lacking:
        sizes.append(_("PyTorch takes {size}").format(size=SIZES["torch"]))
    if set(lacking) - {TORCH}:
        sizes.append(_("the others up to {size}").format(size=SIZES["others"]))
    return _(
        "To segment, FoBSAM needs these Python packages, which will be downloaded and installed "
        "into Slicer: {names}.\n\n{sizes}. It may take some minutes, in which Slicer does not "
        "react.\n\nInstall them now?"
    ).format(names=names, sizes=", ".join(sizes))


def _installed(wanted: str) -> bool:
    requirement = _requirement(wanted)
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


def _requirement(text: str) -> Any:
    """A parsed requirement; pip brings the parser where the packaging library is missing."""
    try:
        parser = importlib.import_module("packaging.requirements")
    except ImportError:
        parser = importlib.import_module("pip._vendor.packaging.requirements")
    return parser.Requirement(text)


def _torch_utils() -> Any:
    try:
        import PyTorchUtils
    except ImportError as error:
        raise FoBSAMError(
            "bad_request",
            _("FoBSAM needs PyTorch, and the PyTorch extension, which installs it, is missing."),
            _("Install 'PyTorch' in the Extensions Manager, restart Slicer, press Segment again."),
        ) from error
    return PyTorchUtils


def _install(requirements: list[str]) -> None:
    try:
        from slicer import packaging  # since Slicer 5.12
    except ImportError:
        slicer.util.pip_install(requirements)
    else:
        packaging.pip_ensure(requirements, prompt_install=False, requester="FoBSAM")
