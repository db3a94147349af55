"""Planes painted in oblique slice views: sheets of voxels, one voxel thick across the plane."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from FoBSAMLib.image.oblique import fit_plane, plane_step, voxel_width
from FoBSAMLib.mrml.masks import SegmentMask

#: A sheet may be so much thicker than one voxel: its normal is known only so well.
TOLERANCE = 1.15
#: A mask with as many voxels as so many planes through its box is a solid; points take time.
MOST_PLANES = 20
#: Planes painted so close to each other that their sheets touch.
MOST_TOUCHING = 10
#: How much wider than thick sheets that touch are; a blob is not.
WIDER = 3.0
#: The part of a voxel's column about the plane in which its voxel shows whether it was painted.
SURE = 0.8
#: Of places in a grid, in voxels.
ROUNDING = 0.01


@dataclass(frozen=True)
class Sheet:
    """One painted plane: where it lies along the normal, and from where to where its voxels; mm."""

    offset: float
    low: float
    high: float


@dataclass(frozen=True)
class Sheets:
    """Parallel planes that a mask consists of, with their unit normal in world."""

    normal: np.ndarray
    planes: tuple[Sheet, ...]


def sheets_along(mask: SegmentMask, normal: np.ndarray) -> Sheets | None:
    """The planes across a normal of which a mask consists; None where it does not."""
    if _is_solid(mask):
        return None
    along = mask.points @ normal
    step = plane_step(mask.ijk_to_world, normal)
    order = np.argsort(along)
    ends = np.flatnonzero(np.diff(along[order]) > 0.8 * step) + 1
    planes: list[Sheet] = []
    for group in np.split(order, ends):
        found = _touching(mask.points[group], along[group], mask, normal)
        if found is None:
            return None
        planes += found
    return Sheets(normal, tuple(planes))


def find_sheets(
    mask: SegmentMask, normals: Iterable[np.ndarray], fewer_than: int, *, fit: bool
) -> Sheets | None:
    """The planes, fewer than so many, of which a mask consists, whichever way they lie.

    ``normals`` are those of slice views, in one of which it may have been painted: that is
    then known better than a ``fit`` tells, which is made where none of them will do.
    """
    for normal in normals:
        sheets = sheets_along(mask, normal)
        if sheets is not None and len(sheets.planes) < fewer_than:
            return sheets
    if not fit or _is_solid(mask):
        return None
    plane = fit_plane(_about_centres(mask))
    wide = TOLERANCE * voxel_width(mask.ijk_to_world, plane.normal)
    if plane.width < WIDER * wide:  # its parts are rows of one plane
        plane = fit_plane(mask.points)
        wide = TOLERANCE * voxel_width(mask.ijk_to_world, plane.normal)
    if plane.width < WIDER * wide or plane.thickness > wide + plane.width / WIDER:
        return None
    sheets = sheets_along(mask, plane.normal)
    return sheets if sheets is not None and len(sheets.planes) < fewer_than else None


def sections(
    mask: SegmentMask, sheets: Sheets, ijk_to_world: np.ndarray, shape: tuple[int, int, int]
) -> dict[int, np.ndarray]:
    """The planes of a mask as masks, bool [H, W], of the nearest slices of a grid across them.

    The grid has ``shape`` (K, J, I) and its slices along k parallel to the planes.
    Each pixel is looked up in the column of voxels that the plane crosses there, along the axis
    most across the plane: a sheet has one voxel in each, so that there are no holes.
    """
    along = mask.points @ sheets.normal
    to_slice = np.linalg.inv(ijk_to_world)[2]
    result: dict[int, np.ndarray] = {}
    for plane in sheets.planes:
        painted = mask.ijk[(along >= plane.low) & (along <= plane.high)]
        k = round(float(to_slice[:3] @ (sheets.normal * plane.offset) + to_slice[3]))
        if len(painted) and 0 <= k < shape[0]:
            section = result.setdefault(k, np.zeros(shape[1:], bool))
            _draw(section, mask, painted, plane, sheets.normal, ijk_to_world)
    return result


def _is_solid(mask: SegmentMask) -> bool:
    k, j, i = mask.patch.voxels.shape
    return np.count_nonzero(mask.patch.voxels) > MOST_PLANES * max(i * j, j * k, k * i)


def _draw(
    section: np.ndarray,
    mask: SegmentMask,
    painted: np.ndarray,
    plane: Sheet,
    normal: np.ndarray,
    ijk_to_world: np.ndarray,
) -> None:
    """Add a plane of a mask to a slice of a grid, bool [H, W].

    ``painted`` are the plane's voxels, as indices (i, j, k) of the mask's own grid.
    """
    columns, first, across = _columns(mask, painted, plane, normal)
    rest = [n for n in range(3) if n != across]
    to_grid = np.linalg.inv(ijk_to_world) @ mask.ijk_to_world
    places = painted @ to_grid[:2, :3].T + to_grid[:2, 3]
    # Pixels as far as a voxel reaches beyond its centre.
    reach = np.abs(to_grid[:2, :3]).sum(axis=1)
    left, top = np.maximum(np.floor(places.min(axis=0) - reach), 0).astype(int)
    right, bottom = np.maximum(np.ceil(places.max(axis=0) + reach), 0).astype(int)
    box = section[top : bottom + 1, left : right + 1]
    y = top + np.arange(box.shape[0]).reshape(-1, 1, 1)
    x = left + np.arange(box.shape[1]).reshape(1, -1, 1)
    k = (plane.offset - normal @ ijk_to_world[:3, 3]) / (normal @ ijk_to_world[:3, 2])
    to_mask = np.linalg.inv(to_grid)[rest]
    crossed = to_mask[:, 0] * x + to_mask[:, 1] * y + to_mask[:, 2] * k
    index = np.rint(crossed + to_mask[:, 3]).astype(int) - first
    inside = ((index >= 0) & (index < columns.shape)).all(axis=-1)
    box[inside] |= columns[tuple(index[inside].T)]


def _columns(
    mask: SegmentMask, painted: np.ndarray, plane: Sheet, normal: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Which columns of voxels across a plane are painted: bool [M, N], along two index axes.

    Also the index at which they begin, and the axis along which the columns run. A column whose
    voxels all lie half beside the plane does not show it: its neighbour decides.
    """
    from scipy.ndimage import distance_transform_edt

    steps = normal @ mask.ijk_to_world[:3, :3]
    across = int(np.argmax(np.abs(steps)))
    rest = [n for n in range(3) if n != across]
    places = painted[:, rest]
    first: np.ndarray = places.min(axis=0)
    columns = np.zeros(np.ptp(places, axis=0) + 1, bool)
    columns[tuple((places - first).T)] = True
    at = np.tensordot(steps[rest], np.indices(columns.shape) + first[:, None, None], 1)
    height = (plane.offset - normal @ mask.ijk_to_world[:3, 3] - at) / steps[across]
    # A brush that is thinner than the voxels leaves out all columns but those it comes near to.
    near = (plane.high - plane.low) / 2 / abs(steps[across]) + ROUNDING
    known = columns | (np.abs(height - np.rint(height)) < min(SURE / 2, near))
    if not known.all():
        nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
        columns = columns[tuple(np.asarray(nearest))]
    return columns, first, across


def _touching(
    points: np.ndarray, along: np.ndarray, mask: SegmentMask, normal: np.ndarray
) -> list[Sheet] | None:
    """The planes of which points without a gap along the normal consist: one, or a few."""
    low, high = float(along.min()), float(along.max())
    thickness = high - low
    if thickness <= TOLERANCE * voxel_width(mask.ijk_to_world, normal):
        return [Sheet((low + high) / 2, low, high)]
    step = plane_step(mask.ijk_to_world, normal)
    # As thick as a slice view paints: one voxel in each column across the plane.
    sheet = float(np.abs(normal @ mask.ijk_to_world[:3, :3]).max())
    count = 1 + round((thickness - sheet) / step)
    if count > MOST_TOUCHING or fit_plane(points).width < WIDER * thickness:
        return None
    middle, half = (low + high) / 2, max(sheet, step) / 2
    offsets = [middle + (n - (count - 1) / 2) * step for n in range(count)]
    return [Sheet(offset, offset - half, offset + half) for offset in offsets]


def _about_centres(mask: SegmentMask) -> np.ndarray:
    """The voxels of a mask, float64 [N, 3] in mm, each as seen from the centre of its part.

    Parallel planes that do not touch then lie in one.
    """
    from scipy.ndimage import label

    parts, count = label(mask.patch.voxels, np.ones((3, 3, 3)))
    part = parts[mask.patch.voxels] - 1
    sizes = np.bincount(part, minlength=count)
    centres = [np.bincount(part, mask.points[:, n], count) / sizes for n in range(3)]
    return np.asarray(mask.points - np.stack(centres, axis=1)[part])
