"""The user's folder with models: what comes in is checked first, and comes in whole or not at all.

Processes that work on one model take turns (a lock, which ends with its process). The checksum of
what comes in is recorded; one that nobody has published stays when the model is removed. A record
that is older than its file says that the file was not verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.catalogue import (
    Model,
    found_right,
    models_folder,
    read_record,
    record_of,
)
from FoBSAMLib.models.download import Progress, check_space, fetch

_CHUNK = 1 << 20


def download(model: Model, progress: Progress) -> None:
    """Have a model here; what has come of an earlier try is used.

    ``progress`` is called with (done, total) in bytes, or with ``doing``. Raises ``FoBSAMError``:
    ``bad_request`` for a model without address, ``weights_corrupt`` for wrong bytes, which are
    thrown away, else as `download.fetch`. Of several addresses the first that answers is taken.
    """
    if not model.urls:
        raise FoBSAMError("bad_request", f"{model.name} has no address.", model.how_to_get)
    with _locked(model, progress):
        if model.here:
            return  # another process has it by now
        have = model.partial.stat().st_size if model.partial.exists() else 0
        unpacked = model.size if model.members else 0
        check_space(models_folder(), max(model.size - have, 0) + unpacked)
        for n, url in enumerate(model.urls, 1):
            try:
                fetch(url, model.partial, model.bytes, progress)
                break
            except FoBSAMError as error:
                if n == len(model.urls) or error.code != "unreadable":
                    raise
        try:
            _take(model, model.partial, progress, model.partial)
        except FoBSAMError as error:
            if error.code == "weights_corrupt":
                _forget_partial(model)
            raise
        _forget_partial(model)


def take_file(model: Model, source: Path, progress: Progress) -> None:
    """Import a model from a file, which stays as it is; raises FoBSAMError: ``unreadable``,
    ``weights_corrupt`` where it is not the one that was published or taken first, ``unwritable``.
    """
    if source.is_dir():
        raise FoBSAMError("unreadable", f"{source} is a folder.", f"Name {model.file} in it.")
    if not source.is_file():
        raise FoBSAMError("unreadable", f"There is no file {source}.", "Check the path.")
    with _locked(model, progress):
        size = source.stat().st_size
        check_space(models_folder(), size)
        copy = models_folder() / f".{model.file}.import"
        try:
            if not model.members:  # an archive is unpacked from where it is
                _copy(source, copy, progress)
            _take(model, source if model.members else copy, progress, source)
        except OSError as error:
            raise FoBSAMError(
                "unwritable", f"{source} cannot be imported: {error.strerror or error}."
            ) from error
        finally:
            copy.unlink(missing_ok=True)
        _forget_partial(model)


def verify(model: Model, progress: Progress) -> str:
    """Read a model again and compare it; the checksum, or what an archive's members have.

    Raises ``FoBSAMError``: ``weights_missing``, ``weights_corrupt``.
    """
    if not model.members:
        return _check_again(model, model.require(), model.expected, progress)
    for name in model.members:
        path = model.require(name)
        _check_again(model, path, read_record(record_of(path)), progress)
    return model.expected or ""


def remove(model: Model, progress: Progress, *, forget: bool = False) -> bool:
    """Delete a model and what was downloaded of it; whether there was any.

    ``forget`` also the recorded checksum: another file may come in then. Raises ``FoBSAMError``
    (``unwritable``).
    """
    with _locked(model, progress):
        there = model.state != "absent"
        try:
            _delete(model)
            if forget or model.sha256:
                model.record.unlink(missing_ok=True)
        except OSError as error:
            raise FoBSAMError(
                "unwritable",
                f"{model.name} cannot be removed: {error.strerror or error}.",
                f"Close what uses it, such as a worker, or delete it in {models_folder()}.",
            ) from error
    return there


def _delete(model: Model) -> None:
    """What of it is here, at once: no half of an archive's members stays."""
    if model.path.is_dir():
        doomed = models_folder() / f".{model.name}.removed"
        shutil.rmtree(doomed, ignore_errors=True)
        model.path.rename(doomed)
        shutil.rmtree(doomed)
    else:
        model.path.unlink(missing_ok=True)
    _forget_partial(model)


@contextlib.contextmanager
def _locked(model: Model, progress: Progress) -> Iterator[None]:
    """Wait for other processes that have the same model in hand."""
    folder = models_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{model.name}.lock")
        while True:
            try:
                lock.acquire(timeout=0.5)
                break
            except Timeout:
                progress(doing=f"another process has {model.name} in hand, waiting")
    except OSError as error:
        raise FoBSAMError(
            "unwritable",
            f"Cannot write into {folder}: {error.strerror or error}.",
            "Set FOBSAM_DATA to a folder of yours.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _take(model: Model, file: Path, progress: Progress, given: Path) -> None:
    """Move a file to where it is used, or its members, once it is known to be right; ``given`` is
    what the user knows it by."""
    found = _sha256(file, progress)
    if model.expected not in (None, found):
        raise _differing(given.name, model, found)
    if model.members:
        _unpack(model, file, progress)
    else:
        if model.expected is None:
            progress(doing="reading it")
            _check_readable(file, given, model.entry)
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
        file.replace(model.path)
    _write_record(model.record, found, model.file)


def _unpack(model: Model, archive: Path, progress: Progress) -> None:
    """The wanted members alone, under names of ours, as a folder that is there at once."""
    folder = models_folder() / f".{model.name}.unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as opened:
            wanted = {name: _member(model, opened, path) for name, path in model.members.items()}
            check_space(folder, sum(one.file_size for one in wanted.values()))
            for name, member in wanted.items():
                progress(doing=f"unpacking {member.filename}")
                with opened.open(member) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target, _CHUNK)
                    target.flush()
                    os.fsync(target.fileno())
                _check_readable(folder / name, Path(member.filename))
                _write_record(record_of(folder / name), _sha256(folder / name, progress), name)
        if model.path.exists():
            old = models_folder() / f".{model.name}.removed"
            shutil.rmtree(old, ignore_errors=True)
            model.path.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        folder.rename(model.path)
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
    ) as error:
        raise FoBSAMError(
            "weights_corrupt", f"{archive} is damaged, or no zip ({error}).", "Get it again."
        ) from error
    except OSError as error:
        raise FoBSAMError(
            "unwritable", f"{archive} cannot be unpacked: {error.strerror or error}."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _member(model: Model, archive: zipfile.ZipFile, path: str) -> zipfile.ZipInfo:
    """The one member whose path ends so: archives may have a folder round all."""
    found = [one for one in archive.infolist() if f"/{one.filename}".endswith(f"/{path}")]
    if len(found) != 1:
        raise FoBSAMError(
            "weights_corrupt",
            f"{archive.filename} has {len(found) or 'no'} files {path}, where one is needed.",
            f"Give {model.file} as it was published.",
        )
    if found[0].file_size > model.member_limit:
        raise FoBSAMError(
            "weights_corrupt",
            f"{path} in the archive has {found[0].file_size} bytes, more than can be.",
            f"Get {model.file} again.",
        )
    return found[0]


def _check_again(model: Model, file: Path, expected: str | None, progress: Progress) -> str:
    """The checksum of a file that is used; its record says how it went, where one can write
    there."""
    record, found = record_of(file), _sha256(file, progress)
    if expected not in (None, found):
        with contextlib.suppress(OSError):
            os.utime(record, (0, 0))
        raise _differing(file.name, model, found)
    if not found_right(file):
        with contextlib.suppress(OSError):
            _write_record(record, found, file.name)
    return found


def _differing(name: str, model: Model, found: str) -> FoBSAMError:
    """What is said of a file that has another checksum than it must have."""
    which = "that was published" if model.sha256 else "that came in first"
    hint = "Get it again."
    if not model.sha256:
        hint += f" If the first was a wrong one: fobsam models remove {model.name} --forget"
    return FoBSAMError(
        "weights_corrupt", f"{name} is not the file {which} (its sha256 is {found[:12]}…).", hint
    )


def _sha256(file: Path, progress: Progress) -> str:
    digest, total, done = hashlib.sha256(), file.stat().st_size, 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(done, total, doing="checking")
    return digest.hexdigest()


def _check_readable(file: Path, given: Path, entry: str = "") -> None:
    """Whether a file holds weights, under the name ``entry`` if there is one, where no checksum
    tells; ``given`` is what the user knows it by."""
    from FoBSAMLib.models.checkpoints import load_checkpoint  # with torch

    try:
        content = load_checkpoint(file)
    except FoBSAMError as error:
        message = error.message.replace(str(file), str(given))
        raise FoBSAMError(error.code, message, error.hint) from None
    if entry and not isinstance(content.get(entry), dict):
        raise FoBSAMError(
            "weights_corrupt", f"{given} has no entry {entry!r}.", "Check that it is the right one."
        )


def _copy(source: Path, target: Path, progress: Progress) -> None:
    total, done = source.stat().st_size, 0
    with source.open("rb") as stream, target.open("wb") as copy:
        while chunk := stream.read(_CHUNK):
            copy.write(chunk)
            done += len(chunk)
            progress(done, total, doing="copying")


def _write_record(path: Path, sha256: str, name: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(f"{sha256}  {name}\n", "utf-8")
    temporary.replace(path)


def _forget_partial(model: Model) -> None:
    model.partial.unlink(missing_ok=True)
    model.partial.with_name(model.partial.name + ".etag").unlink(missing_ok=True)
