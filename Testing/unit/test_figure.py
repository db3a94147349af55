"""The picture of a result, for scans and photographs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import phantom
import pytest

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.figure import QUERIES_SHOWN, choose_queries, draw, save_figure
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.support import Support


def found(structure, index, mask, axis="k", confidence=0.9):
    """A result with one prompt inside and one outside."""
    rows, columns = np.nonzero(mask)
    inside = np.array([[columns.mean(), rows.mean()]] if len(rows) else np.zeros((0, 2)))
    prompts = Prompts(background=inside + 12, foreground=inside)
    presence = float(mask.any())
    return SliceResult(structure, axis, index, mask, prompts, presence, confidence, 5.0)


def one_shot(volume: Volume, masks: dict[str, np.ndarray], drawn: int, query: Volume | None = None):
    """What a session that finds exactly the known masks hands back."""
    slices = {name: np.zeros_like(mask) for name, mask in masks.items()}
    for name, mask in masks.items():
        slices[name][drawn] = mask[drawn]
    support = Support.from_masks(volume, slices, axis="k")
    results = [
        found(structure, index, masks[structure.name][index])
        for structure in support.structures
        for index in range(volume.shape[0])
        if query or index != drawn
    ]
    return SimpleNamespace(volume=query or volume, support=support, results=results)


@pytest.fixture
def scan():
    labels = phantom.labels()
    volume = Volume.from_array(phantom.voxels(), (1.5, 1.5, 4.0), name="phantom")
    return one_shot(
        volume, {"ball": labels == phantom.BALL, "egg": labels == phantom.EGG}, phantom.DRAWN
    )


def lines(axes, color) -> list:
    return [line for line in axes.lines if line.get_color() == color]


def test_each_structure_has_slices_and_curves(scan):
    figure = draw(scan)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles.count(f"support, slice {phantom.DRAWN}") == 2
    assert sum("confidence 0.90" in title for title in titles) == 2 * QUERIES_SHOWN
    curves = [axes for axes in figure.axes if axes.get_xlabel() == "slice along k"]
    assert len(curves) == 2
    presence, confidence = curves[0].lines[:2]
    expected = [r.presence for r in scan.results if r.structure.name == "ball"]
    np.testing.assert_allclose(presence.get_ydata(), expected)
    np.testing.assert_allclose(confidence.get_ydata(), 0.9)


def test_area_of_the_drawn_slice_is_in_the_curve(scan):
    figure = draw(scan)
    areas = next(axes for axes in figure.axes if axes.get_ylabel() == "area (mm²)")
    vertices = areas.collections[0].get_paths()[0].vertices
    height = vertices[vertices[:, 0] == phantom.DRAWN, 1].max()
    drawn = (phantom.labels()[phantom.DRAWN] == phantom.BALL).sum()
    assert height == pytest.approx(drawn * 1.5 * 1.5)


def test_prompts_lie_where_they_were_found(scan):
    figure = draw(scan)
    shown = choose_queries([r for r in scan.results if r.structure.name == "ball"])[0]
    axes = next(a for a in figure.axes if a.get_title().startswith(f"slice {shown.index},"))
    background, foreground = (np.column_stack(line.get_data()) for line in axes.lines)
    np.testing.assert_allclose(background, shown.prompts.background)
    np.testing.assert_allclose(foreground, shown.prompts.foreground)
    left, right = sorted(axes.get_xlim())
    assert left < shown.prompts.background[0, 0] < right


def test_a_patient_in_ras_is_turned_as_radiology_shows(scan):
    """Array columns to the right and rows to anterior: both axes are turned."""
    support = draw(scan).axes[0]
    assert support.xaxis_inverted()
    assert not support.yaxis_inverted()


def test_queries_shown_hold_the_structure_and_span_it(scan):
    results = [r for r in scan.results if r.structure.name == "egg"]
    shown = choose_queries(results)
    present = [r.index for r in results if r.mask.any()]
    assert [r.index for r in (shown[0], shown[-1])] == [present[0], present[-1]]
    assert all(r.mask.any() for r in shown)
    assert choose_queries([]) == []


@pytest.mark.parametrize("name", ["out.png", "out.pdf", "out.svg"])
def test_written_by_the_ending_of_the_name(scan, tmp_path, name):
    save_figure(scan, tmp_path / name)
    start = (tmp_path / name).read_bytes()[:100]
    assert {"png": b"PNG", "pdf": b"%PDF", "svg": b"<?xml"}[name[-3:]] in start


def test_nothing_found_is_drawn_too(scan, tmp_path):
    empty = [
        found(r.structure, r.index, np.zeros_like(r.mask), confidence=0.1) for r in scan.results
    ]
    scan.results = empty
    save_figure(scan, tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 0


def test_photograph_from_a_photograph(tmp_path):
    rng = np.random.default_rng(0)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    first, second = (
        Volume(rng.integers(0, 256, (1, 60, 80, 3)).astype(np.uint8), lps, name)
        for name in ("first", "second")
    )
    mask = np.zeros((1, 60, 80), bool)
    mask[0, 20:40, 30:80] = True
    result = one_shot(first, {"lesion": mask}, 0, query=second)
    figure = draw(result)
    assert [axes.get_title() for axes in figure.axes][:2] == [
        "support, slice 0",
        "slice 0, confidence 0.90",
    ]
    assert not figure.axes[0].xaxis_inverted()
    assert figure.axes[0].yaxis_inverted()
    assert "area (pixels)" in [axes.get_ylabel() for axes in figure.axes]
    save_figure(result, tmp_path / "out.png")


def test_folder_missing(scan, tmp_path):
    with pytest.raises(FoBSAMError, match="nowhere"):
        save_figure(scan, tmp_path / "nowhere" / "out.png")
    assert list(tmp_path.iterdir()) == []
