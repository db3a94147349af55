"""``fobsam bench``: what it tells and writes, with small networks and one round each."""

from __future__ import annotations

import json

import numpy as np
import phantom
import pytest

from FoBSAMLib.bench import paper, sam, slices
from FoBSAMLib.models.torchvision_ops import ensure_torchvision

ensure_torchvision()


#: Slices, rows and columns of a small image.
SCAN = (7, 48, 48)


@pytest.fixture
def bench(fobsam, tmp_path):
    """Run a benchmark on the CPU: its document and its table."""

    def run(*arguments):
        common = ("--repeats", 1, "--device", "cpu", "--json", "bench.json")
        result = fobsam("bench", *arguments, *common)
        assert result.returncode == 0, result.stderr
        return json.loads((tmp_path / "bench.json").read_text()), result.stdout

    return run


def small_resnet(weights, **how):
    """Of six bottlenecks; the paper's has 33."""
    models = ensure_torchvision().models.resnet
    return models.ResNet(models.Bottleneck, [1, 1, 2, 2], **how)


def test_both_ways_of_the_papers_generator_and_how_far_their_points_part(bench, monkeypatch):
    usual = paper._propose

    def elsewhere(model, encoded, mask):
        prompts = usual(model, encoded, mask)
        prompts.background[3] += (3, 4)
        return prompts

    monkeypatch.setattr(ensure_torchvision().models, "resnet101", small_resnet)
    monkeypatch.setattr(paper, "SUPPORTS", (2,))
    monkeypatch.setattr(paper, "_propose", elsewhere)
    document, told = bench("paper")
    points, seconds = document["points"], document["seconds_a_slice"]
    assert points["compared"] > 10
    # One was moved; the others are the same both ways.
    assert points["largest_distance"] == pytest.approx(5)
    assert points["moved"] == 1
    assert document["ratio"] == pytest.approx(seconds["usual"] / seconds["ours"], rel=0.01)
    assert document["ratio"] > 1  # the support is not encoded again, features are not upsampled
    assert list(document["prompts_seconds_by_supports"]) == ["2"]
    assert f"| {document['ratio']:.2f} |" in told


def test_both_ways_of_sams_encoder_give_the_same_masks(bench, monkeypatch):
    registry = pytest.importorskip("segment_anything").sam_model_registry
    from test_sam import tiny_sam

    monkeypatch.setitem(registry, "vit_b", tiny_sam)
    document, told = bench("sam", "vit_b")
    seconds = document["seconds_a_slice"]
    assert document["ratio"] == pytest.approx(seconds["usual"] / seconds["ours"], rel=0.01)
    assert f"| {document['ratio']:.2f} |" in told
    assert document["iou"]["least"] > (0.99 if document["precision"] == "float32" else 0.9)
    assert document["slice"] == [128, 128]
    assert document["embedding_bytes"] in (2 * 32 * 16**2, 4 * 32 * 16**2)


def test_masks_that_differ_are_told(bench, monkeypatch):
    registry = pytest.importorskip("segment_anything").sam_model_registry
    from test_sam import tiny_sam

    monkeypatch.setitem(registry, "vit_b", tiny_sam)
    monkeypatch.setattr(sam._Usual, "mask", lambda *given: np.ones((128, 128), bool))
    document, _ = bench("sam", "vit_b")
    assert document["iou"]["least"] < 0.9


@pytest.fixture
def scan(tmp_path):
    """An image with two structures and their labels, as options."""
    image = phantom.save(tmp_path / "image.nii.gz", phantom.voxels(SCAN))
    labels = phantom.save(tmp_path / "labels.nii.gz", phantom.labels(SCAN))
    return "--image", image, "--labels", labels


def test_a_run_is_taken_apart(bench, scan, monkeypatch):
    monkeypatch.setattr(slices, "REPEATED", (2,))
    monkeypatch.setattr(slices, "ANNOTATED", (1,))
    monkeypatch.setattr(slices, "LARGE", (16, 96, 96))
    document, told = bench("slices", *scan, "--large")
    figures = document["generators"]["fob-lite"]
    assert all(value > 0 for value in figures.values())
    assert document["shape"] == list(SCAN)
    parts = {name: ms for name, ms in figures.items() if name.endswith("_part_ms")}
    assert {"encode_part_ms", "prompts_part_ms", "segment_part_ms"} <= set(parts)
    # Two directions are followed at once, and nothing is counted twice.
    assert sum(parts.values()) < 2.2 * max(figures["first_ms"], figures["further_ms"])
    for run in (document["fresh"], document["large"]):
        assert run["first_result_seconds"] < run["all_results_seconds"]
        assert 0.1 < run["peak_gb"] < 4
    assert list(document["by_slices"]) == ["14"]
    assert list(document["by_supports"]) == ["1"]
    assert f"| {figures['first_ms']:.4g} ms a slice (asked: ≤ 120) |" in told
    assert "(asked: ≤ 80)" in told
    assert document["generators"]["fob-lite-fast"]["first_ms"] > 0
    assert "(asked: ≤ 50)" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("sam", "vit_x"), "There is no architecture 'vit_x'"),
        (("slices", "--image", "image.nii.gz"), "--labels"),
        (("paper", "--weights", "none.pth"), "none.pth"),
        (("paper", "--image", "none.nii.gz"), "none.nii.gz"),
        (("slices", "--json", "none/x.json"), "the folder none does not exist"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(fobsam, scan, arguments, told):
    result = fobsam("bench", *arguments, "--device", "cpu")
    assert result.returncode == 1
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
