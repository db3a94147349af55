"""Where files lie: what is shipped with FoBSAM, and what the user added."""

from __future__ import annotations

import os
from pathlib import Path

import FoBSAMLib
from FoBSAMLib.errors import FoBSAMError


def data_folder() -> Path:
    """The user's folder for downloaded and imported models (it may not exist yet).

    The environment variable ``FOBSAM_DATA`` overrides the platform's usual place.
    """
    chosen = os.environ.get("FOBSAM_DATA")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # Slicer's interpreter may lack it where nothing is downloaded

    return platformdirs.user_data_path("FoBSAM", appauthor=False)


def split_name(name: str) -> tuple[str, str]:
    """What a user has called a model by, ``NAME`` or ``NAME:FILE``: name and file, "" for none.

    Raises ``FoBSAMError`` (``bad_request``) for a colon without a file.
    """
    kind, colon, file = name.partition(":")
    if colon and not file:
        raise FoBSAMError(
            "bad_request", f"{name} names no weights file.", "Name it, or leave the colon out."
        )
    return kind, file


def require_weights(path: Path) -> Path:
    """The weights file that a user has named; raises ``FoBSAMError`` (``weights_missing``) where
    there is none."""
    if path.is_dir():
        raise FoBSAMError("weights_missing", f"{path} is a folder.", "Name the weights file in it.")
    if not path.is_file():
        raise FoBSAMError("weights_missing", f"There is no weights file {path}.", "Check the path.")
    return path


def resource(name: str) -> Path:
    """The path of a file or folder shipped in ``Resources``, e.g. ``"models.json"``.

    ``Resources`` lies beside the package ``FoBSAMLib``: in a checkout, in an installed wheel
    and in the Slicer extension. Raises ``FoBSAMError`` (``internal``) when it is not there.
    """
    path = Path(FoBSAMLib.__file__).resolve().parent.parent / "Resources" / name
    if not path.exists():
        raise FoBSAMError(
            "internal", f"{name!r}, a part of FoBSAM, is not at {path}.", "Install FoBSAM again."
        )
    return path
