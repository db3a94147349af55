"""Structures packed into layers, selected and flattened."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.io import read_segmentation, write_segmentation
from FoBSAMLib.image.segmentation import Segmentation, Structure, distinct_color

SHAPE = (2, 3, 4)


def box(*corner: int) -> np.ndarray:
    """A box from the first voxel to a corner (K, J, I)."""
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(n) for n in corner)] = True
    return mask


@settings(deadline=None, max_examples=60)
@given(st.lists(arrays(bool, SHAPE), min_size=1, max_size=6), st.integers(0, 400))
def test_masks_come_out_as_they_went_in(masks: list[np.ndarray], label: int) -> None:
    named = [(Structure(f"s{n}", label), mask) for n, mask in enumerate(masks)]
    segmentation = Segmentation.from_masks(np.eye(4), named)
    assert [s.name for s in segmentation.structures] == [s.name for s, _ in named]
    for structure, (_, mask) in zip(segmentation.structures, named, strict=True):
        assert (segmentation.mask(structure) == mask).all()
    places = {(s.layer, s.label) for s in segmentation.structures}
    assert len(places) == len(masks)
    assert segmentation.layers.dtype.kind == "u"


def test_only_overlaps_need_a_layer() -> None:
    apart = Structure("apart", 9), ~box(1, 3, 4)
    first, inner = (Structure("first", 5), box(1, 2, 2)), (Structure("inner", 5), box(1, 1, 1))
    segmentation = Segmentation.from_masks(np.eye(4), [first, inner, apart])
    assert segmentation.layers.shape == (2, *SHAPE)
    assert [(s.layer, s.label) for s in segmentation.structures] == [(0, 5), (1, 5), (0, 9)]


def test_large_labels_are_kept() -> None:
    segmentation = Segmentation.from_masks(np.eye(4), [(Structure("lesion", 70000), box(1, 1, 1))])
    assert segmentation.layers.max() == 70000


def test_nothing_to_keep() -> None:
    with pytest.raises(FoBSAMError, match="no structure"):
        Segmentation.from_masks(np.eye(4), [])


LIVER, VEIN, TUMOUR = Structure("liver", 1), Structure("vein", 2), Structure("tumour", 1, layer=1)
ORGANS = Segmentation(
    np.stack([box(2, 2, 2) + np.uint8(2) * ~box(2, 2, 3), box(1, 2, 3).astype(np.uint8)]),
    np.eye(4),
    (LIVER, VEIN, TUMOUR),
)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([], (LIVER, VEIN, TUMOUR)),
        ([2], (VEIN,)),
        (["2"], (VEIN,)),
        (["tumour", "vein"], (TUMOUR, VEIN)),
        ([2, "vein"], (VEIN,)),
    ],
)
def test_structures_by_label_or_name(wanted: list[int | str], found: tuple[Structure, ...]) -> None:
    assert ORGANS.select(wanted) == found


def test_absent_label_names_those_that_exist() -> None:
    with pytest.raises(FoBSAMError) as caught:
        ORGANS.select([7])
    assert str(caught.value) == (
        "There is no structure 7 in the support. It holds 1 'liver', 2 'vein', 1 'tumour'."
    )


def test_label_of_two_layers_asks_for_the_name() -> None:
    with pytest.raises(FoBSAMError, match=r"1 stands for several structures: 'liver', 'tumour'"):
        ORGANS.select([1])


def test_flat_labels_differ_and_the_first_structure_wins() -> None:
    labels, (liver, vein, tumour) = ORGANS.flatten()
    assert (liver.label, vein.label) == (1, 2)
    assert tumour.label == 3
    assert ((labels == liver.label) == ORGANS.mask(LIVER)).all()
    assert ((labels == vein.label) == ORGANS.mask(VEIN)).all()
    uncovered = ORGANS.mask(TUMOUR) & ~ORGANS.mask(LIVER) & ~ORGANS.mask(VEIN)
    assert uncovered.any()
    assert ((labels == tumour.label) == uncovered).all()


def test_colors_of_neighbouring_labels_differ() -> None:
    colors = np.array([distinct_color(n) for n in range(1, 14)])
    assert colors.min() >= 0
    assert colors.max() <= 1
    apart = np.abs(colors[:, np.newaxis] - colors).sum(axis=-1) + 9 * np.eye(len(colors))
    assert apart.min() > 0.1


def test_names_in_any_script_survive_a_file(tmp_path):
    mask = np.zeros((3, 4, 5), bool)
    mask[1, 2, 2:4] = True
    names = ["Leber größe 肝", "plain"]
    masks = [(Structure(name, n), np.roll(mask, n, 0)) for n, name in enumerate(names, 1)]
    path = tmp_path / "bild ü.seg.nrrd"
    write_segmentation(path, Segmentation.from_masks(np.eye(4), masks), "bild ü")
    again = read_segmentation(path)
    assert [s.name for s in again.structures] == names
    for (_, wanted), structure in zip(masks, again.structures, strict=True):
        np.testing.assert_array_equal(again.mask(structure), wanted)
