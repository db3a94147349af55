"""Options that several commands of ``fobsam`` have."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

GeneratorOption = Annotated[str, typer.Option(metavar="NAME", help="What finds the prompts.")]
SegmenterOption = Annotated[
    str, typer.Option(metavar="NAME", help="What turns prompts into masks.")
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to compute.")
]
