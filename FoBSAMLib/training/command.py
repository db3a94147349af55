"""``fobsam train``: from a folder of images to a weights file with its log and curve."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.datasets import Dataset, find_dataset
from FoBSAMLib.image.io import atomic_path
from FoBSAMLib.models.checkpoints import RECORD
from FoBSAMLib.models.device import choose_device
from FoBSAMLib.models.paths import require_weights, resource
from FoBSAMLib.training import settings
from FoBSAMLib.training.episodes import TrainingVolume
from FoBSAMLib.training.lite import LiteRecipe
from FoBSAMLib.training.paper import PaperRecipe
from FoBSAMLib.training.prepare import prepared
from FoBSAMLib.training.processes import Team, joined
from FoBSAMLib.training.settings import Choice, Scope
from FoBSAMLib.training.trainer import Model, Recipe, TrainingConfig, train

#: Gives a callback (done, total, …) that shows how far a named piece of work is.
Show = Callable[[str], AbstractContextManager[Callable[..., None]]]
#: Shows the user a line.
Tell = Callable[[str], None]
#: Processes that draw episodes for one GPU.
MOST_WORKERS = 8


def run(
    datasets: str,
    folder: Path,
    output: Path | None = None,
    *,
    choice: Choice,
    model: Model | None = None,
    config_file: Path | None = None,
    initial: Path | None = None,
    device: str,
    show: Show,
    tell: Tell,
) -> Path:
    """Train a generator, or go on with an interrupted run in ``output``.

    Under ``torchrun`` every process calls this; the first one prepares, shows and writes.

    Args:
        datasets: names with commas between, e.g. ``chaos,sabs``.
        folder: holds the data sets' folders.
        output: for prepared volumes, ``state.pt``, ``log.csv``, ``curve.png`` and the weights;
            by default ``runs/MODEL``.
        choice: which subjects, which slices, whether with labels.
        model: what to train; by default what the configuration says.
        config_file: see `TrainingConfig`; the model's own where None.
        initial: weights of a ResNet-101 that the paper's network starts from.

    Returns:
        The weights file written.

    Raises:
        FoBSAMError: unknown data set or subject, missing images, unreadable configuration,
            unwritable output, nothing left to train on.
    """
    config = TrainingConfig.read(config_file or resource(f"training/{model or 'fob-lite'}.json"))
    config = replace(config, model=model or config.model)
    recipe = _recipe(config.model, initial)
    found = [find_dataset(name, folder) for name in dict.fromkeys(datasets.split(","))]
    _check_kinds(found, config.model)
    if choice.labels is None:
        # The published settings use none, whatever the configuration says.
        published = choice.fold is not None or choice.setting == "II"
        choice = replace(choice, labels=config.labels and not published)
    scope = settings.choose(found, choice, config.subjects, config.leave_out)
    output = output or Path("runs") / config.model
    with joined(choose_device(device)) as (team, chosen):
        _check_same(config, output)
        if team.first:
            _make(output)
            of_data = [note for one in found for note in one.notes]
            for note in (*recipe.notes, *of_data, *scope.notes):
                tell(note)
            if scope.labels:
                tell("Organ labels are used; --no-labels trains on images alone, as published.")
        volumes, scope = _volumes(found, scope, output / "prepared", recipe.slices, team, show)
        config = replace(
            config, subjects=scope.subjects, leave_out=scope.leave_out, labels=scope.labels
        )
        with _shown(team, show, "training") as progress:
            trained = train(
                volumes,
                config,
                output,
                chosen,
                recipe,
                lambda step, _: progress(step, config.steps),
                workers=_workers(chosen, team),
                team=team,
            )
        weights = output / f"{config.model}.safetensors"
        if team.first:
            command = _command(datasets, choice, config.model)
            record = settings.record(config.model, scope, found, config.steps, command)
            save_weights(trained, weights, record, halved=recipe.halved)
            log = output / "log.csv"
            if log.exists():  # not where it was taken from a run that had ended
                draw_curve(log, output / "curve.png")
            tell(f"wrote {weights}")
        team.wait()
    return weights


def save_weights(model: nn.Module, path: Path, record: dict[str, Any], *, halved: bool) -> None:
    """Write a model's weights with their training record; ``halved``: matrices in half precision,
    all else as it is."""
    state = {
        name: (tensor.half() if halved and tensor.dim() > 1 else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    with atomic_path(path) as partial:
        partial.write_bytes(save(state, {RECORD: json.dumps(record)}))  # with the usual rights


def draw_curve(log: Path, path: Path) -> None:
    """Draw the losses of a run."""
    from matplotlib.figure import Figure

    with log.open() as stream:
        rows: list[dict[str, Any]] = list(csv.DictReader(stream))
    names = [name for name in rows[0] if name not in ("step", "seconds")]
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots(2, (len(names) + 1) // 2, squeeze=False).ravel()
    steps = [int(row["step"]) for row in rows]
    for name, panel in zip(names, axes, strict=False):
        panel.plot(steps, [float(row[name]) for row in rows], linewidth=0.8)
        panel.set_title(name)
        panel.set_xlabel("step")
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=100)


def _recipe(model: Model, initial: Path | None) -> Recipe:
    if model == "fob-paper":
        if initial is not None:
            require_weights(initial)
        return PaperRecipe(initial)
    if initial is not None:
        raise FoBSAMError(
            "bad_request",
            f"{model} has initial weights of its own.",
            "Leave --initial out, or give --model fob-paper.",
        )
    return LiteRecipe()


def _check_kinds(datasets: list[Dataset], model: Model) -> None:
    photographs = [one.name for one in datasets if one.kind == "photograph"]
    if photographs and model == "fob-lite":
        raise FoBSAMError(
            "bad_request",
            f"{model} learns from slice to slice, and {photographs[0]} holds photographs.",
            "Give --model fob-paper.",
        )


def _check_same(config: TrainingConfig, output: Path) -> None:
    """Before anything is prepared, that a run in the output's folder is this one, as far as is
    known by then."""
    before = output / "config.json"
    if not (before.is_file() and (output / "state.pt").is_file()):
        return
    theirs, mine = asdict(TrainingConfig.read(before)), asdict(config)
    found_out_later = ("subjects", "leave_out", "labels")
    differing = [
        name for name in mine if name not in found_out_later and mine[name] != theirs[name]
    ]
    if differing:
        raise FoBSAMError(
            "bad_request",
            f"{output} holds a run with another {', '.join(differing)}.",
            "Choose another --output, or the configuration of that run.",
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FoBSAMError(
            "unwritable", f"{folder} cannot be made: {error.strerror}.", "Choose another --output."
        ) from None


def _volumes(
    datasets: list[Dataset], scope: Scope, cache: Path, slices: int, team: Team, show: Show
) -> tuple[list[TrainingVolume], Scope]:
    """The volumes to train on, and the scope without those of which nothing may be shown."""
    if not team.first:
        team.wait()  # the first process prepares them, the others find them prepared
    work = [(one, subject) for one in datasets for subject in scope.subjects[one.name]]
    volumes: list[TrainingVolume] = []
    kept: dict[str, list[int]] = {one.name: [] for one in datasets}
    with _shown(team, show, "preparing volumes") as progress:
        for done, (dataset, subject) in enumerate(work, 1):
            organs = scope.leave_out.get(dataset.name, [])
            volume = settings.without(prepared(dataset, subject, cache), dataset, organs, slices)
            if volume is not None:
                volumes.append(volume)
                kept[dataset.name].append(subject)
            progress(done, len(work))
    if team.first:
        team.wait()
    empty = [name for name, subjects in kept.items() if not subjects]
    if empty:
        raise FoBSAMError(
            "bad_request",
            f"Of {', '.join(empty)} nothing is left to train on: without the slices that hold "
            f"{', '.join(scope.leave_out.get(empty[0], [])) or 'organs'} no {slices} neighbours "
            "remain.",
            "Leave fewer organs out, or train on other data.",
        )
    return volumes, replace(scope, subjects=kept)


def _workers(device: torch.device, team: Team) -> int:
    """Processes that draw episodes beside each one that trains: a GPU is not to wait for them."""
    if device.type == "cpu":
        return 1
    return max(1, min(MOST_WORKERS, (os.cpu_count() or 1) // team.count - 1))


def _shown(team: Team, show: Show, what: str) -> AbstractContextManager[Callable[..., None]]:
    return show(what) if team.first else nullcontext(lambda *_: None)


def _command(datasets: str, choice: Choice, model: Model) -> str:
    """The command that trains again, less what names files."""
    words = ["fobsam train", datasets, "DIR", "--model", model, "--setting", choice.setting]
    words += [] if choice.fold is None else ["--fold", str(choice.fold)]
    words += [f"--test-organ '{organ}'" for organ in choice.test_organs]
    words += ["--labels" if choice.labels else "--no-labels"]
    words += ["--all-subjects"] if choice.all_subjects else []
    return " ".join(words)
