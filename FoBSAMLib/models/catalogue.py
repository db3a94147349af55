"""The models that can be had, what is known of them, and which of them are here.

`Resources/models.json` names each once; the environment variable ``FOBSAM_CATALOGUE`` names another
list, as one with the addresses of an institution's mirror. Weights lie in the folder ``models`` of
the user's data: a file, or a folder with the members of an archive.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.paths import data_folder, resource

State = Literal["absent", "partial", "unverified", "present"]


@dataclass(frozen=True)
class Model:
    """One entry of the catalogue.

    ``file`` is what its authors publish, ``members`` maps names of files here to paths in it where
    it is a zip, none of them larger than ``member_limit``. ``sha256`` and ``bytes`` are None where
    nobody has told them; ``about_bytes`` is for people then, and ``entry`` names what it must hold.
    """

    name: str
    title: str
    kind: Literal["segmenter", "generator"]
    file: str
    licence: str
    citation: str
    terms: str = ""
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    bytes: int | None = None
    about_bytes: int = 0
    members: Mapping[str, str] = field(default_factory=dict)
    member_limit: int = 0
    entry: str = ""

    @property
    def size(self) -> int:
        """Bytes of what is published, as exactly as is known."""
        return self.bytes or self.about_bytes

    @property
    def size_text(self) -> str:
        """The same for people."""
        return readable(self.size) if self.bytes else f"about {readable(self.size)}"

    @property
    def path(self) -> Path:
        """Where it lies when it is here: a file, or the folder with an archive's members."""
        return models_folder() / (self.name if self.members else self.file)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it consists of when it is here."""
        return tuple(self.path / name for name in self.members) or (self.path,)

    @property
    def partial(self) -> Path:
        """What a download that was interrupted has left."""
        return models_folder() / f"{self.file}.part"

    @property
    def record(self) -> Path:
        """The checksum of the file that came in, as sha256sum writes it: where none was published
        the next file must have it, too."""
        return record_of(models_folder() / self.file)

    @property
    def here(self) -> bool:
        """Whether it is here, right or wrong."""
        return self.path.exists()

    @property
    def state(self) -> State:
        """Whether it is here, and was found right since it was written; no weights are read for
        that."""
        if self.here:
            return "present" if all(map(found_right, self.files)) else "unverified"
        return "partial" if self.partial.exists() else "absent"

    @property
    def expected(self) -> str | None:
        """The checksum that its file must have; None where the first one will be taken."""
        return self.sha256 or read_record(self.record)

    def require(self, file: str = "") -> Path:
        """Its weights (of an archive, one ``file``); raises FoBSAMError (``weights_missing``)."""
        path = self.path / file if file else self.path
        if not path.is_file():
            raise FoBSAMError(
                "weights_missing",
                f"The weights file {file or self.file} is not in {path.parent}.",
                self.how_to_get,
            )
        return path

    @property
    def how_to_get(self) -> str:
        """What a user does to have it."""
        if not self.urls:
            fetch = f"Get it from its authors. {self.terms}"
            return f"{fetch} Then: fobsam models import {self.name} FILE"
        return f"Get {self.urls[0]} ({self.size_text}): fobsam models download {self.name}"

    @property
    def notice(self) -> str:
        """What is to be known before it is used, in some lines."""
        lines = [
            f"{self.title}: {self.file}, {self.size_text}",
            f"Licence: {self.licence}",
            f"Please cite: {self.citation}",
        ]
        return "\n".join([*lines, *([self.terms] if self.terms else [])])


def catalogue() -> dict[str, Model]:
    """All models by name; raises FoBSAMError (``unreadable``) for a list that is none."""
    own = os.environ.get("FOBSAM_CATALOGUE")
    path = Path(own).expanduser() if own else resource("models.json")
    try:
        entries = json.loads(path.read_text("utf-8"))["models"]
        models = [_model(entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not in the form of one"
        named = "FOBSAM_CATALOGUE names " if own else ""
        raise FoBSAMError(
            "unreadable",
            f"{named}{path}, which is no list of models: {why}.",
            "See Resources/models.json.",
        ) from error
    return {one.name: one for one in models}


def find(name: str) -> Model:
    """The model called ``name``; raises FoBSAMError (``bad_request``) that tells the nearest."""
    models = catalogue()
    if name not in models:
        nearest = difflib.get_close_matches(name, models, n=1, cutoff=0.4)
        hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
        raise FoBSAMError(
            "bad_request", f"There is no model {name!r}.", f"{hint}Known: {', '.join(models)}."
        )
    return models[name]


def models_folder() -> Path:
    """Where models lie; it may not exist yet."""
    return data_folder() / "models"


def record_of(path: Path) -> Path:
    """Where a file's checksum is recorded."""
    return path.with_name(f"{path.name}.sha256")


def found_right(path: Path) -> bool:
    """Whether a file has a record that is not older than itself."""
    try:
        return record_of(path).stat().st_mtime_ns >= path.stat().st_mtime_ns
    except OSError:
        return False


def read_record(path: Path) -> str | None:
    """A recorded checksum; None where there is none."""
    try:
        return path.read_text("utf-8").split()[0]
    except (OSError, IndexError):
        return None


def readable(count: int) -> str:
    """Bytes for people."""
    if count >= 1_000_000_000:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1_000_000 else f"{count / 1e3:.0f} kB"


def _model(entry: dict[str, Any]) -> Model:
    model = Model(**{**entry, "urls": tuple(entry.get("urls", ()))})
    for name in (model.name, model.file, *model.members):
        if Path(name).name != name or name.startswith("."):
            raise ValueError(f"{name!r} is no name of a file")
    return model
