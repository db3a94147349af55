"""``fobsam batch``: many images at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from FoBSAMLib.cli_options import DeviceOption, GeneratorOption, SegmenterOption
from FoBSAMLib.errors import FoBSAMError

if TYPE_CHECKING:
    from FoBSAMLib.batch.outcome import Outcome


def batch(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|LIST.csv",
            help="Folder of images and DICOM folders, or a CSV file with the columns image and, "
            "if wanted, support (drawn on that image) and output; paths in it start at its folder.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder for NAME.seg.nrrd and NAME.json of each case, and summary.csv.",
            show_default=False,
        ),
    ],
    support_image: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="IMAGE",
            help="An annotated image, for all cases without a support of their own. May be "
            "repeated, each with its --support: every case is segmented from each, and a structure "
            "is taken from where it was found with the highest mean confidence.",
        ),
    ] = None,
    support: Annotated[
        list[Path] | None,
        typer.Option(metavar="LABELMAP", help="What is drawn on that --support-image."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="N|NAME", help="Only this structure; may be repeated."),
    ] = None,
    axis: Annotated[
        Literal["auto", "i", "j", "k"], typer.Option(help="Axis the annotated slices lie along.")
    ] = "auto",
    generator: GeneratorOption = "fob-lite",
    segmenter: SegmenterOption = "compact",
    device: DeviceOption = "auto",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace outputs that were made otherwise, or changed since. What is complete and "
            "was made from the same inputs, options and models is skipped in any case.",
        ),
    ] = False,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, help="Cases at a time; each loads the models.")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Work on this Ray cluster; 'local' starts one here. FoBSAM must be installed on "
            "its nodes, and all files be found there under the same paths.",
        ),
    ] = None,
    cpus_per_worker: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="With --ray.", show_default="1")
    ] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(metavar="X", min=0, help="With --ray.", show_default="0")
    ] = None,
) -> None:
    """Segment many images; the same command again goes on where it was stopped."""
    images, drawn = support_image or [], support or []
    if len(images) != len(drawn):
        raise typer.BadParameter("give as many --support-image as --support, in one order.")
    if ray is None and (cpus_per_worker or gpus_per_worker):
        raise typer.BadParameter("--cpus-per-worker and --gpus-per-worker are for --ray.")
    from FoBSAMLib.batch.cases import Drawing, Options
    from FoBSAMLib.batch.cluster import Resources
    from FoBSAMLib.batch.command import run
    from FoBSAMLib.batch.outcome import SUMMARY, table
    from FoBSAMLib.progress import show_progress

    try:
        with show_progress("batch") as progress:
            outcomes = run(
                source,
                output,
                [Drawing(*pair) for pair in zip(images, drawn, strict=True)],
                Options(tuple(label or ()), axis, generator, segmenter, device, overwrite),
                workers=workers,
                ray=ray,
                resources=Resources(cpus_per_worker or 1, gpus_per_worker or 0),
                progress=progress,
            )
    except KeyboardInterrupt:
        raise FoBSAMError(
            "cancelled", "What is finished is kept.", "The same command goes on."
        ) from None
    typer.echo(table(outcomes))
    typer.echo(f"wrote {output / SUMMARY}")
    _tell_failed(outcomes)


def _tell_failed(outcomes: list[Outcome]) -> None:
    failed = [outcome.case for outcome in outcomes if outcome.state == "failed"]
    if failed:
        typer.echo(
            f"error: {len(failed)} of {len(outcomes)} cases failed: {', '.join(failed)}.", err=True
        )
        raise typer.Exit(1)
