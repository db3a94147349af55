"""The paper's network done right: what a loss reaches, and the points of the trained form."""

from __future__ import annotations

import numpy as np
import phantom
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from FoBSAMLib import LocalSession, Support, Volume
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator.base import Remembered
from FoBSAMLib.generator.compatible import CompatibleFoB, Features
from FoBSAMLib.generator.fob_paper import FobPaperGenerator
from FoBSAMLib.generator.paper import PaperFoB
from FoBSAMLib.generator.registry import create
from FoBSAMLib.generator.ring import sample_ring


def square(*corners: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros((256, 256), bool)
    for top, left, side in corners:
        mask[top : top + side, left : left + side] = True
    return mask


MASK = square((90, 80, 50))


@pytest.fixture(scope="module")
def model() -> PaperFoB:
    torch.manual_seed(0)
    return PaperFoB()


def features(seed: int, count: int = 1) -> Features:
    """Maps as an encoder might give, without the seconds one takes."""
    rng = torch.Generator().manual_seed(seed)
    smooth = torch.randn((count, 512, 16, 16), generator=rng)
    maps = nn.functional.interpolate(smooth, (64, 64), mode="bilinear", align_corners=False)
    return Features(maps, torch.zeros(count))


def located(model: PaperFoB, mask: np.ndarray = MASK):
    query, support = features(1), features(2)
    ring = torch.from_numpy(sample_ring(mask) + 0.5) / 256
    inside = torch.from_numpy(mask.astype(np.float32))
    return model.locate(query.maps[0], query.thresholds[0], support.maps[0], inside, ring)


def test_the_refinement_starts_as_identity(model):
    found = located(model)
    torch.testing.assert_close(found.points, found.coarse)
    assert (found.points >= 0).all()
    assert (found.points <= 1).all()


def test_a_loss_on_points_reaches_the_head_and_the_whole_refinement(model):
    optimiser = torch.optim.Adam(model.parameters(), 1e-4)
    target = torch.from_numpy(sample_ring(MASK) + 0.5) / 256
    for _ in range(2):  # the offsets, zero at first, let the others through from then on
        optimiser.zero_grad()
        (located(model).points[0] - target).square().sum().backward()
        optimiser.step()
    refinement = dict(model.refine.named_parameters())
    assert len(refinement) == 28
    assert all(one.grad is not None for one in refinement.values())
    # A softmax does not feel what is added to a whole row.
    still = {name for name, one in refinement.items() if not one.grad.any()}
    assert still <= {"gcn.W_phi.bias"}
    for part in (model.head, model.masked_attention.matching_head):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())


def test_names_and_shapes_are_those_of_the_compatible_network(model):
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert shapes == {name: value.shape for name, value in CompatibleFoB().state_dict().items()}


def test_prompts_lie_in_the_slice_and_foreground_points_in_one_part(model):
    support = features(3)
    prompts = model.propose(support, MASK, features(3))[0]
    assert prompts.background.shape == (10, 2)
    for points in (prompts.background, prompts.foreground):
        assert ((points >= 0) & (points <= 255)).all()
    # The query is the support: what is most like the structure is the structure.
    x, y = prompts.foreground.T.astype(int)
    assert MASK[y, x].mean() > 0.8


def test_a_structure_without_room_for_a_ring_has_foreground_points_alone(model):
    prompts = model.propose(features(3), square((2, 2, 252)), features(4))[0]
    assert len(prompts.background) == 0
    assert len(prompts.foreground) >= 1


def test_refinement_can_be_left_out(model):
    with torch.no_grad():
        model.refine.deform_attn.offset_pred.bias.fill_(0.02)
    refined = model.propose(features(3), MASK, features(4))[0].background
    plain = model.propose(features(3), MASK, features(4), refine=False)[0].background
    moved = np.abs(refined - plain).max(0)
    assert (moved > 1).all()  # trained offsets move points by pixels, not across the slice
    assert (moved < 60).all()


def test_weights_with_a_record_are_run_done_right_others_as_released(model, tmp_path):
    ours, released = tmp_path / "ours.safetensors", tmp_path / "released.safetensors"
    record = '{"model": "fob-paper", "trained_on": {"chaos": [1, 2]}}'
    save_file(model.state_dict(), ours, {"fobsam": record})
    save_file(model.state_dict(), released)
    generator = create(f"fob-paper:{ours}", "cpu")
    assert isinstance(generator.model, PaperFoB)
    memory = [Remembered(features(2), MASK.astype(np.float32))]
    proposal = generator.propose(features(1), memory)
    np.testing.assert_array_equal(
        proposal.prompts.background, model.propose(features(2), MASK, features(1))[0].background
    )
    other = create(f"fob-paper:{released}", "cpu")
    assert not isinstance(other.model, PaperFoB)
    assert generator.notes == []
    (note,) = other.notes
    assert "refinement of these weights was" in note
    volume = Volume.from_array(phantom.voxels())
    with LocalSession(f"fob-paper:{released}", device="cpu") as session:
        session.set_image(volume)
        session.set_supports(
            Support.from_masks(volume, {"ball": phantom.drawn() == phantom.BALL}, "k")
        )
        assert len(list(session.segment(slices=range(7, 8)))) == 1
        assert note in session.notes


def test_an_empty_mask_is_told(model):
    with pytest.raises(FoBSAMError, match="mask is empty"):
        model.propose(features(3), MASK & False, features(4))


def test_a_slice_in_which_nothing_was_found_does_not_end_a_way(model):
    generator = FobPaperGenerator(model)
    drawn = Remembered(features(0), MASK.astype(np.float32))
    lost = Remembered(features(1), np.zeros_like(drawn.mask))
    query = features(2)
    with_it, without = (generator.propose(query, memory) for memory in ([drawn, lost], [drawn]))
    np.testing.assert_array_equal(with_it.prompts.foreground, without.prompts.foreground)
