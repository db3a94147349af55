"""Self-supervised training: episodes, interruption, the weights it writes."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import resource
import shutil
from itertools import pairwise

import numpy as np
import phantom
import pytest
import torch

from FoBSAMLib import FoBSAMError
from FoBSAMLib.generator.registry import create
from FoBSAMLib.image.io import read_volume
from FoBSAMLib.training import prepare as preparing
from FoBSAMLib.training.command import draw_curve, initial_model, save_weights
from FoBSAMLib.training.episodes import EpisodeDataset
from FoBSAMLib.training.prepare import prepare
from FoBSAMLib.training.trainer import TrainingConfig, train


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "scan.nii.gz"
    return prepare(read_volume(phantom.save(path, phantom.voxels())))


def test_supervoxels_are_connected_parts_of_the_body(prepared):
    levels = prepared.supervoxels
    assert levels.shape[1:] == (12, 128, 128)
    counts = [len(np.unique(level)) - 1 for level in levels]
    assert counts[0] >= counts[1] >= counts[2] >= 2
    # Merging only joins: each fine part lies in one coarse part.
    for fine, coarse in pairwise(levels):
        pairs = np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]


def test_episodes_are_the_same_for_the_same_item(prepared):
    dataset = EpisodeDataset([prepared], 4, 1, seed=3)
    first, again, other = dataset[0], dataset[0], dataset[1]
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b)
    assert first.images.shape != other.images.shape or not torch.equal(first.images, other.images)


def test_what_an_episode_holds(prepared):
    for item in range(4):
        episode = EpisodeDataset([prepared], 4, 1, seed=0)[item]
        groups, slices = episode.images.shape[:2]
        assert episode.images.shape[2:] == (1, 256, 256)
        assert episode.masks.shape[0] == groups
        assert episode.masks.shape[2] == slices
        assert set(np.unique(episode.masks)) <= {0.0, 1.0}
        assert ((episode.rings >= 0) & (episode.rings <= 1)).all()
        # The query holds the structure exactly when it says so.
        held = episode.masks[:, :, -1].amax((2, 3, 4)) > 0
        assert torch.equal(held, episode.present > 0)


def test_an_interrupted_run_ends_as_an_undisturbed_one(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("FoBSAMLib.training.trainer.SAVE_EVERY", 2)
    monkeypatch.setattr("FoBSAMLib.training.trainer.LOG_EVERY", 1)
    config = TrainingConfig(steps=4, batch=1)

    def run(folder, report=lambda step, losses: None):
        cpu = torch.device("cpu")
        return train([prepared], config, tmp_path / folder, cpu, initial_model(0), report)

    whole = run("whole")

    def interrupt(step, losses):
        if step == 3:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        run("parts", interrupt)
    resumed = run("parts")
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    with (tmp_path / "parts" / "log.csv").open() as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == [1, 2, 3, 4]


def test_another_configuration_does_not_go_on_with_a_run(prepared, tmp_path):
    cpu = torch.device("cpu")
    config = TrainingConfig(steps=4, batch=1)
    train([prepared], config, tmp_path, cpu, initial_model(0))
    other = TrainingConfig(steps=6, batch=1)
    with pytest.raises(FoBSAMError, match="another configuration"):
        train([prepared], other, tmp_path, cpu, initial_model(0))


def test_written_weights_are_a_generator(tmp_path):
    path = tmp_path / "mine.safetensors"
    model = initial_model(0)
    save_weights(model, path)
    loaded = create(f"fob-lite:{path}", "cpu").model
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("text", ['{"stepz": 3}', "[1, 2", "7", '{"steps": 1}'])
def test_a_configuration_that_is_none(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(FoBSAMError, match="steps"):
        TrainingConfig.read(path)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("subjects", {"chaos": 5}),
        ("subjects", {"chaos": ["1"]}),
        ("subjects", [1]),
        ("steps", "many"),
        ("steps", 10.5),
        ("batch", 0),
        ("seed", -1),
        ("rate", "fast"),
        ("rate", math.nan),
        ("average", 2),
        ("bfloat16", 1),
    ],
)
def test_a_wrong_entry_of_a_configuration_is_named(tmp_path, entry, value):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({entry: value}))
    with pytest.raises(FoBSAMError, match=f"configuration: {entry} "):
        TrainingConfig.read(path)


CPU = torch.device("cpu")
SHORT = TrainingConfig(steps=4, batch=1)


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory):
    """The folder of a run of four steps."""
    folder = tmp_path_factory.mktemp("finished")
    train([prepared], SHORT, folder, CPU, initial_model(0))
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(finished, tmp_path / "run")


def rows(folder):
    with (folder / "log.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_short_run_has_a_curve(run, tmp_path):
    assert [row["step"] for row in rows(run)] == ["4"]
    draw_curve(run / "log.csv", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 0


def test_a_logged_loss_is_the_mean_of_the_steps_that_have_it(prepared, tmp_path, monkeypatch):
    steps = iter([{"mask": 1.0}, {"mask": 2.0, "rac": 5.0}, {"mask": 3.0}, {"mask": 4.0}])

    def losses(model, episode):
        zero = 0 * sum(p.sum() for p in model.parameters())
        return {name: zero + value for name, value in next(steps).items()}

    monkeypatch.setattr("FoBSAMLib.training.trainer.episode_losses", losses)
    train([prepared], SHORT, tmp_path, CPU, initial_model(0))
    (row,) = rows(tmp_path)
    assert float(row["mask"]) == pytest.approx(2.5)
    assert float(row["rac"]) == pytest.approx(5)
    assert math.isnan(float(row["heat"]))


def _cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def _lose_a_key(path):
    state = torch.load(path, weights_only=True)
    del state["optimiser"]
    torch.save(state, path)


@pytest.mark.parametrize("damage", [_cut, _lose_a_key, lambda path: path.write_text("{}")])
def test_a_damaged_state_is_to_be_removed(prepared, run, damage):
    damage(run / "state.pt")
    with pytest.raises(FoBSAMError, match=r"state\.pt is damaged.* Remove it"):
        train([prepared], SHORT, run, CPU, initial_model(0))


def test_a_run_goes_on_without_its_log(prepared, run):
    (run / "log.csv").unlink()
    train([prepared], SHORT, run, CPU, initial_model(0))


def test_a_run_begun_anew_has_a_log_of_its_own(prepared, run):
    (run / "state.pt").unlink()
    train([prepared], SHORT, run, CPU, initial_model(0))
    assert [row["step"] for row in rows(run)] == ["4"]


@contextlib.contextmanager
def no_file_longer_than(size):
    """Writing more fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(("size", "name"), [(10, "config.json"), (5_000_000, "state.pt")])
def test_a_full_disk_while_training(prepared, tmp_path, size, name):
    with (
        pytest.raises(FoBSAMError, match=f"{name} cannot be written"),
        no_file_longer_than(size),
    ):
        train([prepared], SHORT, tmp_path, CPU, initial_model(0))
    left = {file.name for file in tmp_path.iterdir()}
    assert left <= {"config.json", "log.csv"} - {name}


@pytest.fixture
def scan(tmp_path):
    return phantom.save(tmp_path / "image_1.nii.gz", phantom.voxels())


def test_a_full_disk_while_preparing(scan, tmp_path):
    with pytest.raises(FoBSAMError, match="cannot be written"), no_file_longer_than(100_000):
        preparing.prepared(scan, tmp_path / "cache")
    assert not any((tmp_path / "cache").iterdir())


def test_a_prepared_volume_is_kept(scan, tmp_path, monkeypatch):
    first = preparing.prepared(scan, tmp_path / "cache")
    monkeypatch.setattr(preparing, "prepare", None)
    again = preparing.prepared(scan, tmp_path / "cache")
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.supervoxels, again.supervoxels)
    assert first.step == again.step


def test_a_damaged_prepared_volume_is_made_anew(scan, tmp_path):
    first = preparing.prepared(scan, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    for content in (b"", b"no archive", kept.read_bytes()[:5000]):
        kept.write_bytes(content)
        again = preparing.prepared(scan, tmp_path / "cache")
        np.testing.assert_array_equal(first.image, again.image)


def test_a_changed_image_is_prepared_anew(scan, tmp_path):
    first = preparing.prepared(scan, tmp_path / "cache")
    phantom.save(scan, phantom.voxels(seed=7))
    os.utime(scan, ns=(1, 1))
    again = preparing.prepared(scan, tmp_path / "cache")
    assert not np.array_equal(first.image, again.image)


@pytest.mark.parametrize("kind", ["state", "numbers"])
def test_a_file_that_is_no_weights_is_no_generator(run, tmp_path, kind):
    path = run / "state.pt"
    if kind == "numbers":
        path = tmp_path / "numbers.pt"
        torch.save(dict.fromkeys(initial_model(0).state_dict(), 1), path)
    with pytest.raises(FoBSAMError, match="does not fit the model") as caught:
        create(f"fob-lite:{path}", "cpu")
    assert caught.value.code == "weights_corrupt"
