"""The random walker, from prompts and from a prior."""

from __future__ import annotations

import time

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from scipy.special import expit

from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters.random_walker import CompactSegmenter, RandomWalkerSegmenter


@pytest.fixture(autouse=True)
def no_warnings(recwarn):
    """Nothing of scikit-image's or scipy's may reach the user's terminal."""
    yield
    assert [str(warning.message) for warning in recwarn] == []


def disc(shape=(96, 128), centre=(48, 60), radius=20.0) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def noisy(mask: np.ndarray, noise: float = 0.25) -> np.ndarray:
    return (mask + np.random.default_rng(0).normal(0, noise, mask.shape)).astype(np.float32)


def circle(radius: float, centre=(48, 60), count: int = 10) -> np.ndarray:
    """Points (x, y) on a circle about centre (row, column)."""
    angles = np.arange(count) * 2 * np.pi / count
    return np.stack(
        [centre[1] + radius * np.cos(angles), centre[0] + radius * np.sin(angles)], axis=1
    ).astype(np.float32)


PROMPTS = Prompts(background=circle(29), foreground=circle(12))


def walk(image, prompts=PROMPTS) -> np.ndarray:
    segmenter = RandomWalkerSegmenter()
    probability = segmenter.segment(segmenter.embed(image), prompts)
    assert probability.dtype == np.float32
    assert probability.shape == image.shape[:2]
    assert probability.min() >= 0
    assert probability.max() <= 1
    return probability


def refine(image, prior, prompts=None) -> np.ndarray:
    segmenter = CompactSegmenter()
    probability = segmenter.segment(segmenter.embed(image), prompts or Prompts(), prior)
    assert probability.dtype == np.float32
    assert probability.shape == image.shape[:2]
    assert np.isfinite(probability).all()
    return probability


def dice(found: np.ndarray, true: np.ndarray) -> float:
    return 2 * (found & true).sum() / (found.sum() + true.sum())


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """In pixels, positive inside."""
    return ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)


# From prompts


def test_a_noisy_disc_is_found():
    assert dice(walk(noisy(disc())) > 0.5, disc()) > 0.97


def test_the_seeds_keep_their_class():
    probability = walk(noisy(disc()))
    columns, rows = np.rint(PROMPTS.foreground).astype(int).T
    assert (probability[rows, columns] == 1).all()
    columns, rows = np.rint(PROMPTS.background).astype(int).T
    assert (probability[rows, columns] == 0).all()


def test_nothing_is_found_outside_the_box():
    image = np.maximum(noisy(disc()), noisy(disc(centre=(48, 110), radius=10)))
    assert not (walk(image) > 0.5)[:, 95:].any()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("offset", [0.0, -500.0])
def test_units_do_not_matter(scale, offset):
    image = noisy(disc()).astype(np.float64)
    changed = walk((image * scale + offset * scale).astype(np.float32))
    np.testing.assert_allclose(changed, walk(image), atol=1e-2)


def test_a_large_structure_is_solved_as_well_as_a_small_one():
    """Large boxes go from coarse to fine; the contour must not."""
    true = disc((400, 380), (200, 190), 150)
    prompts = Prompts(circle(165, (200, 190)), circle(90, (200, 190)))
    found = walk(noisy(true), prompts) > 0.5
    assert dice(found, true) > 0.99
    assert np.abs(signed_distance(true)[found != true]).max() <= 3


def test_colour_counts_even_at_equal_brightness():
    true = disc()
    image = np.zeros((*true.shape, 3), np.float32)
    image[..., 0], image[..., 1] = true, ~true
    image += np.random.default_rng(0).normal(0, 0.1, image.shape)
    assert dice(walk(image) > 0.5, true) > 0.97
    assert dice(walk((255 * np.clip(image, 0, 1)).astype(np.uint8)) > 0.5, true) > 0.97


def test_foreground_points_alone_are_enough():
    found = walk(noisy(disc()), Prompts(foreground=PROMPTS.foreground)) > 0.5
    assert dice(found, disc()) > 0.95


@pytest.mark.parametrize("prompts", [Prompts(), Prompts(background=PROMPTS.background)])
def test_no_foreground_point_is_an_empty_mask(prompts):
    assert not walk(noisy(disc()), prompts).any()


def test_points_outside_the_slice_are_left_out():
    stray = np.array([[-3, 10], [128, 10], [10, 96], [1e9, -1e9], [np.nan, 5], [5, np.inf]])
    more = Prompts(
        np.concatenate([PROMPTS.background, stray]), np.concatenate([stray, PROMPTS.foreground])
    )
    np.testing.assert_array_equal(walk(noisy(disc()), more), walk(noisy(disc())))
    assert not walk(noisy(disc()), Prompts(PROMPTS.background, stray)).any()


def test_x_is_along_columns_and_pixel_centres_are_integers():
    """One foreground pixel, enclosed: exactly that pixel, whatever its sub-pixel position."""
    ring = np.array([[6, 3], [7, 3], [8, 3], [6, 4], [8, 4], [6, 5], [7, 5], [8, 5]])
    for shift in (-0.4, 0.0, 0.4):
        found = walk(noisy(disc()), Prompts(ring, np.array([[7 + shift, 4 + shift]]))) > 0.5
        assert np.argwhere(found).tolist() == [[4, 7]]


def test_a_structure_across_the_slices_edge_reaches_it():
    true = disc(centre=(0, 60))
    ring = circle(29, (0, 60))
    prompts = Prompts(ring[ring[:, 1] >= 0], np.array([[50, 3], [60, 3], [70, 3], [60, 14]]))
    found = walk(noisy(true), prompts) > 0.5
    assert dice(found, true) > 0.95
    assert found[0].sum() > 30


@pytest.mark.parametrize("value", [0.0, 7.0, -1000.0])
def test_a_constant_slice_gives_a_blob_about_the_foreground(value):
    probability = walk(np.full((96, 128), value, np.float32))
    assert 0.5 * np.pi * 12**2 < (probability > 0.5).sum() < np.pi * 29**2


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 5)])
def test_tiny_slices(shape):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for background in (np.zeros((0, 2)), np.array([[shape[1] - 1, shape[0] - 1]])):
        assert walk(image, Prompts(background, np.zeros((1, 2))))[0, 0] == 1


@pytest.mark.parametrize("shape", [(96, 128), (600, 500)])
def test_a_box_as_large_as_the_slice(shape):
    height, width = shape
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]])
    true = disc(shape, (height / 2, width / 2), height / 4)
    found = walk(noisy(true), Prompts(corners, np.array([[width / 2, height / 2]]))) > 0.5
    assert dice(found, true) > 0.97


# From a prior


def test_sure_pixels_follow_the_prior_and_the_image_decides_the_rest():
    true = disc()
    shifted = np.roll(true, 3, axis=1)
    prior = expit(signed_distance(shifted) / 3)
    found = refine(noisy(true), prior)
    sure = np.abs(signed_distance(shifted)) / 3 > 2
    np.testing.assert_array_equal(found[sure], shifted[sure])
    assert ((found > 0) & (found < 1))[~sure].mean() > 0.8
    assert dice(found > 0.5, true) > dice(shifted, true) + 0.05


def test_where_the_prior_starts_to_be_sure_can_be_set():
    prior = expit(signed_distance(disc()))
    image = noisy(disc())
    wide = CompactSegmenter(sure=8.0).segment(image, Prompts(), prior)
    assert ((wide > 0) & (wide < 1)).sum() > 2 * (np.abs(prior - 0.5) < expit(2) - 0.5).sum()


def test_a_prior_that_is_sure_everywhere_stays():
    np.testing.assert_array_equal(refine(noisy(disc()), disc().astype(np.float32)), disc())
    nothing = np.zeros(disc().shape)
    assert not refine(noisy(disc()), nothing).any()


@pytest.mark.parametrize("level", [0.2, 0.5, 0.8])
def test_a_prior_that_is_unsure_everywhere_stays(level):
    prior = np.full(disc().shape, level)
    np.testing.assert_allclose(refine(noisy(disc()), prior), prior, rtol=1e-6)


def test_a_prior_sure_of_one_class_only_stays_where_unsure():
    prior = np.where(disc(), 0.7, 0.01)
    np.testing.assert_allclose(refine(noisy(disc()), prior), np.where(disc(), 0.7, 0), rtol=1e-6)


def test_corrections_overrule_the_prior():
    image = noisy(disc()) + noisy(disc(centre=(48, 100), radius=12))
    prior = expit(signed_distance(disc() | disc(centre=(48, 100), radius=12)) / 3)
    rows, columns = np.nonzero(disc(centre=(48, 100), radius=12))
    strokes = Prompts(background=np.stack([columns, rows], axis=1))
    assert refine(image, prior)[48, 100] == 1
    corrected = refine(image, prior, strokes)
    assert not corrected[rows, columns].any()
    assert dice(corrected > 0.5, disc()) > 0.9
    added = refine(image, prior, Prompts(foreground=np.array([[5.0, 5.0]])))
    assert added[5, 5] == 1


def test_unsure_specks_far_apart_cost_no_whole_slice():
    prior = expit(signed_distance(disc((512, 512), (256, 256), 80)))
    prior[3, 3] = prior[508, 508] = 0.5
    image = noisy(disc((512, 512), (256, 256), 80))
    found = refine(image, prior)
    assert found[3, 3] == found[508, 508] == 0
    started = time.process_time()
    refine(image, prior)
    assert time.process_time() - started < 1.0


def test_a_wholly_unsure_middle_of_a_large_slice():
    true = disc((512, 512), (256, 256), 100)
    prior = np.full(true.shape, 0.5)
    prior[disc(true.shape, (256, 256), 20)] = 0.99
    prior[~disc(true.shape, (256, 256), 220)] = 0.01
    assert dice(refine(noisy(true), prior) > 0.5, true) > 0.98


def test_without_a_prior_it_is_the_random_walker():
    image = noisy(disc())
    segmenter = CompactSegmenter()
    np.testing.assert_array_equal(
        segmenter.segment(segmenter.embed(image), PROMPTS), walk(image, PROMPTS)
    )


# On real images


@pytest.mark.parametrize(
    ("label", "expected"),
    [(1, 0.85), (2, 0.92), (3, 0.92), (4, 0.90)],
    ids=["liver", "rk", "lk", "spleen"],
)
def test_true_prompts_on_mr(shared_data, label, expected):
    """Ten points 9 px outside the true mask and ten inside: what good prompts give."""
    folder = shared_data / "chaos_t2"
    images, labels = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{kind}_13.nii.gz")))
        for kind in ("image", "label")
    )
    index = int((labels == label).sum(axis=(1, 2)).argmax())
    image, true = images[index].astype(np.float32), labels[index] == label
    found = walk(image, true_prompts(true)) > 0.5
    assert dice(found, true) > expected


def true_prompts(mask: np.ndarray) -> Prompts:
    distance = signed_distance(mask)
    ring = np.argwhere(np.abs(distance + 9) < 0.75)
    centre = np.argwhere(mask).mean(axis=0)
    order = np.argsort(np.arctan2(*(ring - centre).T))
    ring = ring[order[np.linspace(0, len(ring), 10, endpoint=False).astype(int)]]
    chosen = [np.argwhere(distance == distance.max())[0]]
    pixels = np.argwhere(distance > 1)
    while len(chosen) < 10:  # each the farthest from those before
        gaps = np.linalg.norm(pixels[:, None] - np.array(chosen), axis=2).min(axis=1)
        chosen.append(pixels[gaps.argmax()])
    return Prompts(ring[:, ::-1].astype(np.float32), np.array(chosen)[:, ::-1].astype(np.float32))
