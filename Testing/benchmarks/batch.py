"""How many images an hour `fobsam batch` does, with one and with two workers, on CHAOS T2.

    python Testing/benchmarks/batch.py ../shared/data/chaos_t2 --json Testing/benchmarks/batch.json

Each image has its own support: of every organ the slice where it is largest. Each run is the
command as a user has it, start included; rounds take turns, so that other work on the machine
is shared out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

#: Name, workers, threads that torch may have in all (None: all cores), further options.
SETUPS: list[tuple[str, int, str | None, list[str]]] = [
    ("1 worker, 1 core", 1, "1", []),
    ("1 worker, 2 cores", 1, "2", []),
    ("2 workers, 1 core each", 2, "2", []),
    ("2 Ray actors, 1 core each", 2, "2", ["--ray", "local"]),
]


def prepare(data: Path, folder: Path, count: int) -> list[int]:
    """Supports and the list; returns the slices and structures there are to find, by image."""
    lines, queries = ["image,support"], []
    for image in sorted(data.glob("image_*.nii.gz"))[:count]:
        labels = sitk.ReadImage(str(image).replace("image_", "label_"))
        whole = sitk.GetArrayFromImage(labels)
        drawn = np.zeros_like(whole)
        for label in np.unique(whole[whole > 0]):
            largest = int((whole == label).sum(axis=(1, 2)).argmax())
            drawn[largest][whole[largest] == label] = label
        support = sitk.GetImageFromArray(drawn)
        support.CopyInformation(labels)
        sitk.WriteImage(support, str(folder / f"drawn_{image.name}"))
        lines.append(f"{image.resolve()},drawn_{image.name}")
        queries.append(len(whole) * len(np.unique(drawn[drawn > 0])))
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return queries


def run(folder: Path, output: str, setup: tuple[str, int, str | None, list[str]]) -> dict[str, Any]:
    """One run: seconds, and seconds of processor time (for Ray those of its driver alone)."""
    _, workers, threads, further = setup
    environment = dict(os.environ)
    if threads:
        environment["OMP_NUM_THREADS"] = threads
    command = [sys.executable, "-m", "FoBSAMLib", "batch", str(folder / "list.csv")]
    command += ["--output", str(folder / output), "--workers", str(workers), *further]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env=environment, capture_output=True)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": None if further else round(used, 1),
        "load_after": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        queries = prepare(arguments.data, folder, arguments.images)
        results: dict[str, Any] = {setup[0]: {"runs": []} for setup in SETUPS}
        for number in range(arguments.rounds):
            for place, setup in enumerate(SETUPS):
                output = f"out{number}{place}"
                found = run(folder, output, setup)
                found["again_seconds"] = run(folder, output, setup)["seconds"]
                results[setup[0]]["runs"].append(found)
                print(setup[0], found, flush=True)
    for result in results.values():
        best = min(one["seconds"] for one in result["runs"])
        result["images_an_hour"] = round(3600 * len(queries) / best, 1)
    document = {
        "images": len(queries),
        "slices_and_structures": queries,
        "cores": os.cpu_count(),
        "results": results,
    }
    text = json.dumps(document, indent=1) + "\n"
    print(text)
    if arguments.json:
        arguments.json.write_text(text)


if __name__ == "__main__":
    main()
