"""Cases on a Ray cluster: actors hold the models."""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from FoBSAMLib.batch.cases import Case, Options
from FoBSAMLib.batch.outcome import Outcome
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.memory import keep_freed_memory
from FoBSAMLib.version import __version__

if TYPE_CHECKING:
    from FoBSAMLib.batch.worker import Worker

Outcomes = Generator[Outcome, None, None]

#: Cases an actor has at a time: one under way, one that it need not wait for.
IN_FLIGHT = 2
#: How often a case is begun whose actor dies, and how often in a row one may die at its start.
ATTEMPTS = 3
#: Seconds that actors have to end their slices when all stops.
PATIENCE = 30.0


@dataclass(frozen=True)
class Resources:
    """What a worker takes of the cluster."""

    cpus: float = 1
    gpus: float = 0


def run_ray(
    cases: Sequence[Case],
    options: Options,
    workers: int,
    address: str,
    resources: Resources = Resources(),
) -> Outcomes:
    """Outcomes as they come, from so many actors on the cluster at ``address``, or, for
    "local", on one that is started here.

    An actor has few cases at a time. The cases of one that died, with its node for instance,
    go to others, each at most `ATTEMPTS` times. Where the generator is closed, cases under way
    are left as they were. FoBSAM must be installed on the nodes, and files be found there under
    the same paths.
    Raises FoBSAMError where ray is not installed, no cluster answers, or its nodes cannot work.
    """
    ray = _connect(address, workers, resources)
    if not resources.gpus and options.device == "auto":
        options = replace(options, device="cpu")  # a GPU it may see is not its own
    pool = _Pool(ray, options, resources)
    try:
        yield from pool.run(cases, workers)
    finally:
        pool.stop()
        ray.shutdown()


def _connect(address: str, workers: int, resources: Resources) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError as error:
        raise FoBSAMError(
            "bad_request",
            "--ray needs the package ray, which is not installed.",
            'Install it: pip install "ray>=2.40". Without --ray, --workers are processes here.',
        ) from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == "local":
            # As many as asked for: who wants more workers than cores has them share.
            cpus = max(os.cpu_count() or 1, round(workers * resources.cpus + 0.5))
            ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)
        else:
            _knock(address)
            ray.init(address, **quiet)
    except Exception as error:  # ray raises any of several for an address it cannot reach
        raise FoBSAMError(
            "bad_request",
            f"No Ray cluster answers at {address}: {str(error).splitlines()[0]}",
            'Give the address that "ray start --head" shows, or "local".',
        ) from error
    return ray


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


@dataclass
class _Actor:
    """An actor, whether it has its models, and what it has been given, oldest first."""

    handle: Any
    is_ready: bool = False
    given: deque[Case] = field(default_factory=deque)


class _Pool:
    def __init__(self, ray: Any, options: Options, resources: Resources) -> None:
        self._ray = ray
        self._options = options
        self._resources = resources
        #: What is awaited, and from whom.
        self._awaited: dict[Any, _Actor] = {}
        self._attempts: dict[str, int] = {}
        self._failed_starts = 0

    def run(self, cases: Sequence[Case], workers: int) -> Iterator[Outcome]:
        waiting = deque(cases)
        for _ in range(min(workers, len(cases))):
            self._start()
        left = len(cases)
        while left:
            ready, _ = self._ray.wait(list(self._awaited), num_returns=1)
            actor = self._awaited.pop(ready[0])
            try:
                answer = self._ray.get(ready[0])
            except self._ray.exceptions.RayError:
                for outcome in self._lose(actor, waiting):
                    left -= 1
                    yield outcome
                continue
            if isinstance(answer, FoBSAMError):
                raise answer
            if isinstance(answer, Outcome):
                actor.given.popleft()
                left -= 1
                yield answer
            else:
                actor.is_ready = True
                self._failed_starts = 0
            self._feed(actor, waiting)

    def _start(self) -> None:
        as_actor = self._ray.remote(
            num_cpus=self._resources.cpus,
            num_gpus=self._resources.gpus,
            concurrency_groups={"control": 1},  # in which `stop` is heard while `run` works
        )
        handle = as_actor(RayWorker).remote(self._options, self._resources.cpus)
        self._awaited[handle.start.remote(__version__)] = _Actor(handle)

    def _feed(self, actor: _Actor, waiting: deque[Case]) -> None:
        while waiting and len(actor.given) < IN_FLIGHT:
            case = waiting.popleft()
            actor.given.append(case)
            self._awaited[actor.handle.run.remote(case)] = actor

    def _lose(self, actor: _Actor, waiting: deque[Case]) -> Iterator[Outcome]:
        """Take the cases of an actor that died back, start another in its place."""
        self._awaited = {ref: one for ref, one in self._awaited.items() if one is not actor}
        self._ray.kill(actor.handle)  # if it only cannot be reached, it must not go on either
        if not actor.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= ATTEMPTS:
                raise FoBSAMError(
                    "worker_died",
                    f"Workers died at their start {ATTEMPTS} times in a row.",
                    "Look at Ray's logs; FoBSAM must be installed on the nodes.",
                )
        if actor.given:
            # The first was under way; the others only waited behind it.
            tried = actor.given[0]
            self._attempts[tried.name] = self._attempts.get(tried.name, 0) + 1
            if self._attempts[tried.name] >= ATTEMPTS:
                actor.given.popleft()
                yield Outcome(
                    tried.name,
                    "failed",
                    error=f"{ATTEMPTS} workers died of it, most likely for want of memory.",
                )
        waiting.extendleft(reversed(actor.given))
        self._start()

    def stop(self) -> None:
        """Have actors end after the slice they are at, and take them down."""
        actors = {id(actor): actor for actor in self._awaited.values()}.values()
        for actor in actors:
            actor.handle.stop.options(concurrency_group="control").remote()
        under_way = [ref for ref, actor in self._awaited.items() if actor.is_ready]
        if under_way:
            self._ray.wait(under_way, num_returns=len(under_way), timeout=PATIENCE)


class RayWorker:
    """The actor: a `Worker` that can be told to stop."""

    def __init__(self, options: Options, cpus: float) -> None:
        self._options = options
        self._cpus = cpus
        self._stopped = False
        self._worker: Worker | None = None

    def start(self, version: str) -> FoBSAMError | None:
        """Load the models; the error where that fails."""
        if version != __version__:
            return FoBSAMError(
                "version_mismatch",
                f"FoBSAM is {version} here and {__version__} on a node.",
                "Install the same version on all.",
            )
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from FoBSAMLib.batch.worker import Worker

        keep_freed_memory()
        try:
            self._worker = Worker(self._options, max(1, int(self._cpus)))
        except FoBSAMError as error:
            return error
        return None

    def run(self, case: Case) -> Outcome:
        """Segment a case."""
        assert self._worker is not None
        return self._worker.run(case, lambda: self._stopped)

    def stop(self) -> None:
        """Have `run` end after the slice it is at, and later ones at once."""
        self._stopped = True
