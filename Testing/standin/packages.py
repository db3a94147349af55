"""`slicer.packaging`, `slicer.util.pip_install` and `PyTorchUtils`: nothing is ever installed.

A test says which packages are `missing`; what the module then asks for is in `installed`. What the
PyTorch extension loads after an installation is `torch`, of which nothing can be used.
`switch_off()` acts as Slicer 5.10, which has no `slicer.packaging`.
"""

# ruff: noqa: N802, N803 (Slicer's names)

from __future__ import annotations

import importlib.metadata
import shlex
import sys
import types
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from packaging.requirements import Requirement

missing: set[str] = set()
installed: list[str] = []
torch = types.ModuleType("torch")
torch.__version__ = "installed"


def forget() -> None:
    """Back to what is really installed, on Slicer 5.12."""
    missing.clear()
    installed.clear()
    if sys.modules.get("torch") is torch:
        del sys.modules["torch"]
    switch_on()


def load_requirements(path: str | Path) -> list[Requirement]:
    """The requirements of a file, without comments and options."""
    lines = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def pip_check(req: Requirement | list[Requirement]) -> bool:
    """Whether all requirements are met."""
    return all(_met(requirement) for requirement in (req if isinstance(req, list) else [req]))


def pip_ensure(
    requirements: list[Requirement],
    constraints: str | Path | None = None,
    skip_packages: list[str] | None = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> None:
    """Install what is missing after asking; RuntimeError if the user declines.

    As in one version of Slicer's, texts are no requirements: they have no marker.
    """
    wanted = [r for r in requirements if not _met(r)]
    if not wanted or (skip_in_testing and slicer.app.testingEnabled()):
        return
    names = ", ".join(map(str, wanted))
    question = f"{requester or 'A module'} needs these Python packages: {names}. Install them?"
    if prompt_install and not slicer.util.confirmOkCancelDisplay(question, "Install packages"):
        raise RuntimeError("The user declined the installation of packages.")
    _install(wanted)


def pip_install(requirements: str | list[str], **options: Any) -> None:
    """Record an installation."""
    texts = shlex.split(requirements) if isinstance(requirements, str) else requirements
    if not isinstance(texts, list):
        raise ValueError("pip_install requirement input must be string or list")
    _install([Requirement(text) for text in texts if not text.startswith("-")])


def _met(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    if requirement.name in missing:
        return False
    try:
        return importlib.metadata.version(requirement.name) in requirement.specifier
    except importlib.metadata.PackageNotFoundError:
        return requirement.name in {Requirement(text).name for text in installed}


def _install(wanted: list[Requirement]) -> None:
    for requirement in wanted:
        installed.append(str(requirement))
        missing.discard(requirement.name)


class PyTorchUtilsLogic:
    """The PyTorch extension's logic; having it import torch would be a mistake, so it raises.

    Only its installation cannot be had without that.
    """

    @property
    def torch(self) -> Any:
        """In Slicer the imported torch."""
        raise AssertionError("torch must not be imported in the process of the GUI")

    @staticmethod
    def torchInstalled() -> bool:
        """In Slicer this imports torch."""
        raise AssertionError("torchInstalled() imports torch in the process of the GUI")

    def installTorch(
        self,
        askConfirmation: bool = False,
        forceComputationBackend: str | None = None,
        torchVersionRequirement: str | None = None,
        torchvisionVersionRequirement: str | None = None,
    ) -> Any:
        """Record the installation, and load torch; None if the user declines, else torch."""
        question = "PyTorch will be downloaded and installed."
        if askConfirmation and not slicer.util.confirmOkCancelDisplay(question):
            return None
        wanted = ("torch", torchVersionRequirement), ("torchvision", torchvisionVersionRequirement)
        _install([Requirement(name + (version or "")) for name, version in wanted])
        return sys.modules.setdefault("torch", torch)  # the real one, where a test has loaded it


def switch_on() -> None:
    """`import slicer.packaging` works, as on 5.12."""
    module = types.ModuleType("slicer.packaging")
    for function in (load_requirements, pip_check, pip_ensure, pip_install):
        setattr(module, function.__name__, function)
    sys.modules["slicer.packaging"] = slicer.packaging = module


def switch_off() -> None:
    """`import slicer.packaging` fails, as on 5.10."""
    sys.modules["slicer.packaging"] = None
    vars(slicer).pop("packaging", None)


def install() -> None:
    """Provide the modules."""
    slicer.util.pip_install = pip_install
    utils = types.ModuleType("PyTorchUtils")
    utils.PyTorchUtilsLogic = PyTorchUtilsLogic
    sys.modules["PyTorchUtils"] = utils
    switch_on()
