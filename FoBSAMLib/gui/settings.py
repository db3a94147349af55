"""Choices that belong to the computer, not to the scene: kept in Slicer's settings."""

from __future__ import annotations

import os
import shlex
from typing import Any

import slicer
from slicer.i18n import tr as _

from FoBSAMLib.background.engine import DEFAULT_MODELS, Models
from FoBSAMLib.errors import FoBSAMError

PREFIX = "FoBSAM/"
#: Seconds a slice and structure takes, before anything was measured here: two cores, no GPU.
SECONDS = 0.1


def models() -> Models:
    """Generator, segmenter and device by name."""
    generator, segmenter, device = (
        str(_value(name, default))
        for name, default in zip(("Generator", "Segmenter", "Device"), DEFAULT_MODELS, strict=True)
    )
    return generator, segmenter, device


def set_models(generator: str, segmenter: str, device: str) -> None:
    """Keep them; an empty name stands for the default."""
    for name, value in (("Generator", generator), ("Segmenter", segmenter), ("Device", device)):
        _set(name, value)


def worker_command_line() -> str:
    """What starts the worker, as the user has written it; empty for one on this computer."""
    return str(_value("WorkerCommand", ""))


def set_worker_command_line(text: str) -> None:
    """Keep it."""
    _set("WorkerCommand", text.strip())


def worker_command() -> list[str] | None:
    """What starts the worker, None for one under Slicer's Python; raises FoBSAMError for a
    command with a quote that does not end."""
    text = worker_command_line()
    try:
        return split_command(text, windows=os.name == "nt") or None
    except ValueError as error:
        raise FoBSAMError(
            "bad_request",
            _("The worker's command cannot be read: {text}").format(text=text),
            _("Close its quotes, in the section Computing."),
        ) from error


def split_command(text: str, *, windows: bool) -> list[str]:
    """A command's words. In paths of Windows the backslash is one, and quotes only hold together.

    Raises ValueError for a quote that does not end.
    """
    if not windows:
        return shlex.split(text)
    return [word.replace('"', "") for word in shlex.split(text, posix=False)]


def seconds_a_slice() -> float:
    """What a slice and structure took last time with these models."""
    try:
        return float(_value(chosen(), SECONDS))
    except ValueError:
        return SECONDS


def set_seconds_a_slice(seconds: float) -> None:
    """Keep what was measured."""
    _set(chosen(), repr(seconds))


def device_used() -> str:
    """Where these models computed last time; empty before the first."""
    return str(_value(chosen() + "/Device", ""))


def set_device_used(device: str) -> None:
    """Keep where they computed."""
    _set(chosen() + "/Device", device)


def chosen() -> str:
    """The models and the worker that are chosen, as one name."""
    # Slashes would make groups of the settings' names.
    chosen = "|".join([*models(), worker_command_line()])
    return "Seconds/" + chosen.replace("/", "_").replace("\\", "_")


def _value(name: str, default: Any) -> Any:
    value = slicer.app.userSettings().value(PREFIX + name)
    return default if value in (None, "") else value


def _set(name: str, value: str) -> None:
    settings = slicer.app.userSettings()
    if value:
        settings.setValue(PREFIX + name, value)
    else:
        settings.remove(PREFIX + name)
