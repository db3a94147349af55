"""Stands for Slicer's launcher in CTest: a module's unit tests, in the stand-in for Slicer.

``python slicer_launcher.py FOLDER NAME``: the module NAME of a folder such as Slicer's
qt-scripted-modules, which has all it needs. Status 0 where every test succeeds.
"""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

# The checkout's library, if it is installed as one that can be edited, is not to be found.
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path.append(str(Path(__file__).resolve().parents[1]))

import standin  # noqa: E402

standin.install()

from slicer_module import serve_sample  # noqa: E402

folder, name = Path(sys.argv[1]), sys.argv[2]
module = standin.load_module(folder / f"{name}.py")

import FoBSAMLib  # noqa: E402

print("The library is", FoBSAMLib.__file__)
serve_sample()
result = unittest.TextTestRunner(verbosity=2).run(unittest.TestLoader().loadTestsFromName(name))
standin.quit_application(module)
sys.exit(not result.wasSuccessful())
