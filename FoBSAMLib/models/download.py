"""A file from the network: it goes on where it was interrupted, and its length is checked.

What has come lies in a file of its own with the server's mark (ETag) beside it; whatever ends the
process, the next call goes on from there, or starts over where the server has another file by now.
Proxies are those of the environment (``HTTPS_PROXY``, ``NO_PROXY`` …), as requests reads them.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import requests

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.catalogue import readable

Progress = Callable[..., None]

#: Seconds for a connection to be made, and for any more bytes to come.
PATIENCE = (15.0, 30.0)
#: Tries in a row that bring nothing, and the seconds before the second; then twice as many.
TRIES = 4
PAUSE = 1.0
#: Bytes that stay free on the disk.
SPARE = 50_000_000
_CHUNK = 1 << 16


def fetch(url: str, partial: Path, size: int | None, progress: Progress) -> None:
    """Download ``url`` into ``partial`` to its end; ``size`` in bytes where it is known.

    ``progress`` is called with (done, total) in bytes; an exception from it leaves what has come.
    Raises ``FoBSAMError``: ``unreadable`` (retryable) where the server cannot be reached, refuses,
    stalls or cuts off again and again, or has a file of another length; ``unwritable``.
    """
    failures = 0
    while True:
        before = _length(partial)
        try:
            return _continue(url, partial, size, progress)
        except requests.RequestException as error:
            status = error.response.status_code if error.response is not None else None
            failures = 1 if _length(partial) > before else failures + 1
            if failures >= TRIES or (status is not None and status < 500):
                raise _failed(url, _reason(error, status), _length(partial)) from error
        except OSError as error:
            raise FoBSAMError(
                "unwritable",
                f"Cannot write {partial}: {error.strerror or error}.",
                "Free some space or set FOBSAM_DATA to another folder; the same download goes on.",
            ) from error
        progress(doing="waiting for the server")
        time.sleep(PAUSE * 2 ** (failures - 1))


def check_space(folder: Path, needed: int) -> None:
    """Raise FoBSAMError (``unwritable``) where a disk has no room for ``needed`` more bytes."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(there).free
    if free < needed + SPARE:
        raise FoBSAMError(
            "unwritable",
            f"{readable(needed)} are needed in {folder}, and {readable(free)} are free.",
            "Free some space, or set FOBSAM_DATA to a folder on another disk.",
        )


class _Session(requests.Session):
    """One that does not follow from an address with encryption to one without: nothing is asked
    there."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target and resp.url.startswith("https:") and target.lower().startswith("http:"):
            raise _failed(resp.url, "it leads to an address without encryption", 0)
        return target


def _continue(url: str, partial: Path, size: int | None, progress: Progress) -> None:
    """One request, for what is missing."""
    mark = partial.with_name(partial.name + ".etag")
    known = mark.read_text("utf-8") if mark.exists() else ""
    have = _length(partial) if known else 0
    headers = {"Accept-Encoding": "identity"}  # else the length would be that of something else
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known}
    with (
        _Session() as session,
        session.get(url, headers=headers, stream=True, timeout=PATIENCE) as response,
    ):
        if response.status_code == 416:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return  # all of it had come
            mark.unlink(missing_ok=True)
            raise requests.ConnectionError("it has another file now")
        response.raise_for_status()
        start, total = _place(response)
        if start != have:
            start = 0
            if response.status_code == 206:
                mark.unlink(missing_ok=True)
                raise requests.ConnectionError("it sent another part than was asked for")
        if size is not None and total is not None and total != size:
            raise _failed(url, f"it has {total} bytes, {size} were published", 0)
        check_space(partial.parent, (total or size or 0) - start)
        with partial.open("ab") as file:
            if start == 0:
                file.truncate(0)
                # Marks of weak likeness cannot be asked for.
                etag = response.headers.get("ETag", "")
                mark.write_text("" if etag.startswith("W/") else etag, "utf-8")
            done = start
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                file.flush()
                done += len(chunk)
                progress(done, total or size)
    if total is not None and done != total:
        raise requests.ConnectionError("it cut off")


def _place(response: requests.Response) -> tuple[int, int | None]:
    """Where in the file the answer begins, and how long the file is where the server says so."""
    part = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if response.status_code == 206:
        return (int(part[1]), int(part[2])) if part else (-1, None)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: requests.RequestException, status: int | None) -> str:
    if status is not None:
        return f"the server answers {status}"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not let it through"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "the server cannot be reached"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "the server sends no more"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the server cuts off"
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return "it leads in circles"
    return "the server cannot be reached or cuts off"


def _failed(url: str, reason: str, kept: int) -> FoBSAMError:
    hint = "Check the connection and the proxy (HTTPS_PROXY), or import the file: see the README."
    if kept:
        hint = f"The same download goes on from {readable(kept)}. {hint}"
    return FoBSAMError("unreadable", f"{url} was not downloaded: {reason}.", hint, retryable=True)
