"""`slicer.i18n`: translation; the language is English, so texts come back as they are."""

from __future__ import annotations

import string


def translate(context: str, text: str) -> str:
    """Translate within a context."""
    return _checked(text)


def tr(text: str) -> str:
    """Translate within the caller's context."""
    return _checked(text)


def _checked(text: str) -> str:
    """The text, which must be a plain str whose placeholders can be parsed."""
    if type(text) is not str:
        raise TypeError(f"only a str can be translated, not {type(text).__name__}")
    list(string.Formatter().parse(text))
    return text
