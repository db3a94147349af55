"""Options that several commands of ``fobsam`` have."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

# Names are written out: the registries would have to import torch to be asked for them.
GENERATOR_HELP = (
    "What finds the prompts: fob-lite, fob-lite-fast (a first look in two thirds of the time), "
    "fob-lite-self, fob-paper:FILE, or fob-paper:sabs:0 (a published fold, see fobsam models)."
)
SEGMENTER_HELP = (
    "What turns prompts into masks: compact, random-walker, sam-vit-b, sam-vit-l, sam-vit-h, "
    "sam2.1-tiny or sam-med2d."
)

GeneratorOption = Annotated[str, typer.Option(metavar="NAME", help=GENERATOR_HELP)]
SegmenterOption = Annotated[str, typer.Option(metavar="NAME", help=SEGMENTER_HELP)]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to compute.")
]
