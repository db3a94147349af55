"""Reading and writing images and segmentations.

What a file says about geometry is kept; what a library prints on failure is not shown, the
error raised says it once.
"""

from __future__ import annotations

import contextlib
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image import dicom, dicom_seg, geometry, nifti, seg_nrrd
from FoBSAMLib.image.segmentation import Segmentation, Structure, distinct_color
from FoBSAMLib.image.volume import Volume, check_voxels, not_finite
from FoBSAMLib.image.windows import detect_modality

#: Formats of photographs: their resolution, if any, is the printer's, not the patient's.
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
#: Formats that a segmentation can be written in.
WRITABLE = (".seg.nrrd", ".dcm", ".nii.gz", ".nii", ".nrrd", ".mha", ".png")
#: Those of them in which structures may overlap.
LAYERED = (".seg.nrrd", ".dcm")
#: A labelmap with more values than any atlas has is an image given by mistake.
MAX_LABELS = 1000

PathLike = str | os.PathLike[str]


def read_volume(path: PathLike) -> Volume:
    """Read an image: any file SimpleITK reads, a DICOM folder, a 2-D photograph.

    A photograph becomes one slice, [1, H, W] or [1, H, W, 3], of 1 mm pixels.
    Raises FoBSAMError for a missing, unreadable, 4-D or constant image, NaN or infinite
    voxels, and a folder without or with several DICOM series.
    """
    path = Path(path)
    image, dicom_modality, files = _read_image(path)
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = array[..., :3] if array.shape[-1] >= 3 else array[..., 0]
    check_voxels(array, str(path))
    name = Path(path.resolve().name.removesuffix(".gz")).stem
    volume = Volume(array, geometry.geometry_of(image), name)
    modality = dicom.MODALITIES.get(dicom_modality) or detect_modality(volume)
    dicom_files = tuple(os.path.abspath(file) for file in files) if dicom_modality else ()
    return Volume(array, volume.ijk_to_ras, name, modality, dicom_files)


def read_segmentation(path: PathLike, like: Volume | None = None) -> Segmentation:
    """Read structures from a ``.seg.nrrd``, a DICOM segmentation or a labelmap, where each value
    but 0 is one.

    With ``like`` they must be on its grid; a ``.seg.nrrd``, which Slicer crops to what is
    drawn, and a DICOM segmentation may be on a box of it and are padded.
    Raises FoBSAMError for a missing or unreadable file, one that is no labelmap or is empty,
    and another grid (saying how it differs).
    """
    path = Path(path)
    _check_readable(path)
    try:
        drawn = seg_nrrd.read(path)
    except Exception as error:  # a damaged file: pynrrd's parser raises anything
        raise _unreadable(path, "the NRRD file is damaged") from error
    drawn = drawn or dicom_seg.read(path, like)
    segmentation = drawn or _read_labelmap(path, like)
    if not segmentation.layers.any():
        raise FoBSAMError(
            "bad_request",
            f"{path} is empty: every voxel is 0.",
            "Paint the structure on at least one slice.",
        )
    if like is None or like.same_grid(segmentation.shape, segmentation.ijk_to_ras):
        return segmentation
    layers = None
    if drawn is not None:
        layers = geometry.embed(segmentation.layers, segmentation.ijk_to_ras, like)
    if layers is None:
        how = geometry.difference(like, segmentation.shape, segmentation.ijk_to_ras)
        raise FoBSAMError(
            "bad_geometry",
            f"{path} is not on the grid of the image {like.name}: {how}."
            + dicom_seg.describe_other(path, like),
            "Draw it on this image, or resample it to the image's grid first.",
        )
    return Segmentation(layers, like.ijk_to_ras, segmentation.structures, segmentation.header)


def write_segmentation(
    path: PathLike,
    segmentation: Segmentation,
    name: str = "",
    *,
    source: Volume | None = None,
    models: Mapping[str, str] | None = None,
) -> None:
    """Write structures as ``.seg.nrrd``, as a DICOM segmentation (``.dcm``), or as a labelmap by
    the extension; compressed.

    A ``.seg.nrrd`` keeps names, colours, terminology and layers, and holds ``name`` as its
    content. A DICOM segmentation refers to the DICOM files of ``source``, the image it is of, and
    says which ``models`` were used. In a labelmap the first structure wins where several overlap.
    Raises FoBSAMError for an unknown format, for a DICOM segmentation of an image from other files,
    and whatever keeps the file from being written; then nothing is left of it.
    """
    path = Path(path)
    _check_format(path)
    if path.name.lower().endswith(".seg.nrrd"):
        with atomic_path(path) as temporary:
            seg_nrrd.write(temporary, segmentation, name)
        return
    if _is_dicom(path):
        _write_dicom(path, segmentation, source, models or {})
        return
    labels, _ = segmentation.flatten()
    image = geometry.to_image(labels, segmentation.ijk_to_ras)
    if path.suffix.lower() == ".png":
        if len(labels) > 1 or labels.dtype.itemsize > 2:
            raise FoBSAMError(
                "bad_request",
                f"A PNG holds one slice of labels up to 65535, this has {len(labels)} slices.",
                "Write .seg.nrrd or .nii.gz.",
            )
        image = image[:, :, 0]
    with atomic_path(path) as temporary, _quiet():
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
            if nifti.is_nifti(path):
                # ITK says nothing of a NIfTI file that it could write only in part.
                nifti.count_not_finite(temporary)
        except (RuntimeError, EOFError, zlib.error) as error:
            raise _unwritable(path, "the disk may be full") from error


def check_output(path: PathLike, image: Volume | None = None) -> None:
    """Raise now the FoBSAMError that `write_segmentation` would raise after the work.

    That is for an unknown format, for a folder that is missing or read-only, and, where the
    image is known, for what does not fit the format.
    """
    path = Path(path)
    _check_format(path)
    if _is_dicom(path):
        from FoBSAMLib.image import dicom_seg_write

        dicom_seg_write.check_installed()
        if image is not None:
            dicom_seg_write.check_source(path, image)
    with _temporary_beside(path):
        pass


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() == ".dcm"


def _write_dicom(
    path: Path, segmentation: Segmentation, source: Volume | None, models: Mapping[str, str]
) -> None:
    from FoBSAMLib.image import dicom_seg_write  # pydicom comes with it

    image = dicom_seg_write.check_source(path, source)
    content = dicom_seg_write.build(segmentation, image, models)
    with atomic_path(path) as temporary:
        content.save_as(temporary)


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """A temporary file beside ``path``, moved there on success and removed on failure.

    It has the same suffixes, and exists already. An OSError inside, as of a full disk or a
    read-only folder, becomes a FoBSAMError "unwritable".
    """
    path = Path(path)
    with _temporary_beside(path) as temporary:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


def check_writable(path: PathLike) -> None:
    """Raises FoBSAMError (``unwritable``) where no file can be made beside ``path``."""
    with _temporary_beside(Path(path)):
        pass


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    """A new empty file in the folder of ``path``, removed in the end if it is still there."""
    suffixes = "".join(path.suffixes[-2:])
    temporary = path.with_name(f".{uuid.uuid4().hex}{suffixes}")
    try:
        if not path.parent.is_dir():
            raise _unwritable(path, f"the folder {path.parent} does not exist")
        if path.exists() and not path.is_file():
            raise _unwritable(path, "it exists and is not a file")
        try:
            temporary.touch(exist_ok=False)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error


def _check_format(path: Path) -> None:
    if not path.name.lower().endswith(WRITABLE):
        raise FoBSAMError(
            "bad_request",
            f"A segmentation cannot be written as {path.name}.",
            f"Use one of {', '.join(WRITABLE)}.",
        )


def _unwritable(path: Path, why: str) -> FoBSAMError:
    return FoBSAMError(
        "unwritable",
        f"{path} cannot be written: {why}.",
        "Choose an existing folder you may write to, with enough space.",
    )


def _unreadable(path: Path, why: str) -> FoBSAMError:
    return FoBSAMError(
        "unreadable", f"{path} cannot be read: {why}.", "Check that it is the right, whole file."
    )


def _check_readable(path: Path) -> None:
    try:
        if not path.exists():
            raise FoBSAMError(
                "unreadable", f"There is no file or folder {path}.", "Check the path."
            )
        if path.is_file():
            path.open("rb").close()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


def _read_image(path: Path) -> tuple[sitk.Image, str, tuple[str, ...]]:
    """A 3-D image from a file or a DICOM folder, its DICOM modality, if any, and its files."""
    _check_readable(path)
    modality = ""
    files = [str(path)]
    if path.is_dir():
        files, modality = dicom.read_series(path)
    try:
        with _quiet():
            if len(files) > 1:
                return sitk.ReadImage(files), modality, tuple(files)
            return *_read_image_file(Path(files[0])), tuple(files)
    except (RuntimeError, EOFError, OSError, zlib.error) as error:
        raise _unreadable(path, _reason(error)) from error


def _reason(error: Exception) -> str:
    if not isinstance(error, RuntimeError):
        return str(error).rstrip(".")
    if "orthonormal" in str(error):
        return "its axes are not at right angles"
    # The rest of SimpleITK's several lines is about its own code.
    return "it is damaged, or not an image of a known format"


def _read_image_file(path: Path) -> tuple[sitk.Image, str]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    modality_tag = "0008|0060"
    modality = ""
    if reader.HasMetaDataKey(modality_tag):
        modality = reader.GetMetaData(modality_tag).strip()
    if modality in dicom.NOT_IMAGES:
        raise FoBSAMError(
            "bad_request",
            f"{path} is a DICOM object of modality {modality}, not an image.",
            "Give the image. What is drawn on it may be a DICOM segmentation.",
        )
    size = reader.GetSize()
    volumes = int(np.prod(size[3:]))
    if volumes > 1:
        raise FoBSAMError(
            "bad_request",
            f"{path} is {len(size)}-D: {volumes} volumes of {'×'.join(map(str, size[:3]))}.",
            "Extract one volume first.",
        )
    if reader.GetNumberOfComponents() > 4:
        raise FoBSAMError(
            "bad_request",
            f"{path} has {reader.GetNumberOfComponents()} values a voxel.",
            "Extract one volume first.",
        )
    if nifti.is_nifti(path) and (bad := nifti.count_not_finite(path)):
        raise not_finite(str(path), bad, int(np.prod(size)))
    image = reader.Execute()
    while image.GetDimension() > 3:
        image = image[..., 0]
    if image.GetDimension() == 2:
        image = sitk.JoinSeries([image])
    frames = dicom.read_frames(path) if modality and image.GetDepth() > 1 else None
    if frames is not None:
        # ITK takes frames for sorted, whatever their positions are.
        order, ijk_to_ras = frames
        geometry.place(image, np.eye(4))  # only slices at one place are joined
        image = sitk.JoinSeries([image[:, :, n] for n in order])
        geometry.place(image, ijk_to_ras)
    if path.suffix.lower() in PICTURES:
        image.SetSpacing([1.0, 1.0, 1.0])
        image.SetOrigin([0.0, 0.0, 0.0])
    return image, modality


def _read_labelmap(path: Path, like: Volume | None) -> Segmentation:
    if path.is_dir():
        raise _unreadable(path, "it is a folder, not a labelmap")
    image, *_ = _read_image(path)
    array = sitk.GetArrayFromImage(image)
    labels = _as_labels(array, path)
    values = sorted({int(v) for plane in labels for v in np.unique(plane[plane > 0])})
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise _not_labels(path, "JPEG does not keep values")
    if len(values) > MAX_LABELS:
        raise _not_labels(path, f"it holds {len(values)} values, as an image does")
    structures = tuple(Structure(f"Segment_{v}", v, color=distinct_color(v)) for v in values)
    # A picture has no geometry of its own.
    is_drawn_over = like is not None and labels.shape == like.shape
    if like is not None and is_drawn_over and path.suffix.lower() in PICTURES:
        return Segmentation(labels[np.newaxis], like.ijk_to_ras, structures)
    return Segmentation(labels[np.newaxis], geometry.geometry_of(image), structures)


def _as_labels(array: np.ndarray, path: Path) -> np.ndarray:
    """Voxels [K, J, I] or [K, J, I, C] as labels of the smallest unsigned type."""
    if array.ndim == 4:
        colors = array[..., : 3 if array.shape[-1] >= 3 else 1]
        if (colors != colors[..., :1]).any():
            raise _not_labels(path, "it is in colour")
        array = array[..., 0]
    if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.rint(array))).all():
        raise _not_labels(path, "not all of its values are whole numbers")
    if array.dtype.kind not in "buif" or array.min() < 0:
        raise _not_labels(path, "some of its values are below 0")
    return array.astype(np.min_scalar_type(int(array.max())))


def _not_labels(path: Path, why: str) -> FoBSAMError:
    return FoBSAMError(
        "bad_request",
        f"{path} is not a labelmap: {why}.",
        "Give a labelmap: 0 outside and one whole number for each structure.",
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what SimpleITK's C libraries print themselves off stderr: errors are raised."""
    try:
        stderr = os.dup(2)
    except OSError:  # a program with windows only has none
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
