"""Objects that refuse names they do not have, as those of PythonQt do."""

from __future__ import annotations


class Strict:
    """Setting a public name that the class does not have raises."""

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        super().__setattr__(name, value)
