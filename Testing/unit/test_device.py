"""Choosing the device."""

from __future__ import annotations

import pytest
import torch

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.device import choose_device, devices, explain_device, fast_dtype


def offer(monkeypatch, *, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_best_there_is(monkeypatch, cuda, mps, expected):
    offer(monkeypatch, cuda=cuda, mps=mps)
    assert choose_device() == choose_device("auto") == torch.device(expected)


def test_a_device_that_is_there(monkeypatch):
    offer(monkeypatch, cuda=True, mps=True)
    for name in ("cpu", "cuda", "mps"):
        assert choose_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there(monkeypatch, name):
    offer(monkeypatch, cuda=False, mps=False)
    with pytest.raises(FoBSAMError, match=f"{name}.*not available.*auto") as caught:
        choose_device(name)
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize("name", ["gpu", "", "CUDA"])
def test_an_unknown_device(name):
    with pytest.raises(FoBSAMError, match="auto, cpu, cuda or mps") as caught:
        choose_device(name)
    assert caught.value.code == "bad_request"


def test_the_devices_there_are(monkeypatch):
    offer(monkeypatch, cuda=False, mps=False)
    (cpu,) = devices()
    assert cpu["name"] == "cpu"
    assert 0 < cpu.get("free", 1) <= cpu.get("total", 1)
    offer(monkeypatch, cuda=True, mps=True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (5, 8))
    assert devices()[:2] == [{"name": "cuda", "free": 5, "total": 8}, {"name": "mps"}]


def test_why_a_device_was_chosen(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    offer(monkeypatch, cuda=True, mps=True)
    assert "CUDA GPU (Some GPU)" in explain_device()
    assert explain_device("mps") == "The device mps was asked for."
    offer(monkeypatch, cuda=False, mps=True)
    assert "Apple's (mps)" in explain_device()
    offer(monkeypatch, cuda=False, mps=False)
    assert "no GPU" in explain_device("auto")
    with pytest.raises(FoBSAMError, match="not available"):
        explain_device("cuda")


def test_half_precision_where_it_is_faster(monkeypatch):
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda native=native, **_: native)
        assert fast_dtype("cuda") is expected
    assert fast_dtype("mps") is torch.float32
    for gains, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(
            "FoBSAMLib.models.device._cpu_gains_by_bfloat16", lambda gains=gains: gains
        )
        assert fast_dtype("cpu") is expected
