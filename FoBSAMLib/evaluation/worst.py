"""Pictures of the tool's worst slices, which it is asked for again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from FoBSAMLib.evaluation.cases import Case
from FoBSAMLib.evaluation.datasets import Dataset, Subject
from FoBSAMLib.evaluation.document import case_of
from FoBSAMLib.evaluation.pictures import Picture
from FoBSAMLib.evaluation.scoring import Scored
from FoBSAMLib.evaluation.settings import TOOL, Settings
from FoBSAMLib.evaluation.tool import Tools
from FoBSAMLib.image.windows import normalise

#: Runs a protocol on a case.
Ask = Callable[[Dataset, Settings, Case, Tools], Iterator[Scored]]


def pictures(
    dataset: Dataset, settings: Settings, records: list[dict[str, Any]], count: int, ask: Ask
) -> list[Picture]:
    """The worst slice of each of the ``count`` worst organs, as the first generator and segmenter
    found it from the first annotated slices. Cheap for few organs: these alone are found again.
    """
    lead = settings.label(settings.pairs[0])
    rows = [
        row
        for row in records
        if row["method"] == TOOL
        and (row["generator"], row["segmenter"]) == lead
        and row["suggestion"] in ("", settings.suggestions[0])
        and len(row["annotated"]) <= 1
        and row["slices"]
    ]
    rows.sort(key=_lowest)
    found = []
    tools = Tools(settings)
    for row in rows[:count]:
        again = replace(
            settings,
            organs=(row["organ"],),
            methods=(TOOL,),
            slices_annotated=1,
            generators=settings.generators[:1],
            segmenters=settings.segmenters[:1],
            ablation=False,
        )
        scored = next(iter(ask(dataset, again, case_of(row), tools)))
        found.append(_picture(dataset.read(row["subject"]), scored))
        tools.forget()
    return found


def _lowest(row: dict[str, Any]) -> tuple[float, float]:
    return min(one["dice"] for one in row["slices"]), row["dice"]


def _picture(subject: Subject, scored: Scored) -> Picture:
    """Of slices of the same Dice, the one where truth and mask together are largest."""
    record = scored.record
    slices = {one.index: one for one in record.slices}
    index = min(slices, key=lambda n: (slices[n].dice, -slices[n].truth - slices[n].found))
    result = next(result for result in scored.answer.results if result.index == index)
    if subject.volume.array.ndim == 4:
        image = subject.volume.array[index].astype(np.float32) / 255
    else:
        image = normalise(subject.volume)[index]
    return Picture(
        subject=record.subject,
        organ=record.organ,
        method=record.method,
        index=index,
        dice=slices[index].dice,
        confidence=slices[index].confidence,
        image=image,
        truth=subject.masks[record.organ][index],
        found=result.mask,
        prompts=result.prompts,
        spacing=subject.volume.slice_spacing("k"),
    )
