"""The paper's checkpoints, one a fold: where they are, and whether their refinement was trained."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.catalogue import Model, find

_FOLD = re.compile(r"(sabs|chaost2):([0-4])", re.IGNORECASE)
_LIKE_A_FOLD = re.compile(r"(sabs|chaos\w*):\d+", re.IGNORECASE)
_PREFIX = "refine."
#: In the folder of the folds: what is to be said of them, since reading them takes a while.
_NOTE = "refinement.txt"


def published_model(generator: str) -> str:
    """The model that a published fold (``fob-paper:sabs:0`` …) is of; empty for others."""
    kind, _, fold = generator.partition(":")
    named = _FOLD.fullmatch(fold) if kind == "fob-paper" else None
    return f"{kind}-{named[1].lower()}" if named else ""


def fold_file(text: str) -> Path | None:
    """The checkpoint that ``sabs:0`` … ``chaost2:4`` names; None where it is no such name.

    Raises ``FoBSAMError``: ``weights_missing`` where it is not here, ``bad_request`` for a name
    like one of no fold.
    """
    named = _FOLD.fullmatch(text)
    if not named and _LIKE_A_FOLD.fullmatch(text):
        raise FoBSAMError(
            "bad_request",
            f"There is no published fold {text}.",
            "There are sabs:0 to sabs:4 and chaost2:0 to chaost2:4, counted as the paper's files.",
        )
    return find(f"fob-paper-{named[1].lower()}").require(f"{named[2]}.pth") if named else None


def folds(model: Model) -> list[str]:
    """The generators that a model gives: one for each fold of the paper's, none for others."""
    data = model.name.removeprefix("fob-paper-")
    if model.kind != "generator" or data == model.name:
        return []
    return [f"fob-paper:{data}:{Path(name).stem}" for name in model.members]


def refinement_untrained(weights: dict[str, Any]) -> bool:
    """Whether a refinement is as it was made: alpha exactly 0.5, norms with 1 and 0."""
    norms = [f"{_PREFIX}norm{n}" for n in (1, 2, 3)]
    return (
        float(weights[f"{_PREFIX}gcn.alpha"]) == 0.5
        and all(bool((weights[f"{norm}.weight"] == 1).all()) for norm in norms)
        and all(bool((weights[f"{norm}.bias"] == 0).all()) for norm in norms)
    )


def about_refinement(weights: dict[str, Any]) -> str:
    """What is to be said of one checkpoint's refinement."""
    if refinement_untrained(weights):
        text = "The refinement of these weights was never trained (alpha exactly 0.5, norms at 1 "
        return text + "and 0): fob-paper leaves it out."
    return "The refinement of these weights was trained; fob-paper leaves it out all the same."


def known_about_folds(model: Model) -> list[str]:
    """What `about_folds` has found; empty where nobody has looked since the files are there."""
    note = model.path / _NOTE
    try:
        if all(file.stat().st_mtime_ns <= note.stat().st_mtime_ns for file in model.files):
            return note.read_text("utf-8").splitlines()
    except OSError:  # nobody has looked
        pass
    return []


def about_folds(model: Model) -> list[str]:
    """What is to be said of a model's folds; empty for a model without any."""
    if not model.members or not model.here:
        return []
    said = known_about_folds(model)
    if not said:
        said = _look_at_folds(model)
        new = model.path / f".{_NOTE}.new"
        with contextlib.suppress(OSError):  # a folder of somebody else's
            new.write_text("\n".join(said), "utf-8")
            new.replace(model.path / _NOTE)
    return said


def _look_at_folds(model: Model) -> list[str]:
    from FoBSAMLib.models.checkpoints import load_checkpoint  # with torch

    untrained, first, same = [], None, True
    for name in model.members:
        weights = load_checkpoint(model.require(name))
        refinement = {key: one for key, one in weights.items() if key.startswith(_PREFIX)}
        if f"{_PREFIX}gcn.alpha" not in refinement:
            return [f"{name} of {model.name} holds no refinement."]
        if refinement_untrained(refinement):
            untrained.append(name.partition(".")[0])
        first = first or refinement
        same = same and all(bool((first[key] == one).all()) for key, one in refinement.items())
    if not untrained:
        return ["The refinement was trained; fob-paper leaves it out all the same."]
    text = f"The refinement was never trained in the folds {', '.join(untrained)} "
    text += "(alpha exactly 0.5, norms at 1 and 0"
    return [text + (", identical in all folds" if same else "") + "): fob-paper leaves it out."]
