"""``fobsam models``: the large models, which are had from elsewhere."""

from __future__ import annotations

import json as json_format
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from FoBSAMLib.errors import FoBSAMError

app = typer.Typer(help="Models that are downloaded or imported: licences, sizes, where they are.")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="As fobsam models list has it.", show_default=False)
]
LinesOption = Annotated[
    bool, typer.Option("--json", help="Progress as lines of JSON, for programs.")
]


def _find(name: str) -> Any:
    """The model of a name; one that comes with FoBSAM is told."""
    from FoBSAMLib.generator.registry import SHIPPED
    from FoBSAMLib.models.catalogue import catalogue, find
    from FoBSAMLib.segmenters.registry import names

    if name not in catalogue() and name in (*SHIPPED, *names()):
        raise FoBSAMError("bad_request", f"{name} comes with FoBSAM, there is nothing to get.")
    return find(name)


@app.command("list")
def list_(
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Which models there are, and which of them are here."""
    from FoBSAMLib.models.catalogue import catalogue, models_folder

    models = catalogue().values()
    if json:
        typer.echo(json_format.dumps([_plain(one) for one in models], indent=1))
        return
    typer.echo(f"{'NAME':18} {'SIZE':>13}  {'STATE':10} TITLE")
    for one in models:
        typer.echo(f"{one.name:18} {one.size_text:>13}  {one.state:10} {one.title}")
    typer.echo(f"in {models_folder()}")


@app.command()
def info(name: NameArgument) -> None:
    """What is known of a model: licence, citation, address, checksum."""
    from FoBSAMLib.models.published import about_folds

    model = _find(name)
    typer.echo(model.notice)
    typer.echo(f"Address: {', '.join(model.urls) or 'none, import it'}")
    where = " (of the file that came in first)" if not model.sha256 and model.expected else ""
    typer.echo(f"sha256: {model.expected or 'unknown, taken from the first file'}{where}")
    typer.echo(f"{model.state}: {model.path}")
    for note in about_folds(model):
        typer.echo(note)


@app.command()
def download(
    name: NameArgument,
    yes: Annotated[
        bool, typer.Option("--yes", help="Agree to the licence without asking.")
    ] = False,
    json: LinesOption = False,
) -> None:
    """Download a model; one that was interrupted goes on."""
    from FoBSAMLib.models import store

    model = _find(name)
    if model.here:
        doubt = "" if model.state == "present" else f" Check it: fobsam models verify {name}"
        typer.echo(f"{name} is here already: {model.path}{doubt}", err=json)
        return
    if model.urls:
        _agree(model, yes)
    with _progress(model, json) as progress:
        try:
            store.download(model, progress)
        except KeyboardInterrupt:
            raise FoBSAMError(
                "cancelled", "What has come is kept.", "The same command goes on."
            ) from None
    _landed(model, json)


@app.command("import")
def import_(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(help="The file as published.", show_default=False)],
    json: LinesOption = False,
) -> None:
    """Take a model from a file, for computers without a network."""
    from FoBSAMLib.models import store

    model = _find(name)
    typer.echo(model.notice, err=True)
    with _progress(model, json) as progress:
        store.take_file(model, file, progress)
    _landed(model, json)


@app.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this one.", show_default=False)
    ] = None,
    json: LinesOption = False,
) -> None:
    """Read models that are here again, and compare their checksums."""
    from FoBSAMLib.models import store
    from FoBSAMLib.models.catalogue import catalogue

    models = [_find(name)] if name else [m for m in catalogue().values() if m.here]
    problems = []
    for model in models:
        with _progress(model, json) as progress:
            try:
                store.verify(model, progress)
            except FoBSAMError as error:
                problems.append(f"{model.name}: {error}")
                continue
        _landed(model, json, "is right")
    if not models:
        typer.echo("No model is here.", err=json)
    if problems:
        raise FoBSAMError("weights_corrupt", " ".join(problems))


@app.command()
def remove(
    name: NameArgument,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Also the recorded checksum: another file may come in then."),
    ] = False,
    json: LinesOption = False,
) -> None:
    """Delete a model, and what was downloaded of it."""
    from FoBSAMLib.models import store

    model = _find(name)
    recorded = model.record.exists()
    with _progress(model, json) as progress:
        there = store.remove(model, progress, forget=forget)
    said = f"{name} is removed." if there else f"{name} was not here."
    if recorded and not model.record.exists() and not model.sha256:
        said += " Its checksum is forgotten: another file may come in."
    elif recorded and not model.sha256:
        said += " The same file alone may come in again; --forget lets any other in, too."
    typer.echo(said, err=json)


def _agree(model: Any, yes: bool) -> None:
    """Show what one agrees to; a download that goes on was agreed to already."""
    typer.echo(model.notice, err=True)
    if yes or model.state == "partial":
        return
    if not sys.stdin.isatty():
        raise FoBSAMError(
            "bad_request", "Nobody can be asked to agree to the licence.", "Read it, and add --yes."
        )
    if not typer.confirm("Download it under these terms?", err=True):
        raise FoBSAMError("cancelled", "Nothing was downloaded.")


@contextmanager
def _progress(model: Any, lines: bool) -> Iterator[Callable[..., None]]:
    """For people a bar on stderr, for programs lines of JSON on stdout."""
    if not lines:
        from FoBSAMLib.progress import show_bytes

        with show_bytes(model.name) as progress:
            yield progress
        return
    import time

    last = ("", 0.0)
    # Whoever started this may know a launcher's number only.
    print(json_format.dumps({"pid": os.getpid()}), flush=True)

    def tell(done: int | None = None, total: int | None = None, *, doing: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if doing == last[0] and now - last[1] < 0.2 and done != total:
            return
        last = (doing, now)
        print(json_format.dumps({"done": done, "total": total, "doing": doing}), flush=True)

    yield tell


def _landed(model: Any, lines: bool, what: str = "is here") -> None:
    from FoBSAMLib.models.published import about_folds

    notes = about_folds(model)
    if lines:
        print(json_format.dumps({**_plain(model), "notes": notes}), flush=True)
        return
    typer.echo(f"{model.name} {what}: {model.path}")
    typer.echo(f"sha256 {model.expected}" + ("" if model.sha256 else ", from its first file"))
    for note in notes:
        typer.echo(note)


def _plain(model: Any) -> dict[str, Any]:
    """An entry with its state, as JSON has it."""
    return {
        "name": model.name,
        "title": model.title,
        "kind": model.kind,
        "state": model.state,
        "bytes": model.bytes,
        "about_bytes": model.size,
        "sha256": model.expected,
        "licence": model.licence,
        "citation": model.citation,
        "terms": model.terms,
        "urls": list(model.urls),
        "path": str(model.path),
    }
