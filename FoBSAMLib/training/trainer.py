"""Training of fob-lite on prepared volumes: resumable, on CPU or GPU."""

from __future__ import annotations

import csv
import io
import json
import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator.background import Located
from FoBSAMLib.generator.lite import GRID, Features, FobLite, Memory, prompt_maps
from FoBSAMLib.generator.matching import Reading
from FoBSAMLib.image.io import atomic_path
from FoBSAMLib.models.checkpoints import load_checkpoint
from FoBSAMLib.training.episodes import Episode, EpisodeDataset, TrainingVolume
from FoBSAMLib.training.losses import (
    contrast,
    foreground_loss,
    mask_loss,
    ring_losses,
)

LOG_EVERY = 10
#: The learning rate needs room to rise and to fall.
FEWEST_STEPS = 4
SAVE_EVERY = 20
WEIGHTS = {"mask": 1.0, "read": 0.5, "heat": 0.1, "coor": 0.3, "fore": 0.5, "rac": 0.1}


@dataclass(frozen=True)
class TrainingConfig:
    """All that decides the weights: ``subjects`` are ids by data set, every training subject
    where a set is not named; ``average`` is the decay of the averaged weights."""

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
            config = cls(**json.loads(path.read_text()))
            config._check()
            return config
        except (OSError, ValueError, TypeError) as error:
            raise FoBSAMError(
                "bad_request",
                f"{path} is not a training configuration: {error}.",
                f"Known entries: {', '.join(cls.__dataclass_fields__)}.",
            ) from None

    def _check(self) -> None:
        fewest = {"steps": FEWEST_STEPS, "batch": 1, "warmup": 0, "seed": 0, "initial_seed": 0}
        for name, least in fewest.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} is {value!r}, not a whole number of {least} or more")
        for name in ("rate", "encoder_rate", "average"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise ValueError(f"{name} is {value!r}, not a number from 0 to 1")
        if type(self.bfloat16) is not bool:
            raise ValueError(f"bfloat16 is {self.bfloat16!r}, not true or false")
        if type(self.subjects) is not dict:
            raise ValueError(f"subjects is {self.subjects!r}, not lists of ids by data set")
        for name, ids in self.subjects.items():
            if type(ids) is not list or any(type(one) is not int for one in ids):
                raise ValueError(f"subjects of {name} is {ids!r}, not a list of ids")


#: Side of the region round a structure on which matching and decoding are trained, in cells.
CROP = 40


def episode_losses(model: FobLite, episode: Episode) -> dict[str, Tensor]:
    """All losses of a batch of episodes."""
    groups, slices = episode.images.shape[:2]
    structures = episode.masks.shape[1]
    device = episode.images.device
    encoded = model.encode(episode.images.flatten(0, 1))
    # Every structure is an episode of its own from here on; its slices were encoded once.
    owner = torch.arange(groups, device=device).repeat_interleave(structures)
    parts = [part.unflatten(0, (groups, slices))[owner] for part in encoded]
    query, nearest = (Features(*(part[:, at] for part in parts)) for at in (-1, -2))
    masks, rings = episode.masks.flatten(0, 1), episode.rings.flatten(0, 1)
    present, foreign = episode.present.flatten(), bool(episode.foreign)

    prior = torch.full((len(owner),), 0.0 if foreign else 1.0, device=device)
    located = model.locate(query, nearest, masks[:, -2], rings[:, 0], prior)
    true = masks[:, -1]
    maps = _training_prompts(located.points.detach().float(), true)
    corner = _corners(masks)
    memory = Memory(parts[0][:, :-1], masks[:, :-1])
    if foreign:
        reading = Reading(
            *(_crop(part, corner) for part in model.match(query, memory, anywhere=True))
        )
        query = Features(*(_crop(part, corner) for part in query))
    else:
        memory = Memory(*(_crop(part, corner) for part in memory))
        query = Features(*(_crop(part, corner) for part in query))
        reading = model.match(query, memory)
    similarity = _crop(located.similarity, corner)
    logits = model.decode(query, reading, similarity, _crop(maps, corner))
    region = _crop(true, corner)
    losses = {"mask": mask_loss(logits.float(), region, present)}
    coverage = F.avg_pool2d(true, 4)
    losses["fore"] = foreground_loss(located.similarity.float(), coverage[:, 0])
    here = present > 0
    if here.any():
        read = torch.logit(reading.values.float().clamp(0, 1), eps=1e-3)
        losses["read"] = mask_loss(read[here], F.pixel_unshuffle(region, 4)[here], present[here])
        located = Located(*(part[here].float() for part in located))
        losses |= ring_losses(located, rings[here, 1])
        weight = coverage[here] / (coverage[here].sum((2, 3), keepdim=True) + 1e-5)
        context = parts[1][here, -1]
        losses["rac"] = contrast(located, (context * weight).sum((2, 3)).float())
    return losses


def _corners(masks: Tensor) -> Tensor:
    """Top left cells (row, column) of the region round each structure, [n, 2]."""
    cells = F.max_pool2d(masks.amax(1), 4)[:, 0]
    corners = []
    for cell in cells:
        where = cell.nonzero()
        middle = (where.amin(0) + where.amax(0)) // 2
        corners.append((middle - CROP // 2).clamp(0, GRID - CROP))
    return torch.stack(corners)


def _crop(maps: Tensor, corners: Tensor) -> Tensor:
    """The region of each map [n, ..., h, w], at whatever resolution it has."""
    scale = maps.shape[-1] // GRID
    side = CROP * scale
    return torch.stack(
        [
            m[..., y : y + side, x : x + side]
            for m, (y, x) in zip(maps, (corners * scale).tolist(), strict=True)
        ]
    )


def _training_prompts(ring: Tensor, mask: Tensor) -> Tensor:
    """Prompt maps as the decoder meets them: mostly predicted points, at times none, at times a
    few true ones, as when a user corrects."""
    n = len(ring)
    device = ring.device
    flat = mask.flatten(1) + 1e-9
    size = mask.shape[-1]
    index = torch.multinomial(flat, 3, replacement=True)
    inside = torch.stack([index % size, index // size], -1).add(0.5) / size
    near = F.max_pool2d(F.avg_pool2d(mask, 4), 11, 1, 5)
    near = F.interpolate(near, size=(size, size)) * (1 - mask) + 1e-9
    index = torch.multinomial(near.flatten(1), 3, replacement=True)
    outside = torch.stack([index % size, index // size], -1).add(0.5) / size
    kind = torch.rand((n, 1, 1, 1), device=device)
    predicted = prompt_maps(ring, ring[:, :0])
    true = prompt_maps(outside, inside)
    holds = (mask.flatten(1).sum(1) > 0).view(n, 1, 1, 1)
    return torch.where(kind < 0.6, predicted, torch.where((kind < 0.85) & holds, true, 0 * true))


def train(
    volumes: list[TrainingVolume],
    config: TrainingConfig,
    folder: Path,
    device: torch.device,
    initial: FobLite,
    report: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> FobLite:
    """Train, or go on training where ``folder`` holds an interrupted run of the same configuration.

    Args:
        volumes: prepared volumes; no organ labels are used.
        folder: for ``state.pt``, ``config.json`` and ``log.csv``.
        initial: the model to start from (with ImageNet weights in its encoder).
        report: called every `LOG_EVERY` steps, and after the last, with the mean of each loss
            since then over the steps in which it occurred (NaN where in none).

    Returns:
        The model with its weights averaged over the last steps.

    Raises:
        FoBSAMError: a run of another configuration or a damaged one in ``folder``, or no writing
            there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = initial.to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.average))
    encoder = [p for p in model.encoder.parameters() if p.requires_grad]
    own = {id(p) for p in model.encoder.parameters()}
    heads = [p for p in model.parameters() if id(p) not in own]
    optimiser = torch.optim.AdamW(
        [{"params": heads, "lr": config.rate}, {"params": encoder, "lr": config.encoder_rate}],
        weight_decay=1e-4,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        [config.rate, config.encoder_rate],
        total_steps=config.steps,
        pct_start=min(0.5, max(config.warmup, 2) / config.steps),
    )
    parts = {"model": model, "average": average, "optimiser": optimiser, "schedule": schedule}
    start = _resume(parts, config, folder)
    dataset = EpisodeDataset(volumes, config.steps, config.batch, config.seed)
    loader = DataLoader(
        torch.utils.data.Subset(dataset, range(start, config.steps)),
        batch_size=None,
        num_workers=1,
        worker_init_fn=_start_worker,
    )
    model.train()
    began, values = time.perf_counter(), _no_values()
    for step, episode in enumerate(loader, start + 1):
        torch.manual_seed(config.seed * 1_000_003 + step)
        episode = Episode(*(part.to(device) for part in episode))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bfloat16):
            losses = episode_losses(model, episode)
        total = torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(model)
        for name, loss in losses.items():
            values[name].append(float(loss.detach()))
        if step % LOG_EVERY == 0 or step == config.steps:
            elapsed = time.perf_counter() - began
            means = {name: fmean(some) if some else math.nan for name, some in values.items()}
            _log(folder / "log.csv", {"step": step, "seconds": round(elapsed, 2)} | means)
            report(step, means)
            began, values = time.perf_counter(), _no_values()
        if step % SAVE_EVERY == 0 or step == config.steps:
            _save(parts, step, config, folder)
    model.load_state_dict(average.module.state_dict())
    return model.to(torch.device("cpu")).eval()


def _start_worker(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupts are the parent's
    torch.set_num_threads(1)


def _no_values() -> dict[str, list[float]]:
    return {name: [] for name in WEIGHTS}


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


def _save(parts: dict[str, Any], step: int, config: TrainingConfig, folder: Path) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    # By way of memory: torch.save into a file reports a full disk as an error of its own.
    buffer = io.BytesIO()
    torch.save({"step": step, "config": asdict(config), **state}, buffer)
    with atomic_path(folder / "state.pt") as partial:
        partial.write_bytes(buffer.getbuffer())


def _resume(parts: dict[str, Any], config: TrainingConfig, folder: Path) -> int:
    """Take up an interrupted run; returns the number of steps already done."""
    path, step = folder / "state.pt", 0
    if path.exists():
        step = _restore(parts, config, path)
    else:
        with atomic_path(folder / "config.json") as partial:
            partial.write_text(json.dumps(asdict(config), indent=2) + "\n")
    _forget_after(step, folder / "log.csv")
    return step


def _restore(parts: dict[str, Any], config: TrainingConfig, path: Path) -> int:
    """Give all parts their saved state; returns the step after which it was saved."""
    try:
        state = load_checkpoint(path)
        same = state["config"] == asdict(config)
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
            f"{path.parent} holds a run with another configuration.",
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
