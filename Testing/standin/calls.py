"""Calls from PythonQt's conventions into PySide6: ints where it wants enums, and refusals.

PythonQt for Qt 5 passes enums as ints; PySide6 wants its own enum types. Which one an int stands
for is read off the signatures PySide6 publishes, and remembered by the types of the arguments.
"""

from __future__ import annotations

import enum
import functools
import types
import typing
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore
from shibokensupport.signature import get_signature


class EnumValue(int):
    """The value of a Qt enum as Python sees it in PythonQt: an int. `raw` is PySide6's."""

    raw: enum.Enum

    def __new__(cls, raw: enum.Enum) -> EnumValue:
        value = super().__new__(cls, raw.value)
        value.raw = raw
        return value


def call(function: Callable, *arguments: Any) -> Any:
    """Call a function of PySide6 with unwrapped arguments; TypeError where PythonQt refuses."""
    key = (function, *map(_kind, arguments))
    plan = _plans.get(key)
    if plan is not None:
        if not plan:
            return function(*arguments)
        return function(*[a if f is None else f(a) for f, a in zip(plan, arguments, strict=True)])
    _refuse(function, arguments)
    plain = tuple(a.raw if isinstance(a, EnumValue) else a for a in arguments)
    try:
        result = function(*plain)
    except TypeError:
        if not any(type(a) in (int, EnumValue) for a in arguments):
            raise
    else:
        enums = [_raw if isinstance(a, EnumValue) else None for a in arguments]
        _plans[key] = tuple(enums) if any(enums) else ()
        return result
    return _call_converted(function, arguments, key)


# How to convert each argument, None for as it is; empty for none at all.
_Plan = tuple[Callable[[Any], Any] | None, ...]
_plans: dict[Any, _Plan] = {}


def _raw(value: EnumValue) -> enum.Enum:
    return value.raw


def _kind(argument: Any) -> Any:
    kind = type(argument)
    return type(argument.raw) if kind is EnumValue else kind


def _call_converted(function: Callable, arguments: tuple, key: Any) -> Any:
    """Try the overloads whose parameters the arguments fit after converting ints."""
    error: TypeError | None = None
    for parameters in overloads(function):
        plan = _fit(parameters, arguments)
        if plan is None:
            continue
        converted = [a if f is None else f(a) for f, a in zip(plan, arguments, strict=True)]
        try:
            result = function(*converted)
        except TypeError as wrong:
            error = wrong
            continue
        _plans[key] = plan
        return result
    raise error or TypeError(f"{_name(function)}{arguments}: no such overload")


def _fit(parameters: list[set], arguments: tuple) -> _Plan | None:
    """How to convert each argument for this overload; None if it has too few parameters."""
    if len(arguments) > len(parameters):
        return None
    plan: list[Callable[[Any], Any] | None] = []
    for accepted, argument in zip(parameters, arguments, strict=False):
        enums = [t for t in accepted if isinstance(t, type) and issubclass(t, enum.Enum)]
        if isinstance(argument, EnumValue):
            plan.append(_raw if type(argument.raw) in enums else int)
        elif type(argument) is int and enums and int not in accepted:
            plan.append(enums[0])
        else:
            plan.append(None)
    return tuple(plan)


@functools.cache
def overloads(function: Callable) -> list[list[set]]:
    """For each overload the set of accepted types of each positional argument of the call."""
    bound = not isinstance(function, types.MethodDescriptorType)
    signatures = get_signature(function) or []
    if not isinstance(signatures, list):
        signatures = [signatures]
    return [
        [_types(p.annotation) for name, p in s.parameters.items() if not (bound and name == "self")]
        for s in signatures
    ]


@functools.cache
def needs_object(function: Callable) -> bool:
    """Whether a static function is also a method of objects, like QFile.exists."""
    signatures = get_signature(function) or []
    signatures = signatures if isinstance(signatures, list) else [signatures]
    return any("self" in s.parameters for s in signatures)


def _types(annotation: Any) -> set:
    """The members of a union, or the one type."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return set().union(*map(_types, typing.get_args(annotation)))
    return {annotation}


def _refuse(function: Callable, arguments: tuple) -> None:
    """What PySide6 converts silently and PythonQt does not: bytes, and text for objects.

    PythonQt may take bytes for a `const char*`, which ends at the first NUL.
    """
    for position, argument in enumerate(arguments):
        if isinstance(argument, bytes | bytearray | memoryview):
            if function is not QtCore.QByteArray:
                raise TypeError(f"{_name(function)}: wrap the bytes as qt.QByteArray(...)")
        elif isinstance(argument, str) and not _takes_text(function, position):
            raise TypeError(f"{_name(function)}: argument {position + 1} must not be a str")


@functools.cache
def _takes_text(function: Callable, position: int) -> bool:
    """Whether some overload takes a str there without making a Qt object of it."""
    known = overloads(function)
    if not known:
        return True
    for parameters in known:
        if position >= len(parameters):
            continue
        accepted = parameters[position]
        objects = any(isinstance(t, type) and issubclass(t, shiboken6.Object) for t in accepted)
        if not objects and (str in accepted or typing.Any in accepted or object in accepted):
            return True
        if any("Sequence" in str(t) or "Callable" in str(t) for t in accepted):
            return True
    return False


def _name(function: Callable) -> str:
    return getattr(function, "__qualname__", None) or getattr(function, "__name__", str(function))
