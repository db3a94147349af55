"""The worker's protocol without any process: bytes in, messages out."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import phantom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from FoBSAMLib import FoBSAMError, Prompts, Segmentation, Structure, Support, Volume
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.worker import frames, payloads
from FoBSAMLib.worker import messages as m
from FoBSAMLib.worker.frames import MAGIC, MAX_HEADER, MAX_PAYLOAD, PREFIX, FrameError

ONE_SLICE = (0, 3, (1, 2, 3, 4), ((1.5, 2.25),), (), 0.75, 0.5, 12.0)
MESSAGES = [
    (m.Hello(1, version="1", generator="a", segmenter="b", device="cpu", pid=7), b""),
    (m.SetImage(2, "k", (2, 3, 4), "<i2", (1.0,) * 16, "name", "ct", False), bytes(48)),
    (m.SetImage(3, "", (1, 1, 2), "|u1", (1.0,) * 16), bytes(2 + m.KEY_LENGTH)),
    (m.SetSupports(4, "k", "k", ({"name": "é"},), ((0, 1, (1, 2, 3, 4), 2),), {"é": (5,)}), b"ab"),
    (m.Segment(5), b""),
    (m.Segment(6, ("liver", "spleen"), (1, 9, 1)), b""),
    (m.Correct(7, "liver", 8, ((1.0, 2.0),), ()), b""),
    (m.Suggest(8, "liver"), b""),
    (m.Restore(9, *ONE_SLICE), b"mask"),
    (m.Cancel(10, 9), b""),
    (m.Ping(11), b""),
    (m.Shutdown(12), b""),
    (m.Progress(13, 2, 9), b""),
    (m.Result(14, *ONE_SLICE), b"mask"),
    (m.Done(15, {"slice": None, "held": ("k",), "devices": ({"name": "cpu"},)}), b""),
    (m.Failed(16, "out_of_memory", "Too large.", "Close something.", True), b""),
]
EVERY = tuple({*m.REQUESTS, *m.REPLIES})


def read(data: bytes, known: tuple[type[m.Message], ...] = EVERY) -> list[Any]:
    return list(m.Decoder(known).feed(data))


def raw(header: Any, payload: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return PREFIX.pack(MAGIC, len(text), len(payload)) + text + payload


@pytest.mark.parametrize(("message", "payload"), MESSAGES, ids=lambda v: getattr(v, "type", ""))
def test_every_message_comes_out_as_it_went_in(message, payload):
    (received,) = read(message.frame(payload))
    assert received.message == message
    assert bytes(received.payload) == payload


def test_voxels_are_hashed_once_while_they_are_sent(monkeypatch):
    array = np.arange(60 * 512 * 512, dtype=np.int16).reshape(60, 512, 512)
    volume, same = Volume.from_array(array), Volume.from_array(array)
    passes, batches = [], Volume.batches
    monkeypatch.setattr(Volume, "batches", lambda self: passes.append(1) or batches(self))
    message = payloads.image_message(1, volume, "", select=True)
    *_, key = payloads.image_pieces(message, volume)
    assert len(passes) == 2, "once to send them, once to hash them"
    assert bytes(key).decode() == same.content_key()


@given(st.lists(st.sampled_from(MESSAGES), max_size=12), st.data())
def test_messages_do_not_depend_on_where_the_bytes_are_cut(sent, data):
    whole = b"".join(message.frame(payload) for message, payload in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
    decoder = m.Decoder(EVERY)
    bounds = [0, *cuts, len(whole)]
    received = [one for start, end in pairwise(bounds) for one in decoder.feed(whole[start:end])]
    assert [(r.message, bytes(r.payload)) for r in received] == sent


@given(st.sampled_from(MESSAGES), st.data())
def test_a_truncated_message_is_none(sent, data):
    whole = sent[0].frame(sent[1])
    assert read(whole[: data.draw(st.integers(0, len(whole) - 1))]) == []


@settings(max_examples=500)
@given(st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=4), st.data())
def test_damage_gives_messages_failures_or_a_frame_error_and_nothing_else(sent, data):
    whole = bytearray(b"".join(message.frame(payload) for message, payload in sent))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    decoder = m.Decoder(EVERY)
    try:
        for received in decoder.feed(bytes(whole)):
            assert isinstance(received, (m.Received, m.Failed))
    except FrameError:
        pass


@given(st.binary(max_size=300))
def test_garbage_is_refused_at_its_first_sixteen_bytes(garbage):
    if garbage[:4] == MAGIC:
        return
    if len(garbage) < PREFIX.size:
        assert read(garbage) == []
    else:
        with pytest.raises(FrameError):
            read(garbage[: PREFIX.size])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


@settings(max_examples=500)
@given(st.sampled_from(MESSAGES), st.data())
def test_fields_of_other_types_never_get_through(sent, data):
    header = json.loads(sent[0].start(0)[PREFIX.size :])
    name = data.draw(st.sampled_from(sorted(header)))
    header[name] = data.draw(json_values)
    try:
        (received,) = read(raw(header, sent[1]))
    except FrameError:  # NaN and infinity are not JSON
        return
    if isinstance(received, m.Received):
        again = read(received.message.frame(bytes(received.payload)))
        assert again[0].message == received.message
    else:
        assert received.code == "bad_request"


@pytest.mark.parametrize(
    ("header", "payload", "size"),
    [
        (MAX_HEADER + 1, 0, "header"),
        (2**32 - 1, 0, "header"),
        (20, MAX_PAYLOAD + 1, "payload"),
        (20, 2**64 - 1, "payload"),
        (0, 0, "header"),
    ],
)
def test_impossible_lengths_are_refused_before_anything_is_allocated(header, payload, size):
    tracemalloc.start()
    try:
        with pytest.raises(FrameError):
            read(PREFIX.pack(MAGIC, header, payload))
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


def test_a_payload_nobody_expects_takes_no_memory_and_what_follows_is_read():
    decoder = m.Decoder(m.REQUESTS)
    header = json.dumps({"type": "ping", "id": 3}).encode()
    size = 1 << 28
    tracemalloc.start()
    try:
        assert list(decoder.feed(PREFIX.pack(MAGIC, len(header), size) + header)) == []
        piece = bytes(1 << 20)
        answers = [one for _ in range(size // len(piece)) for one in decoder.feed(piece)]
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()
    assert [(a.id, a.code) for a in answers] == [(3, "bad_request")]
    assert [r.message for r in decoder.feed(m.Ping(4).frame())] == [m.Ping(4)]


def test_an_image_without_room_is_answered_and_what_follows_is_read(monkeypatch):
    def full(shape: int, dtype: Any) -> np.ndarray:
        if shape > 1 << 24:
            raise MemoryError
        return np.zeros(shape, dtype)

    monkeypatch.setattr(frames.np, "empty", full)
    decoder = m.Decoder(m.REQUESTS)
    message = m.SetImage(2, "k", (32, 1024, 1024), "|u1", (1.0,) * 16)
    assert list(decoder.feed(message.start(1 << 25))) == []
    (answer,) = decoder.feed(bytes(1 << 25))
    assert (answer.id, answer.code, answer.retryable) == (2, "out_of_memory", True)
    assert [r.message for r in decoder.feed(m.Ping(3).frame())] == [m.Ping(3)]


@pytest.mark.parametrize("size", [47, 49, 0x7FFFFFFF])
def test_voxels_must_be_as_many_as_the_header_says(size):
    message = m.SetImage(2, "k", (2, 3, 4), "<i2", (1.0,) * 16)
    decoder = m.Decoder(m.REQUESTS)
    list(decoder.feed(message.start(size)))
    assert len(decoder.buffer()) <= 1 << 16


@pytest.mark.parametrize(
    "shape",
    [(-2, -3, 4), (0, 3, 4), (2**40, 2**40, 2**40)],
)
def test_impossible_shapes_are_refused(shape):
    message = m.SetImage(2, "k", shape, "<i2", (1.0,) * 16)
    assert not message.payload_fits(48)


def test_a_newer_peer_is_understood_as_far_as_can_be():
    header = {"type": "ping", "id": 4, "urgency": {"of": ["a", "later"]}, "version": 9}
    assert [r.message for r in read(raw(header))] == [m.Ping(4)]
    (unknown,) = read(raw({"type": "divine", "id": 5, "what": 1}, b"payload"))
    assert (unknown.id, unknown.code) == (5, "bad_request")
    assert "divine" in unknown.message
    later = m.Failed(6, "of_tomorrow", "What?").to_error()
    assert later.code == "internal"


@pytest.mark.parametrize(
    ("protocol", "oldest", "understood"), [(1, 1, True), (3, 1, True), (3, 2, False), (0, 0, False)]
)
def test_versions_meet_or_say_so(protocol, oldest, understood):
    hello = m.Hello(1, protocol=protocol, oldest=oldest, version="9.9")
    if understood:
        hello.check("worker")
        return
    with pytest.raises(FoBSAMError, match=r"9\.9") as caught:
        hello.check("worker")
    assert caught.value.code == "version_mismatch"


@pytest.mark.parametrize(
    "text", [b"[1, 2]", b"nonsense", b"[" * 100_000, b'{"id": NaN}', b"\xff\xfe"]
)
def test_a_header_that_is_no_json_object_is_no_message(text):
    with pytest.raises(FrameError):
        read(raw(text))


def test_a_million_messages_leave_nothing_behind():
    decoder = m.Decoder(m.REQUESTS)
    many = b"".join(m.Ping(n).frame() for n in range(1000))
    count = sum(1 for _ in decoder.feed(many))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        count += sum(1 for _ in decoder.feed(many))
        growth = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert growth < 1 << 14
    for _ in range(998):
        count += sum(1 for _ in decoder.feed(many))
    assert count == 1_000_000
    assert len(decoder.buffer()) == PREFIX.size


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_masks_come_out_as_they_went_in(height, width, data):
    bits = data.draw(st.binary(min_size=height * width, max_size=height * width))
    threshold = data.draw(st.integers(0, 256))
    mask = (np.frombuffer(bits, np.uint8) < threshold).reshape(height, width)
    box, packed = payloads.pack_mask(mask)
    np.testing.assert_array_equal(payloads.unpack_mask(mask.shape, box, packed), mask)


def test_an_empty_mask_costs_nothing_and_a_small_one_little():
    mask = np.zeros((512, 512), bool)
    assert payloads.pack_mask(mask) == ((0, 0, 0, 0), b"")
    mask[100:140, 200:260] = True
    assert len(payloads.pack_mask(mask)[1]) < 64


@pytest.mark.parametrize(
    ("box", "data"),
    [
        ((0, 0, 4, 9), b"x"),
        ((-1, 0, 2, 2), b"x"),
        ((0, 0, 10**9, 10**9), b"x"),
        ((0, 0, 4, 4), b"no zlib"),
        ((0, 0, 4, 4), b""),
    ],
)
def test_damaged_masks_are_refused(box, data):
    with pytest.raises(FoBSAMError, match="damaged"):
        payloads.unpack_mask((8, 8), box, data)


@pytest.mark.parametrize(
    "dtype", ["bool", "u1", "i1", "<i2", ">i2", "<u4", "<i8", "f2", "<f4", ">f8"]
)
@pytest.mark.parametrize("known", [True, False])
def test_images_come_out_as_they_went_in(dtype, known):
    array = np.random.default_rng(0).integers(0, 2, (3, 5, 4)).astype(dtype)
    oblique = np.array([[0.6, 0.8, 0, 3], [-0.8, 0.6, 0, -7.125], [0, 0, 2.5, 1e-3], [0, 0, 0, 1]])
    volume = Volume(array, oblique, "näme", "mr")
    key = volume.content_key() if known else ""
    message = payloads.image_message(1, volume, key, select=True)
    (received,) = read(b"".join(payloads.image_pieces(message, volume)))
    again = payloads.read_image(received.message, received.payload)
    np.testing.assert_array_equal(again.array, array)
    np.testing.assert_array_equal(again.ijk_to_ras, oblique)
    assert (again.name, again.modality) == ("näme", "mr")
    assert again.content_key() == volume.content_key()


def test_a_slice_of_a_larger_array_is_sent_as_it_is():
    array = np.arange(2 * 6 * 8).reshape(2, 6, 8)[:, ::2, ::-1]
    volume = Volume(array, np.eye(4))
    message = payloads.image_message(1, volume, "", select=True)
    (received,) = read(b"".join(payloads.image_pieces(message, volume)))
    np.testing.assert_array_equal(payloads.read_image(*received).array, array)


def drawn(volume: Volume) -> Support:
    masks = {"ball": phantom.drawn() == phantom.BALL, "egg": phantom.drawn() == phantom.EGG}
    other = phantom.drawn(phantom.DRAWN + 2) == phantom.BALL
    return Support.from_masks(volume, {**masks, "two": masks["ball"] | other}, "k", {"egg": [0]})


def test_supports_come_out_as_they_went_in():
    volume = Volume.from_array(phantom.voxels(), (1, 2, 3))
    support = drawn(volume)
    message, payload = payloads.support_message(1, support)
    (received,) = read(message.frame(payload))
    again = payloads.read_support(received.message, received.payload, volume)
    assert (again.axis, again.structures, again.absent) == (
        support.axis,
        support.structures,
        support.absent,
    )
    for structure in support.structures:
        assert again.indices(structure) == support.indices(structure)
        for index in support.indices(structure):
            np.testing.assert_array_equal(
                again.mask(structure, index), support.mask(structure, index)
            )


@pytest.mark.parametrize(
    "change",
    [
        {"axis": "x"},
        {"structures": ()},
        {"structures": ({"name": "a"},)},
        {"structures": ({"name": "a", "label": "one"},)},
        {"structures": ({"name": "a", "label": 1, "layer": 10**9},)},
        {"structures": ({"name": "a", "label": 1, "layer": -1},)},
        {"structures": ({"name": "a", "label": 10**30},)},
        {"slices": ((9, 1, (0, 0, 0, 0), 0),)},
        {"slices": ((0, 10**6, (0, 0, 0, 0), 0),)},
        {"slices": ((0, 1, (0, 0, 5, 5), 10**9),)},
        {"slices": ((0, 1, (0, 0, 5, 5), -1),)},
    ],
    ids=str,
)
def test_supports_that_make_no_sense_are_refused(change):
    volume = Volume.from_array(phantom.voxels())
    message, payload = payloads.support_message(1, drawn(volume))
    with pytest.raises(FoBSAMError):
        payloads.read_support(dataclasses.replace(message, **change), payload, volume)


@given(
    st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 2), max_size=8),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_results_come_out_as_they_went_in(points, presence, confidence):
    volume = Volume.from_array(phantom.voxels())
    support = drawn(volume)
    structure = support.structures[1]
    background = np.array(points, np.float32).reshape(-1, 2)
    mask = support.mask(structure, support.indices(structure)[0])
    result = SliceResult(
        structure, support.axis, 2, mask, Prompts(background), presence, confidence, 3.5, 41.5
    )
    message, payload = payloads.result_message(m.Result, 7, result, support.structures)
    (received,) = read(message.frame(payload))
    again = payloads.read_result(received.message, received.payload, support, volume)
    np.testing.assert_array_equal(again.mask, mask)
    np.testing.assert_array_equal(again.prompts.background, background)
    assert again.prompts.foreground.shape == (0, 2)
    assert dataclasses.replace(again, mask=mask, prompts=result.prompts) == dataclasses.replace(
        result, mask=mask
    )


def test_a_result_of_no_structure_is_refused():
    volume = Volume.from_array(phantom.voxels())
    with pytest.raises(FoBSAMError, match="number 5"):
        payloads.read_result(m.Result(1, 5, *ONE_SLICE[1:]), b"", drawn(volume), volume)


def test_names_that_are_no_unicode_get_through():
    # As Python reads a path that is not UTF-8.
    volume = Volume.from_array(phantom.voxels(), name="scan\udcff")
    message = payloads.image_message(1, volume, "key", select=True)
    (received,) = read(b"".join(payloads.image_pieces(message, volume)))
    assert received.message.name == volume.name


def test_a_message_that_would_be_refused_is_not_sent():
    slices = tuple((0, n, (100, 100, 100, 100), 1000) for n in range(1_000_000))
    with pytest.raises(FoBSAMError, match="too much") as caught:
        m.SetSupports(1, "k", "k", ({},), slices, {}).frame()
    assert caught.value.code == "bad_request"


def test_structures_keep_what_slicer_says_of_them():
    volume = Volume.from_array(phantom.voxels())
    mask = phantom.drawn() == phantom.BALL
    structure = Structure("Leber", 7, 0, (0.1, 0.2, 0.3), "term~x", "Segment_3", (("a", "b"),))
    segmentation = Segmentation.from_masks(volume.ijk_to_ras, [(structure, mask)])
    support = Support.from_segmentation(volume, segmentation)
    message, payload = payloads.support_message(1, support)
    again = payloads.read_support(read(message.frame(payload))[0].message, payload, volume)
    assert again.structures == support.structures
