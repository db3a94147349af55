"""The images of a batch, from a folder or a list, and the files that are written for each."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from FoBSAMLib.batch.outcome import HEADER, SUMMARY
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.io import PICTURES, WRITABLE, check_output
from FoBSAMLib.outputs import image_name

COLUMNS = ("image", "support", "output")
#: Files that are meant as images even where they are too damaged to be recognised.
IMAGE_NAMES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", *PICTURES)


@dataclass(frozen=True)
class Drawing:
    """An annotated image: ``support`` is the labelmap or ``.seg.nrrd`` drawn on ``image``."""

    image: Path
    support: Path


@dataclass(frozen=True)
class Case:
    """An image to segment from one or several drawings, on itself or on others."""

    image: Path
    drawings: tuple[Drawing, ...]
    output: Path

    @property
    def name(self) -> str:
        """By which the case is told from others: its output's name."""
        return _without_suffix(self.output.name)

    @property
    def report(self) -> Path:
        """The JSON file beside the output."""
        return self.output.with_name(f"{self.name}.json")


@dataclass(frozen=True)
class Options:
    """What is the same for all cases of a batch; names as in `FoBSAMLib.segment`."""

    labels: tuple[str, ...] = ()
    axis: str = "auto"
    generator: str = "fob-lite"
    segmenter: str = "compact"
    device: str = "auto"
    overwrite: bool = False


def find_cases(source: Path, drawings: Sequence[Drawing], folder: Path) -> list[Case]:
    """The cases of a folder of images or a CSV list, in order; outputs go into ``folder``.

    ``drawings`` serve every case that has no support of its own.
    Raises FoBSAMError, before any work is done, for a source that is neither or is empty, for
    mistakes in a list (with their lines), for cases without a support, and for outputs that
    could not be written, would have one name, or are read by the batch.
    """
    for drawing in drawings:
        for path in (drawing.image, drawing.support):
            if not path.exists():
                raise FoBSAMError(
                    "unreadable", f"There is no file or folder {path}.", "Check the path."
                )
    source, folder = source.absolute(), folder.absolute()
    shared = tuple(Drawing(one.image.absolute(), one.support.absolute()) for one in drawings)
    if source.is_dir():
        cases = _of_folder(source, shared, folder)
    elif source.is_file():
        cases = list(_of_list(source, shared, folder))
    else:
        raise FoBSAMError("unreadable", f"There is no file or folder {source}.", "Check the path.")
    if not cases:
        raise FoBSAMError("bad_request", f"{source} names no image.", "Give another one.")
    _check_outputs(cases)
    _check_summary(source, folder)
    return cases


def _of_folder(source: Path, drawings: tuple[Drawing, ...], folder: Path) -> list[Case]:
    if folder.resolve() == source.resolve():
        raise FoBSAMError(
            "bad_request",
            f"The output folder {folder} is that of the images.",
            "Choose another: what is written there would be taken for images.",
        )
    if not drawings:
        raise FoBSAMError(
            "bad_request",
            "A folder of images needs supports.",
            "Give --support-image and --support, or a CSV list with a support for each image.",
        )
    images = [source] if _holds_dicom(source) else list(_images_in(source, drawings, folder))
    return [Case(image, drawings, folder / f"{image_name(image)}.seg.nrrd") for image in images]


def _images_in(source: Path, drawings: Sequence[Drawing], folder: Path) -> Iterator[Path]:
    """Image files and DICOM folders, but for supports and what else is no image."""
    passed = {drawing.support.resolve() for drawing in drawings} | {folder.resolve()}
    for path in sorted(source.iterdir()):
        name = path.name.lower()
        if path.name.startswith(".") or path.resolve() in passed or name.endswith(".seg.nrrd"):
            continue
        if path.is_dir():
            is_image = _holds_dicom(path)
        elif path.suffix.lower() == ".img" and path.with_suffix(".hdr").exists():
            is_image = False  # the other half of an image in two files
        else:
            is_image = name.endswith(IMAGE_NAMES) or bool(_reader(path))
        if is_image:
            yield path


def _holds_dicom(folder: Path) -> bool:
    return any(_reader(path).startswith("GDCM") for path in folder.iterdir() if path.is_file())


def _reader(path: Path) -> str:
    """Which part of SimpleITK reads a file; "" for none."""
    return str(sitk.ImageFileReader.GetImageIOFromFileName(str(path)))


def _of_list(source: Path, drawings: tuple[Drawing, ...], folder: Path) -> Iterator[Case]:
    for line, row in _rows(source):
        image = source.parent / row["image"]
        own = row.get("support", "")
        if not own and not drawings:
            raise _mistake(source, line, "there is no support", "name one, or give --support")
        output = row.get("output", "") or f"{image_name(image)}.seg.nrrd"
        if not output.lower().endswith(WRITABLE) or Path(output).name != output:
            raise _mistake(
                source,
                line,
                f"{output} is no output",
                f"give a name without folders that ends with one of {', '.join(WRITABLE)}",
            )
        used = (Drawing(image, source.parent / own),) if own else drawings
        yield Case(image, used, folder / output)


def _rows(source: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a list and their numbers, each with an image."""
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FoBSAMError(
            "unreadable",
            f"{source} is neither a folder nor a list that can be read.",
            "Give a folder of images, or a CSV file in UTF-8.",
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""))
    header = [name.strip().lower() for name in next(reader, [])]
    unknown = [name for name in header if name not in COLUMNS]
    if "image" not in header or unknown or len(set(header)) < len(header):
        raise _mistake(
            source,
            1,
            f"the columns are {', '.join(header) or 'missing'}",
            "the first line is image, and if wanted support and output: image,support,output",
        )
    for fields in reader:
        values = [field.strip() for field in fields]
        if not any(values):
            continue
        if len(values) > len(header):
            raise _mistake(
                source,
                reader.line_num,
                f"it has {len(values)} fields for {len(header)} columns",
                "put names with commas in quotes",
            )
        row = dict(zip(header, values, strict=False))
        if not row.get("image"):
            raise _mistake(source, reader.line_num, "there is no image", "name one")
        yield reader.line_num, row


def _mistake(source: Path, line: int, what: str, hint: str) -> FoBSAMError:
    return FoBSAMError(
        "bad_request", f"{source.name}, line {line}: {what}.", f"{hint[0].upper()}{hint[1:]}."
    )


def _check_summary(source: Path, folder: Path) -> None:
    """The table of results replaces one of its own alone."""
    file = folder / SUMMARY
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        own = file.read_bytes().startswith(",".join(HEADER).encode())
        if file.resolve() == source.resolve() or not own:
            raise FoBSAMError(
                "bad_request",
                f"{file} is there, and is no table of results of a batch, which would replace it.",
                "Choose another --output, or give the file another name.",
            )


def _check_outputs(cases: Sequence[Case]) -> None:
    read = {path.resolve() for case in cases for path in _inputs(case)}
    owners: dict[str, Case] = {}
    for case in cases:
        for file in (case.output, case.report):
            # Some file systems do not tell capitals from small letters.
            other = owners.setdefault(str(file.resolve()).casefold(), case)
            if other is not case:
                raise FoBSAMError(
                    "bad_request",
                    f"{other.image} and {case.image} would both be written to {file.name}.",
                    "Give each an output of its own: a CSV list has a column for it.",
                )
            if file.resolve() in read:
                raise FoBSAMError(
                    "bad_request", f"{file} is read by this very batch.", "Choose another output."
                )
    check_output(cases[0].output)


def _inputs(case: Case) -> Iterator[Path]:
    yield case.image
    for drawing in case.drawings:
        yield drawing.image
        yield drawing.support


def _without_suffix(name: str) -> str:
    suffix = next(s for s in WRITABLE if name.lower().endswith(s))
    return name[: -len(suffix)]
