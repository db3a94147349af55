"""``fobsam train``: its options; what it does is in ``training/command.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from FoBSAMLib.cli_options import DeviceOption


def train(
    dataset: Annotated[
        str, typer.Argument(help="Data set, or several with commas between: chaos,sabs.")
    ],
    folder: Annotated[Path, typer.Argument(help="Folder that holds them.", metavar="DIR")],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Folder for weights, log and curve; an interrupted run there goes on.",
            show_default="runs/MODEL",
        ),
    ] = None,
    model: Annotated[
        Literal["fob-lite", "fob-paper"] | None,
        typer.Option(help="What to train.", show_default="what the configuration says"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Steps, rates, seed, subjects, bfloat16 and so on."),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Train for this published fold, 1 to 5: on the other cases."
        ),
    ] = None,
    setting: Annotated[
        Literal["I", "II"],
        typer.Option(help="Setting II shows no slice that holds a test organ."),
    ] = "I",
    test_organ: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="An organ to leave out; may be repeated."),
    ] = None,
    labels: Annotated[
        bool | None,
        typer.Option(
            "--labels/--no-labels",
            help="Learn from organ labels as well.",
            show_default="what the configuration says; no-labels with --fold and --setting II",
        ),
    ] = None,
    all_subjects: Annotated[
        bool,
        typer.Option(
            "--all-subjects",
            help="Also train on the subjects kept for checking, as published folds do.",
        ),
    ] = False,
    initial: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="fob-paper: a ResNet-101 of torchvision to start from."),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a generator.

    On several GPUs: torchrun --nproc-per-node N -m FoBSAMLib train ...
    """
    from FoBSAMLib.progress import show_progress
    from FoBSAMLib.training import command
    from FoBSAMLib.training.settings import Choice

    command.run(
        dataset,
        folder,
        output,
        choice=Choice(fold, setting, tuple(test_organ or ()), labels, all_subjects),
        model=model,
        config_file=config,
        initial=initial,
        device=device,
        show=show_progress,
        tell=typer.echo,
    )
