"""What a session asks of a segmenter whose embeddings are costly: each once, and in full size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import phantom
import pytest
import torch

from FoBSAMLib import LocalSession, Support, Volume
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters import registry as segmenters
from FoBSAMLib.segmenters.random_walker import RandomWalkerSegmenter
from FoBSAMLib.session import slices as session_slices

SPACING = (1.5, 1.5, 4.0)


@dataclass(frozen=True)
class Embedding:
    image: np.ndarray
    nbytes: int


class Costly(RandomWalkerSegmenter):
    """A walker that lives on points alone; ``asked`` holds what it was to embed, call by call."""

    name = "costly"

    def __init__(self, ahead: int = 1, nbytes: int = 1000, room: int = 99) -> None:
        self.ahead, self.nbytes, self.room = ahead, nbytes, room
        self.asked: list[list[np.ndarray]] = []

    def embed(self, image):
        return self.embed_all([image])[0]

    def embed_all(self, images):
        self.asked.append(images)
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return [Embedding(image, self.nbytes) for image in images]

    def segment(self, embedding, prompts, prior=None):
        return super().segment(embedding.image, prompts)


@pytest.fixture
def prepared(monkeypatch):
    def prepare(segmenter: Costly, volume: Volume | None = None) -> LocalSession:
        monkeypatch.setattr(segmenters, "create", lambda name, device="auto": segmenter)
        session = LocalSession(segmenter="costly", device="cpu")
        volume = volume or Volume.from_array(phantom.voxels(), spacing=SPACING)
        session.set_image(volume)
        masks = {"ball": phantom.drawn() == phantom.BALL, "egg": phantom.drawn() == phantom.EGG}
        session.set_supports(Support.from_masks(volume, masks, "k"))
        return session

    return prepare


def moved(prompts: Prompts) -> Prompts:
    return Prompts(prompts.background + 1, prompts.foreground)


def test_a_moved_prompt_costs_the_decoder_only(prepared):
    segmenter = Costly()
    session = prepared(segmenter)
    results = list(session.segment(["ball"]))
    embedded = len(segmenter.asked)
    found = next(result for result in results if result.mask.any())
    for _ in range(3):
        session.correct("ball", found.index, moved(found.prompts))
    assert len(segmenter.asked) == embedded
    list(session.segment(["ball"]))
    assert len(segmenter.asked) == embedded


def test_slices_are_embedded_in_their_own_resolution(prepared):
    large = phantom.voxels().repeat(5, axis=1).repeat(5, axis=2)
    assert min(large.shape[1:]) > 256
    volume = Volume.from_array(large, spacing=SPACING)
    segmenter = Costly()
    prepared(segmenter)  # which creates it
    session = LocalSession(segmenter="costly", device="cpu")
    session.set_image(volume)
    drawn = (phantom.drawn() == phantom.BALL).repeat(5, axis=1).repeat(5, axis=2)
    session.set_supports(Support.from_masks(volume, {"ball": drawn}, "k"))
    found = {result.index for result in session.segment() if result.mask.any()}
    likeliest = set()
    for (image,) in segmenter.asked:
        assert image.shape == large.shape[1:]
        alike = [np.corrcoef(image.ravel(), other.ravel())[0, 1] for other in large]
        assert max(alike) > 0.99
        likeliest.add(int(np.argmax(alike)))
    assert found <= likeliest


def test_slices_ahead_are_embedded_together_and_give_the_same(prepared):
    alone, together = Costly(), Costly(ahead=4)
    expected = list(prepared(alone).segment(["ball"]))
    results = list(prepared(together).segment(["ball"]))
    assert len(together.asked) < len(alone.asked) / 2
    assert max(map(len, together.asked)) == 4
    for result, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.mask, other.mask)
    seen = [image.tobytes() for images in together.asked for image in images]
    assert len(seen) == len(set(seen)), "no slice is embedded twice"


def test_only_so_many_bytes_are_kept(prepared, monkeypatch):
    monkeypatch.setattr(session_slices, "EMBEDDED", 2500)
    segmenter = Costly()
    session = prepared(segmenter)
    results = [result for result in session.segment(["ball"]) if result.mask.any()]
    before = len(segmenter.asked)
    session.correct("ball", results[0].index, moved(results[0].prompts))
    assert len(segmenter.asked) == before + 1
    segmenter.nbytes = 10**9  # one slice is kept all the same
    session.correct("ball", results[1].index, moved(results[1].prompts))
    again = len(segmenter.asked)
    session.correct("ball", results[1].index, results[0].prompts)
    assert len(segmenter.asked) == again


def test_out_of_memory_by_slices_ahead(prepared):
    expected = list(prepared(Costly()).segment(["ball"]))
    session = prepared(Costly(ahead=4, room=1))
    for result, other in zip(session.segment(["ball"]), expected, strict=True):
        assert (result.mask != other.mask).sum() <= 4  # features were encoded in other batches
    assert session.notes == ["Out of memory on cpu: went on with one slice at a time."]
