"""What the worker needs and Slicer does not bring: asked for once, then installed.

Never at import, never in a constructor: when the user presses Segment, or asks for models, and
something is missing.
PyTorch comes through the PyTorch extension, which chooses the build that fits the computer. Having
installed it, that extension imports it into Slicer's own process, this once, to see that it works;
FoBSAM never does: it goes by the packages' metadata, and leaves PyTorch to the worker.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from slicer.i18n import tr as _

from FoBSAMLib.background.engine import DEFAULT_MODELS, Models
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.mrml.packages import TORCH, TORCHVISION, missing, names, parsed

#: What is told about sizes: measured on Linux, unpacked, with what they need themselves.
SIZES = {"torch": "0.8 GB, or 6 GB where there is an NVIDIA GPU", "others": "0.2 GB"}


def ensure(requirements: Path, models: Models = DEFAULT_MODELS) -> bool:
    """Install what these models need and is missing, if the user says yes; whether all is there.

    Where PyTorch is installed the PyTorch extension imports it into this process; see above.
    Raises FoBSAMError where an installation fails or the PyTorch extension is missing.
    """
    lacking = missing(requirements, models)
    if not lacking:
        return True
    others = [one for one in lacking if one not in (TORCH, TORCHVISION)]
    # Before anything is asked: without the extension a yes would be of no use.
    torch_utils = _torch_utils() if len(others) < len(lacking) else None
    if not slicer.util.confirmOkCancelDisplay(_question(lacking), _("FoBSAM needs more")):
        return False
    try:
        if torch_utils is not None:
            # The user has agreed already, with names and sizes.
            torch_utils.PyTorchUtilsLogic().installTorch(
                askConfirmation=False,
                torchVersionRequirement=str(parsed(TORCH).specifier),
                torchvisionVersionRequirement=str(parsed(TORCHVISION).specifier),
            )
        if others:
            _install(others)
    except Exception as error:  # pip's, as slicer.util and the PyTorch extension hand it on
        raise FoBSAMError(
            "internal",
            _("Not all that FoBSAM needs could be installed: {error}.").format(
                error=str(error).rstrip(".")
            ),
            _("Check the internet connection, look into Slicer's log, and try again."),
            retryable=True,
        ) from error
    importlib.invalidate_caches()
    still = missing(requirements, models)
    if still:
        raise FoBSAMError(
            "internal",
            _("After the installation this is still missing: {names}.").format(
                names=", ".join(still)
            ),
            _("Restart Slicer and try again."),
        )
    return True


def _question(lacking: list[str]) -> str:
    sizes = []
    if TORCH in lacking:
        sizes.append(_("PyTorch takes {size}").format(size=SIZES["torch"]))
    if set(lacking) - {TORCH}:
        sizes.append(_("the others up to {size}").format(size=SIZES["others"]))
    return _(
        "To segment, FoBSAM needs these Python packages, which will be downloaded and installed "
        "into Slicer: {names}.\n\n{sizes}. It may take some minutes, in which Slicer does not "
        "react.\n\nInstall them now?"
    ).format(names=names(lacking), sizes=", ".join(sizes))


def _torch_utils() -> Any:
    try:
        import PyTorchUtils
    except ImportError as error:
        raise FoBSAMError(
            "bad_request",
            _("FoBSAM needs PyTorch, and the PyTorch extension, which installs it, is missing."),
            _("Install 'PyTorch' in the Extensions Manager, restart Slicer, try again."),
        ) from error
    return PyTorchUtils


def _install(requirements: list[str]) -> None:
    try:
        from slicer import packaging  # since Slicer 5.12
    except ImportError:
        slicer.util.pip_install(requirements)
    else:
        # One version of it takes no texts.
        parts = [parsed(one) for one in requirements]
        packaging.pip_ensure(parts, prompt_install=False, requester="FoBSAM")
