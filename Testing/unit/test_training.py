"""Training: prepared volumes, interruption, damaged runs, several processes."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import math
import multiprocessing
import os
import resource
import socket
from itertools import pairwise

import numpy as np
import phantom
import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_recipe import Batch, ToyRecipe

from FoBSAMLib import FoBSAMError
from FoBSAMLib.evaluation.datasets import find_dataset
from FoBSAMLib.generator.registry import create
from FoBSAMLib.image.io import read_volume
from FoBSAMLib.models import paths
from FoBSAMLib.models.checkpoints import load_checkpoint, training_record
from FoBSAMLib.training import prepare as preparing
from FoBSAMLib.training.command import draw_curve, save_weights
from FoBSAMLib.training.lite import LiteRecipe
from FoBSAMLib.training.paper import PaperRecipe
from FoBSAMLib.training.prepare import prepare
from FoBSAMLib.training.processes import joined
from FoBSAMLib.training.settings import without
from FoBSAMLib.training.trainer import TrainingConfig, train

CPU = torch.device("cpu")
SHORT = TrainingConfig(steps=4, batch=1)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Every step is logged and saved."""
    monkeypatch.setattr("FoBSAMLib.training.trainer.LOG_EVERY", 1)
    monkeypatch.setattr("FoBSAMLib.training.trainer.SAVE_SECONDS", 0)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "scan.nii.gz"
    volume = read_volume(phantom.save(path, phantom.voxels()))
    return prepare(volume, phantom.labels(), "chaos")


def test_supervoxels_are_connected_parts_of_the_body(prepared):
    levels = prepared.supervoxels
    assert levels.shape[1:] == (12, 128, 128)
    counts = [len(np.unique(level)) - 1 for level in levels]
    assert counts[0] >= counts[1] >= counts[2] >= 2
    # Merging only joins: each fine part lies in one coarse part.
    for fine, coarse in pairwise(levels):
        pairs = np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]


def train_toy(folder, report=lambda step, losses: None, config=SHORT, **options):
    return train([], config, folder, CPU, ToyRecipe(), report, **options)


def assert_same(one, other):
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def interrupt(step, losses):
    if step == 3:
        raise KeyboardInterrupt


class Noisy(ToyRecipe):
    """With chance in its losses, as augmentation on the device is."""

    def losses(self, model, batch):
        images = batch.images + 0.1 * torch.randn_like(batch.images)
        return super().losses(model, batch._replace(images=images))


def test_an_interrupted_run_ends_as_an_undisturbed_one(tmp_path):
    def run(folder, report=lambda step, losses: None):
        return train([], SHORT, tmp_path / folder, CPU, Noisy(), report)

    whole = run("whole")
    with contextlib.suppress(KeyboardInterrupt):
        run("parts", interrupt)
    assert_same(whole, run("parts"))
    assert [row["step"] for row in rows(tmp_path / "parts")] == ["1", "2", "3", "4"]


class Otherwise(ToyRecipe):
    """From other initial weights."""

    run = {"initial": "other.pth"}  # noqa: RUF012


def test_other_initial_weights_do_not_go_on_with_a_run(tmp_path):
    train_toy(tmp_path)
    with pytest.raises(FoBSAMError, match="--initial"):
        train([], SHORT, tmp_path, CPU, Otherwise())


def test_another_configuration_does_not_go_on_with_a_run(tmp_path):
    train_toy(tmp_path)
    with pytest.raises(FoBSAMError, match="another configuration"):
        train_toy(tmp_path, config=TrainingConfig(steps=6, batch=1))


def test_written_weights_are_a_generator_and_say_what_they_were_trained_on(tmp_path):
    path = tmp_path / "mine.safetensors"
    model = LiteRecipe().initial(0)
    record = {"model": "fob-lite", "trained_on": {"chaos": [1, 2]}}
    save_weights(model, path, record, halved=True)
    assert training_record(path) == record
    written = load_checkpoint(path)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(written[name].to(tensor.dtype), tensor, atol=2e-3, rtol=2e-3)
    loaded = create(f"fob-lite:{path}", "cpu").model
    slices = torch.rand(2, 1, 256, 256)
    with torch.no_grad():
        expected, found = model.eval().encode(slices), loaded.encode(slices)
    torch.testing.assert_close(found.key, expected.key, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("text", ['{"stepz": 3}', "[1, 2", "7", '{"steps": 1}'])
def test_a_configuration_that_is_none(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(FoBSAMError, match="steps"):
        TrainingConfig.read(path)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("model", "fob"),
        ("subjects", {"chaos": 5}),
        ("subjects", {"chaos": ["1"]}),
        ("subjects", [1]),
        ("leave_out", ["liver"]),
        ("leave_out", {"chaos": "liver"}),
        ("steps", "many"),
        ("steps", 10.5),
        ("batch", 0),
        ("seed", -1),
        ("rate", "fast"),
        ("rate", math.nan),
        ("average", 2),
        ("bfloat16", 1),
        ("labels", "yes"),
    ],
)
def test_a_wrong_entry_of_a_configuration_is_named(tmp_path, entry, value):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({entry: value}))
    with pytest.raises(FoBSAMError, match=f"configuration: {entry} "):
        TrainingConfig.read(path)


def test_shipped_configurations_are_read():
    for model in ("fob-lite", "fob-paper"):
        assert TrainingConfig.read(paths.resource(f"training/{model}.json")).model == model


@pytest.fixture
def run(tmp_path):
    """The folder of a run of four steps."""
    train_toy(tmp_path / "run")
    return tmp_path / "run"


def rows(folder):
    with (folder / "log.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_short_run_has_a_curve(run, tmp_path):
    assert [row["step"] for row in rows(run)] == ["1", "2", "3", "4"]
    draw_curve(run / "log.csv", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 0


def test_a_logged_loss_is_the_mean_of_the_steps_since_the_last(run, tmp_path, monkeypatch):
    each = [float(row["large"]) for row in rows(run)]
    monkeypatch.setattr("FoBSAMLib.training.trainer.LOG_EVERY", 10)
    train_toy(tmp_path / "seldom")
    (row,) = rows(tmp_path / "seldom")
    assert float(row["large"]) == pytest.approx(np.mean(each), abs=1e-4)


def _cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def _lose_a_key(path):
    state = torch.load(path, weights_only=True)
    del state["optimiser"]
    torch.save(state, path)


@pytest.mark.parametrize("damage", [_cut, _lose_a_key, lambda path: path.write_text("{}")])
def test_a_damaged_state_is_to_be_removed(run, damage):
    damage(run / "state.pt")
    with pytest.raises(FoBSAMError, match=r"state\.pt is damaged.* Remove it"):
        train_toy(run)


def test_a_run_goes_on_without_its_log(run):
    (run / "log.csv").unlink()
    train_toy(run)


def test_a_run_begun_anew_has_a_log_of_its_own(run):
    (run / "state.pt").unlink()
    train_toy(run)
    assert [row["step"] for row in rows(run)] == ["1", "2", "3", "4"]


@contextlib.contextmanager
def no_file_longer_than(size):
    """Writing more fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(("size", "name"), [(10, "config.json"), (1000, "state.pt")])
def test_a_full_disk_while_training(tmp_path, size, name):
    with (
        pytest.raises(FoBSAMError, match=f"{name} cannot be written"),
        no_file_longer_than(size),
    ):
        train_toy(tmp_path)
    left = {file.name for file in tmp_path.iterdir()}
    assert left <= {"config.json", "log.csv"} - {name}


class Interrupted(ToyRecipe):
    """Stopped at the third batch."""

    def losses(self, model, batch):
        if len(self.shown) == 2:
            raise KeyboardInterrupt
        return super().losses(model, batch)


class Pairs(ToyRecipe):
    """Batches of two, what two processes are shown at a time."""

    def dataset(self, volumes, config, batches):
        single = super().dataset(volumes, config, 2 * batches)
        both = [[single[2 * n], single[2 * n + 1]] for n in range(batches)]
        return [Batch(torch.cat([a.images, b.images]), a.item) for a, b in both]


def member(rank, port, folder, recipe):
    """A process of a team, as torchrun starts it; leaves what it was shown and its weights."""
    torch.set_num_threads(1)
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with contextlib.suppress(KeyboardInterrupt), joined(CPU) as (team, device):
        model = train([], SHORT, folder / "run", device, recipe, team=team)
        weights = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(weights, folder / f"{rank}.safetensors")
        (folder / f"{rank}.json").write_text(json.dumps(recipe.shown))


def run_team(folder, recipe):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    team = [context.Process(target=member, args=(rank, port, folder, recipe)) for rank in (0, 1)]
    for one in team:
        one.start()
    for one in team:
        one.join(100)
        assert one.exitcode == 0


def left_by(folder, rank):
    shown = json.loads((folder / f"{rank}.json").read_text())
    return shown, load_file(folder / f"{rank}.safetensors")


def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    run_team(tmp_path, ToyRecipe())
    (shown, weights), (also_shown, same) = left_by(tmp_path, 0), left_by(tmp_path, 1)
    assert shown == [0, 2, 4, 6]
    assert also_shown == [1, 3, 5, 7]
    alone = train([], SHORT, tmp_path / "alone", CPU, Pairs()).state_dict()
    for name, value in alone.items():
        torch.testing.assert_close(weights[name], value)
        torch.testing.assert_close(same[name], value)
    assert len(rows(tmp_path / "run")) == 4
    with pytest.raises(FoBSAMError, match="number of processes"):
        train_toy(tmp_path / "run")


def test_an_interrupted_team_goes_on(tmp_path):
    run_team(tmp_path, Interrupted())
    assert not (tmp_path / "0.json").exists()
    run_team(tmp_path, ToyRecipe())
    shown, weights = left_by(tmp_path, 0)
    assert shown == [4, 6]
    alone = train([], SHORT, tmp_path / "alone", CPU, Pairs()).state_dict()
    for name, value in alone.items():
        torch.testing.assert_close(weights[name], value)


@pytest.fixture
def chaos(tmp_path):
    """A data set of one subject."""
    folder = tmp_path / "chaos_t2"
    folder.mkdir()
    phantom.save(folder / "image_1.nii.gz", phantom.voxels())
    phantom.save(folder / "label_1.nii.gz", phantom.labels())
    return find_dataset("chaos", tmp_path)


def test_a_full_disk_while_preparing(chaos, tmp_path):
    with pytest.raises(FoBSAMError, match="cannot be written"), no_file_longer_than(100_000):
        preparing.prepared(chaos, 1, tmp_path / "cache")
    assert not any((tmp_path / "cache").iterdir())


def test_a_prepared_volume_is_kept(chaos, tmp_path, monkeypatch):
    first = preparing.prepared(chaos, 1, tmp_path / "cache")
    monkeypatch.setattr(preparing, "prepare", None)
    again = preparing.prepared(chaos, 1, tmp_path / "cache")
    assert_same_volume(first, again)
    assert again.dataset == "chaos"
    assert first.step == again.step


def assert_same_volume(first, again):
    for name in ("image", "supervoxels", "labels", "present", "usable"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name), name)


def test_a_damaged_prepared_volume_is_made_anew(chaos, tmp_path):
    first = preparing.prepared(chaos, 1, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    for content in (b"", kept.read_bytes()[:5000]):
        kept.write_bytes(content)
        assert_same_volume(first, preparing.prepared(chaos, 1, tmp_path / "cache"))


@pytest.mark.parametrize("changed", [0, 1])
def test_a_changed_subject_is_prepared_anew(chaos, tmp_path, changed):
    first = preparing.prepared(chaos, 1, tmp_path / "cache")
    file = chaos.files[1][changed]
    phantom.save(file, [phantom.voxels(seed=7), phantom.labels()[:, ::-1]][changed])
    os.utime(file, ns=(1, 1))
    again = preparing.prepared(chaos, 1, tmp_path / "cache")
    one, other = ((first.image, again.image), (first.labels, again.labels))[changed]
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", ["state", "numbers"])
def test_a_file_that_is_no_weights_is_no_generator(run, tmp_path, kind):
    path = run / "state.pt"
    if kind == "numbers":
        path = tmp_path / "numbers.pt"
        torch.save(dict.fromkeys(LiteRecipe().initial(0).state_dict(), 1), path)
    with pytest.raises(FoBSAMError, match="does not fit the model") as caught:
        create(f"fob-lite:{path}", "cpu")
    assert caught.value.code == "weights_corrupt"


def test_a_slice_with_one_voxel_of_a_test_organ_is_not_shown(tmp_path, chaos):
    voxels, labels = phantom.voxels((6, 520, 520)), np.zeros((6, 520, 520), np.uint8)
    labels[1, 300, 300] = 4  # less than a pixel of the network's grid
    labels[5, 100:140, 100:140] = 1
    path = phantom.save(tmp_path / "large.nii.gz", voxels)
    volume = prepare(read_volume(path), labels, "chaos")
    assert not (volume.labels == 4).any()
    left = without(volume, chaos, ["spleen"], 4)
    assert np.flatnonzero(~left.usable).tolist() == [1]
    assert np.flatnonzero(~without(volume, chaos, ["spleen", "liver"], 3).usable).tolist() == [1, 5]
    assert without(volume, chaos, ["spleen"], 5) is None


@pytest.mark.parametrize("recipe", [LiteRecipe, PaperRecipe])
def test_no_episode_shows_a_slice_with_a_test_organ(prepared, chaos, recipe):
    spleen = np.arange(len(prepared.image)) < 5
    present = np.zeros_like(prepared.present)
    present[:, 4] = spleen
    # A slice that is not to be shown is known by its values; augmentation comes later.
    image = np.where(spleen[:, None, None], np.float16(1e4), prepared.image)
    volume = dataclasses.replace(prepared, image=image, present=present)
    config = dataclasses.replace(SHORT, labels=True)
    for leave_out, shown in (["spleen"], False), ([], True):
        left = without(volume, chaos, leave_out, 4)
        dataset = recipe().dataset([left, dataclasses.replace(left)], config, 8)
        brightest = max(float(dataset[n].images.max()) for n in range(8))
        assert (brightest > 1e3) == shown


def test_images_in_which_nothing_can_be_followed_are_told(prepared, tmp_path):
    alone = np.zeros(len(prepared.image), bool)
    alone[::3] = True  # no two neighbours may be shown
    volume = dataclasses.replace(prepared, usable=alone)
    with pytest.raises(FoBSAMError, match="give no episode of") as caught:
        train([volume], SHORT, tmp_path, CPU, LiteRecipe())
    assert caught.value.code == "bad_request"
