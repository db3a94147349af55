"""Tiny made-up data sets in the form of the public downloads.

Intensities are a ramp in the patient's frame and organs are boxes in it, so that a test can say
of every voxel, wherever preprocessing has put it, what it should be.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from skimage.io import imsave

from FoBSAMLib.image.volume import Volume

#: Corners of each organ's box, LPS in mm, by label value.
BOXES = {
    1: ((-40, -40, 20), (-10, 10, 60)),
    2: ((0, -40, 10), (20, -10, 40)),
    3: ((0, 5, 10), (25, 25, 40)),
    4: ((28, -30, 30), (42, 20, 62)),
}
GREYS = (0, 63, 126, 189, 252)
ORIGIN = np.array([-50.0, -54.0, 5.0])


def ramp(lps: np.ndarray) -> np.ndarray:
    """Intensity at points [..., 3]: other in each direction."""
    return np.asarray(200 + lps @ (1.0, 1.5, 2.0))


def inside(lps: np.ndarray, value: int, grown: float = 0.0) -> np.ndarray:
    """Whether points [..., 3] are in an organ's box, made larger by ``grown`` mm at each side."""
    low, high = BOXES[value]
    within = (lps > np.subtract(low, grown)) & (lps < np.add(high, grown))
    return np.asarray(within.all(axis=-1))


def labels_at(lps: np.ndarray) -> np.ndarray:
    """Label at points [..., 3]."""
    return np.select([inside(lps, value) for value in BOXES], list(BOXES)).astype(np.uint8)


def grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> np.ndarray:
    """Points [K, J, I, 3] of a grid that starts at `ORIGIN`."""
    k, j, i = (np.arange(n) for n in shape)
    points = np.stack(np.meshgrid(k, j, i, indexing="ij"), axis=-1)[..., ::-1]
    return ORIGIN + points * spacing


def places(volume: Volume) -> np.ndarray:
    """LPS in mm of each voxel of a volume, [K, J, I, 3]."""
    k, j, i = np.indices(volume.shape)
    points = np.stack([i, j, k, np.ones_like(i)], axis=-1) @ volume.ijk_to_ras.T
    return np.asarray(points[..., :3] * (-1, -1, 1))


def write_chaos(
    folder: Path,
    voxels: np.ndarray,
    labels: np.ndarray,
    spacing: tuple[float, float, float],
    *,
    slice_name: Callable[[int], str] = "IMG-0002-{:05d}".format,
    mask_name: Callable[[int], str] | None = None,
    number: Callable[[int], int] = lambda k: k + 1,
    greys: tuple[int, ...] = GREYS,
) -> Path:
    """A subject's T2SPIR folder from voxels [K, J, I], slices of numbers ``number(k)``."""
    slices, ground = folder / "T2SPIR" / "DICOM_anon", folder / "T2SPIR" / "Ground"
    slices.mkdir(parents=True)
    ground.mkdir()
    series = generate_uid()
    for k, (plane, organs) in enumerate(zip(voxels, labels, strict=True)):
        name = number(k)
        position = np.add(ORIGIN, (0, 0, k * spacing[2]))
        write_slice(slices / f"{slice_name(name)}.dcm", plane, series, position, spacing, name)
        mask = np.asarray(greys, np.uint8)[organs]
        imsave(ground / f"{(mask_name or slice_name)(name)}.png", mask, check_contrast=False)
    return folder / "T2SPIR"


def write_slice(
    path: Path,
    plane: np.ndarray,
    series: str,
    position: np.ndarray,
    spacing: tuple[float, float, float],
    number: int,
) -> None:
    """An axial MR slice, rows to the patient's left and columns to the back."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID = MRImageStorage
    header.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    header.SeriesInstanceUID = series
    header.Modality = "MR"
    header.InstanceNumber = number
    header.Rows, header.Columns = plane.shape
    header.PixelSpacing = [spacing[1], spacing[0]]
    header.SliceThickness = spacing[2]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.ImagePositionPatient = list(position)
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 0
    header.PixelData = np.ascontiguousarray(plane, np.uint16).tobytes()
    header.save_as(path, enforce_file_format=True)


def write_nifti(
    path: Path, array: np.ndarray, spacing: tuple[float, float, float], code: str = "LAS"
) -> Path:
    """Voxels of `grid`, stored along axes of another direction."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(ORIGIN.tolist())
    image.SetSpacing(spacing)
    sitk.WriteImage(sitk.DICOMOrient(image, code), str(path))
    return path


def write_photograph(
    folder: Path, masks: Path, number: int, mask_name: str = "segmentation"
) -> None:
    """A photograph of 12×20 pixels, the lesion in its columns from ``number`` % 7 on."""
    folder.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    lesion = np.zeros((12, 20), np.uint8)
    lesion[3:9, number % 7 : number % 7 + 8] = 255
    skin = np.full((12, 20, 3), (220, 180, 160), np.uint8)
    skin[lesion > 0] = (90, 60, 50)
    imsave(folder / f"ISIC_{number:07d}.jpg", skin, check_contrast=False)
    imsave(masks / f"ISIC_{number:07d}_{mask_name}.png", lesion, check_contrast=False)
