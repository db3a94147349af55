"""Training of the paper's network: episodes, losses, initial weights, one real step."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import phantom
import pytest
import torch
from torch import nn

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator.compatible import CompatibleFoB
from FoBSAMLib.generator.paper import PaperFoB
from FoBSAMLib.generator.registry import create
from FoBSAMLib.generator.ring import sample_ring
from FoBSAMLib.image.io import read_volume
from FoBSAMLib.models.torchvision_ops import ensure_torchvision
from FoBSAMLib.training.command import save_weights
from FoBSAMLib.training.paper import PaperEpisodes, PaperRecipe, load_backbone
from FoBSAMLib.training.paper_losses import WEIGHTS, contrast, foreground_loss, heat_loss
from FoBSAMLib.training.prepare import prepare
from FoBSAMLib.training.trainer import TrainingConfig, train

CPU = torch.device("cpu")
CONFIG = TrainingConfig(model="fob-paper", steps=4, batch=1, rate=1e-4, average=0)


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "scan.nii.gz"
    scan = read_volume(phantom.save(path, phantom.voxels()))
    return prepare(scan, phantom.labels(), "chaos")


def test_episodes_are_the_same_for_the_same_item(volume):
    first, again, other = (PaperEpisodes([volume], 4, 2, 3, False)[n] for n in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("labels", [False, True])
def test_an_episode_is_a_structure_in_two_slices_with_its_rings(volume, labels):
    episode = PaperEpisodes([volume], 1, 6, 0, labels)[0]
    assert episode.images.shape == (6, 2, 1, 256, 256)
    assert set(np.unique(episode.masks)) == {0.0, 1.0}
    for masks, rings in zip(episode.masks.numpy(), episode.rings.numpy(), strict=True):
        for mask, ring in zip(masks, rings, strict=True):
            np.testing.assert_allclose(ring * 256 - 0.5, sample_ring(mask > 0), atol=1e-3)


def test_the_two_slices_are_neighbours(volume):
    numbered = np.broadcast_to(np.arange(12.0)[:, None, None], volume.image.shape)
    marked = dataclasses.replace(volume, image=numbered.astype(np.float16))
    for pair in PaperEpisodes([marked], 1, 6, 0, False)[0].images:
        # Gamma keeps the ends of a slice's range, so a slice of one value keeps it.
        assert abs(float(pair[0].mean() - pair[1].mean())) == pytest.approx(1, abs=0.01)


def test_a_photograph_is_its_own_neighbour(volume):
    photograph = dataclasses.replace(
        volume,
        image=volume.image[6:7],
        supervoxels=volume.supervoxels[:, 6:7],
        labels=volume.labels[6:7],
        usable=volume.usable[6:7],
    )
    assert PaperEpisodes([photograph], 1, 2, 0, False)[0].masks.any()


def test_heat_is_right_at_the_points_alone():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    maps = torch.exp(-((x - 20) ** 2 + (y - 40) ** 2) / 2)[None]
    at, beside = (torch.tensor([[(20.5 + d) / 64, 40.5 / 64]]) for d in (0, 3))
    assert heat_loss(maps, at) < 1e-4
    assert heat_loss(maps, beside) > 10 * heat_loss(maps, at)


def test_contrast_is_small_where_the_structure_is_like_itself_and_unlike_its_surroundings():
    structure, ring = torch.eye(12)[:1], torch.eye(12)[1:11]
    like = float(contrast(structure, structure, ring))
    assert like == pytest.approx(math.log1p(10 * math.exp(-10)), rel=0.01)
    assert contrast(structure, ring[:1], torch.cat([structure, ring[1:]])) > 9


def test_foreground_counts_ten_times_background():
    mask = torch.zeros(256, 256)
    mask[:128] = 1
    all_in, all_out = (foreground_loss(torch.full((64, 64), v), mask) for v in (9.0, -9.0))
    assert float(all_out / all_in) == pytest.approx(10, rel=1e-3)


def statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    """Of every batch normalisation."""
    return {name: value.clone() for name, value in model.named_buffers() if "running" in name}


def test_the_encoder_starts_from_a_resnet_of_torchvision(volume, tmp_path):
    torch.manual_seed(7)
    state = ensure_torchvision().models.resnet101().state_dict()
    torch.save(state, tmp_path / "imagenet.pth")
    recipe = PaperRecipe(tmp_path / "imagenet.pth")
    model = recipe.initial(0).train()
    started = model.encoder.backbone.state_dict()
    assert all(torch.equal(started[name], value) for name, value in state.items())
    # Its statistics are kept.
    before = statistics(model)
    with torch.no_grad():
        recipe.losses(model, recipe.dataset([volume], CONFIG, 1)[0])
    assert all(torch.equal(before[name], value) for name, value in statistics(model).items())
    assert recipe.run == {"initial": "imagenet.pth"}


def test_networks_built_on_a_resnet_lend_it(tmp_path):
    state = ensure_torchvision().models.resnet101().state_dict()
    # As torchvision has its segmentation networks: without the last layer, with others besides.
    inner = {f"backbone.{name}": v for name, v in state.items() if not name.startswith("fc.")}
    torch.save({**inner, "classifier.0.weight": torch.zeros(2)}, tmp_path / "coco.pth")
    model = PaperFoB()
    last = model.encoder.backbone.fc.weight.clone()
    load_backbone(model, tmp_path / "coco.pth")
    assert torch.equal(
        model.encoder.backbone.layer3[5].conv1.weight, state["layer3.5.conv1.weight"]
    )
    assert torch.equal(model.encoder.backbone.fc.weight, last)
    torch.save({"conv1.weight": state["conv1.weight"]}, tmp_path / "other.pth")
    with pytest.raises(FoBSAMError, match="does not fit"):
        load_backbone(model, tmp_path / "other.pth")


class Narrow(nn.Module):
    """In place of the ResNet, for steps that take no seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, 512, 4, 4)
        self.threshold = nn.Parameter(torch.zeros(()))

    def forward(self, images):
        return self.project(images), self.threshold.expand(len(images))


class NarrowRecipe(PaperRecipe):
    def initial(self, seed):
        model = super().initial(seed)
        model.encoder = Narrow()
        return model


def test_a_run_trains_every_part_that_counts(volume, tmp_path):
    before = dict(NarrowRecipe().initial(0).named_parameters())
    logged = {}
    config = dataclasses.replace(CONFIG, bfloat16=True)
    model = train(
        [volume], config, tmp_path, CPU, NarrowRecipe(), lambda step, means: logged.update(means)
    )
    assert logged.keys() == WEIGHTS.keys()
    assert all(math.isfinite(value) for value in logged.values())
    still = [name for name, one in model.named_parameters() if torch.equal(one, before[name])]
    # A softmax does not feel what is added to a whole row.
    assert set(still) <= {"refine.gcn.W_phi.bias"}


def test_a_real_step_gives_weights_for_both_networks(volume, tmp_path):
    recipe = PaperRecipe()
    model = recipe.initial(0).train()
    before = statistics(model)
    optimiser, _ = recipe.optimiser(model, CONFIG)
    losses = recipe.losses(model, recipe.dataset([volume], CONFIG, 1)[0])
    assert losses.keys() == WEIGHTS.keys()
    torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum().backward()
    optimiser.step()
    unreached = {name for name, one in model.named_parameters() if one.grad is None}
    assert unreached == {"encoder.reduce2.weight"}
    # From random weights they are learned.
    assert not any(torch.equal(before[name], value) for name, value in statistics(model).items())

    path = tmp_path / "fob-paper.safetensors"
    save_weights(model, path, {"model": "fob-paper", "trained_on": {"chaos": [1]}}, halved=False)
    assert isinstance(create(f"fob-paper:{path}", "cpu").model, PaperFoB)
    ours = PaperFoB.from_checkpoint(path).state_dict()
    released = CompatibleFoB.from_checkpoint(path).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, ours[name]), name
        assert torch.equal(value, released[name]), name
