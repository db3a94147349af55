"""Weights files: good ones load, bad ones are refused in one line and run nothing."""

from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from FoBSAMLib.bench.fresh import peak_bytes
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.checkpoints import load_checkpoint, load_into, training_record


class Bomb:
    """Creates a file when unpickled without care."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


@pytest.fixture(autouse=True)
def no_warnings(recwarn):
    """The error is the only line a user sees."""
    yield
    assert [str(warning.message) for warning in recwarn] == []


def refused(path: Path, code: str = "weights_corrupt") -> FoBSAMError:
    with pytest.raises(FoBSAMError) as caught:
        load_checkpoint(path)
    assert caught.value.code == code
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_what_was_saved_comes_back(tmp_path, network, suffix):
    path = tmp_path / f"weights{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(network.state_dict(), path)
    loaded = load_checkpoint(str(path))
    assert loaded.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(loaded[name], value)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_file_cut_short(tmp_path, network, suffix, kept):
    path = tmp_path / f"weights{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(network.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    refused(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"<html>404 Not Found</html>", bytes(range(256)) * 20])
def test_no_weights_file(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("write", ["torch", "torch, old format", "pickle"])
def test_pickled_code_is_not_run(tmp_path, write):
    trace, path = tmp_path / "trace", tmp_path / "weights.pt"
    content = {"weight": torch.zeros(2), "extra": Bomb(trace)}
    if write == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=write == "torch")
    refused(path)
    assert not trace.exists()


def test_the_bomb_of_the_test_above_is_live(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "trace")))
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("claimed", [100 * 10**9, 2**63])
def test_a_header_longer_than_the_file_is_refused_at_once(tmp_path, claimed):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(claimed.to_bytes(8, "little") + b'{"a": 1}')
    before, began = peak_bytes(), time.monotonic()
    refused(path)
    assert time.monotonic() - began < 5
    assert peak_bytes() - before < 1 << 30


def test_a_list_of_tensors_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save([torch.zeros(2)], path)
    assert "list" in refused(path).message


def test_missing_file_and_folder(tmp_path):
    refused(tmp_path / "absent.pth", "weights_missing")
    refused(tmp_path, "weights_missing")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path):
    path = tmp_path / "weights.pt"
    path.touch(0o000)
    refused(path, "unreadable")


def test_load_into_copies_and_ignores_what_it_is_told(network):
    state = {name: value + 1 for name, value in network.state_dict().items()}
    load_into(network, {**state, "loss.weight": torch.zeros(1)}, "w.pt", ignore=["loss.weight"])
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, state[name])


def test_load_into_names_each_disagreement_and_changes_nothing(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    del state["0.bias"]
    state["0.weight"] = torch.zeros(4, 5)
    state["1.bias"] = "not a tensor"
    state["head.weight"] = torch.zeros(1)
    with pytest.raises(FoBSAMError) as caught:
        load_into(network, state, "some/w.pt")
    error = caught.value
    assert error.code == "weights_corrupt"
    assert "some/w.pt" in error.message.replace(os.sep, "/")
    assert "0.bias missing" in error.message
    assert "head.weight unexpected" in error.message
    assert "0.weight, 1.bias of another shape" in error.message
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_load_into_is_brief_about_many_names():
    network = torch.nn.Sequential(*[torch.nn.Linear(1, 1) for _ in range(50)])
    with pytest.raises(FoBSAMError, match=r"and 97 more missing") as caught:
        load_into(network, {}, "w.pt")
    assert len(str(caught.value)) < 250


RECORD = {"model": "fob-lite", "trained_on": {"chaos": [1, 2]}, "steps": 10}


def test_a_training_record_comes_back(tmp_path, network):
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path, {"fobsam": json.dumps(RECORD), "format": "pt"})
    assert training_record(path) == RECORD


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_weights_of_others_have_no_record(tmp_path, network, metadata):
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path, metadata)
    assert training_record(path) is None
    torch.save(network.state_dict(), tmp_path / "ckpt.pth")
    assert training_record(tmp_path / "ckpt.pth") is None


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"trained_on": [1]}'])
def test_a_damaged_record_is_told(tmp_path, network, text):
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path, {"fobsam": text})
    with pytest.raises(FoBSAMError, match="training record is damaged"):
        training_record(path)
