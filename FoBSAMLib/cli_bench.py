"""``fobsam bench``: what things cost on this machine; what is measured is in ``bench/``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from FoBSAMLib.cli_options import DeviceOption

app = typer.Typer(help="Measure speed on this machine: a table, and every figure as JSON.")

JsonOption = Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write every figure.")]
RepeatsOption = Annotated[int, typer.Option(metavar="N", min=1, help="How often.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Processor threads.", show_default="PyTorch's choice"),
]
ImageOption = Annotated[
    Path | None,
    typer.Option(metavar="IMAGE", help="Which image.", show_default="the demo's chest CT"),
]


@app.command()
def worker(
    repeats: RepeatsOption = 5,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    json: JsonOption = None,
) -> None:
    """What a worker costs beside the same work in this process."""
    _limit(threads)
    from FoBSAMLib.bench import worker as bench

    _show("worker", lambda progress: bench.run(repeats, progress, device), bench.table, json)


@app.command()
def sam(
    architecture: Annotated[
        str, typer.Argument(help="vit_b, vit_l, vit_h or sam2.1-tiny.", metavar="ARCHITECTURE")
    ] = "vit_b",
    repeats: RepeatsOption = 3,
    image: ImageOption = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also with torch.compile, and when that pays.")
    ] = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    json: JsonOption = None,
) -> None:
    """SAM's image encoder with random weights, beside segment_anything's own."""
    _limit(threads)
    from FoBSAMLib.bench import sam as bench

    _show(
        architecture,
        lambda progress: bench.run(architecture, device, repeats, image, compiled, progress),
        bench.table,
        json,
    )


@app.command()
def paper(
    repeats: RepeatsOption = 3,
    image: ImageOption = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A checkpoint.", show_default="random")
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    json: JsonOption = None,
) -> None:
    """The paper's prompt generator, beside the way it was released."""
    _limit(threads)
    from FoBSAMLib.bench import paper as bench

    _show(
        "paper",
        lambda progress: bench.run(device, repeats, image, weights, progress),
        bench.table,
        json,
    )


@app.command()
def slices(
    repeats: RepeatsOption = 3,
    image: ImageOption = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="LABELMAP", help="The known structures in IMAGE.", show_default=False),
    ] = None,
    structure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N|NAME", help="Only this one; may be repeated.", show_default="three, or all"
        ),
    ] = None,
    large: Annotated[
        bool, typer.Option("--large", help="Also a CT of 600×512×512: minutes.")
    ] = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    json: JsonOption = None,
) -> None:
    """The default model from file to file, and where its time and memory go."""
    _limit(threads)
    from FoBSAMLib.bench import slices as bench

    _show(
        "slices",
        lambda progress: bench.run(
            device, repeats, image, labels, structure or (), large, progress
        ),
        bench.table,
        json,
    )


def _limit(threads: int | None) -> None:
    """Before torch is imported, so that processes started by this one keep to it as well."""
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)


def _show(
    what: str,
    run: Callable[[Callable[..., None]], dict[str, Any]],
    table: Callable[[dict[str, Any]], str],
    json: Path | None,
) -> None:
    from FoBSAMLib.image.io import check_writable
    from FoBSAMLib.outputs import write_json
    from FoBSAMLib.progress import show_progress

    if json is not None:
        check_writable(json)
    with show_progress(what) as progress:
        document = run(progress)
    typer.echo(table(document))
    if json is not None:
        write_json(json, document)
        typer.echo(f"wrote {json}")
