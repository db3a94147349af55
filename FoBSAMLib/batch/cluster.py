"""Cases on a Ray cluster: actors hold the models."""

from __future__ import annotations

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from FoBSAMLib.batch.cases import Case, Options
from FoBSAMLib.batch.outcome import Outcome
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.memory import keep_freed_memory
from FoBSAMLib.version import __version__

if TYPE_CHECKING:
    from FoBSAMLib.batch.worker import Worker

Outcomes = Generator[Outcome, None, None]

#: How often a case is begun whose actor dies, and how often in a row one may die at its start.
ATTEMPTS = 3
#: Seconds that actors have to end their slices when all stops.
PATIENCE = 30.0


@dataclass(frozen=True)
class Resources:
    """What a worker takes of the cluster."""

    cpus: int = 1
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

    An actor has one case at a time. That of one that died, with its node for instance, goes to
    another, at most `ATTEMPTS` times. Where the generator is closed, cases under way
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
            cpus = max(os.cpu_count() or 1, workers * resources.cpus)
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
    try:
        _check_offered(ray, resources)
    except FoBSAMError:
        ray.shutdown()
        raise
    return ray


def _check_offered(ray: Any, resources: Resources) -> None:
    """Raise FoBSAMError where no node has what a worker takes: ray would wait for one forever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(
        node.get("CPU", 0) >= resources.cpus and node.get("GPU", 0) >= resources.gpus
        for node in nodes
    ):
        raise FoBSAMError(
            "bad_request",
            f"No node of the cluster has {resources.cpus} CPUs and {resources.gpus:g} GPUs.",
            "Ask for less by --cpus-per-worker and --gpus-per-worker, or start such a node first.",
        )


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


@dataclass(eq=False)
class _Actor:
    """An actor, whether it has its models, and the case that it was given."""

    handle: Any
    is_ready: bool = False
    case: Case | None = None


class _Pool:
    """Actors, each with one case at a time: what waits for a slow one, another could do."""

    def __init__(self, ray: Any, options: Options, resources: Resources) -> None:
        self._ray = ray
        self._options = options
        self._resources = resources
        self._actors: list[_Actor] = []
        #: What is awaited, and from whom.
        self._awaited: dict[Any, _Actor] = {}
        self._waiting: deque[Case] = deque()
        self._attempts: Counter[str] = Counter()
        self._failed_starts = 0

    def run(self, cases: Sequence[Case], workers: int) -> Iterator[Outcome]:
        self._waiting.extend(cases)
        for _ in range(min(workers, len(cases))):
            self._start()
        left = len(cases)
        while left:
            ready, _ = self._ray.wait(list(self._awaited), num_returns=1)
            outcome = self._take(ready[0])
            if outcome is not None:
                left -= 1
                yield outcome

    def _take(self, ref: Any) -> Outcome | None:
        """Hear of an actor, and give out the cases that wait."""
        actor = self._awaited.pop(ref)
        outcome = None
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:  # it lives: a mistake, not a death
            why = str(error.cause or error).splitlines()[0]
            raise FoBSAMError(
                "internal", f"A node cannot work: {why}", "Look at its installation of FoBSAM."
            ) from error
        except self._ray.exceptions.RayError:
            outcome = self._lose(actor)
        else:
            if isinstance(answer, FoBSAMError):
                raise answer
            if isinstance(answer, Outcome):
                outcome, actor.case = answer, None
            else:
                actor.is_ready, self._failed_starts = True, 0
        for idle in [one for one in self._actors if one.is_ready and one.case is None]:
            if self._waiting:
                idle.case = self._waiting.popleft()
                self._awaited[idle.handle.run.remote(idle.case)] = idle
        if self._waiting and actor not in self._actors:
            self._start()
        return outcome

    def _start(self) -> None:
        as_actor = self._ray.remote(
            num_cpus=self._resources.cpus,
            num_gpus=self._resources.gpus,
            concurrency_groups={"control": 1},  # in which `stop` is heard while `run` works
        )
        actor = _Actor(as_actor(RayWorker).remote(self._options, self._resources.cpus))
        self._actors.append(actor)
        self._awaited[actor.handle.start.remote(__version__)] = actor

    def _lose(self, actor: _Actor) -> Outcome | None:
        """Do without an actor; its case waits again, or has failed if it was lost too often."""
        self._actors.remove(actor)
        self._ray.kill(actor.handle)  # if it only cannot be reached, it must not go on either
        if not actor.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= ATTEMPTS:
                raise FoBSAMError(
                    "worker_died",
                    f"Workers died at their start {ATTEMPTS} times in a row.",
                    "Look at Ray's logs; FoBSAM must be installed on the nodes.",
                )
        if actor.case is None:
            return None
        name = actor.case.name
        self._attempts[name] += 1
        if self._attempts[name] < ATTEMPTS:
            self._waiting.appendleft(actor.case)
            return None
        died = f"{ATTEMPTS} workers died of it, most likely for want of memory."
        return Outcome(name, "failed", error=died)

    def stop(self) -> None:
        """Have actors end after the slice they are at."""
        for actor in self._actors:
            actor.handle.stop.options(concurrency_group="control").remote()
        under_way = [ref for ref, actor in self._awaited.items() if actor.case is not None]
        if under_way:
            self._ray.wait(under_way, num_returns=len(under_way), timeout=PATIENCE)


class RayWorker:
    """The actor: a `Worker` that can be told to stop."""

    def __init__(self, options: Options, cpus: int) -> None:
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
            self._worker = Worker(self._options, self._cpus)
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
