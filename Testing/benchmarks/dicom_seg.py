"""What DICOM segmentations cost: written and read, 512×512×300 voxels, beside the image itself.

Run: python Testing/benchmarks/dicom_seg.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "unit")]

from dicom_files import write_series  # noqa: E402

from FoBSAMLib.image.io import read_segmentation, read_volume, write_segmentation  # noqa: E402
from FoBSAMLib.image.segmentation import Segmentation, Structure  # noqa: E402
from FoBSAMLib.image.volume import Volume  # noqa: E402

SHAPE = (300, 512, 512)


def drawn(volume: Volume, count: int, overlap: int) -> Segmentation:
    """Boxes through most slices, each reaching ``overlap`` pixels into the next one."""
    masks = []
    for n in range(count):
        mask = np.zeros(volume.shape, bool)
        mask[20 + n : 280 - n, 20 + 30 * n : 50 + 30 * n + overlap, 100:400] = True
        masks.append((Structure(f"Structure {n + 1}", n + 1), mask))
    return Segmentation.from_masks(volume.ijk_to_ras, masks)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(folder: Path, count: int, overlap: int) -> None:
    volume = read_volume(folder)
    segmentation = drawn(volume, count, overlap)
    before, file = peak(), folder.parent / "x.dcm"
    began = time.perf_counter()
    write_segmentation(file, segmentation, source=volume)
    written, after = time.perf_counter(), peak()
    again = read_segmentation(file, volume)
    read = time.perf_counter()
    for there, here in zip(again.structures, segmentation.structures, strict=True):
        assert (again.mask(there) == segmentation.mask(here)).all()
    print(
        f"{count} structures{', overlapping' * bool(overlap)}: written in {written - began:.1f} s, "
        f"read in {read - written:.1f} s, {file.stat().st_size / 1e6:.0f} MB; "
        f"memory {before:.2f} GiB before, {after:.2f} GiB at its peak"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "ct"
        voxels = np.random.default_rng(0).integers(0, 2000, SHAPE).astype(np.uint16)
        write_series(folder, voxels=voxels)
        for count, overlap in ((1, 0), (10, 0), (10, 20)):
            # Each in a process of its own, whose peak is its own.
            command = [sys.executable, __file__, str(folder), str(count), str(overlap)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
