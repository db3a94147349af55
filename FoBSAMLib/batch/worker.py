"""One case after another, with the models loaded once: what every process of a batch does."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch

from FoBSAMLib.batch.cases import Case, Drawing, Options
from FoBSAMLib.batch.outcome import Outcome, outcome_of
from FoBSAMLib.batch.several import combine
from FoBSAMLib.errors import FoBSAMError, is_out_of_memory
from FoBSAMLib.image.io import atomic_path, check_output, write_segmentation
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.outputs import Outputs, write_json
from FoBSAMLib.session.local import LocalSession
from FoBSAMLib.session.oneshot import OneShot, segment
from FoBSAMLib.session.support import Support
from FoBSAMLib.version import __version__

#: Headers whose voxels are in another file: they are read to know what the image is.
DETACHED = (".mhd", ".nhdr", ".hdr", ".img")


class Worker:
    """Holds the models and segments cases; what goes wrong with one is told in its outcome."""

    def __init__(self, options: Options, cores: int) -> None:
        """Load the models, to compute with so many cores.

        Raises FoBSAMError for unknown names and missing weights.
        """
        # A session follows a structure in two directions at once, where there is more than a core.
        torch.set_num_threads(max(1, cores // 2))
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(cores)
        sitk.ProcessObject.GlobalWarningDisplayOff()
        self._options = options
        self._session = LocalSession(options.generator, options.segmenter, options.device)
        self._session.threaded = cores > 1
        # Drawings on other images than the cases' own serve many cases.
        self._read_drawing = cache(self._read_drawing_anew)
        self._digest = cache(digest)

    def run(self, case: Case, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Segment a case and write its files, unless that was done; ``stop`` is asked between
        slices, True leaves the case as it was, failed."""
        try:
            return self._run(case, stop)
        except FoBSAMError as error:
            return Outcome(case.name, "failed", error=str(error))
        except Exception as error:
            if is_out_of_memory(error):
                return Outcome(case.name, "failed", error="Not enough memory.")
            what = f"{type(error).__name__}: {error} - this is a bug in FoBSAM."
            return Outcome(case.name, "failed", error=" ".join(what.split()))

    def _run(self, case: Case, stop: Callable[[], bool]) -> Outcome:
        began = time.perf_counter()
        made_from = self._made_from(case)
        report = finished(case, made_from, self._options.overwrite)
        if report is not None:
            return outcome_of(case.name, "skipped", report)
        check_output(case.output)
        runs = self._segment(case, stop)
        for run in runs:
            run.support.check_writable_as(case.output)
        if len(runs) == 1:
            segmentation, report = runs[0].segmentation, runs[0].report()
        else:
            segmentation, report = combine(runs)
        report["seconds"] = round(time.perf_counter() - began, 3)
        write(case, replace(runs[0], segmentation=segmentation), report, made_from)
        return outcome_of(case.name, "done", report)

    def _segment(self, case: Case, stop: Callable[[], bool]) -> list[OneShot]:
        def between(*_: object) -> None:
            if stop():
                raise FoBSAMError("cancelled", "Stopped.", "The same command goes on.")

        between()
        volume = Volume.read(case.image)
        Outputs(case.output).check_fits(volume)
        runs = []
        for drawing in case.drawings:
            if drawing.image == case.image:
                support = self._read_support(drawing, volume)
            else:
                support = self._read_drawing(drawing)
            runs.append(
                segment(
                    support.volume, support, query=volume, progress=between, session=self._session
                )
            )
        return runs

    def _read_drawing_anew(self, drawing: Drawing) -> Support:
        return self._read_support(drawing, Volume.read(drawing.image))

    def _read_support(self, drawing: Drawing, volume: Volume) -> Support:
        return Support.read(drawing.support, volume, self._options.axis, self._options.labels)

    def _made_from(self, case: Case) -> dict[str, Any]:
        """What decides how a case comes out: by this a finished one is known."""
        models = self._session.models
        named = ("generator", "generator_sha256", "segmenter", "segmenter_sha256")
        drawings = [
            # Shared drawings are read once a worker; a case's own are its alone.
            {"image": read(one.image), "support": read(one.support)}
            for one in case.drawings
            for read in [digest if one.image == case.image else self._digest]
        ]
        return {
            "fobsam": __version__,
            "image": digest(case.image),
            "drawings": drawings,
            "labels": list(self._options.labels),
            "axis": self._options.axis,
            **{name: models[name] for name in named},
        }


def finished(case: Case, made_from: Mapping[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """The report of a case that is complete and was made from just that; None where it is to do.

    Raises FoBSAMError where there is an output made otherwise, or changed since, that is not to be
    overwritten.
    """
    report = _read_report(case.report)
    batch = report.get("batch", {})
    if not case.output.exists():
        if report and not batch and not overwrite:
            raise _in_the_way(case.report, "is no report of a batch")
        return None
    if batch.get("made_from") == made_from and batch.get("output") == digest(case.output):
        return report
    if overwrite:
        return None
    if not batch:
        raise _in_the_way(case.output, "exists, and no batch made it")
    before = batch.get("made_from", {})
    if before != made_from:
        different = [key for key in made_from if before.get(key) != made_from[key]]
        raise _in_the_way(case.output, f"was made otherwise ({', '.join(different)})")
    raise _in_the_way(case.output, "was changed since it was made")


def _in_the_way(path: Path, why: str) -> FoBSAMError:
    return FoBSAMError("unwritable", f"{path} {why}.", "Give --overwrite, or another --output.")


def _read_report(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return {"notes": []}  # some other file
    is_report = isinstance(content, dict) and isinstance(content.get("batch", {}), dict)
    return content if is_report else {"notes": []}


def write(case: Case, found: OneShot, report: dict[str, Any], made_from: Mapping[str, Any]) -> None:
    """Write report and segmentation: whoever is killed in between leaves a report without its
    output, which is a case to do; never an output of unknown origin."""
    with atomic_path(case.output) as temporary:
        write_segmentation(
            temporary, found.segmentation, case.name, source=found.volume, models=found.models
        )
        report["batch"] = {"made_from": made_from, "output": digest(temporary)}
        write_json(case.report, report)


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, of a folder's files with their names, or, where a header has its
    voxels in another file, of the image. Raises FoBSAMError (``unreadable``)."""
    if path.name.lower().endswith(DETACHED):
        return Volume.read(path).content_key()
    try:
        if not path.is_dir():
            return _digest_file(path)
        files = sorted(file for file in path.iterdir() if file.is_file())
        parts = [f"{file.name} {_digest_file(file)}" for file in files]
    except OSError as error:
        raise FoBSAMError(
            "unreadable", f"{path} cannot be read: {error.strerror or error}.", "Check the path."
        ) from error
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _digest_file(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()
