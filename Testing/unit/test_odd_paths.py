"""Names of files and folders that break careless programs."""

from __future__ import annotations

import os

import phantom
import pytest
from model_server import CONTENT, serve

from FoBSAMLib.image.io import read_segmentation, read_volume
from FoBSAMLib.models import catalogue

NAMES = ["with  two spaces", 'it\'s a "quote"', "Größe 肝臓 é", "-dash;&|$HOME*?[x]", "x" * 200]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")


@pytest.mark.parametrize("name", NAMES)
def test_segment_and_batch_take_any_path(fobsam, tmp_path, name):
    folder = tmp_path / name
    (folder / "in").mkdir(parents=True)
    image = phantom.save(folder / "mr scan.nii.gz", phantom.voxels())
    drawn = phantom.save(folder / "drawn.nii.gz", phantom.drawn())
    again = phantom.save(folder / "in" / f"{name[:100]}.nii.gz", phantom.voxels((6, 48, 48)))
    output, report = folder / "out.seg.nrrd", folder / "report.json"
    ended = fobsam("segment", image, "--support", drawn, "--output", output, "--report", report)
    assert ended.returncode == 0, ended.stderr
    assert read_segmentation(output, like=read_volume(image)).layers[0].any()
    shared = ("--support-image", image, "--support", drawn, "--label", phantom.EGG)
    ended = fobsam("batch", folder / "in", *shared, "--output", folder / "all of them")
    assert ended.returncode == 0, ended.stderr
    found = folder / "all of them" / f"{name[:100]}.seg.nrrd"
    assert read_segmentation(found, like=read_volume(again)).layers[0].any()


@pytest.mark.parametrize("name", NAMES)
def test_models_lie_in_any_folder(monkeypatch, fobsam, tmp_path, name):
    server = serve(monkeypatch, tmp_path)
    try:
        monkeypatch.setenv("FOBSAM_DATA", str(tmp_path / name))
        assert fobsam("models", "download", "one", "--yes").returncode == 0
        assert catalogue.find("one").path.read_bytes() == CONTENT
        assert "one is right" in fobsam("models", "verify").stdout
    finally:
        server.close()


def test_more_than_250_characters(fobsam, tmp_path):
    folder = tmp_path.joinpath(*["a folder of some length"] * 10)
    folder.mkdir(parents=True)
    image = phantom.save(folder / "mr.nii.gz", phantom.voxels())
    drawn = phantom.save(folder / "drawn.nii.gz", phantom.drawn())
    assert len(str(image)) > 250
    ended = fobsam("segment", image, "--support", drawn, "--output", folder / "out.seg.nrrd")
    assert ended.returncode == 0, ended.stderr
    longer = folder / ("n" * 260 + ".seg.nrrd")
    ended = fobsam("segment", image, "--support", drawn, "--output", longer)
    assert ended.returncode == 1
    assert "cannot be used: File name too long." in ended.stderr
    assert "bug" not in ended.stderr
