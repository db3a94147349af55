"""Slices on the network's grid, and back."""

from __future__ import annotations

import numpy as np
from scipy import sparse


class NetworkGrid:
    """Maps a slice to the network's ``size`` × ``size`` grid and back.

    The slice keeps its physical aspect: its longest side in mm fills the grid, the other is
    centred and padded. A slice with the network's pixel size is not interpolated: it is
    centred to a whole pixel. Along each axis, with pixel centres at whole numbers,
    ``network = (slice + 0.5) * scale - 0.5 + offset``.

    ``shape`` is (H, W) in pixels and ``spacing`` (row, column) in mm.
    """

    def __init__(
        self, shape: tuple[int, int], spacing: tuple[float, float], size: int = 256
    ) -> None:
        self.shape = shape
        self.spacing = spacing
        self.size = size
        extent = np.multiply(shape, spacing)
        #: Network pixels per slice pixel, and where the slice begins; (row, column).
        self.scale = size * np.divide(spacing, extent.max())
        centred = (size - shape * self.scale) / 2
        self.offset = np.where(np.isclose(self.scale, 1), np.floor(centred), centred)
        #: Of the network's pixels, (row, column) in mm.
        self.network_spacing = (extent.max() / size, extent.max() / size)
        axes = [
            _Axis(n, scale, offset, size)
            for n, scale, offset in zip(shape, self.scale, self.offset, strict=True)
        ]
        self._rows, self._columns = axes

    def image_to_network(self, image: np.ndarray) -> np.ndarray:
        """An image [H, W] on the grid: float32 [size, size], padded with its minimum.

        Linear interpolation, with a triangular filter as wide as the target pixel where
        the image shrinks.
        """
        return self._to_network(image, float(image.min()))

    def mask_to_network(self, mask: np.ndarray) -> np.ndarray:
        """How much of each network pixel a mask [H, W] covers: float32 [size, size] in [0, 1]."""
        return self._to_network(mask, 0.0)

    def from_network(self, network_map: np.ndarray) -> np.ndarray:
        """A map [size, size] on the slice's pixels: float32 [H, W]; the padding has no say."""
        inside = network_map[self._rows.inside, self._columns.inside].astype(np.float32)
        return _resample(inside, self._rows.from_network, self._columns.from_network)

    def points_to_network(self, xy: np.ndarray) -> np.ndarray:
        """Points float [n, 2] as (x, y) in slice pixels, in network pixels: float32 [n, 2]."""
        points = np.asarray(xy, np.float64).reshape(-1, 2)
        return ((points + 0.5) * self.scale[::-1] - 0.5 + self.offset[::-1]).astype(np.float32)

    def points_from_network(self, xy: np.ndarray) -> np.ndarray:
        """Points float [n, 2] as (x, y) in network pixels, in slice pixels: float32 [n, 2]."""
        points = np.asarray(xy, np.float64).reshape(-1, 2)
        return ((points + 0.5 - self.offset[::-1]) / self.scale[::-1] - 0.5).astype(np.float32)

    def _to_network(self, image: np.ndarray, padding: float) -> np.ndarray:
        result = np.full((self.size, self.size), padding, np.float32)
        result[self._rows.inside, self._columns.inside] = _resample(
            image.astype(np.float32), self._rows.to_network, self._columns.to_network
        )
        return result


class _Axis:
    """One axis of the map: which network pixels lie inside the slice, and both resamplings."""

    def __init__(self, n: int, scale: float, offset: float, size: int) -> None:
        centres = (np.arange(size) + 0.5 - offset) / scale - 0.5
        # At least one, where a slice is so thin that no network pixel's centre lies in it.
        outside = np.abs(centres - (n - 1) / 2) - n / 2
        found = np.flatnonzero(outside <= max(1e-6, outside.min()))
        self.inside = slice(int(found[0]), int(found[-1]) + 1)
        self.to_network = _weights(centres[self.inside], n, 1 / scale)
        back = (np.arange(n) + 0.5) * scale - 0.5 + offset - self.inside.start
        self.from_network = _weights(back, len(found), scale)


def _weights(positions: np.ndarray, n: int, width: float) -> sparse.csr_array:
    """Weights [len(positions), n] of n pixels at positions: a triangle, wider when shrinking."""
    width = max(1.0, width)
    clamped = np.clip(positions, 0, n - 1)
    distance = np.abs(clamped[:, np.newaxis] - np.arange(n)) / width
    weights = np.maximum(0.0, 1.0 - distance)
    weights[weights < 1e-6] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    return sparse.csr_array(weights.astype(np.float32))


def _resample(image: np.ndarray, rows: sparse.csr_array, columns: sparse.csr_array) -> np.ndarray:
    result: np.ndarray = (columns @ (rows @ image).T).T
    return np.ascontiguousarray(result)
