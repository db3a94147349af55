"""Intensity windows and normalisation."""

from __future__ import annotations

import numpy as np
import pytest

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.volume import Modality, Volume
from FoBSAMLib.image.windows import detect_modality, normalise, to_uint8_rgb

RNG = np.random.default_rng(3)


def image(low: float, high: float, dtype: type = np.int16) -> Volume:
    array = RNG.uniform(low, high, (6, 20, 21)).astype(dtype)
    array.flat[:2] = low, high
    return Volume.from_array(array)


@pytest.mark.parametrize(
    ("volume", "modality"),
    [
        (image(-1000, 800), "ct"),
        (image(-1024, 800, np.float32), "ct"),
        (image(0, 1900), "mr"),
        (image(0, 1, np.float32), "mr"),
        (image(0, 255, np.uint8), "8bit"),
        (image(0, 255), "8bit"),
        (Volume.from_array(RNG.integers(0, 255, (1, 4, 5, 3), np.uint8)), "rgb"),
    ],
)
def test_modality_by_the_voxels(volume: Volume, modality: Modality) -> None:
    assert detect_modality(volume) == modality


@pytest.mark.parametrize("volume", [image(-1000, 800), image(0, 1900), image(0, 255, np.uint8)])
def test_normalised_has_zero_mean_and_unit_spread(volume: Volume) -> None:
    before = volume.array.copy()
    result = normalise(volume)
    assert result.dtype == np.float32
    assert result.shape == volume.shape
    assert abs(result.mean(dtype=np.float64)) < 1e-6
    assert result.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    assert (volume.array == before).all()


def test_ct_is_clipped_to_soft_tissue() -> None:
    volume = Volume.from_array(np.array([[[-1000, -125, 0], [75, 275, 3000]]], np.int16))
    result = normalise(volume)[0]
    assert result[0, 0] == result[0, 1]
    assert result[1, 1] == result[1, 2]
    # Linear in between: 75 HU is the middle of the window.
    assert result[1, 0] == pytest.approx((result[0, 1] + result[1, 1]) / 2, abs=1e-6)


def test_mr_loses_its_top_half_percent() -> None:
    array = np.arange(2000, dtype=np.int16).reshape(2, 25, 40)
    array.flat[-1] = 30000
    result = normalise(Volume.from_array(array)).ravel()
    assert np.unique(result[-10:]).size == 1
    assert np.unique(result[:-10]).size == 1990


def test_8_bit_is_not_clipped() -> None:
    array = np.zeros((1, 20, 20), np.uint8)
    array[0, 0, 0] = 255
    assert normalise(Volume.from_array(array)).max() == pytest.approx(19.97, abs=0.01)


def test_a_given_modality_wins() -> None:
    array = np.arange(200, dtype=np.uint8).reshape(2, 10, 10)
    result = normalise(Volume.from_array(array, modality="mr")).ravel()
    assert result[-1] == result[-2] or result[-1] - result[-2] < (result[1] - result[0]) / 2


def test_rgb_becomes_luminance() -> None:
    pixels = np.array([[[[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]]]], np.uint8)
    red, green, blue, black = normalise(Volume.from_array(pixels))[0, 0]
    assert (red - black) / (green - black) == pytest.approx(0.299 / 0.587, rel=1e-5)
    assert (blue - black) / (green - black) == pytest.approx(0.114 / 0.587, rel=1e-5)


def test_constant_within_the_window() -> None:
    volume = Volume.from_array(np.array([[[-1000, -900, -800]]], np.int16), name="air")
    with pytest.raises(FoBSAMError, match=r"^air is constant within the intensity window \(ct\)"):
        normalise(volume)


def test_uint8_rgb_spans_the_range() -> None:
    result = to_uint8_rgb(np.array([[-3.0, 0.0], [1.0, 7.0]], np.float32))
    assert result.shape == (2, 2, 3)
    assert result[..., 0].tolist() == [[0, 76], [102, 255]]
    assert (result == result[..., :1]).all()


def test_uint8_rgb_of_a_constant_slice_is_black() -> None:
    assert not to_uint8_rgb(np.full((4, 5), 9.0)).any()


def test_photograph_stays_as_it_is() -> None:
    photograph = RNG.integers(50, 90, (4, 5, 3), np.uint8)
    assert (to_uint8_rgb(photograph) == photograph).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_told(value: float) -> None:
    array = RNG.uniform(-1000, 800, (3, 8, 9)).astype(np.float32)
    array[1, 2, 3] = value
    if np.isinf(value):
        array[0, 0, 0] = np.nan  # infinite ones may be clipped: then they do no harm
    with pytest.raises(FoBSAMError, match=r"of 216 voxels of image are NaN or infinite"):
        normalise(Volume(array, np.eye(4)))
