"""Images, supports and results ↔ messages with raw bytes."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, cast, get_args

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.image.volume import ARRAY_AXIS, Axis, Modality, Volume
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.support import Support
from FoBSAMLib.worker.frames import Buffer
from FoBSAMLib.worker.messages import (
    KEY_LENGTH,
    VOXELS,
    Box,
    Points,
    Restore,
    Result,
    SetImage,
    SetSupports,
)

#: Speed counts more than the last byte: a mask takes a few hundred.
COMPRESSION = 1


def image_message(request: int, volume: Volume, key: str, *, select: bool) -> SetImage:
    """What tells a worker of an image by its content key.

    Raises FoBSAMError (``bad_request``) for voxels of a type that is not sent.
    """
    dtype = volume.array.dtype.newbyteorder("<").str
    if dtype not in VOXELS:
        raise FoBSAMError(
            "bad_request",
            f"Voxels of type {volume.array.dtype} cannot be sent to a worker.",
            "Convert them, for instance to float32.",
        )
    return SetImage(
        request,
        key=key,
        shape=volume.array.shape,
        dtype=dtype,
        ijk_to_ras=tuple(volume.ijk_to_ras.astype(float).ravel().tolist()),
        name=volume.name,
        modality=volume.modality,
        select=select,
    )


def image_pieces(message: SetImage, volume: Volume) -> Iterator[Buffer]:
    """A message with the voxels, in pieces: little-endian in C order, not copied where they lie so.

    The content key is computed on the way, and the worker takes in some slices while the next ones
    are hashed. No thread is needed for it: in Slicer's process Python's threads rarely run.
    """
    dtype = volume.array.dtype.newbyteorder("<")
    batches = (
        batch.astype(dtype, copy=False).reshape(-1).view(np.uint8).data
        for batch in volume.batches()
    )
    size = volume.array.size * dtype.itemsize
    yield message.start(size + (0 if message.key else KEY_LENGTH))
    if message.key:
        yield from batches
        return
    hashing = volume.key_steps()
    for piece in batches:
        yield piece
        next(hashing, None)
    next(hashing, None)  # past the last batch: there the key is known, else all is hashed again
    yield volume.content_key().encode()


def read_image(message: SetImage, payload: memoryview) -> Volume:
    """The image; its voxels are those of ``payload``, a memoryview, not a copy.

    Raises FoBSAMError (``bad_request``) where this is no image.
    """
    colour = len(message.shape) == 4 and message.shape[3] == 3
    if not (len(message.shape) == 3 or colour) or len(message.ijk_to_ras) != 16:
        raise FoBSAMError("bad_request", f"This is no image: its shape is {message.shape}.")
    if message.modality not in get_args(Modality):
        raise FoBSAMError("bad_request", f"There is no modality {message.modality!r}.")
    count = len(payload) - (0 if message.key else KEY_LENGTH)
    array = np.frombuffer(payload[:count], message.dtype).reshape(message.shape)
    matrix = np.array(message.ijk_to_ras, np.float64).reshape(4, 4)
    volume = Volume(array, matrix, message.name, cast(Modality, message.modality))
    key = message.key or bytes(payload[count:]).decode("ascii", "replace")
    volume.know_key(key)
    return volume


def support_message(request: int, support: Support) -> tuple[SetSupports, bytes]:
    """What tells a worker of supports, and its payload."""
    slices, packed = [], []
    for number, structure in enumerate(support.structures):
        for index in support.indices(structure):
            box, data = pack_mask(support.mask(structure, index))
            slices.append((number, index, box, len(data)))
            packed.append(data)
    message = SetSupports(
        request,
        image=support.volume.content_key(),
        axis=support.axis,
        structures=tuple(map(dataclasses.asdict, support.structures)),
        slices=tuple(slices),
        absent=dict(support.absent),
    )
    return message, b"".join(packed)


def read_support(message: SetSupports, payload: Buffer, volume: Volume) -> Support:
    """The supports, drawn on ``volume``; raises FoBSAMError where they make no sense there."""
    if message.axis not in ARRAY_AXIS:
        raise FoBSAMError("bad_request", f"There is no axis {message.axis!r}.")
    axis: Axis = message.axis
    structures = tuple(map(_read_structure, message.structures))
    if not structures:
        raise FoBSAMError("bad_request", "There is no structure in the supports.")
    if not all(0 < structure.label < 1 << 32 for structure in structures):
        raise FoBSAMError("bad_request", "A structure of the supports has no label.")
    masks: dict[Structure, dict[int, np.ndarray]] = {structure: {} for structure in structures}
    shape = volume.take(axis, 0).shape[:2]
    rest = memoryview(payload)
    for number, index, box, size in message.slices:
        if not (0 <= number < len(structures) and 0 <= size <= len(rest)):
            raise FoBSAMError("bad_request", f"The supports have no slice {index} here.")
        masks[structures[number]][index] = unpack_mask(shape, box, rest[:size])
        rest = rest[size:]
    return Support.from_slices(volume, axis, masks, message.absent)


Kind = TypeVar("Kind", Result, Restore)


def result_message(
    kind: type[Kind], request: int, result: SliceResult, structures: Sequence[Structure]
) -> tuple[Kind, bytes]:
    """What tells of a result, and its payload."""
    box, data = pack_mask(result.mask)
    message = kind(
        request,
        structure=structures.index(result.structure),
        index=result.index,
        box=box,
        background=points_to_json(result.prompts.background),
        foreground=points_to_json(result.prompts.foreground),
        presence=float(result.presence),
        confidence=float(result.confidence),
        milliseconds=float(result.milliseconds),
        doubt=float(result.doubt),
    )
    return message, data


def read_result(
    message: Result | Restore, payload: Buffer, support: Support, image: Volume
) -> SliceResult:
    """The result again: one of the supports' structures in a slice of ``image``."""
    if not 0 <= message.structure < len(support.structures):
        raise FoBSAMError("bad_request", f"There is no structure number {message.structure}.")
    shape = image.take(support.axis, 0).shape[:2]
    return SliceResult(
        support.structures[message.structure],
        support.axis,
        message.index,
        unpack_mask(shape, message.box, payload),
        Prompts(points_from_json(message.background), points_from_json(message.foreground)),
        message.presence,
        message.confidence,
        message.milliseconds,
        message.doubt,
    )


def pack_mask(mask: np.ndarray) -> tuple[Box, bytes]:
    """A mask, bool [H, W], as its bounding box and the box's bits, compressed; none where empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return (0, 0, 0, 0), b""
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    bits = np.packbits(mask[top : top + height, left : left + width])
    return (top, left, height, width), zlib.compress(bits.tobytes(), COMPRESSION)


def unpack_mask(shape: Sequence[int], box: Box, data: Buffer) -> np.ndarray:
    """The mask again, bool [H, W]; raises FoBSAMError where box and data do not fit the shape."""
    top, left, height, width = box
    wanted = (height * width + 7) // 8
    inside = min(box) >= 0 and top + height <= shape[0] and left + width <= shape[1]
    # Never more than a mask's bytes are unpacked, whatever the data would grow to.
    unpacker = zlib.decompressobj()
    try:
        bits = unpacker.decompress(data, wanted + 1) if inside and wanted else b""
    except zlib.error:
        bits = b""
    if not inside or len(bits) != wanted or unpacker.eof != bool(wanted):
        raise FoBSAMError("bad_request", "A mask came damaged.")
    mask = np.zeros(tuple(shape), bool)
    values = np.unpackbits(np.frombuffer(bits, np.uint8), count=height * width)
    mask[top : top + height, left : left + width] = values.reshape(height, width)
    return mask


def points_to_json(points: np.ndarray) -> Points:
    """Points (x, y), [n, 2], as a header holds them."""
    return tuple((float(x), float(y)) for x, y in np.reshape(points, (-1, 2)))


def points_from_json(points: Points) -> np.ndarray:
    """Points (x, y), float32 [n, 2]."""
    return np.array(points, np.float32).reshape(-1, 2)


def _read_structure(values: dict[str, Any]) -> Structure:
    known = {field.name for field in dataclasses.fields(Structure)}
    given = {name: value for name, value in values.items() if name in known}
    try:
        structure = Structure(**given)
        color, tags = structure.color, structure.tags
        return dataclasses.replace(
            structure,
            label=int(structure.label),
            layer=int(structure.layer),
            color=(float(color[0]), float(color[1]), float(color[2])),
            tags=tuple((str(name), str(value)) for name, value in tags),
        )
    except (TypeError, ValueError, IndexError) as error:
        raise FoBSAMError("bad_request", "A structure of the supports makes no sense.") from error
