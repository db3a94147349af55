"""A sample to try FoBSAM on: a small chest CT with a lung drawn on one slice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
from slicer.i18n import tr as _

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.paths import resource

NAME = "FoBSAMChest"
#: The structure kept of the sample's segmentation.
STRUCTURE = "right lung"
#: The files of the package slicerio (MIT), by their commit.
SOURCE = (
    "https://raw.githubusercontent.com/lassoan/slicerio/"
    "d32d3c6123b375fd616b6f10c8e880aee5fe9595/slicerio/data/"
)
FILES = ("CTChest4.nrrd", "Segmentation.seg.nrrd")
CHECKSUMS = (
    "SHA256:439ee098e50ee8e3254bd80ed8bcf7f8d006da4cab35be7a65b61ccb30dd6a3d",
    "SHA256:1a35d7165f51521cf4c747d81278eb461e5f151b0ea43f1bfb38fba3453140cf",
)


def register(icons: Path) -> None:
    """Have the Sample Data module offer it."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="FoBSAM",
        sampleName=NAME,
        thumbnailFileName=str(icons / f"{NAME}.png"),
        uris=[SOURCE + name for name in FILES],
        fileNames=[f"{NAME}.nrrd", f"{NAME}.seg.nrrd"],
        nodeNames=[NAME, f"{NAME} segmentation"],
        checksums=list(CHECKSUMS),
        loadFileType=["VolumeFile", "SegmentationFile"],
    )


def load() -> tuple[Any, Any]:
    """Download it where it is not there yet; the volume, and a segmentation of one drawn slice.

    Raises FoBSAMError where it cannot be had.
    """
    import SampleData

    logic = SampleData.SampleDataLogic()
    # A module that was loaded after Slicer's start has not heard that the start was completed.
    if logic.sourceForSampleName(NAME) is None:
        register(resource("Icons"))
    try:
        nodes = logic.downloadSamples(NAME)
    except Exception as error:  # of the network, of the disk: as the Sample Data module has them
        raise _not_loaded(str(error)) from error
    # Where a file cannot be had, or has another checksum, there are fewer nodes, or paths instead.
    if [isinstance(node, slicer.vtkMRMLNode) for node in nodes] != [True] * len(FILES):
        for node in nodes:
            if isinstance(node, slicer.vtkMRMLNode):
                slicer.mrmlScene.RemoveNode(node)
        raise _not_loaded(_("the download failed, or is not what was expected"))
    volume, segmentation = nodes
    _keep_one_slice(volume, segmentation)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume, segmentation


def _keep_one_slice(volume: Any, segmentation: Any) -> None:
    """Of one structure its middle slice stays, as if it had just been drawn."""
    segments = segmentation.GetSegmentation()
    wanted = segments.GetSegmentIdBySegmentName(STRUCTURE)
    for segment_id in list(segments.GetSegmentIDs()):
        if segment_id != wanted:
            segments.RemoveSegment(segment_id)
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, wanted, volume)
    holding = np.flatnonzero(mask.any(axis=(1, 2)))
    middle = holding[len(holding) // 2]
    drawn = np.zeros_like(mask)
    drawn[middle] = mask[middle]
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, segmentation, wanted, volume)


def _not_loaded(why: str) -> FoBSAMError:
    return FoBSAMError(
        "unreadable",
        _("The sample could not be loaded: {why}.").format(why=why.rstrip(".")),
        _("Check the internet connection and try again, or use an image of your own."),
        retryable=True,
    )
