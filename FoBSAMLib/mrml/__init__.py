"""Slicer's scene on one side, images and sessions on the other.

For scripts and Slicer's Python console::

    from FoBSAMLib import mrml

    mrml.segment(volumeNode, segmentationNode)
"""

from FoBSAMLib.mrml.console import Segmented as Segmented
from FoBSAMLib.mrml.console import close as close
from FoBSAMLib.mrml.console import segment as segment
from FoBSAMLib.mrml.editing import LogicEditing as LogicEditing
