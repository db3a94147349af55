"""`SampleData`: records what modules register, and serves downloads from files of the test."""

# ruff: noqa: N802, N803, N815 (Slicer's names)

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
import slicer.util

# URL -> file on this machine, filled by the test; a URL not in it cannot be reached.
served: dict[str, Path] = {}


@dataclass
class SampleDataSource:
    """One data set: a name and for each of its files where it is, how it is called and loaded."""

    sampleName: str | None = None
    sampleDescription: str | None = None
    uris: Any = None
    fileNames: Any = None
    nodeNames: Any = None
    checksums: Any = None
    loadFiles: Any = None
    customDownloader: Any = None
    thumbnailFileName: str | None = None
    loadFileType: Any = None
    loadFileProperties: dict | None = None

    def __post_init__(self) -> None:
        count = 1 if isinstance(self.uris, str) else len(self.uris)
        for name in ("uris", "fileNames", "nodeNames", "checksums", "loadFiles", "loadFileType"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                value = [value] * count
            if len(value) != count:
                raise ValueError(f"sample data {self.sampleName!r}: {name} must have {count} items")
            setattr(self, name, list(value))


class SampleDataLogic:
    """Registers and downloads sample data."""

    def __init__(self, logMessage: Any = None) -> None:
        self.logMessage = logMessage

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: dict | None = None,
        checksums: Any = None,
        loadFileType: Any = None,
    ) -> None:
        """Add a data set to a category."""
        if thumbnailFileName and not Path(thumbnailFileName).is_file():
            raise FileNotFoundError(f"the sample data's thumbnail is missing: {thumbnailFileName}")
        if not hasattr(slicer.modules, "sampleDataSources"):
            slicer.modules.sampleDataSources = {}
        source = SampleDataSource(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            customDownloader=customDownloader,
            thumbnailFileName=thumbnailFileName,
            loadFileType=loadFileType or loadFileTypes,
            loadFiles=loadFiles,
            loadFileProperties=loadFileProperties or {},
            checksums=checksums,
        )
        slicer.modules.sampleDataSources.setdefault(category, []).append(source)

    def sourceForSampleName(self, sampleName: str) -> SampleDataSource | None:
        """The data set of that name, or None."""
        sources = getattr(slicer.modules, "sampleDataSources", {}).values()
        return next((s for group in sources for s in group if s.sampleName == sampleName), None)

    def downloadSamples(self, sampleName: str) -> list[Any]:
        """Load a data set: its nodes, none of one that was not registered."""
        source = self.sourceForSampleName(sampleName)
        return self.downloadFromSource(source) if source is not None else []

    def downloadSample(self, sampleName: str) -> Any:
        """Load a data set: its first node; IndexError where there is none."""
        return self.downloadSamples(sampleName)[0]

    def downloadFromSource(self, source: SampleDataSource) -> list[Any]:
        """Download, check and load each file of a data set."""
        if source.customDownloader is not None:
            return source.customDownloader(source)
        nodes = []
        for position, uri in enumerate(source.uris):
            path = self.downloadFile(
                uri, None, source.fileNames[position], source.checksums[position]
            )
            kind = source.loadFileType[position] or slicer.app.coreIOManager().fileType(path)
            if source.loadFiles[position] is False:
                nodes.append(path)
                continue
            properties = {**source.loadFileProperties, "name": source.nodeNames[position]}
            nodes.append(slicer.util.loadNodeFromFile(path, kind, properties))
        return nodes

    def downloadFile(
        self, uri: str, destFolderPath: Any, name: str, checksum: str | None = None
    ) -> str:
        """The local file behind a URL; ValueError if the network or the checksum fails."""
        if uri not in served:
            raise ValueError(f"Failed to download {uri}: the network cannot be reached")
        path = served[uri]
        if checksum is not None:
            algorithm, _, digest = checksum.partition(":")
            if hashlib.new(algorithm, path.read_bytes()).hexdigest() != digest:
                raise ValueError(f"the checksum of {path} is not {checksum}")
        return str(path)


def downloadSample(sampleName: str) -> Any:
    """Load a data set: its first node."""
    return SampleDataLogic().downloadSample(sampleName)


def downloadSamples(sampleName: str) -> list[Any]:
    """Load a data set: its nodes."""
    return SampleDataLogic().downloadSamples(sampleName)
