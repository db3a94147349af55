"""What was said with a worker, recorded and played again."""

from __future__ import annotations

import base64
import json
import time

import pytest
import worker_faults

from FoBSAMLib import FoBSAMError, Support, Volume, WorkerSession, segment
from FoBSAMLib.worker import messages as m
from FoBSAMLib.worker.transcript import RecordingTransport, ReplayTransport
from FoBSAMLib.worker.transport import SubprocessTransport

SCRIPTED = worker_faults.SCRIPTED


@pytest.fixture
def scan(monkeypatch, environment) -> tuple[Volume, Support]:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    volume = worker_faults.volume()
    return volume, worker_faults.support(volume)


def test_progress_is_counted_to_its_end(scan, tmp_path):
    volume, support = scan
    path = tmp_path / "transcript.jsonl"
    with WorkerSession(
        transport=RecordingTransport(SubprocessTransport(SCRIPTED), path)
    ) as session:
        session.set_image(volume)
        session.set_supports(support)
        list(session.segment(["egg"], range(2, 10)))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    answers = [base64.b64decode(line["from"]) for line in lines if "from" in line]
    told = [r.message for r in m.Decoder(m.REPLIES).feed(b"".join(answers))]
    counted = [(t.done, t.total) for t in told if isinstance(t, m.Progress)]
    assert counted == [(n, 7) for n in range(8)]


def test_a_recorded_session_plays_again_without_a_worker(scan, tmp_path):
    volume, support = scan
    path = tmp_path / "transcript.jsonl"

    def work(session: WorkerSession) -> list[tuple[int, int]]:
        result = segment(volume, support, session=session)
        first = result.results[0]
        corrected = session.correct("ball", first.index, first.prompts)
        assert session.suggest("ball") is not None
        return [(r.index, int(r.mask.sum())) for r in [*result.results, corrected]]

    with WorkerSession(transport=RecordingTransport(SubprocessTransport(SCRIPTED), path)) as live:
        said = work(live)
    assert volume.array.tobytes()[:64] not in path.read_bytes()
    assert path.stat().st_size < volume.array.nbytes
    with WorkerSession(transport=ReplayTransport(path)) as played:
        assert work(played) == said
        assert played.models["generator"] == "scripted"


def test_a_replay_can_be_cancelled_and_pauses(scan, tmp_path):
    volume, support = scan
    path = tmp_path / "transcript.jsonl"
    with WorkerSession(transport=RecordingTransport(SubprocessTransport(SCRIPTED), path)) as live:
        segment(volume, support, session=live)
    with WorkerSession(transport=ReplayTransport(path, pause=0.02)) as played:
        played.set_image(volume)
        played.set_supports(support)
        found: list[int] = []
        began = time.monotonic()
        for result in played.segment(cancel=lambda: len(found) >= 4):
            found.append(result.index)
        assert 4 <= len(found) < 8
        assert time.monotonic() - began > 0.06
        with pytest.raises(FoBSAMError, match="transcript"):
            played.suggest("ball")


def test_a_recorded_crash_is_played_as_one(scan, tmp_path):
    volume, support = scan
    path = tmp_path / "transcript.jsonl"
    with WorkerSession(transport=RecordingTransport(SubprocessTransport(SCRIPTED), path)) as live:
        live.set_image(volume)
        live.set_supports(support)
        list(live.segment(["ball"]))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-5]))  # the last answers are lost, with the end
    began = time.monotonic()
    with WorkerSession(transport=ReplayTransport(path)) as played:
        played.set_image(volume)
        played.set_supports(support)
        with pytest.raises(FoBSAMError):
            list(played.segment(["ball"]))
        assert len(played.results("ball")) > 5
    assert time.monotonic() - began < 30


@pytest.mark.usefixtures("scan")
def test_a_long_pause_is_kept(tmp_path):
    path = tmp_path / "transcript.jsonl"
    with WorkerSession(transport=RecordingTransport(SubprocessTransport(SCRIPTED), path)):
        pass
    began = time.monotonic()
    with WorkerSession(transport=ReplayTransport(path, pause=0.3)):
        assert time.monotonic() - began > 0.5  # a greeting, and the end of loading


@pytest.mark.parametrize("text", ["", "nonsense", '{"from": "AAAA"}', "[1]"])
def test_what_is_no_transcript(tmp_path, text):
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(FoBSAMError):
        WorkerSession(transport=ReplayTransport(tmp_path / "t.jsonl"))
