"""The main job on a made-up scan: from annotated slices to the rest of the volume."""

from __future__ import annotations

import dataclasses
from statistics import fmean

import numpy as np
import phantom
import pytest
import SimpleITK as sitk

from FoBSAMLib import FoBSAMError, LocalSession, Support, Volume, segment
from FoBSAMLib.image.volume import ARRAY_AXIS
from FoBSAMLib.session.warning import UNSURE


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def session():
    return LocalSession()


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "mr.nii.gz"
    return Volume.read(phantom.save(path, phantom.voxels()))


@pytest.fixture(scope="module")
def truth():
    return {"ball": phantom.labels() == phantom.BALL, "egg": phantom.labels() == phantom.EGG}


def support_of(volume, truth, *indices, axis="k", absent=None) -> Support:
    masks = {}
    for name, whole in truth.items():
        masks[name] = np.zeros_like(whole)
        kept = np.moveaxis(masks[name], ARRAY_AXIS[axis], 0)
        kept[list(indices)] = np.moveaxis(whole, ARRAY_AXIS[axis], 0)[list(indices)]
    return Support.from_masks(volume, masks, axis, absent)


def test_one_slice_gives_the_volume(session, volume, truth):
    calls = []
    result = segment(
        volume,
        support_of(volume, truth, 6),
        session=session,
        progress=lambda done, total, found: calls.append((done, total, found.index)),
    )
    # Every query slice of both structures came once, and was counted.
    assert [call[0] for call in calls] == list(range(1, 23))
    assert {call[1] for call in calls} == {22}
    assert sorted(index for _, _, index in calls) == sorted(2 * [n for n in range(12) if n != 6])
    for structure in result.segmentation.structures:
        whole = truth[structure.name]
        found = result.segmentation.mask(structure)
        assert dice(found, whole) > 0.85, structure.name
        np.testing.assert_array_equal(found[6], whole[6])
    for found in result.results:
        assert 0 <= found.presence <= 1
        assert 0 <= found.confidence <= 1
        assert found.mask.shape == (64, 64)
        assert found.milliseconds > 0


def test_slices_without_the_structure_stay_empty(session, volume, truth):
    result = segment(volume, support_of(volume, truth, 6), session=session)
    outside = [r for r in result.results if not truth[r.structure.name][r.index].any()]
    assert len(outside) > 6
    assert sum(r.mask.any() for r in outside) <= 2


def test_the_result_has_prompts_round_and_in_the_structure(session, volume, truth):
    result = segment(volume, support_of(volume, truth, 6), session=session)
    found = next(r for r in result.results if r.structure.name == "ball" and r.index == 5)
    columns, rows = np.rint(found.prompts.foreground).astype(int).T
    assert len(rows) > 3
    assert truth["ball"][5][rows, columns].mean() > 0.9
    columns, rows = np.clip(np.rint(found.prompts.background).astype(int).T, 0, 63)
    assert len(rows) == 10
    assert not truth["ball"][5][rows, columns].any()


@pytest.mark.parametrize(("axis", "index"), [("j", 22), ("i", 22)])
def test_other_axes(session, volume, truth, axis, index):
    ball = {"ball": truth["ball"]}
    result = segment(volume, support_of(volume, ball, index, axis=axis), session=session)
    (structure,) = result.segmentation.structures
    assert {r.axis for r in result.results} == {axis}
    assert dice(result.segmentation.mask(structure), truth["ball"]) > 0.75


def test_more_supports_help_and_stay_as_drawn(session, volume, truth):
    one = segment(volume, support_of(volume, truth, 6), session=session)
    three = segment(volume, support_of(volume, truth, 4, 6, 8), session=session)
    for structure in three.segmentation.structures:
        found = three.segmentation.mask(structure)
        whole = truth[structure.name]
        for drawn in (4, 6, 8):
            np.testing.assert_array_equal(found[drawn], whole[drawn])
        assert dice(found, whole) >= dice(one.segmentation.mask(structure), whole) - 0.01


def test_absent_ends_the_structure(session, volume, truth):
    ball = {"ball": truth["ball"]}
    support = support_of(volume, ball, 6, absent={"ball": [8]})
    result = segment(volume, support, session=session)
    assert not any(r.mask.any() for r in result.results if r.index > 8)
    assert 8 not in {r.index for r in result.results}
    assert any(r.mask.any() for r in result.results if r.index == 7)


def test_only_the_slices_asked_for(session, volume, truth):
    result = segment(volume, support_of(volume, truth, 6), session=session, slices=range(7, 9))
    assert {r.index for r in result.results} == {7, 8}
    whole = segment(volume, support_of(volume, truth, 6), session=session)
    for part in result.results:
        same = next(
            r for r in whole.results if (r.structure, r.index) == (part.structure, part.index)
        )
        np.testing.assert_array_equal(part.mask, same.mask)


def test_another_volume(session, volume, truth, tmp_path):
    other = Volume.read(phantom.save(tmp_path / "other.nii.gz", phantom.voxels(seed=7)[::-1]))
    egg = {"egg": truth["egg"]}
    result = segment(volume, support_of(volume, egg, 6), query=other, session=session)
    assert result.volume is other
    assert len(result.results) == 12
    (structure,) = result.segmentation.structures
    assert dice(result.segmentation.mask(structure), truth["egg"][::-1]) > 0.7


def test_photographs(session, tmp_path, truth):
    """RGB, one slice each: drawn on one picture, found in another."""
    paths = []
    for n, (x, y) in enumerate([(60, 60), (75, 52)]):
        rows, columns = np.indices((120, 160))
        lesion = (columns - x) ** 2 + (rows - y) ** 2 < 25**2
        skin = np.random.default_rng(n).normal([210, 170, 150], 6, (120, 160, 3))
        skin[lesion] = skin[lesion] * 0.5
        picture = sitk.GetImageFromArray(skin.clip(0, 255).astype(np.uint8), isVector=True)
        paths.append((tmp_path / f"skin{n}.png", lesion))
        sitk.WriteImage(picture, str(paths[-1][0]))
    first, second = (Volume.read(path) for path, _ in paths)
    support = Support.from_masks(first, {"lesion": paths[0][1][None]})
    result = segment(first, support, query=second, session=session)
    (structure,) = result.segmentation.structures
    assert dice(result.segmentation.mask(structure)[0], paths[1][1]) > 0.8


def test_stopping_between_slices_keeps_what_was_found(session, volume, truth):
    session.set_image(volume)
    session.set_supports(support_of(volume, truth, 6))
    found = []
    for result in session.segment(cancel=lambda: len(found) == 3):
        found.append(result)
    assert len(found) == 3
    assert len(list(session.segment())) == 22


def test_a_session_without_image_says_so():
    with pytest.raises(FoBSAMError, match="set_image"):
        next(LocalSession().segment())


def test_nothing_left_to_find(session, volume, truth):
    support = support_of(volume, truth, 6)
    with pytest.raises(FoBSAMError, match="nothing is left"):
        segment(volume, support, session=session, slices=range(6, 7))


def test_suggestions_go_where_nothing_is_annotated(session, volume, truth):
    session.set_image(volume)
    ball = {"ball": truth["ball"]}
    session.set_supports(support_of(volume, ball, 3))
    found = [r.index for r in session.segment() if r.mask.any()]
    suggested = session.suggest("ball")
    # The longer side lies above slice 3, and its end is unsure.
    assert 4 < suggested <= max(found) + 1
    annotated = [3]
    for _ in range(12):
        session.set_supports(support_of(volume, ball, *annotated))
        list(session.segment())
        following = session.suggest("ball")
        if following is None or not truth["ball"][following].any():
            break
        assert following not in annotated
        annotated.append(following)
    assert len(annotated) >= 3


@pytest.mark.parametrize("segmenter", ["random-walker", "compact"])
def test_every_segmenter_that_needs_no_download(volume, truth, segmenter):
    result = segment(volume, support_of(volume, truth, 6), segmenter=segmenter)
    for structure in result.segmentation.structures:
        assert dice(result.segmentation.mask(structure), truth[structure.name]) > 0.7


def test_a_one_pixel_structure_and_one_that_fills_the_slice(session, volume):
    dot = np.zeros(volume.shape, bool)
    dot[6, 30, 30] = True
    full = np.zeros(volume.shape, bool)
    full[6] = True
    for mask in (dot, full):
        support = Support.from_masks(volume, {"it": mask}, axis="k")
        result = segment(volume, support, session=session)
        (structure,) = result.segmentation.structures
        np.testing.assert_array_equal(result.segmentation.mask(structure)[6], mask[6])


def test_the_report_tells_what_was_done(session, volume, truth):
    report = segment(volume, support_of(volume, truth, 6), session=session).report()
    assert report["models"]["generator"] == "fob-lite"
    assert len(report["models"]["generator_sha256"]) == 64
    ball = report["structures"][0]
    assert ball["support_slices"] == [6]
    assert [entry["index"] for entry in ball["slices"]] == [n for n in range(12) if n != 6]
    assert all(len(point) == 2 for entry in ball["slices"] for point in entry["background_xy"])


def test_real_organ(session, shared_data):
    """One annotated slice of a kidney of a training subject."""
    folder = shared_data / "chaos_t2"
    volume = Volume.read(folder / "image_13.nii.gz")
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "label_13.nii.gz")))
    kidney = labels == 3
    support = support_of(volume, {"left kidney": kidney}, int(kidney.sum((1, 2)).argmax()))
    result = segment(volume, support, session=session)
    assert dice(result.segmentation.mask(result.segmentation.structures[0]), kidney) > 0.88


def test_what_is_drawn_is_kept_beside_other_structures(session, volume, truth, tmp_path):
    """Two structures that share their place, drawn on different slices: neither overwrites what
    is drawn of the other, in a labelmap neither."""
    rows = np.indices(volume.shape)[1]
    left = {"upper": truth["ball"] & (rows < 22), "whole": truth["ball"].copy()}
    left["upper"][[n for n in range(12) if n != 5]] = False
    left["whole"][[n for n in range(12) if n != 6]] = False
    result = segment(volume, Support.from_masks(volume, left, axis="k"), session=session)
    path = tmp_path / "both.nii.gz"
    result.write(path)
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    for structure, index in zip(result.segmentation.structures, (5, 6), strict=True):
        kept = labels[index] == structure.label
        assert kept[left[structure.name][index]].all()


def test_structures_that_overlap_as_drawn_need_a_file_that_can_hold_them(
    session, volume, truth, tmp_path
):
    drawn = {"part": truth["ball"].copy(), "whole": truth["ball"].copy()}
    for mask in drawn.values():
        mask[[n for n in range(12) if n != 6]] = False
    drawn["part"][6, :22] = False
    support = Support.from_masks(volume, drawn, axis="k")
    result = segment(volume, support, session=session, slices=range(5, 8))
    with pytest.raises(FoBSAMError, match="overlap"):
        result.write(tmp_path / "both.nii.gz")
    result.write(tmp_path / "both.seg.nrrd")
    for structure in result.segmentation.structures:
        found = result.segmentation.mask(structure)
        np.testing.assert_array_equal(found[6], drawn[structure.name][6])


def test_the_farther_beyond_an_end_the_surer_that_the_structure_is_not_there(
    session, volume, truth
):
    ball = {"ball": truth["ball"]}
    results = segment(volume, support_of(volume, ball, 6), session=session).results
    above = sorted((r for r in results if r.index > 6 and not r.mask.any()), key=lambda r: r.index)
    assert len(above) >= 2
    confidences = [r.confidence for r in above]
    assert confidences == sorted(set(confidences))
    assert all(r.confidence == pytest.approx(1 - r.presence) for r in above)


def test_a_run_between_supports_can_be_stopped_before_its_first_result(session, volume, truth):
    session.set_image(volume)
    ball = {"ball": truth["ball"]}
    session.set_supports(support_of(volume, ball, 3, 8))
    asked = []

    def cancel() -> bool:
        asked.append(True)
        return len(asked) > 2

    assert not list(session.segment(slices=range(4, 8), cancel=cancel))
    assert len(asked) <= 5


def test_a_result_to_be_doubted_as_a_whole_is_told(session, volume, truth):
    ball = {"ball": truth["ball"]}
    segment(volume, support_of(volume, ball, 6), session=session)
    assert session.notes == []
    noise = np.random.default_rng(0).normal(size=volume.array.shape).astype(np.float32)
    other = Volume.from_array(noise, ijk_to_ras=volume.ijk_to_ras)
    result = segment(volume, support_of(volume, ball, 6), query=other, session=session)
    found = [r for r in result.results if r.mask.any()]
    if found:
        assert fmean(r.confidence for r in found) < UNSURE
    (note,) = result.notes
    assert note.startswith("ball: ")


def test_a_copy_of_the_image_is_the_image(session, volume, truth):
    copy = Volume.from_array(volume.array.copy(), ijk_to_ras=volume.ijk_to_ras.copy())
    copy = dataclasses.replace(copy, modality=volume.modality)
    ball = {"ball": truth["ball"]}
    result = segment(volume, support_of(volume, ball, 6), query=copy, session=session)
    assert len(result.results) == 11
    found = result.segmentation.mask(result.segmentation.structures[0])
    np.testing.assert_array_equal(found[6], truth["ball"][6])


def test_another_modality_is_another_image(volume):
    ct = dataclasses.replace(volume, modality="ct")
    assert ct.content_key() != dataclasses.replace(volume, modality="mr").content_key()


@pytest.mark.parametrize("slices", [range(3, 20), range(0), range(0, 8, 2)])
def test_slices_that_there_are_not(session, volume, truth, slices):
    session.set_image(volume)
    session.set_supports(support_of(volume, truth, 6))
    with pytest.raises(FoBSAMError, match="0 to 11"):
        next(session.segment(slices=slices))


def test_a_structure_that_there_is_not(session, volume, truth):
    session.set_image(volume)
    session.set_supports(support_of(volume, truth, 6))
    with pytest.raises(FoBSAMError, match="cube"):
        next(session.segment(["cube"]))


def test_a_line_thinner_than_the_networks_pixel_is_no_crash(session):
    rng = np.random.default_rng(0)
    voxels = rng.normal(100, 5, (3, 768, 768)).astype(np.float32)
    line = np.zeros(voxels.shape, bool)
    line[1, 200:500, 300] = True
    volume = Volume.from_array(voxels + 80 * line.any(0))
    support = Support.from_masks(volume, {"line": line}, axis="k")
    result = segment(volume, support, session=session)
    assert len(result.results) == 2
    np.testing.assert_array_equal(
        result.segmentation.mask(result.segmentation.structures[0])[1], line[1]
    )
