"""Images and drawings as nobody expects them."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

#: Of an axis; most images have no very short one.
SIZES, SHORT = (5, 7, 16, 33, 40), (1, 2, 3)
INTEGERS = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
TYPES: tuple[type, ...] = (*INTEGERS, np.float32, np.float64)
#: What a header may give as the distance of two voxels, written there by hand.
SPACINGS = (0.0, -1.0, 1e-6, 1e6, float("nan"), float("inf"))
FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")
OUTPUTS = (".seg.nrrd", ".nii.gz", ".mha")

Generator = np.random.Generator


@dataclass
class Case:
    """An image and a drawing on disk; ``drawn`` are the drawing's voxels where it lies on the
    image's grid and both are as written, None else."""

    image: Path
    support: Path
    suffix: str
    axis: str = "auto"
    about: dict[str, str] = field(default_factory=dict)
    drawn: np.ndarray | None = None


def fuzzed(rng: Generator, folder: Path) -> Case:
    """One case, of files in a folder."""
    shape = _shape(rng)
    labels, of_labels = _labels(rng, shape)
    voxels, of_voxels = _voxels(rng, shape)
    suffix = str(rng.choice(FORMATS))
    case = Case(folder / f"image{suffix}", folder / f"drawn{suffix}", str(rng.choice(OUTPUTS)))
    case.axis = str(rng.choice(["auto", "i", "j", "k"], p=[0.4, 0.1, 0.1, 0.4]))
    grid = _grid(rng)
    if colour := rng.random() < 0.05:
        voxels = np.stack([voxels] * int(rng.choice([2, 3, 4])), axis=-1)
    sitk.WriteImage(_image(voxels, grid, colour), str(case.image))
    other = rng.random() < 0.1
    sitk.WriteImage(_image(labels, _grid(rng) if other else grid), str(case.support))
    damage = _damage(rng, case.image if rng.random() < 0.7 else case.support)
    if rng.random() < 0.15:
        spacing = float(rng.choice(SPACINGS))
        for path in (case.image, case.support):
            _write_spacing(path, spacing)
        damage += f", spacing {spacing}"
    case.about = {
        "shape": str(voxels.shape),
        "voxels": of_voxels,
        "labels": of_labels,
        "format": suffix,
        "grid": "another" if other else "the image's",
        "damage": damage,
    }
    if damage == "none" and not other:
        case.drawn = labels
    return case


def unlike_what_was_drawn(case: Case, output: Path) -> str:
    """How an output differs from what it must be: the image's grid, and drawn slices unchanged
    along some axis; "" where it does not."""
    image, found = sitk.ReadImage(str(case.image)), sitk.ReadImage(str(output))
    size = image.GetSize()
    if size[3:] == (1,):  # one time point
        size = size[:3]
    if found.GetSize()[: len(size)] != size:
        return f"size {found.GetSize()} for {image.GetSize()}"
    for name in ("GetSpacing", "GetOrigin"):
        ours, its = (np.array(getattr(one, name)()) for one in (found, image))
        its = its[:3]
        if not np.allclose(ours[: its.size], its, rtol=1e-4, atol=1e-4 * max(1, np.abs(its).max())):
            return f"{name} {ours} for {its}"
    if case.drawn is None or output.name.endswith(".seg.nrrd"):  # which numbers labels anew
        return ""
    mask, drawn = sitk.GetArrayFromImage(found) > 0, np.atleast_3d(case.drawn) > 0
    if mask.shape != drawn.shape:
        return ""
    lost = drawn & ~mask
    return f"{np.count_nonzero(lost)} drawn voxels are lost" if lost.any() else ""


def _shape(rng: Generator) -> tuple[int, ...]:
    dimensions = rng.choice([2, 3, 4], p=[0.05, 0.9, 0.05])
    sizes = SIZES if rng.random() < 0.6 else SIZES + SHORT
    return tuple(int(n) for n in rng.choice(sizes, dimensions))


def _labels(rng: Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    labels = np.zeros(shape, np.int32)
    kinds = ["a slice", "a voxel", "none", "everywhere", "many", "negative", "large"]
    kind = str(rng.choice(kinds, p=[0.65, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05]))
    at = int(rng.integers(shape[0]))
    if kind == "everywhere":
        labels[:] = 1
    elif kind == "a voxel":
        labels[tuple(int(rng.integers(n)) for n in shape)] = 1
    elif kind == "many":
        labels[at] = rng.integers(0, 300, shape[1:])
    elif kind != "none":
        half = tuple(slice(n // 4, n // 4 + max(1, n // 2)) for n in shape[1:])
        labels[at][half] = {"negative": -3, "large": 2**31 - 1}.get(kind, 2)
    return labels, kind


def _voxels(rng: Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    fills: dict[str, Callable[[], np.ndarray]] = {
        "noise": lambda: rng.normal(100, 30, shape),
        "two values": lambda: rng.random(shape) < 0.5,
        "constant": lambda: np.full(shape, 7.0),
        "huge": lambda: rng.normal(0, 1e30, shape),
        "tiny": lambda: rng.normal(0, 1e-30, shape),
        "NaN here and there": lambda: np.where(rng.random(shape) < 0.1, np.nan, 5.0),
        "NaN": lambda: np.full(shape, np.nan),
        "infinite": lambda: np.where(rng.random(shape) < 0.1, np.inf, rng.normal(0, 9, shape)),
    }
    kind = str(rng.choice(list(fills), p=[0.55, 0.05, 0.05, 0.07, 0.07, 0.07, 0.07, 0.07]))
    type_ = TYPES[rng.integers(len(TYPES))]
    values = fills[kind]()
    if not np.issubdtype(type_, np.floating):
        limits = np.iinfo(type_)
        values = np.clip(np.nan_to_num(values), max(limits.min, -1e9), min(limits.max, 1e9))
    with np.errstate(all="ignore"):
        array = values.astype(type_)
    return array, f"{kind}, {np.dtype(type_)}"


def _grid(rng: Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spacing [3], origin [3] and direction [3, 3], right-handed or not."""
    spacing = 10 ** rng.uniform(-3, 3, 3) if rng.random() < 0.3 else rng.uniform(0.5, 6, 3)
    direction = np.eye(3)
    if rng.random() < 0.6:
        direction, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if rng.random() < 0.3:
        direction = direction[:, rng.permutation(3)]
    return spacing, rng.normal(0, 10 ** rng.uniform(0, 4), 3), direction


def _image(
    array: np.ndarray, grid: tuple[np.ndarray, np.ndarray, np.ndarray], colour: bool = False
) -> sitk.Image:
    image = sitk.GetImageFromArray(array, isVector=colour)
    spacing, origin, direction = grid
    if image.GetDimension() == 3:
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(origin.tolist())
        image.SetDirection(direction.ravel().tolist())
    return image


def _write_spacing(path: Path, spacing: float) -> None:
    """Put into a header what no library would write there, along the first axis."""
    content = path.read_bytes()
    value = str(spacing).encode()
    if path.suffix == ".mha":
        content = re.sub(rb"(ElementSpacing = )\S+", rb"\g<1>" + value, content, count=1)
    elif path.suffix == ".nrrd":
        first = b"(" + value + b",0,0)"
        content = re.sub(rb"(space directions: )\(\S+\)", rb"\g<1>" + first, content, count=1)
    elif path.suffix == ".nii" and len(content) > 84:
        content = content[:80] + struct.pack("<f", spacing) + content[84:]
    path.write_bytes(content)


def _damage(rng: Generator, path: Path) -> str:
    """Spoil a file in one of some ways, or not."""
    kinds = ["none", "cut", "noise", "empty", "header"]
    kind = str(rng.choice(kinds, p=[0.8, 0.06, 0.05, 0.03, 0.06]))
    content = path.read_bytes()
    if kind == "cut":
        path.write_bytes(content[: int(rng.integers(len(content)))])
    elif kind == "noise":
        spoiled = np.frombuffer(content, np.uint8).copy()
        places = rng.integers(0, len(spoiled), 20)
        spoiled[places] = rng.integers(0, 256, 20)
        path.write_bytes(spoiled.tobytes())
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "header":
        spoiled = np.frombuffer(content, np.uint8).copy()
        places = rng.integers(0, min(350, len(spoiled)), 4)
        spoiled[places] = rng.integers(32, 127, 4)
        path.write_bytes(spoiled.tobytes())
    return kind
