"""What is asked in each protocol, and what its records say, on made-up subjects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_subjects import ABSENT, CopySession, copied, make_dataset, overlap
from phantom import DRAWN

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation import points, protocols, tool
from FoBSAMLib.evaluation.baselines import interpolate
from FoBSAMLib.evaluation.datasets import Dataset, Subject
from FoBSAMLib.evaluation.settings import (
    FOB_PROMPTS,
    METHODS,
    POINT_METHODS,
    PROTOTYPE_PROMPTS,
    TOOL,
    Record,
    Settings,
)
from FoBSAMLib.evaluation.tool import Found, Tools
from FoBSAMLib.models.paths import resource

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

LIVER, KIDNEY = "liver", "right kidney"
#: All that need no model.
PLAIN = tuple(method for method in METHODS if method not in (TOOL, *POINT_METHODS))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(Path(tmp_path_factory.mktemp("chaos")))


@pytest.fixture(scope="module")
def subject(dataset: Dataset) -> Subject:
    return dataset.read(19)


@pytest.fixture(scope="module")
def other(dataset: Dataset) -> Subject:
    return dataset.read(3)


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "ToolSession", CopySession)


def interactive(subject: Subject, settings: Settings) -> list[Record]:
    return [one.record for one in protocols.interactive(subject, settings, Tools(settings))]


def across(protocol, subject: Subject, other: Subject, settings: Settings) -> list[Record]:
    return [one.record for one in protocol(subject, other, settings, Tools(settings), "1")]


@pytest.mark.usefixtures("copying")
def test_interactive_starts_at_the_largest_slice_and_scores_the_whole_volume(subject):
    (record,) = interactive(subject, Settings((LIVER,), (TOOL,)))
    truth = subject.masks[LIVER]
    largest = int(truth.sum(axis=(1, 2)).argmax())
    assert (record.annotated, record.absent, record.support) == ((largest,), (), None)
    assert record.dice == pytest.approx(overlap(truth, copied(truth, largest)))
    others = np.arange(len(truth)) != largest
    assert record.dice_queries == pytest.approx(
        overlap(truth[others], copied(truth, largest)[others])
    )
    assert (record.query_slices, record.found_slices) == (11, 4)
    assert 0 < record.surface_dice < 1
    assert record.hd95_mm > 0


@pytest.mark.usefixtures("copying")
def test_every_query_slice_has_its_confidence(subject):
    (record,) = interactive(subject, Settings((LIVER,), (TOOL,)))
    truth = subject.masks[LIVER]
    (largest,) = record.annotated
    assert [one.index for one in record.slices] == [n for n in range(12) if n != largest]
    found = copied(truth, largest)
    for one in record.slices:
        n = one.index
        assert (one.truth, one.found) == (truth[n].sum(), found[n].sum())
        both_empty = not truth[n].any() and not found[n].any()
        assert one.dice == (1.0 if both_empty else round(overlap(truth[n], found[n]), 4))
        assert one.presence == float(abs(n - largest) <= 2)
        assert one.confidence == 0.5


@pytest.mark.usefixtures("copying")
def test_further_slices_are_those_the_tool_asks_for_and_absent_is_an_answer(subject):
    settings = Settings((LIVER,), (TOOL, "copy"), slices_annotated=5)
    records = interactive(subject, settings)
    largest = int(subject.masks[LIVER].sum(axis=(1, 2)).argmax())
    found = [record for record in records if record.method == TOOL]
    # The tool has no question after two: it stops there although five were allowed.
    assert [record.annotated for record in found] == [
        (largest,),
        (largest, ABSENT),
        (largest, ABSENT, DRAWN + 3),
    ]
    assert [record.absent for record in found] == [(), (ABSENT,), (ABSENT,)]
    for presence in ("own", "tool"):
        copies = [r for r in records if (r.method, r.presence) == ("copy", presence)]
        assert [record.annotated for record in copies] == [record.annotated for record in found]
    # Told what the tool kept, a copy of the same masks is the tool's own answer.
    told = next(r for r in records if (r.method, r.presence) == ("copy", "tool"))
    assert told.dice == found[0].dice


@pytest.mark.usefixtures("copying")
def test_rules_of_suggestion_are_compared_in_one_run(subject):
    settings = Settings((LIVER,), (TOOL,), 2, suggestions=("tool", "middle"))
    records = interactive(subject, settings)
    largest = int(subject.masks[LIVER].sum(axis=(1, 2)).argmax())
    asked = [(record.suggestion, record.annotated) for record in records]
    # Found two slices to either side, so known to end three away: the gap's middle is one away.
    assert asked == [
        ("tool", (largest,)),
        ("tool", (largest, ABSENT)),
        ("middle", (largest,)),
        ("middle", (largest, largest - 2)),
    ]


@pytest.mark.parametrize(
    ("held", "annotated", "middle"),
    [
        (range(10, 21), (12,), 16),  # 9 | 12 | 21
        (range(10, 21), (12, 17), 14),
        (range(4, 7), (4, 5, 6), None),
        (range(3), (0,), 1),  # the volume's own end
        # Said to be absent beyond the end: that is known already.
        (range(10, 21), (12, 26), 16),
    ],
)
def test_the_middle_of_the_widest_gap(held, annotated, middle):
    masks = {index: np.ones((1, 1), bool) for index in annotated}
    assert protocols.middle_of_widest_gap(held, masks) == middle


@pytest.mark.usefixtures("copying")
def test_interpolation_copies_until_there_are_two_masks(subject):
    settings = Settings((LIVER,), (TOOL, "copy", "interpolation"), slices_annotated=3)
    records = interactive(subject, settings)
    found = {(r.method, r.presence, len(r.annotated)): r.dice for r in records}
    # The second annotated slice does not hold the organ.
    for presence in ("own", "tool"):
        for count in (1, 2):
            interpolated = found["interpolation", presence, count]
            assert interpolated == found["copy", presence, count]
        assert found["interpolation", presence, 3] > 0.8


@pytest.mark.usefixtures("copying")
def test_interpolated_slices_are_interpolated_alone(subject):
    """A disc that shrinks: a copy of the larger one would cover what is interpolated."""
    rows, columns = np.ogrid[:64, :64]
    away = np.hypot(rows - 32, columns - 32)
    truth = np.stack([away < 20 - 2 * abs(index - 6) for index in range(12)])
    shrinking = Subject(subject.id, subject.volume, {LIVER: truth})
    settings = Settings((LIVER,), (TOOL, "interpolation"), slices_annotated=2)
    scored = protocols.interactive(shrinking, settings, Tools(settings))
    found = {
        one.answer.presence: one
        for one in scored
        if one.answer.method == "interpolation" and len(one.record.annotated) == 2
    }
    annotated = found["own"].record.annotated
    assert annotated == (6, ABSENT)
    between = interpolate(
        {index: truth[index] for index in annotated}, subject.volume.slice_spacing("k")
    )
    for index, mask in between.items():
        assert np.array_equal(found["own"].answer.masks[index], mask)
        assert np.array_equal(found["tool"].answer.masks[index], mask)


@pytest.mark.usefixtures("copying")
def test_whole_annotates_another_subject_only(subject, other):
    settings = Settings((LIVER, KIDNEY), (TOOL, *PLAIN))
    records = across(protocols.whole, subject, other, settings)
    assert {record.annotated for record in records} == {()}
    assert {record.query_slices for record in records} == {12}
    assert {(record.support, record.fold) for record in records} == {(3, "1")}
    assert all(record.dice == record.dice_queries for record in records)
    # Both subjects are the same phantom but for the noise, so that the supports fit.
    best = [r.dice for r in records if r.method == "registration+random-walker"]
    assert min(best) > 0.7


@pytest.mark.usefixtures("copying")
def test_fob_asks_for_the_organs_slices_only_each_third_from_one_support(
    subject, other, monkeypatch
):
    asked = []
    find = CopySession.find

    def note(self, volume, organ, annotated, query, within=None):
        asked.append((tuple(annotated), within))
        return find(self, volume, organ, annotated, query, within)

    monkeypatch.setattr(CopySession, "find", note)
    (record,) = across(protocols.fob, subject, other, Settings((LIVER,), (TOOL,)))
    truth = subject.masks[LIVER]
    held = np.flatnonzero(truth.any(axis=(1, 2)))
    assert held.tolist() == list(range(2, 10))
    # Of eight slices those at 1/6, 1/2 and 5/6; eight into three parts as evenly as can be.
    assert asked == [((3,), range(2, 4)), ((6,), range(4, 7)), ((8,), range(7, 10))]
    assert record.presence == "given"
    assert (record.query_slices, len(record.slices)) == (8, 8)
    found = np.zeros_like(truth)
    for (support,), span in asked:
        found[span.start : span.stop] = other.masks[LIVER][support]
    assert record.dice == pytest.approx(overlap(truth, found))


def test_baselines_of_fob_know_that_the_organ_is_there(subject, other):
    records = across(protocols.fob, subject, other, Settings((KIDNEY,), PLAIN))
    held = subject.masks[KIDNEY].any(axis=(1, 2)).sum()
    assert [record.method for record in records] == list(PLAIN)
    assert {record.presence for record in records} == {"given"}
    assert {(record.query_slices, record.found_slices) for record in records} == {(held, held)}
    assert min(record.dice for record in records) > 0.7


@pytest.mark.parametrize("protocol", [protocols.fob, protocols.whole])
def test_an_organ_that_the_support_lacks_is_left_out(subject, other, protocol):
    lacking = Subject(3, other.volume, {KIDNEY: other.masks[KIDNEY]})
    (record,) = across(protocol, subject, lacking, Settings((LIVER, KIDNEY), ("copy",)))
    assert record.organ == KIDNEY


@pytest.mark.usefixtures("copying")
@pytest.mark.parametrize("held", [(5, 6), (0,), ()])
def test_told_by_the_tool_nothing_of_whole_is_found_elsewhere(subject, other, monkeypatch, held):
    def find(self, volume, organ, annotated, query, within=None):
        masks = np.zeros(query.shape, bool)
        masks[list(held), 30:34, 30:34] = True
        return Found(masks, [], 1.0)

    monkeypatch.setattr(CopySession, "find", find)
    settings = Settings((LIVER,), (TOOL, "copy", "interpolation"))
    scored = list(protocols.whole(subject, other, settings, Tools(settings)))
    told = [one.answer for one in scored if one.answer.presence == "tool"]
    assert [answer.method for answer in told] == ["copy", "interpolation"]
    for answer in told:
        # The supports' slices come to lie about 3, 6 and 8; from there every one is reached.
        assert np.flatnonzero(answer.masks.any(axis=(1, 2))).tolist() == list(held)


def test_between_the_supports_of_whole_baselines_may_find_nothing(subject, other, monkeypatch):
    monkeypatch.setattr(protocols, "CycleGate", lambda *_: lambda *_: False)
    settings = Settings((LIVER,), ("copy", "interpolation"))
    records = across(protocols.whole, subject, other, settings)
    assert [record.found_slices for record in records] == [3, 3]


def test_baselines_need_no_tool(subject, monkeypatch):
    monkeypatch.setattr(tool, "ToolSession", lambda *_: pytest.fail("it was loaded"))
    records = interactive(subject, Settings((LIVER,), ("copy", "random-walker")))
    assert [(r.method, r.presence, r.generator) for r in records] == [
        ("copy", "own", ""),
        ("random-walker", "own", ""),
    ]


def test_the_tool_is_told_that_every_slice_of_fob_holds_the_organ(subject, other):
    """With the real models."""
    settings = Settings((LIVER, KIDNEY), (TOOL,), device="cpu")
    records = across(protocols.fob, subject, other, settings)
    assert all(record.found_slices == record.query_slices for record in records)
    assert min(record.dice for record in records) > 0.6
    assert {(record.generator, record.segmenter) for record in records} == {("fob-lite", "compact")}


def test_points_alone_find_the_organ_in_another_subject(subject, other):
    settings = Settings((KIDNEY,), POINT_METHODS, device="cpu")
    records = across(protocols.fob, subject, other, settings)
    assert {record.method for record in records} == {FOB_PROMPTS, PROTOTYPE_PROMPTS}
    assert min(record.dice for record in records) > 0.5
    assert all(record.slices == () for record in records)


def test_points_alone_start_where_they_fit_best(subject, other, monkeypatch):
    starts = []
    find_start = points.find_start

    def note(place, slices, supports):
        starts.append(find_start(place, slices, supports[1:2]))
        return starts[-1]

    monkeypatch.setattr(points, "find_start", note)
    settings = Settings((KIDNEY,), (FOB_PROMPTS,), device="cpu")
    (record,) = across(protocols.whole, subject, other, settings)
    ((at, mask),) = starts[0].items()
    assert overlap(subject.masks[KIDNEY][at], mask) > 0.7
    assert record.presence == "own"
    assert record.dice > 0.5


def test_every_generator_works_with_every_segmenter(subject, other, tmp_path):
    # Noise, of which each segmenter makes something else.
    noise = np.random.default_rng(0).normal(0, 100, subject.volume.shape)
    volume = replace(subject.volume, array=(subject.volume.array + noise).astype(np.float32))
    weights = tmp_path / "other.safetensors"
    weights.write_bytes(resource("weights/fob-lite.safetensors").read_bytes())
    settings = Settings(
        (KIDNEY,),
        (TOOL,),
        generators=("fob-lite", f"fob-lite:{weights}"),
        segmenters=("compact", "random-walker"),
        device="cpu",
    )
    records = across(protocols.fob, replace(subject, volume=volume), other, settings)
    assert [(record.generator, record.segmenter) for record in records] == [
        ("fob-lite", "compact"),
        ("fob-lite", "random-walker"),
        ("fob-lite:other.safetensors", "compact"),
        ("fob-lite:other.safetensors", "random-walker"),
    ]
    # The same weights find the same, and another segmenter something else.
    assert [one.slices for one in records[:2]] == [one.slices for one in records[2:]]
    assert records[0].slices != records[1].slices


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"methods": (TOOL, "magic")}, "magic"),
        ({"slices_annotated": 0}, "At least one"),
        ({"slices_annotated": 2, "methods": ("copy",)}, "Add fobsam"),
        ({"suggestions": ("random",)}, "random"),
        ({"suggestions": ()}, "tool, middle"),
        ({"generators": ()}, "generator"),
    ],
)
def test_settings_that_make_no_sense(wrong, said):
    with pytest.raises(FoBSAMError, match=said) as caught:
        Settings(organs=(LIVER,), **wrong)
    assert caught.value.code == "bad_request"
