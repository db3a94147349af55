"""What every session promises: in this process, through a worker, through one elsewhere."""

from __future__ import annotations

import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import phantom
import pytest
import standin

from FoBSAMLib import FoBSAMError, LocalSession, Prompts, Support, Volume, WorkerSession
from FoBSAMLib.session.base import Session
from FoBSAMLib.session.results import SliceResult

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def elsewhere(folder: Path) -> list[str]:
    """A worker of another environment: its own Python, which finds the packages of this one."""
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("**/site-packages")
    packages = [ROOT, *(path for path in sys.path if path.endswith("-packages"))]
    (site / "all.pth").write_text("\n".join(map(str, packages)))
    binary = "Scripts" if sys.platform == "win32" else "bin"
    clean = ["env", "-i", f"HOME={folder}", "OMP_WAIT_POLICY=PASSIVE"]
    return [*clean, str(folder / binary / "python"), "-m", "FoBSAMLib", "worker"]


def driven_by_qt() -> WorkerSession:
    """A worker as Slicer starts it, waited for as a script does."""
    standin.require()
    standin.install()
    from FoBSAMLib.background.process import ProcessTransport

    return WorkerSession(transport=ProcessTransport())


@pytest.fixture(scope="module", params=["local", "worker", "elsewhere", "slow pipe", "Qt"])
def session(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Session]:
    if request.param == "local":
        made: Session = LocalSession()
    elif request.param == "worker":
        made = WorkerSession()
    elif request.param == "Qt":
        made = driven_by_qt()
    elif request.param == "elsewhere":
        made = WorkerSession(command=elsewhere(tmp_path_factory.mktemp("other")))
    else:
        relay = [sys.executable, str(HERE / "relay.py"), "--pause", "0.001", "--piece", "700"]
        made = WorkerSession(command=[*relay, "--", *elsewhere(tmp_path_factory.mktemp("slow"))])
    with made:
        yield made


@pytest.fixture(scope="module")
def volume() -> Volume:
    return Volume.from_array(phantom.voxels(), (1.5, 1.5, 4.0), name="scan")


@pytest.fixture(scope="module")
def support(volume) -> Support:
    masks = {name: phantom.drawn() == label for name, label in LABELS.items()}
    return Support.from_masks(volume, masks, "k", {"egg": [0, 11]})


LABELS = {"ball": phantom.BALL, "egg": phantom.EGG}


@pytest.fixture(scope="module")
def expected(volume, support) -> list[SliceResult]:
    with LocalSession() as local:
        local.set_image(volume)
        local.set_supports(support)
        return list(local.segment())


@pytest.fixture
def ready(session, volume, support) -> Session:
    session.set_image(volume)
    session.set_supports(support)
    return session


def check_same(found: list[SliceResult], expected: list[SliceResult]) -> None:
    assert [(r.structure, r.axis, r.index) for r in found] == [
        (r.structure, r.axis, r.index) for r in expected
    ]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_allclose(one.prompts.background, other.prompts.background, atol=1e-3)
        np.testing.assert_allclose(one.prompts.foreground, other.prompts.foreground, atol=1e-3)
        assert one.presence == pytest.approx(other.presence, abs=1e-4)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
        assert one.milliseconds > 0


def moved(result: SliceResult) -> Prompts:
    """A background point put into the middle of the structure."""
    rows, columns = np.nonzero(result.mask)
    middle = np.array([[columns.mean(), rows.mean()]], np.float32)
    background = np.concatenate([result.prompts.background[1:], middle])
    return Prompts(background, result.prompts.foreground)


def test_every_session_finds_the_same(ready, expected):
    check_same(list(ready.segment()), expected)
    assert ready.notes == []


def test_models_and_devices_are_named(ready):
    assert ready.models["generator"] == "fob-lite"
    assert len(ready.models["generator_sha256"]) == 64
    assert ready.models["device"] in ("cpu", "cuda", "mps")
    assert "cpu" in [device["name"] for device in ready.devices()]


def test_one_structure_in_a_range_of_slices(ready, expected):
    found = list(ready.segment(["egg"], range(3, 9)))
    check_same(found, [r for r in expected if r.structure.name == "egg" and 3 <= r.index < 9])


def test_what_was_found_stays_after_a_cancel_and_the_rest_can_be_asked_for(ready, expected):
    found: list[SliceResult] = []
    for result in ready.segment(cancel=lambda: len(found) >= 3):
        found.append(result)
    assert 3 <= len(found) < len(expected)
    check_same(found, expected[: len(found)])
    known = {(r.structure.name, r.index) for r in found}
    for name in LABELS:
        assert set(ready.results(name)) == {n for other, n in known if other == name}
    check_same(list(ready.segment()), expected)


def test_a_run_cancelled_before_it_begins_finds_at_most_one(ready):
    assert len(list(ready.segment(cancel=lambda: True))) <= 1


def test_a_run_given_up_early_does_not_disturb_the_next(ready, expected):
    for number, _ in enumerate(ready.segment()):
        if number == 2:
            break
    check_same(list(ready.segment()), expected)


def test_corrections_start_from_what_was_found(ready, expected):
    found = list(ready.segment(["ball"]))
    original = next(r for r in found if r.mask.sum() > 50)
    corrected = ready.correct("ball", original.index, moved(original))
    assert (corrected.structure, corrected.index) == (original.structure, original.index)
    column, row = np.rint(moved(original).background[-1]).astype(int)
    assert original.mask[row, column]
    assert not corrected.mask[row, column]
    np.testing.assert_array_equal(ready.results("ball")[original.index].mask, corrected.mask)
    again = ready.correct("ball", original.index, original.prompts)
    np.testing.assert_array_equal(again.mask, original.mask)


def test_corrections_and_suggestions_between_two_results(ready, expected):
    found, corrected = [], []
    for result in ready.segment():
        found.append(result)
        if result.mask.sum() > 50 and len(corrected) < 3:
            corrected.append(ready.correct(result.structure.name, result.index, moved(result)))
            assert ready.suggest(result.structure.name) in range(12)
    check_same(found, expected)
    for result in corrected:
        kept = ready.results(result.structure.name)[result.index]
        np.testing.assert_array_equal(kept.mask, result.mask)


def test_a_new_image_ends_a_run(ready, support):
    other = Volume.from_array(phantom.voxels(seed=5), (1.5, 1.5, 4.0))
    number = 0
    for number, _ in enumerate(ready.segment(), 1):
        if number == 2:
            ready.set_image(other)
    assert number == 2
    assert ready.results("ball") == {}


def test_two_runs_side_by_side(ready, expected):
    first, second = ready.segment(["ball"]), ready.segment(["egg"])
    found = [next(first), next(second), next(first), *second, *first]
    names = [(r.structure.name, r.index) for r in found]
    assert sorted(names) == sorted((r.structure.name, r.index) for r in expected)


def test_the_next_slice_to_annotate(ready, volume, support, expected):
    list(ready.segment())
    with LocalSession() as local:
        local.set_image(volume)
        local.set_supports(support)
        local.restore(expected)
        for name in LABELS:
            assert ready.suggest(name) == local.suggest(name)
    assert ready.suggest("ball") in range(12)


def test_restored_results_can_be_corrected(ready, expected):
    ready.restore(expected)
    assert set(ready.results("ball")) == {r.index for r in expected if r.structure.name == "ball"}
    original = next(r for r in expected if r.mask.sum() > 50)
    corrected = ready.correct(original.structure.name, original.index, moved(original))
    assert corrected.mask.sum() < original.mask.sum()


def test_new_supports_and_images_forget_results(ready, volume, support):
    list(ready.segment(["ball"], range(5, 8)))
    assert ready.results("ball")
    ready.set_supports(support)
    assert not ready.results("ball")
    list(ready.segment(["ball"], range(5, 8)))
    ready.set_image(volume)
    assert not ready.results("ball")


def test_supports_of_another_image(session, volume, support):
    other = Volume.from_array(phantom.voxels(seed=3), (1.5, 1.5, 4.0), name="other")
    session.set_image(other)
    session.set_supports(support)
    assert not session.own
    found = list(session.segment(["ball"], range(4, 9)))
    assert [r.index for r in found if r.mask.any()]
    assert sorted(r.index for r in found) == [4, 5, 6, 7, 8]
    with LocalSession() as local:
        local.set_image(other)
        local.set_supports(support)
        check_same(found, list(local.segment(["ball"], range(4, 9))))


def test_a_photograph(session):
    row, column = np.mgrid[:60, :80]
    spot = (row - 30) ** 2 + (column - 40) ** 2 < 15**2
    pictures = [
        np.where(spot[..., None], [120, 70, 60], [220, 180, 160])
        + np.random.default_rng(seed).normal(0, 6, (60, 80, 3))
        for seed in (0, 1)
    ]
    first, second = (Volume.from_array(p.clip(0, 255).astype(np.uint8)[None]) for p in pictures)
    session.set_image(second)
    session.set_supports(Support.from_masks(first, {"spot": spot[None]}))
    (found,) = session.segment()
    assert 2 * (found.mask & spot).sum() / (found.mask.sum() + spot.sum()) > 0.8


def test_memory_given_back_is_taken_again(ready, expected):
    found = list(ready.segment())
    ready.release()
    assert ready.results("ball")
    ready.correct("ball", found[0].index, found[0].prompts)
    check_same(list(ready.segment()), expected)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: list(s.segment(["liver"])), "no structure liver"),
        (lambda s: list(s.segment(slices=range(5, 99))), "no slices"),
        (lambda s: list(s.segment(slices=range(0, 9, 2))), "no slices"),
        (lambda s: list(s.segment(slices=range(3, 3))), "no slices"),
        (lambda s: list(s.segment(slices=range(10**30))), "no slices"),
        (lambda s: list(s.segment(slices=[1, 2])), "range"),
        (lambda s: s.set_image(np.zeros((3, 4, 5))), "Volume"),
        (lambda s: s.set_supports(np.zeros((3, 4, 5))), "Support"),
        (lambda s: s.suggest("liver"), "no structure"),
        (lambda s: s.results("liver"), "no structure"),
        (lambda s: s.correct("liver", 3, Prompts()), "no structure"),
        (lambda s: s.correct("ball", 3, Prompts()), "slice 3"),
        (lambda s: s.correct("ball", phantom.DRAWN, Prompts()), "annotated"),
    ],
)
def test_what_makes_no_sense_is_refused_in_the_same_words(ready, volume, support, ask, says):
    with pytest.raises(FoBSAMError, match=says) as caught:
        ask(ready)
    assert caught.value.code == "bad_request"
    with LocalSession() as local:
        local.set_image(volume)
        local.set_supports(support)
        with pytest.raises(FoBSAMError) as told:
            ask(local)
    assert str(caught.value) == str(told.value)


@pytest.mark.parametrize(
    ("points", "says"), [([[np.nan, 1.0]], "NaN"), (np.zeros((2, 3)), "points")]
)
def test_points_that_make_no_sense_are_refused(ready, points, says):
    list(ready.segment(["ball"], range(5, 6)))
    with pytest.raises(FoBSAMError, match=says) as caught:
        ready.correct("ball", 5, Prompts(np.array(points)))
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_run_that_is_interrupted_ends(ready, expected, error):
    asked = 0

    def cancel() -> bool:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise error
        return False

    with pytest.raises(error):
        list(ready.segment(cancel=cancel))
    found = sum(len(ready.results(name)) for name in LABELS)
    assert found < 6
    check_same(list(ready.segment()), expected)


@pytest.mark.parametrize("kind", [LocalSession, WorkerSession])
def test_a_closed_session_says_so(kind, volume):
    session = kind()
    session.close()
    for ask in (lambda: session.set_image(volume), lambda: list(session.segment())):
        with pytest.raises(FoBSAMError, match="closed"):
            ask()


@pytest.mark.parametrize("kind", [LocalSession, WorkerSession])
def test_before_image_and_supports_nothing_can_be_found(kind):
    with kind() as new:
        for ask in (
            lambda s: list(s.segment()),
            lambda s: s.suggest("ball"),
            lambda s: s.correct("ball", 3, Prompts()),
            lambda s: s.results("ball"),
            lambda s: s.own,
        ):
            with pytest.raises(FoBSAMError, match="no image or no support"):
                ask(new)


@pytest.mark.parametrize("kind", [LocalSession, WorkerSession])
@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("fob-light", "compact"), "bad_request"),
        (("fob-lite", "sam-vit-x"), "bad_request"),
        (("fob-lite:nowhere.safetensors", "compact"), "weights_missing"),
    ],
)
def test_models_that_are_not_there(kind, names, code):
    with pytest.raises(FoBSAMError) as caught:
        kind(*names)
    assert caught.value.code == code


@pytest.mark.parametrize("kind", [LocalSession, WorkerSession])
def test_corrupt_weights(kind, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(FoBSAMError) as caught:
        kind(f"fob-lite:{tmp_path / 'bad.safetensors'}")
    assert caught.value.code == "weights_corrupt"
