"""Hard use: one worker for long, images of all kinds, and processes killed at any moment.

    python Testing/unit/hard_use.py soak --rounds 200 --json FILE
    python Testing/unit/hard_use.py fuzz --rounds 500 --json FILE
    python Testing/unit/hard_use.py kill --rounds 300 --json FILE

Every round fails loudly where something is lost, half-written, left behind or not told.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import phantom
import pytest
import torch
import worker_faults
from fuzzed_images import Case, fuzzed, unlike_what_was_drawn
from model_server import CONTENT, serve

from FoBSAMLib import Volume, cli
from FoBSAMLib.image.io import read_segmentation
from FoBSAMLib.models import catalogue

#: Rounds of a soak before memory is looked at: caches fill.
WARM_UP = 20
#: Results of a run that is not cancelled: of two structures, drawn on one of twelve slices.
WHOLE = 22
#: A process that was killed may take so long to be gone with all that it has started, in seconds.
GONE = 5.0
#: So long at most each command is left alone, in seconds: somewhat longer than its first run took.
LONGEST: dict[str, float] = {}


def soak(rounds: int, seed: int) -> dict[str, Any]:
    """Segment, correct and cancel with one worker: memory, files and threads, round by round."""
    rng = random.Random(seed)
    images = [Volume.from_array(phantom.voxels(seed=n)) for n in range(3)]
    use: list[dict[str, int]] = []
    with worker_faults.session(worker_faults.REAL) as session:
        for n in range(rounds):
            image = images[n // 5 % len(images)]
            session.set_image(image)
            session.set_supports(worker_faults.support(image))
            stop = rng.randrange(1, 8) if n % 3 == 2 else None
            results = []
            for result in session.segment(cancel=lambda: bool(stop) and len(results) >= stop):  # noqa: B023
                results.append(result)
            assert len(results) < WHOLE if stop else len(results) == WHOLE, (stop, len(results))
            chosen = rng.choice(results)
            background = [*chosen.prompts.background, [rng.randrange(64), rng.randrange(64)]]
            prompts = replace(chosen.prompts, background=np.array(background, np.float32))
            corrected = session.correct(chosen.structure.name, chosen.index, prompts)
            assert corrected.index == chosen.index
            use.append(_use(worker_faults.pid_of(session), "worker") | _use(os.getpid(), "caller"))
        assert not session.notes, session.notes
    flat = use[min(WARM_UP, len(use) // 2) :]
    slope = {
        name: float(np.polyfit(range(len(flat)), _column(flat, name), 1)[0]) for name in use[0]
    }
    return {
        "rounds": rounds,
        "first": use[0],
        "after warm-up": flat[0],
        "last": use[-1],
        "most": {name: max(_column(use, name)) for name in use[0]},
        "gained in 100 rounds": {name: round(100 * value, 3) for name, value in slope.items()},
        "worker kB every 10 rounds": _column(use, "worker kB")[9::10],
    }


def _column(rows: list[dict[str, int]], name: str) -> list[int]:
    return [row[name] for row in rows]


def _use(pid: int, whose: str) -> dict[str, int]:
    folder = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return {
        f"{whose} kB": int(status["VmRSS"].split()[0]),
        f"{whose} files": len(list((folder / "fd").iterdir())),
        f"{whose} threads": int(status["Threads"]),
    }


def call(*arguments: object) -> tuple[int, str]:
    """The command in this process, which has its libraries loaded: its status and its errors."""
    before, said = sys.argv, io.StringIO()
    sys.argv = ["fobsam", *map(str, arguments)]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            cli.main()
    except SystemExit as end:
        return int(end.code or 0), said.getvalue()
    finally:
        sys.argv = before


def fuzz(rounds: int, seed: int) -> dict[str, Any]:
    """Images and drawings of all kinds through `fobsam segment`: what came of them."""
    outcomes: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for n in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            case = fuzzed(np.random.default_rng([seed, n]), Path(folder))
            output = Path(folder) / f"out{case.suffix}"
            arguments = ("segment", case.image, "--support", case.support, "--output", output)
            before = set(Path(folder).iterdir())
            status, errors = call(*arguments, "--axis", case.axis)
            try:
                check_fuzzed(case, output, status, errors, before)
            except Exception as error:
                raise AssertionError(f"case {seed}, {n} ({case.about}): {error}") from error
            outcomes["segmented" if status == 0 else "refused"] += 1
            if status:
                told[_wording(errors)] += 1
    return {"rounds": rounds, **outcomes, "told": dict(told.most_common())}


def check_fuzzed(case: Case, output: Path, status: int, errors: str, before: set[Path]) -> None:
    """Raises AssertionError unless a case was segmented as it should, or refused in a line."""
    assert "Traceback" not in errors, errors
    assert "bug in FoBSAM" not in errors, errors
    after = set(output.parent.iterdir())
    if status:
        assert status == 1, status
        assert any(line.startswith("error: ") for line in errors.splitlines()), errors
        assert after == before, after - before
        return
    assert after - before == {output}, after - before
    assert not (wrong := unlike_what_was_drawn(case, output)), wrong


def _wording(errors: str) -> str:
    """The message without names and numbers."""
    line = next(one for one in errors.splitlines() if one.startswith("error: "))
    words = [w for w in line[7:].split() if not any(c.isdigit() or c in "/\\" for c in w)]
    return " ".join(words[:9])


def kill(rounds: int, seed: int) -> dict[str, Any]:
    """`segment`, `batch` and `models download` killed at random moments, in turn."""
    rng = random.Random(seed)
    told: dict[str, Counter[str]] = {one.__name__[1:]: Counter() for one in KILLED}
    for n in range(rounds):
        attack = KILLED[n % len(KILLED)]
        with tempfile.TemporaryDirectory() as folder:
            told[attack.__name__[1:]][attack(rng, Path(folder), n)] += 1
    return {"rounds": rounds, **{name: dict(counts) for name, counts in told.items()}}


def killed(rng: random.Random, *arguments: object) -> bool:
    """Start the command and kill it some time later, not the first of a kind; whether it still ran.

    Nothing of it is left.
    """
    mark = uuid.uuid4().hex
    environment = {
        **os.environ,
        "FOBSAM_TEST_MARK": mark,
        "PYTHONPATH": str(worker_faults.ROOT),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "FoBSAMLib", *map(str, arguments)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    began, kind = time.monotonic(), str(arguments[0])
    process = subprocess.Popen(command, env=environment, **quiet)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(rng.uniform(0, LONGEST[kind]) if kind in LONGEST else None)
    LONGEST.setdefault(kind, 1.2 * (time.monotonic() - began))
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    worker_faults.wait_until(lambda: not worker_faults.left_behind(mark), GONE)
    return running


def _save_scan(folder: Path) -> tuple[Path, Path]:
    image = phantom.save(folder / "mr.nii.gz", phantom.voxels())
    return image, phantom.save(folder / "drawn.nii.gz", phantom.drawn())


def _is_whole(output: Path, image: Path) -> bool:
    volume = Volume.read(image)
    return bool(read_segmentation(output, like=volume).layers[0].shape == volume.array.shape)


def _segment(rng: random.Random, folder: Path, n: int) -> str:
    image, drawn = _save_scan(folder)
    output = folder / "out.seg.nrrd"
    arguments = ("segment", image, "--support", drawn, "--output", output)
    earlier = n % 2 == 0
    if earlier:
        assert call(*arguments, "--label", phantom.EGG)[0] == 0
    before = hashlib.sha256(output.read_bytes()).digest() if earlier else None
    running = killed(rng, *arguments)
    there = output.exists()
    assert there or not earlier
    if there:
        assert _is_whole(output, image)
    changed = there and hashlib.sha256(output.read_bytes()).digest() != before
    assert running or changed
    left = len(list(folder.iterdir())) - 2 - there
    assert call(*arguments)[0] == 0
    assert _is_whole(output, image)
    return _outcome(running, changed, left)


def _batch(rng: random.Random, folder: Path, n: int) -> str:
    image, drawn = _save_scan(folder)
    inside, out = folder / "in", folder / "out"
    inside.mkdir()
    cases = [phantom.save(inside / f"c{i}.nii.gz", phantom.voxels((6, 48, 48), i)) for i in (1, 2)]
    shared = ("--support-image", image, "--support", drawn, "--label", phantom.EGG)
    arguments = ("batch", inside, *shared, "--output", out, "--workers", 1 + n % 2)
    running = killed(rng, *arguments)
    done = 0
    for case in cases:
        name = case.name.removesuffix(".nii.gz")
        report, found = out / f"{name}.json", out / f"{name}.seg.nrrd"
        if report.exists():  # comes first, so that it may be there alone
            json.loads(report.read_text())
        if found.exists():
            assert report.exists()
            assert _is_whole(found, case)
            done += 1
    left = len(list(out.glob(".*"))) if out.exists() else 0
    status, errors = call(*arguments)
    assert status == 0, errors
    assert all(_is_whole(out / f"c{i}.seg.nrrd", case) for i, case in enumerate(cases, 1))
    return _outcome(running, done > 0, left)


def _download(rng: random.Random, folder: Path, n: int) -> str:
    with pytest.MonkeyPatch.context() as patch:
        server = serve(patch, folder)
        try:
            server.pause = 0.02
            model = catalogue.find("one")
            running = killed(rng, "models", "download", "one", "--yes")
            come = model.here
            if come:
                assert model.path.read_bytes() == CONTENT
            partial = model.partial.stat().st_size if model.partial.exists() else 0
            server.pause = 0
            status, errors = call("models", "download", "one", "--yes")
            assert status == 0, errors
            assert model.path.read_bytes() == CONTENT
            if partial and running and not come:
                assert server.seen[-1][1] is not None or partial >= len(CONTENT)
            assert not model.partial.exists()
            return _outcome(running, come, partial)
        finally:
            server.close()


def _outcome(running: bool, new: bool, left: int) -> str:
    """One round in words."""
    if not running:
        return "had ended"
    what = "killed after its result was there" if new else "killed before its result was there"
    return what + (", a temporary file left" if left else "")


KILLED: list[Callable[[random.Random, Path, int], str]] = [_segment, _batch, _download]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("soak", "fuzz", "kill"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    told = {"soak": soak, "fuzz": fuzz, "kill": kill}[options.what](options.rounds, options.seed)
    text = json.dumps(told | {"seconds": round(time.monotonic() - began, 1)}, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
