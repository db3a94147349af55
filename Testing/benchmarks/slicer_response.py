"""How long the module holds up Slicer's window, from pressing Segment to the end of a review.

    python Testing/benchmarks/slicer_response.py [--image chest] [--json FILE]

The module runs in the stand-in for Slicer's window, with a real worker, and is used as by a user.
A timer of 1 ms tells when the event loop was held up: a *block* is the time between two of its
ticks, less the time for which the system had the thread wait for a processor and that of Python's
garbage collector. The time by the clock is kept, too, and what an idle loop in another process saw
meanwhile. The views draw nothing in the stand-in.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing"), str(ROOT / "Testing" / "unit")]
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

#: The large image: the chest CT, made so many voxels (K, J, I).
LARGE = (300, 512, 512)
#: No block may be longer, in seconds, but where the user waits for what was asked for.
WANTED = 0.05
#: Seconds for which one block is let be before it is asked what runs.
SAMPLED = 0.015
#: What the user waits for, or what is Slicer's own.
WAITED = (
    "between",
    "opening the panel",
    "stroke of the Segment Editor",
    "3-D surfaces",
    "accept",
    "undo",
)


@dataclass(frozen=True)
class Block:
    """Between two ticks: when, how long by the clock and without waits for a processor, in
    seconds; in which phase, and what ran."""

    at: float
    wall: float
    own: float
    phase: str
    what: str


class Monitor:
    """Notes the blocks of this thread's event loop."""

    def __init__(self) -> None:
        from PySide6 import QtCore

        self.blocks: list[Block] = []
        self.phase = WAITED[0]
        self._stack = ""
        self._schedule = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        signal.signal(signal.SIGALRM, self._sample)
        gc.callbacks.append(self._collect)
        self._collecting = self._collected = self.longest_collection = 0.0
        self._last, self._waited = time.monotonic(), self._waits()
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self.tick)
        self._timer.start(1)

    def tick(self) -> None:
        now, waited = time.monotonic(), self._waits()
        wall, delay = now - self._last, waited - self._waited + self._collected
        self.blocks.append(Block(self._last, wall, max(0.0, wall - delay), self.phase, self._stack))
        self._last, self._waited, self._stack, self._collected = now, waited, "", 0.0
        signal.setitimer(signal.ITIMER_REAL, SAMPLED)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._timer.stop()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """What is done within belongs to a phase."""
        self.tick()
        before, self.phase = self.phase, phase
        try:
            yield
        finally:
            self.tick()
            self.phase = before

    def _waits(self) -> float:
        """Seconds for which this thread waited for a processor, ever."""
        return int(os.pread(self._schedule, 64, 0).split()[1]) / 1e9

    def _collect(self, phase: str, _about: dict[str, int]) -> None:
        """Python's garbage collector comes whoever is at work: its time is told apart."""
        now = time.monotonic()
        if phase == "start":
            self._collecting = now
        else:
            self._collected += now - self._collecting
            self.longest_collection = max(self.longest_collection, now - self._collecting)

    def _sample(self, _number: int, frame: Any) -> None:
        """What runs, once a call into a library has returned: ours, and what it called."""
        names = []
        while frame is not None and len(names) < 40:
            code = frame.f_code
            path = Path(code.co_filename)
            place = "/".join(path.parts[-2:]).removesuffix(".py")
            names.append((f"{place}:{code.co_name}", "FoBSAM" in "".join(path.parts[-3:-1])))
            frame = frame.f_back
        ours = [name for name, own in names if own][:2]
        self._stack = self._stack or " < ".join(dict.fromkeys([names[0][0], *ours]))
        signal.setitimer(signal.ITIMER_REAL, SAMPLED)


def control() -> None:
    """An idle loop in a process of its own: the gaps it saw, until its input ends."""
    import threading

    from PySide6 import QtCore

    application = QtCore.QCoreApplication([])
    monitor = Monitor()

    def end() -> None:
        sys.stdin.read()
        application.quit()

    threading.Thread(target=end, daemon=True).start()
    application.exec()
    monitor.stop()
    json.dump([(block.at, block.wall) for block in monitor.blocks], sys.stdout)


@contextmanager
def control_process() -> Iterator[list[tuple[float, float]]]:
    """What an idle loop sees meanwhile; filled at the end."""
    gaps: list[tuple[float, float]] = []
    command = [sys.executable, __file__, "--control"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield gaps
        gaps += map(tuple, json.loads(process.communicate()[0]))


class Story:
    """The module in the stand-in with one image, used step by step."""

    def __init__(self, large: bool) -> None:
        import standin

        standin.install()
        self.standin = standin
        import slicer
        from slicer_module import LUNG, paint_lung, sample

        self.slicer = slicer
        slicer.app.userSettings().clear()
        self.module = standin.load_module(ROOT / "FoBSAM" / "FoBSAM.py")
        volume = slicer.util.loadVolume(str(sample("CTChest4.nrrd")))
        self.volume = enlarged(slicer, volume) if large else volume
        slicer.util.setSliceViewerLayers(background=self.volume, fit=True)
        self.lung = LUNG
        self.segmentation = paint_lung(self.volume)
        self._warm_up()
        self.reactions: list[float] = []
        self._time_reactions()
        self.monitor = Monitor()
        self.shown: list[float] = []
        self.seconds: dict[str, float] = {}

    def _warm_up(self) -> None:
        """What PySide6 loads at the first use of a class takes long, and Slicer does not do it."""
        import qt

        process = qt.QProcess()
        process.connect("bytesWritten(qint64)", lambda _count: None)
        process.start(sys.executable, ["-c", "input()"])
        process.waitForStarted(5000)
        process.write(qt.QByteArray(b"\n"))
        process.waitForFinished(5000)
        process.readAllStandardOutput().data()
        path = qt.QPainterPath()
        path.addRect(0, 0, 1, 1)
        path.addEllipse(0, 0, 1, 1)

    @property
    def panel(self) -> Any:
        return self.module.widget.panel

    def tell(self) -> None:
        """All of it."""
        self.open()
        self.segment()
        self.look_through()
        self.drag()
        self.accept()
        self.monitor.stop()
        self.standin.quit_application(self.module)

    def open(self) -> None:
        wait, during = self.standin.wait, self.monitor.during
        with during("idle, module not opened"):
            wait(3.0)
        with during("opening the panel"):
            self.module.enter()
            wait(0.5)
        with during("idle, panel open"):
            wait(3.0)

    def segment(self) -> None:
        during, wait_until = self.monitor.during, self.standin.wait_until
        began = time.monotonic()
        with during("Segment, until the first slice"):
            self.standin.click(self.module.widget.ui.segmentButton)
            wait_until(lambda: self.panel.running.run.found, 300)
        first = time.monotonic()
        with during("slices come"):
            wait_until(
                lambda: self.panel.running.run.found >= self.panel.running.run.total / 4, 900
            )
        with during("stroke of the Segment Editor"):
            self.stroke()
        with during("slices come, the list after a stroke"):
            self.standin.wait(1.0)
        with during("slices come"):
            wait_until(lambda: not self.panel.running.under_way, 900)
            self.standin.wait(1.0)
        self.seconds["until_first_slice"] = round(first - began, 2)
        self.seconds["whole_run"] = round(time.monotonic() - began - 2.0, 2)
        self.seconds["slices"] = self.panel.running.run.total

    def stroke(self) -> None:
        """Paint another structure; the segment that is looked for stays as it is."""
        from slicer_module import segment_editor
        from standin.brush import paint

        segmentation = self.segmentation.GetSegmentation()
        other = segmentation.AddEmptySegment("other", "Other", (0.9, 0.6, 0.2))
        right, anterior, superior = self.lung
        paint(segment_editor(), other, "axial", (-right, anterior, superior), 30.0)

    def held(self) -> list[int]:
        """Slices in which something was found, not beside each other."""
        (target,) = self.panel.running.run.targets
        found = sorted(n for n, r in target.results("lung").items() if r.mask.any())
        return found[:: max(1, len(found) // 12)]

    def look_through(self) -> None:
        plot, ui = self.panel.review.plot, self.module.widget.ui
        with self.monitor.during("click into the plot"):
            for index in self.held():
                place = plot.place_of(index)
                self.standin.click(plot, (place.x(), place.y()))
                self.standin.wait(0.1)
        with self.monitor.during("scrolling through the slices"):
            view = self.slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
            for _ in range(25):
                step = self.volume.GetSpacing()[2]
                view.SetSliceOffset(view.GetSliceOffset() + step)
                self.standin.wait(0.02)
        if ui.uncertainButton.enabled:
            with self.monitor.during("next uncertain slice"):
                for _ in range(5):
                    self.standin.click(ui.uncertainButton)
                    self.standin.wait(0.1)

    def drag(self) -> None:
        """Drag points into the structure, with the mask following; note how soon it does."""
        (target,) = self.panel.running.run.targets
        for index in self.held():
            self.panel.review.go_to(index)
            self.standin.wait(0.2)
            mask = target.results("lung")[index].mask
            rows, columns = np.nonzero(mask)
            end = np.array([columns.mean(), rows.mean()])
            with self.monitor.during("drag of a point"):
                self._drag(target, index, end)
        with self.monitor.during("3-D surfaces"):
            self.standin.click(self.module.widget.ui.show3DCheckBox)
            self.standin.wait(0.2)
            self.standin.click(self.module.widget.ui.show3DCheckBox)

    def _drag(self, target: Any, index: int, end: np.ndarray) -> None:
        points = self.panel.review.points._points
        node = points.background
        start = points._known.background[0]
        node.InvokeEvent(node.PointStartInteractionEvent)
        for part in np.linspace(0.1, 1.0, 10):
            before = target.corrected.get("lung", {}).get(index)
            began = time.monotonic()
            (place,) = points._to_world((start + part * (end - start))[np.newaxis])
            node.SetNthControlPointPositionWorld(0, *place)
            self.standin.wait_until(
                lambda before=before: target.corrected.get("lung", {}).get(index) is not before, 30
            )
            self.shown.append(time.monotonic() - began)
        node.InvokeEvent(node.PointEndInteractionEvent)
        self.standin.wait(0.3)

    def accept(self) -> None:
        from slicer_module import segment_editor

        with self.monitor.during("accept"):
            self.standin.click(self.module.widget.ui.acceptButton)
        with self.monitor.during("the list after accepting"):
            self.standin.wait(1.0)
        with self.monitor.during("undo"):
            segment_editor().undo()
        with self.monitor.during("the list after undo"):
            self.standin.wait(1.0)

    def _time_reactions(self) -> None:
        """What the module does while the Segment Editor changes something."""
        from FoBSAMLib.mrml.watch import Watch

        changed: Callable[..., None] = Watch._changed

        def timed(watch: Any, *arguments: Any) -> None:
            began = time.monotonic()
            changed(watch, *arguments)
            self.reactions.append(time.monotonic() - began)

        Watch._changed = timed  # type: ignore[method-assign]


def enlarged(slicer: Any, volume: Any) -> Any:
    """The same image with `LARGE` voxels, int16, in its place."""
    from scipy import ndimage

    array = slicer.util.arrayFromVolume(volume)
    factors = np.divide(LARGE, array.shape)
    large = ndimage.zoom(array.astype(np.int16), factors, order=1)
    large += np.random.default_rng(0).integers(-10, 10, LARGE).astype(np.int16)
    directions = np.zeros((3, 3))
    volume.GetIJKToRASDirections(directions)
    spacing = np.divide(volume.GetSpacing(), factors[::-1])
    node = slicer.util.addVolumeFromArray(large, name="Large chest")
    node.SetIJKToRASDirections(directions)
    node.SetSpacing(*spacing)
    node.SetOrigin(*volume.GetOrigin())
    slicer.mrmlScene.RemoveNode(volume)
    return node


def summary(story: Story, gaps: list[tuple[float, float]]) -> dict[str, Any]:
    """Milliseconds, JSON-ready."""
    phases = {}
    for phase in dict.fromkeys(block.phase for block in story.monitor.blocks):
        blocks = [block for block in story.monitor.blocks if block.phase == phase]
        own, wall = ([getattr(one, name) for one in blocks] for name in ("own", "wall"))
        first, last = blocks[0].at, blocks[-1].at + blocks[-1].wall
        idle = [wall for at, wall in gaps if first <= at <= last]
        phases[phase] = {
            "longest": in_ms(max(own)),
            "99.9_percent": in_ms(np.percentile(own, 99.9)),
            "longest_by_clock": in_ms(max(wall)),
            "idle_process_longest_by_clock": in_ms(max(idle, default=0.0)),
            "over_50_ms": sum(one > WANTED for one in own),
            "seconds": round(sum(wall), 1),
        }
    judged = [block for block in story.monitor.blocks if block.phase not in WAITED]
    judged.sort(key=lambda block: -block.own)
    waited = sorted(set(story.monitor.blocks) - set(judged), key=lambda block: -block.own)
    return {
        "voxels": story.volume.GetImageData().GetDimensions()[::-1],
        "longest": in_ms(judged[0].own),
        "99.9_percent": in_ms(np.percentile([block.own for block in judged], 99.9)),
        "longest_by_clock": in_ms(max(block.wall for block in judged)),
        "longest_reaction_within_a_stroke_or_accept": in_ms(max(story.reactions, default=0.0)),
        "dragged_point_to_preview_median": in_ms(median(story.shown)),
        "dragged_point_to_preview_longest": in_ms(max(story.shown)),
        "seconds": story.seconds,
        "garbage_collector_longest": in_ms(story.monitor.longest_collection),
        "ten_longest": list(map(told, judged[:10])),
        "waited_for": list(map(told, waited[:8])),
        "phases": phases,
    }


def told(block: Block) -> dict[str, Any]:
    """A block as the report has it."""
    what = {"in": block.phase, "what": block.what}
    return {"ms": in_ms(block.own), "clock": in_ms(block.wall), **what}


def in_ms(seconds: float) -> float:
    return round(1000 * float(seconds), 1)


def compare_sessions(repeats: int) -> dict[str, Any]:
    """The same work through the event loop and by a session that waits, both with warm workers."""
    import standin

    standin.install()
    from FoBSAMLib import WorkerSession
    from FoBSAMLib.background.engine import Engine
    from FoBSAMLib.bench.worker import example

    volume, support = example()
    engine = Engine()
    seconds: dict[str, list[float]] = {"event_loop": [], "waiting": []}
    with WorkerSession() as session:
        for number in range(-1, 2 * repeats):
            # In turn, so that a machine that grows slower or faster favours neither.
            order = ("event_loop", "waiting") if number % 2 else ("waiting", "event_loop")
            for name in order:
                image = replace(volume, array=volume.array + np.float32(0.01 * number))
                drawn = replace(support, volume=image)
                began = time.perf_counter()
                if name == "waiting":
                    session.set_image(image)
                    session.set_supports(drawn)
                    for _ in session.segment():
                        pass
                else:
                    talk = engine.conversation
                    for steps in (talk.set_image(image), talk.set_supports(drawn), talk.segment()):
                        engine.finish(engine.start(steps))
                if number >= 0:  # the first warms both up
                    seconds[name].append(round(time.perf_counter() - began, 3))
    engine.kill()
    pairs = zip(seconds["event_loop"], seconds["waiting"], strict=True)
    return {"ratio": round(median(one / other for one, other in pairs), 3), "seconds": seconds}


def measure(part: str, repeats: int) -> dict[str, Any]:
    """One part, in a process of its own."""
    if part == "sessions":
        return compare_sessions(repeats)
    before = os.getloadavg()[0]
    with control_process() as gaps:
        story = Story(part == "large")
        story.tell()
    return {"load_before": round(before, 2), **summary(story, gaps)}


def main() -> None:
    parts = ("chest", "large", "sessions")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", choices=parts, action="append", help="parts to measure")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", choices=parts, help=argparse.SUPPRESS)
    parser.add_argument("--control", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.control:
        control()
        return
    if given.part:
        print(json.dumps(measure(given.part, given.repeats)))
        return
    from FoBSAMLib.version import __version__

    document: dict[str, Any] = {
        "fobsam": __version__,
        "machine": {"system": platform.system(), "processors": os.cpu_count()},
        "unit": "ms",
        "wanted_at_most": in_ms(WANTED),
    }
    for part in given.image or parts:
        runs = []
        for _ in range(1 if part == "sessions" else given.repeats):
            command = [sys.executable, __file__, "--part", part, "--repeats", str(given.repeats)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(runs[-1], indent=1), flush=True)
        document[part] = runs[0] if part == "sessions" else runs
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
