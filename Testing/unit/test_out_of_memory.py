"""Memory runs out: a session goes on with less of it, and says so."""

from __future__ import annotations

import numpy as np
import phantom
import pytest
import torch

from FoBSAMLib import FoBSAMError, LocalSession, Support, Volume
from FoBSAMLib.errors import is_out_of_memory
from FoBSAMLib.generator import registry as generators
from FoBSAMLib.segmenters import registry as segmenters

SPARING = "Out of memory on {}: went on with one slice at a time."
TO_CPU = "Out of memory on {}: went on on the CPU."


class Hungry:
    """A generator with room for ``most`` slices at a time; ``calls`` counts its `encode`."""

    ahead = 2

    def __init__(self, generator, most: int, after: int = 0) -> None:
        self._generator = generator
        self._most = most
        self._after = after
        self.calls = 0

    def __getattr__(self, name: str):
        return getattr(self._generator, name)

    def encode(self, slices: np.ndarray):
        self.calls += 1
        if len(slices) > self._most and self.calls > self._after:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return self._generator.encode(slices)


@pytest.fixture
def room(monkeypatch):
    """``room(cuda=1, cpu=9)``: how many slices the devices hold, of which cuda is made up."""
    create = generators.create

    def limit(after: int = 0, **most: int) -> None:
        def hungry(name: str, device: str = "auto"):
            return Hungry(create(name, "cpu"), most[device], after)

        monkeypatch.setattr(generators, "create", hungry)
        monkeypatch.setattr("FoBSAMLib.session.local.choose_device", torch.device)
        monkeypatch.setattr("FoBSAMLib.session.local.explain_device", "It is {}.".format)

    return limit


def prepared(device: str) -> LocalSession:
    volume = Volume.from_array(phantom.voxels(), spacing=(1.5, 1.5, 4.0))
    session = LocalSession(device=device)
    session.set_image(volume)
    masks = {"ball": phantom.drawn() == phantom.BALL, "egg": phantom.drawn() == phantom.EGG}
    session.set_supports(Support.from_masks(volume, masks, "k"))
    return session


@pytest.fixture(scope="module")
def expected():
    return list(prepared("cpu").segment())


def check_same(results, expected) -> None:
    """The same slices once and in the same order; encoded in other batches, masks may differ by
    what half precision rounds."""
    assert [(r.structure.name, r.index) for r in results] == [
        (r.structure.name, r.index) for r in expected
    ]
    for result, other in zip(results, expected, strict=True):
        assert (result.mask != other.mask).sum() <= 4


@pytest.mark.parametrize("after", [0, 3])
def test_one_slice_at_a_time(room, expected, after):
    room(cpu=1, after=after)
    session = prepared("cpu")
    check_same(list(session.segment()), expected)
    assert session.notes == [SPARING.format("cpu")]
    list(session.segment())
    assert session.notes == []


@pytest.mark.parametrize("after", [0, 3])
def test_then_on_the_cpu(room, expected, after):
    room(cuda=0, cpu=9, after=after)
    session = prepared("cuda")
    check_same(list(session.segment()), expected)
    assert session.notes == [SPARING.format("cuda"), TO_CPU.format("cuda")]
    assert session.device == session.models["device"] == "cpu"
    assert session.models["device_reason"] == "Memory ran out on cuda."
    session.release()
    list(session.segment())
    assert session.notes == [SPARING.format("cuda"), TO_CPU.format("cuda")]


def test_then_it_says_so(room):
    room(cuda=0, cpu=0)
    session = prepared("cuda")
    with pytest.raises(FoBSAMError, match=r"memory.*smaller image") as caught:
        next(session.segment())
    assert (caught.value.code, caught.value.retryable) == ("out_of_memory", True)


def test_other_errors_are_not_taken_for_it(monkeypatch):
    session = prepared("cpu")

    def broken(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("FoBSAMLib.session.slices.ImageSlices.network", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        next(session.segment())
    assert session.notes == []


def test_a_correction_goes_on_with_less(monkeypatch):
    create = segmenters.create
    full = []

    def hungry(name: str, device: str = "auto"):
        segmenter = create(name, device)
        embed_all = segmenter.embed_all

        def once(images):
            if full:
                raise MemoryError(full.pop())
            return embed_all(images)

        segmenter.embed_all = once
        return segmenter

    monkeypatch.setattr(segmenters, "create", hungry)
    session = prepared("cpu")
    found = next(session.segment(["ball"]))
    prompts = found.prompts
    moved = type(prompts)(prompts.background, prompts.foreground + 0.5)
    before = session.correct("ball", found.index, moved).mask
    assert session.notes == []
    session.release()
    full.append("Unable to allocate 3.00 GiB")
    np.testing.assert_array_equal(session.correct("ball", found.index, moved).mask, before)
    assert session.notes == [SPARING.format("cpu")]
    session.release()
    full += ["no", "no"]
    with pytest.raises(FoBSAMError, match="memory"):
        session.correct("ball", found.index, moved)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("whatever it says"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("Exception thrown: Failed to allocate memory for image."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_what_is_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected
