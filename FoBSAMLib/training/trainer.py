"""Training on prepared volumes, whatever the network: resumable, on CPU or GPU."""

from __future__ import annotations

import csv
import io
import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.io import atomic_path
from FoBSAMLib.models.checkpoints import load_checkpoint
from FoBSAMLib.training.episodes import TrainingVolume
from FoBSAMLib.training.processes import ALONE, Step, Team, shared

Model = Literal["fob-lite", "fob-paper"]
LOG_EVERY = 10
#: The learning rate needs room to rise and to fall.
FEWEST_STEPS = 4
#: An interrupted run loses no more than this.
SAVE_SECONDS = 30.0


@dataclass(frozen=True)
class TrainingConfig:
    """All that decides the weights: ``subjects`` are ids by data set, every training subject
    where a set is not named; ``labels``: organ labels are used as well; ``leave_out``: organs by
    data set whose slices are never shown; ``average`` is the decay of the averaged weights."""

    model: Model = "fob-lite"
    labels: bool = False
    leave_out: dict[str, list[str]] = field(default_factory=dict)
    steps: int = 3000
    batch: int = 4
    rate: float = 1e-3
    encoder_rate: float = 2e-4
    warmup: int = 100
    seed: int = 0
    initial_seed: int = 0
    bfloat16: bool = False
    average: float = 0.998
    subjects: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> TrainingConfig:
        """From a JSON file; raises `FoBSAMError` for an unreadable one, an unknown entry
        and an entry that is out of its range or of another type."""
        try:
            config = cls(**cls._entries(path))
            config._check()
            return config
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise FoBSAMError(
                "bad_request",
                f"{path} is not a training configuration: {why}.",
                f"Known entries: {', '.join(cls.__dataclass_fields__)}.",
            ) from None

    @classmethod
    def _entries(cls, path: Path) -> dict[str, Any]:
        try:
            entries = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ValueError("it is no JSON") from error
        if not isinstance(entries, dict):
            raise ValueError("it holds no named entries")
        if unknown := [name for name in entries if name not in cls.__dataclass_fields__]:
            raise ValueError(f"there is no entry {', '.join(unknown)}")
        return entries

    def _check(self) -> None:
        if self.model not in get_args(Model):
            raise ValueError(f"model is {self.model!r}, not one of {', '.join(get_args(Model))}")
        fewest = {"steps": FEWEST_STEPS, "batch": 1, "warmup": 0, "seed": 0, "initial_seed": 0}
        for name, least in fewest.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} is {value!r}, not a whole number of {least} or more")
        for name in ("rate", "encoder_rate", "average"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise ValueError(f"{name} is {value!r}, not a number from 0 to 1")
        for name in ("bfloat16", "labels"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not true or false")
        if type(self.subjects) is not dict:
            raise ValueError(
                f"subjects is {self.subjects!r}, not lists of ids by data set"
                ' as in {"chaos": [1, 2]}'
            )
        for name, ids in self.subjects.items():
            if type(ids) is not list or any(type(one) is not int for one in ids):
                raise ValueError(f"subjects of {name} is {ids!r}, not a list of ids")
        if type(self.leave_out) is not dict:
            raise ValueError(f"leave_out is {self.leave_out!r}, not lists of organs by data set")
        for name, organs in self.leave_out.items():
            if type(organs) is not list or any(type(one) is not str for one in organs):
                raise ValueError(f"leave_out of {name} is {organs!r}, not a list of organs")


class Recipe(Protocol):
    """What is a network's own in training; the rest is the same for all."""

    name: str
    #: What each loss counts in their sum.
    weights: Mapping[str, float]
    #: Neighbouring slices that an episode takes.
    slices: int
    #: Whether matrices are written in half precision.
    halved: bool
    #: What the user should know before.
    notes: tuple[str, ...]
    #: What else must be the same where a run goes on.
    run: Mapping[str, str]

    def initial(self, seed: int) -> nn.Module:
        """The network before training."""

    def dataset(
        self, volumes: Sequence[TrainingVolume], config: TrainingConfig, batches: int
    ) -> Dataset[Any]:
        """So many batches, NamedTuples of tensors; each the same whenever it is asked for."""

    def optimiser(self, model: Any, config: TrainingConfig) -> tuple[Optimizer, LRScheduler]:
        """What changes the weights, and its rate from step to step."""

    def losses(self, model: Any, batch: Any) -> dict[str, Tensor]:
        """Each loss of a batch, by name."""


def train(
    volumes: Sequence[TrainingVolume],
    config: TrainingConfig,
    folder: Path,
    device: torch.device,
    recipe: Recipe,
    report: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
    *,
    workers: int = 1,
    team: Team = ALONE,
) -> nn.Module:
    """Train, or go on training where ``folder`` holds an interrupted run of the same configuration.

    Args:
        volumes: prepared volumes.
        folder: for ``state.pt``, ``config.json`` and ``log.csv``.
        report: called every `LOG_EVERY` steps, and after the last, with the mean of each loss
            since then.
        workers: processes that draw episodes.
        team: the processes that train together, each of which calls this; the first one writes
            and reports (of its own batches).

    Returns:
        The model with its weights averaged over the last steps.

    Raises:
        FoBSAMError: a run of another configuration or a damaged one in ``folder``, or no writing
            there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = recipe.initial(config.initial_seed).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.average))
    optimiser, schedule = recipe.optimiser(model, config)
    parts = {"model": model, "average": average, "optimiser": optimiser, "schedule": schedule}
    run = {**asdict(config), "processes": team.count, **recipe.run}
    start = _resume(parts, config, run, folder, team)
    step_losses = shared(Step(recipe, model), team)
    # Batches are dealt out in turn.
    batches = range(start * team.count + team.rank, config.steps * team.count, team.count)
    dataset = recipe.dataset(volumes, config, config.steps * team.count)
    if batches:
        dataset[batches[0]]  # that there is nothing to draw is told here, not by another process
    loader = DataLoader(
        torch.utils.data.Subset(dataset, batches),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=_start_worker,
        pin_memory=device.type == "cuda",
    )
    model.train()
    began = saved = time.perf_counter()
    losses: list[Tensor] = []
    for step, batch in enumerate(loader, start + 1):
        torch.manual_seed(config.seed * 1_000_003 + batches[step - start - 1] + 1)
        # Single values stay here: to read them must not wait for the device.
        batch = type(batch)(*(p.to(device, non_blocking=True) if p.dim() else p for p in batch))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bfloat16):
            named = step_losses(batch)
        each = torch.stack([named[name].float() for name in recipe.weights])
        total = (each * each.new_tensor(list(recipe.weights.values()))).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(model)
        losses.append(each.detach())
        if step % LOG_EVERY == 0 or step == config.steps:
            means = dict(zip(recipe.weights, torch.stack(losses).mean(0).tolist(), strict=True))
            now = time.perf_counter()
            if team.first:
                _log(folder / "log.csv", {"step": step, "seconds": round(now - began, 2)} | means)
                report(step, means)
            began, losses = now, []
        due = time.perf_counter() - saved >= SAVE_SECONDS or step == config.steps
        if team.first and due:
            _save(parts, step, run, folder)
            saved = time.perf_counter()
    model.load_state_dict(average.module.state_dict())
    return model.to(torch.device("cpu")).eval()


def _start_worker(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupts are the parent's
    torch.set_num_threads(1)
    # Handed over by file descriptor, a tensor that is on its way when training is interrupted
    # would leave a traceback of this process.
    torch.multiprocessing.set_sharing_strategy("file_system")


def _log(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    try:
        with path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, row)
            if new:
                writer.writeheader()
            writer.writerow({name: round(value, 5) for name, value in row.items()})
    except OSError as error:
        raise FoBSAMError(
            "unwritable", f"{path} cannot be written: {error.strerror}.", "Choose another --output."
        ) from None


def _save(parts: dict[str, Any], step: int, run: dict[str, Any], folder: Path) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    # By way of memory: torch.save into a file reports a full disk as an error of its own.
    buffer = io.BytesIO()
    torch.save({"step": step, "run": run, **state}, buffer)
    with atomic_path(folder / "state.pt") as partial:
        partial.write_bytes(buffer.getbuffer())


def _resume(
    parts: dict[str, Any], config: TrainingConfig, run: dict[str, Any], folder: Path, team: Team
) -> int:
    """Take up an interrupted run; returns the number of steps already done."""
    path, step = folder / "state.pt", 0
    if path.exists():
        step = _restore(parts, run, path)
    if team.first:
        if not path.exists():
            with atomic_path(folder / "config.json") as partial:
                partial.write_text(json.dumps(asdict(config), indent=2) + "\n")
        _forget_after(step, folder / "log.csv")
    # Nobody saves anew before all have read.
    team.wait()
    return step


def _restore(parts: dict[str, Any], run: dict[str, Any], path: Path) -> int:
    """Give all parts their saved state; returns the step after which it was saved."""
    try:
        state = load_checkpoint(path)
        same = state["run"] == run
        if same:
            for name, part in parts.items():
                part.load_state_dict(state[name])
        step = int(state["step"])
    except Exception as error:  # a part may meet anything in a state that is not its own
        raise FoBSAMError(
            "unreadable",
            f"{path} is damaged, or not the state of an interrupted run.",
            "Remove it to begin anew.",
        ) from error
    if not same:
        raise FoBSAMError(
            "bad_request",
            f"{path.parent} holds a run with another configuration, number of processes or "
            "--initial.",
            "Choose another folder, or remove it to begin anew.",
        )
    return step


def _forget_after(step: int, log: Path) -> None:
    """Take out of the log what was done after the state was last saved: it is done again."""
    if not log.exists():
        return
    header, *rows = log.read_text(errors="replace").splitlines(keepends=True) or [""]
    if not header.startswith("step,"):
        log.unlink()
        return
    steps = [row.split(",")[0] for row in rows]
    kept = [row for row, at in zip(rows, steps, strict=True) if at.isdecimal() and int(at) <= step]
    with atomic_path(log) as partial:
        partial.write_text("".join([header, *kept]))
