"""The verbatim refinement where its points do lie on the feature map, between 0 and 1."""

from __future__ import annotations

import math

import fob_reference as reference
import numpy as np
import torch

from FoBSAMLib.generator.spr import Refinement


def test_sampled_features_move_the_points_as_in_the_reference() -> None:
    rng = torch.Generator().manual_seed(3)
    refinement = Refinement(reference.WIDTH)
    weights = {}
    for name, value in refinement.state_dict().items():
        drawn = torch.randn(value.shape, generator=rng)
        weights[name] = drawn / math.sqrt(value.shape[-1]) if value.ndim > 1 else 0.1 * drawn
    weights |= {f"norm{index}.weight": torch.ones(reference.WIDTH) for index in (1, 2, 3)}
    weights["deform_attn.offset_pred.weight"] *= 0.1
    refinement.load_state_dict(weights)

    features = torch.randn(reference.WIDTH, 64, 64, generator=rng)
    support = torch.randn(reference.POINTS, reference.WIDTH, generator=rng)
    points = [(0, 0), (1, 1), (1, 0), (0, 1), (1, 1), (0, 0), (0, 1), (1, 0), (1, 1), (0, 0)]
    named = {f"refine.{name}": value for name, value in weights.items()}
    expected = reference._refine(named, features, points, support)

    ordered = reference.sorted_about_leftmost(points)
    with torch.inference_mode():
        query = reference._background_prototypes(features, ordered)
        start = torch.tensor(points, dtype=torch.float32)
        refined = refinement(start, query, support, features).numpy()
        unseen = refinement(start, query, support, torch.zeros_like(features)).numpy()
    np.testing.assert_allclose(refined, expected, atol=1e-4)
    assert np.abs(refined - unseen).max() > 0.01  # the samples count
