"""The ``fobsam`` command. What a command needs is imported when it runs: help is quick."""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from FoBSAMLib import cli_bench, cli_models
from FoBSAMLib.cli_batch import batch
from FoBSAMLib.cli_options import (
    GENERATOR_HELP,
    SEGMENTER_HELP,
    DeviceOption,
    GeneratorOption,
    SegmenterOption,
)
from FoBSAMLib.cli_train import train
from FoBSAMLib.errors import FoBSAMError, is_out_of_memory
from FoBSAMLib.models.memory import keep_freed_memory
from FoBSAMLib.version import __version__

if TYPE_CHECKING:
    from FoBSAMLib.image.volume import Axis, Volume
    from FoBSAMLib.session.base import Session
    from FoBSAMLib.session.oneshot import OneShot

INTERRUPTED = 130  # the status after Ctrl-C, as typer returns it
NO_MEMORY = "Not enough memory. Close other programs or give a smaller image."

app = typer.Typer(
    name="fobsam",
    help="One annotated slice in, the segmented volume out.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> NoReturn:
    """Run the command line; whatever goes wrong ends as one line on stderr and a status."""
    debug = bool(os.environ.get("FOBSAM_DEBUG"))
    if not debug:
        warnings.simplefilter("ignore")
    # Threads that wait must not spin: beside another busy process that takes seven times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    stopped = "no unfinished file is left."
    try:
        status = app(standalone_mode=False) or 0
    except typer.TyperException as error:
        status = _complain(error.format_message(), error.exit_code)
    except FoBSAMError as error:
        if error.code == "cancelled":
            status, stopped = INTERRUPTED, str(error)
        else:
            status = _complain(str(error), 1)
    except MemoryError:
        status = _complain(NO_MEMORY, 1)
    except Exception as error:
        if debug:
            raise
        status = _complain(_explained(error), 1)
    if status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("stopped:", stopped, file=sys.stderr)
    sys.exit(status)


def _complain(message: str, status: int) -> int:
    print("error:", " ".join(message.split()), file=sys.stderr)
    return status


def _explained(error: Exception) -> str:
    """What nobody further down has put into words."""
    if is_out_of_memory(error):
        return NO_MEMORY
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{error.filename} cannot be used: {error.strerror}."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # what is printed goes there
        return "The output cannot be written: the disk is full."
    return _as_bug(error)


def _as_bug(error: Exception) -> str:
    return (
        f"{type(error).__name__}: {error} - this is a bug in FoBSAM; "
        "set FOBSAM_DEBUG=1 and run again for the traceback to report."
    )


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fobsam {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def segment(
    image: Annotated[
        Path, typer.Argument(help="Image file, photograph or DICOM folder.", show_default=False)
    ],
    support: Annotated[
        Path,
        typer.Option(
            metavar="LABELMAP",
            help="Labelmap, .seg.nrrd or DICOM SEG on the image's grid; its non-empty slices are "
            "the annotated ones, each label value is a structure.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            metavar="OUT",
            help="Where to write: .seg.nrrd, .dcm (DICOM SEG of a DICOM image) or any labelmap "
            "format; a folder with --query.",
            show_default=False,
        ),
    ],
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="N|NAME", help="Only this structure; may be repeated."),
    ] = None,
    query: Annotated[
        list[Path] | None,
        typer.Option(metavar="IMAGE", help="Segment this image instead; may be repeated."),
    ] = None,
    axis: Annotated[
        Literal["auto", "i", "j", "k"], typer.Option(help="Axis the annotated slices lie along.")
    ] = "auto",
    slices: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Only slices A to B - 1 along the axis, from 0."),
    ] = None,
    absent: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL:SLICE", help="A slice known not to hold a structure; may be repeated."
        ),
    ] = None,
    generator: GeneratorOption = "fob-lite",
    segmenter: SegmenterOption = "compact",
    device: DeviceOption = "auto",
    worker: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND", help="Compute in a worker, as in 'ssh host fobsam worker'."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write what was found, slice by slice.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw it as PNG, PDF or SVG.")
    ] = None,
) -> None:
    """Segment an image from one or a few of its slices."""
    wanted = _parse_slices(slices)
    known_absent = _parse_absent(absent or [])
    if known_absent and query:
        raise typer.BadParameter(
            "--absent names slices of the annotated image: leave it out with --query."
        )
    from FoBSAMLib.outputs import plan

    jobs = plan(image, support, output, query or [], report, figure)
    from FoBSAMLib import Support, Volume

    volume = Volume.read(image)
    if not query:
        jobs[0][1].check_fits(volume)
    drawn = Support.read(support, volume, axis, label or [], known_absent)
    if not query:
        drawn.check_writable_as(output)
    from FoBSAMLib import segment as run
    from FoBSAMLib.progress import show_progress

    with _session(generator, segmenter, device, worker) as session:
        for path, outputs in jobs:
            target = Volume.read(path) if query else volume
            with show_progress(target.name) as progress:
                result = run(
                    volume,
                    drawn,
                    query=target if query else None,
                    slices=_choose_slices(wanted, target, drawn.axis),
                    session=session,
                    progress=progress,
                )
            outputs.write(result)
            _summarise(result)
            typer.echo(f"wrote {', '.join(map(str, outputs.files))}")


def _session(generator: str, segmenter: str, device: str, worker: str | None) -> Session:
    """A session here, or in the worker that a command starts."""
    if worker is None:
        # torch comes with this one: a wrong image is told sooner.
        from FoBSAMLib import LocalSession
        from FoBSAMLib.models.device import divide_cores

        divide_cores()
        return LocalSession(generator, segmenter, device)
    from FoBSAMLib import WorkerSession

    try:
        command = shlex.split(worker, posix=os.name != "nt")
    except ValueError as error:
        raise typer.BadParameter(f"--worker {worker}: {error}.") from error
    if not command:
        raise typer.BadParameter("--worker: give the command that starts a worker.")
    return WorkerSession(generator, segmenter, device, command=command)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder for what is written.")] = Path(
        "demo"
    ),
) -> None:
    """Segment a lung of a small chest CT from one slice, and compare with its known mask."""
    from FoBSAMLib.demo import run_demo
    from FoBSAMLib.models.device import divide_cores
    from FoBSAMLib.progress import show_progress

    divide_cores()
    with show_progress("chest CT") as progress:
        lines = run_demo(output, progress)
    typer.echo("\n".join(lines))


@app.command()
def evaluate(
    dataset: Annotated[str, typer.Argument(help="Which data set: chaos, sabs, isic or totalseg.")],
    folder: Annotated[
        Path, typer.Argument(help="Its folder, as downloaded or preprocessed.", metavar="DIR")
    ],
    protocol: Annotated[
        Literal["fob", "whole", "interactive", "skin"],
        typer.Option(
            help="Annotate slices of each volume itself (interactive), or of another subject, for "
            "every slice (whole), the organ's slices as published (fob), or photographs (skin)."
        ),
    ] = "interactive",
    setting: Annotated[
        Literal["I", "II"] | None,
        typer.Option(
            help="Demand weights trained without labels (I), or never shown the organs (II).",
            show_default=False,
        ),
    ] = None,
    train_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATASET", help="Demand weights trained on this data set; may be repeated."
        ),
    ] = None,
    allow_trained: Annotated[
        bool,
        typer.Option("--allow-trained", help="Evaluate subjects that the weights were trained on."),
    ] = False,
    annotated: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Annotated slices (interactive).", show_default="1"),
    ] = None,
    suggestion: Annotated[
        list[str] | None,
        typer.Option(
            metavar="tool|middle",
            help="Annotate next what the tool asks for, or the middle of the widest gap; may be "
            "repeated.",
            show_default="tool",
        ),
    ] = None,
    subject: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            help="Only this subject; may be repeated.",
            show_default="the published folds where all of the set is there, else the check set",
        ),
    ] = None,
    fold: Annotated[
        list[str] | None,
        typer.Option(metavar="N", help="Only this published fold, 1 to 5; may be repeated."),
    ] = None,
    organ: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this organ; may be repeated.",
            show_default="those of the published table",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this method; may be repeated: fobsam (the tool), the baselines copy, "
            "registration, random-walker, registration+random-walker and interpolation, and "
            "points alone, fob-prompts and prototype-prompts.",
            show_default="all",
        ),
    ] = None,
    generator: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"{GENERATOR_HELP} May be repeated. NAME:FILE names weights, in which "
            "{fold}, {cv} (the fold from 0) and {group} (of organs) are filled in.",
            show_default="fob-lite",
        ),
    ] = None,
    segmenter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"{SEGMENTER_HELP} May be repeated.",
            show_default="compact",
        ),
    ] = None,
    ablation: Annotated[
        bool,
        typer.Option("--ablation", help="Also with parts of the generator switched off."),
    ] = False,
    device: DeviceOption = "auto",
    jobs: Annotated[int, typer.Option(min=1, help="Subjects at a time.")] = 1,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write every figure.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Write the tables.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page with plots and the worst slices."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the subjects that --json already holds.")
    ] = False,
) -> None:
    """Measure FoBSAM and the baselines on a labelled data set."""
    from FoBSAMLib.evaluation import command, tables
    from FoBSAMLib.progress import show_progress

    try:
        with show_progress(f"{dataset}, {protocol}") as progress:
            document = command.run(
                dataset,
                folder,
                protocol,
                setting=setting,
                train_on=train_on,
                subjects=subject,
                folds=fold,
                organs=organ,
                methods=method,
                slices_annotated=annotated,
                suggestions=suggestion,
                generators=generator or ("fob-lite",),
                segmenters=segmenter or ("compact",),
                ablation=ablation,
                allow_trained=allow_trained,
                device=device,
                jobs=jobs,
                json_file=json,
                markdown_file=markdown,
                html_file=html,
                resume=resume,
                progress=progress,
                tell=lambda text: progress(doing=text),
            )
    except KeyboardInterrupt:
        if json is None or not json.exists():
            raise
        raise FoBSAMError(
            "cancelled", f"{json} holds what is done.", "The same command with --resume goes on."
        ) from None
    typer.echo(tables.markdown(document))


app.command()(batch)
app.command()(train)
app.add_typer(cli_bench.app, name="bench")
app.add_typer(cli_models.app, name="models")


@app.command()
def worker(
    idle: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=1, help="Give memory back after so long without a request."
        ),
    ] = 600.0,
) -> None:
    """Compute for another process: driven by standard input and output alone, see the README."""
    from FoBSAMLib.worker.command import run

    if sys.stdin is None or sys.stdin.isatty():
        raise typer.BadParameter(
            "this is for programs: use fobsam segment --worker 'fobsam worker'."
        )
    run(idle)


def _parse_slices(text: str | None) -> slice | None:
    if text is None:
        return None
    match = re.fullmatch(r"(-?\d+)?:(-?\d+)?", text)
    if not match:
        raise typer.BadParameter(f"--slices {text}: give A:B, two slice indices.")
    return slice(*(int(bound) if bound else None for bound in match.groups()))


def _choose_slices(wanted: slice | None, volume: Volume, axis: Axis) -> range | None:
    """The slices that A:B names on this image; raises FoBSAMError when it leaves it or is empty."""
    if wanted is None:
        return None
    count = volume.slice_count(axis)
    bounds = [bound for bound in (wanted.start, wanted.stop) if bound is not None]
    chosen = range(count)[wanted]
    if not chosen or not all(-count <= bound <= count for bound in bounds):
        raise FoBSAMError(
            "bad_request",
            f"--slices names no slices of {volume.name}, or some that it lacks.",
            f"It has slices 0:{count} along {axis}.",
        )
    return chosen


def _parse_absent(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    absent: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, index = text.rpartition(":")
        if not name or not index.isdecimal():
            raise typer.BadParameter(f"--absent {text}: give LABEL:SLICE, as in liver:12.")
        absent[name] = (*absent.get(name, ()), int(index))
    return absent


def _summarise(result: OneShot) -> None:
    from FoBSAMLib.session.warning import UNSURE

    for structure in result.support.structures:
        found = [r for r in result.results if r.structure.name == structure.name]
        present = [r for r in found if r.mask.any()]
        # Empty ones too: there the structure was judged to have ended.
        unsure = [r.index for r in found if r.confidence < UNSURE]
        text = f"{structure.name}: found in {len(present)} of {len(found)} slices"
        if unsure:
            text += f", look at {_as_ranges(unsure)} (confidence below {UNSURE})"
        typer.echo(text)
    for note in result.notes:
        typer.echo(note)
    each = 1000 * result.seconds / max(len(result.results), 1)
    typer.echo(f"{result.seconds:.1f} s, {each:.0f} ms a slice and structure")


def _as_ranges(indices: Iterable[int]) -> str:
    """Numbers in short: 1, 3-7."""
    ranges: list[list[int]] = []
    for index in sorted(indices):
        if ranges and index == ranges[-1][-1] + 1:
            ranges[-1][1:] = [index]
        else:
            ranges.append([index])
    return ", ".join("-".join(map(str, bounds)) for bounds in ranges)
