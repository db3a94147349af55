"""Self-supervised training: episodes, interruption, the weights it writes."""

from __future__ import annotations

import contextlib
import csv
from itertools import pairwise

import numpy as np
import phantom
import pytest
import torch

from FoBSAMLib import FoBSAMError
from FoBSAMLib.generator.registry import create
from FoBSAMLib.image.io import read_volume
from FoBSAMLib.training.command import initial_model, save_weights
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
