"""Generators by name; what a generator needs is imported when it is created."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator.base import Generator
from FoBSAMLib.models.catalogue import read_record, record_of
from FoBSAMLib.models.device import choose_device
from FoBSAMLib.models.paths import require_weights, resource, split_name
from FoBSAMLib.models.published import fold_file

#: Weights that come with FoBSAM: the default, the same at two thirds of the cost, and those that no
#: organ label had a part in.
SHIPPED = {
    "fob-lite": "weights/fob-lite.safetensors",
    "fob-lite-fast": "weights/fob-lite.safetensors",
    "fob-lite-self": "weights/fob-lite-self.safetensors",
}
NAMES = (*SHIPPED, "fob-paper")


def create(name: str, device: str = "auto") -> Generator:
    """The generator called ``name``, computing on ``device``.

    ``fob-lite`` uses its shipped weights, ``fob-lite:FILE`` others; ``fob-lite-fast`` spends two
    thirds of the time on a slice; ``fob-lite-self`` uses weights trained without organ labels;
    ``fob-paper:FILE`` is the paper's network with one of its checkpoints, ``fob-paper:sabs:0`` …
    with a published fold.
    Raises ``FoBSAMError``: ``bad_request`` for an
    unknown name (the nearest is named), ``weights_missing``, ``weights_corrupt``.
    """
    kind = name.partition(":")[0]
    if kind not in NAMES:
        nearest = difflib.get_close_matches(kind, NAMES, n=1, cutoff=0.4)
        hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
        raise FoBSAMError(
            "bad_request", f"There is no generator {kind!r}.", f"{hint}Known: {', '.join(NAMES)}."
        )
    path = weights_file(name)
    if kind == "fob-paper":
        return _fob_paper(path, device)
    return _fob_lite(kind, path, device)


def weights_file(name: str) -> Path:
    """Where `create` reads the weights of a known generator; raises FoBSAMError
    (``weights_missing``) where the paper's are not named or not here, ``bad_request`` for a
    colon without a file."""
    kind, file = split_name(name)
    if kind == "fob-paper" and not file:
        raise FoBSAMError(
            "weights_missing",
            "The paper's network needs one of its checkpoints.",
            "Give fob-paper:sabs:0 or fob-paper:chaost2:0 (the fold, 0 to 4; see fobsam models), "
            "or fob-paper:FILE.",
        )
    fold = fold_file(file) if kind == "fob-paper" else None
    return fold or (Path(file).expanduser() if file else resource(SHIPPED[kind]))


def _fob_lite(name: str, path: Path, device: str) -> Generator:
    from FoBSAMLib.generator.fob_lite import FAST, FULL, FobLiteGenerator
    from FoBSAMLib.generator.lite import FobLite
    from FoBSAMLib.models.checkpoints import load_checkpoint, load_into

    require_weights(path)
    model = FobLite()
    load_into(model, load_checkpoint(path), path)
    pace = FAST if name == "fob-lite-fast" else FULL
    generator = FobLiteGenerator(model, choose_device(device), _sha256(path), pace)
    generator.name = name
    return generator


def _fob_paper(path: Path, device: str) -> Generator:
    from FoBSAMLib.generator.fob_paper import FobPaperGenerator

    require_weights(path)
    found = _sha256(path)
    recorded = read_record(record_of(path))
    if recorded not in (None, found):
        raise FoBSAMError(
            "weights_corrupt",
            f"{path} is not what {record_of(path).name} says (its sha256 is {found[:12]}…).",
            "Get it again: see fobsam models.",
        )
    return FobPaperGenerator.from_checkpoint(path, str(choose_device(device)), found)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
