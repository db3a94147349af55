"""Models: downloaded from servers that misbehave, imported, verified, removed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections import namedtuple
from dataclasses import replace

import pytest
from model_server import CONTENT, ModelServer, archive, serve, weights

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator import registry as generators
from FoBSAMLib.models import catalogue, download, store
from FoBSAMLib.models.published import about_folds, known_about_folds

FAULTS = ["cut", "stall", "long", "404", "500", "circle"]


@pytest.fixture
def server(monkeypatch, tmp_path):
    served = serve(monkeypatch, tmp_path)
    yield served
    served.close()


def quiet(*_, **__):
    pass


def refused(code, call, *arguments):
    with pytest.raises(FoBSAMError) as caught:
        call(*arguments)
    assert caught.value.code == code
    return str(caught.value)


def fobsam(*arguments, **options):
    command = [sys.executable, "-m", "FoBSAMLib", "models", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options
    )


def lying_in_folder():
    """What a user sees there; locks and temporary files begin with a dot."""
    return sorted(p.name for p in catalogue.models_folder().iterdir() if p.name[0] != ".")


def test_downloaded_verified_removed(server):
    model = catalogue.find("one")
    told = []
    store.download(model, lambda *given, **_: told.append(given))
    assert model.path.read_bytes() == CONTENT
    assert (len(CONTENT), len(CONTENT)) in told
    assert lying_in_folder() == ["one.pth", "one.pth.sha256"]
    assert model.state == "present"
    assert store.verify(model, quiet) == model.sha256
    model.path.write_bytes(CONTENT[::-1])
    assert "not the file that was published" in refused(
        "weights_corrupt", store.verify, model, quiet
    )
    assert store.remove(model, quiet)
    assert lying_in_folder() == []
    assert not store.remove(model, quiet)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_fails_leaves_nothing_that_could_be_used(server, fault):
    server.fault = fault
    model = catalogue.find("one")
    assert "was not downloaded" in str(refused("unreadable", store.download, model, quiet))
    assert not model.path.exists()
    server.fault = ""
    store.download(model, quiet)
    assert model.path.read_bytes() == CONTENT
    if fault in ("cut", "stall"):
        assert server.seen[-1][1] is not None


def test_a_404_is_asked_once_and_a_500_again(server):
    for fault, times in (("404", 1), ("500", download.TRIES)):
        server.fault = fault
        server.seen.clear()
        assert f"answers {fault}" in refused(
            "unreadable", store.download, catalogue.find("one"), quiet
        )
        assert len(server.seen) == times


def test_wrong_bytes_are_thrown_away(server):
    server.fault = "wrong bytes"
    model = catalogue.find("one")
    refused("weights_corrupt", store.download, model, quiet)
    assert lying_in_folder() == []


def test_a_cut_is_gone_on_from_in_one_call(server):
    server.fault = "cut once"
    store.download(catalogue.find("one"), quiet)
    first, second = (part for _, part in server.seen)
    assert first is None
    assert 0 < int(second[len("bytes=") : -1]) <= len(CONTENT) // 2


@pytest.mark.parametrize("change", ["no ranges", "another file"])
def test_what_cannot_be_gone_on_from_starts_over(server, change):
    server.fault = "cut"
    model = catalogue.find("open")
    refused("unreadable", store.download, model, quiet)
    server.fault = "no ranges" if change == "no ranges" else ""
    if change == "another file":
        server.content, server.etag = weights(0.7), '"two"'
    store.download(model, quiet)
    assert model.path.read_bytes() == server.content


def test_a_length_that_is_not_the_published_one(server):
    server.fault = "short"
    text = refused("unreadable", store.download, catalogue.find("one"), quiet)
    assert f"{len(CONTENT)} were published" in text
    assert len(server.seen) == 1


def test_cut_short_with_nothing_known_is_no_weights_file(server):
    server.fault = "short"
    refused("weights_corrupt", store.download, catalogue.find("open"), quiet)
    assert lying_in_folder() == []


def test_redirects_are_followed(server):
    server.fault = "redirect"
    store.download(catalogue.find("one"), quiet)
    assert [path for path, _ in server.seen] == ["/one.pth", "/there"]


def test_the_proxy_of_the_environment_is_asked(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    partial = catalogue.models_folder() / "there.part"
    partial.parent.mkdir(parents=True)
    download.fetch("http://models.invalid/one.pth", partial, None, quiet)
    assert server.seen[0][0] == "http://models.invalid/one.pth"
    assert partial.read_bytes() == CONTENT


def test_no_room_is_told_before_anything_is_asked(server, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage(1000))
    text = refused("unwritable", store.download, catalogue.find("one"), quiet)
    assert "FOBSAM_DATA" in text
    assert server.seen == []


def test_killed_in_the_middle_it_goes_on(server):
    server.pause = 0.2
    command = [sys.executable, "-m", "FoBSAMLib", "models", "download", "one", "--yes"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    model = catalogue.find("one")
    until = time.monotonic() + 60
    while not (model.partial.exists() and model.partial.stat().st_size > 1000):
        assert time.monotonic() < until
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert model.state == "partial"
    server.pause = 0
    ended = fobsam("download", "one", "--json")  # agreed to before
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["state"] == "present"
    assert server.seen[-1][1] is not None
    assert model.path.read_bytes() == CONTENT


def started(*arguments, **options):
    """A download of ``one``, once a part of it has come; the server is slow."""
    command = [sys.executable, "-m", "FoBSAMLib", "models", "download", "one", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
    until = time.monotonic() + 60
    while not (part := catalogue.find("one").partial).exists() or part.stat().st_size < 1000:
        assert time.monotonic() < until
        time.sleep(0.02)
    return process


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c_keeps_what_has_come(server):
    server.pause = 0.2
    process = started(
        "--yes",
        stdout=subprocess.DEVNULL,
        # Jobs in the background of a shell ignore it, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "What has come is kept." in said.splitlines()[-1]
    assert "Traceback" not in said
    assert catalogue.find("one").state == "partial"


@pytest.mark.skipif(os.name == "nt", reason="no such limit there")
def test_a_disk_that_is_full_in_the_middle_is_told_and_gone_on_from(server):
    import resource

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    full = fobsam("download", "one", "--yes", preexec_fn=small_disk)
    assert full.returncode == 1
    assert "Cannot write" in full.stderr.splitlines()[-1]
    assert "Free some space" in full.stderr
    assert catalogue.find("one").state == "partial"
    assert fobsam("download", "one").returncode == 0
    assert catalogue.find("one").path.read_bytes() == CONTENT


@pytest.mark.skipif(os.name == "nt", reason="no terminals of this kind there")
@pytest.mark.parametrize(("answer", "state"), [("n", "absent"), ("y", "present")])
def test_on_a_terminal_the_licence_is_asked_about(server, answer, state):
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "FoBSAMLib", "models", "download", "one"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=theirs, stdout=pipe, stderr=pipe, text=True)
    os.write(ours, f"{answer}\n".encode())
    said = "".join(process.communicate(timeout=60))
    os.close(ours)
    os.close(theirs)
    assert "Licence: Apache-2.0" in said
    assert "Download it under these terms?" in said
    assert catalogue.find("one").state == state
    assert (process.returncode == 0) == (answer == "y")
    assert bool(server.seen) == (answer == "y")


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl for a certificate")
def test_a_redirect_to_an_address_without_encryption_is_refused(server, tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1"]
    make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(make, check=True, capture_output=True)
    secure = ModelServer(CONTENT, certificate, key)
    secure.leads_to = f"{server.url}/one.pth"
    listed = tmp_path / "models.json"
    text = listed.read_text().replace(server.url, secure.url)
    listed.write_text(text)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    said = refused("unreadable", store.download, catalogue.find("one"), quiet)
    assert "without encryption" in said
    assert server.seen == []
    assert catalogue.find("one").state == "absent"
    secure.leads_to = ""
    store.download(catalogue.find("one"), quiet)
    secure.close()
    assert catalogue.find("one").state == "present"


def test_what_was_not_verified_is_told(server):
    model = catalogue.find("one")
    model.path.parent.mkdir(parents=True)
    model.path.write_bytes(CONTENT)  # put there by hand
    assert model.state == "unverified"
    assert "Check it: fobsam models verify one" in fobsam("download", "one").stdout
    assert fobsam("verify").returncode == 0
    assert model.state == "present"
    written = model.path.stat()
    model.path.write_bytes(CONTENT[::-1])
    os.utime(model.path, ns=(written.st_atime_ns, written.st_mtime_ns))  # as a disk that fails
    assert model.state == "present"
    assert fobsam("verify", "one").returncode == 1
    assert model.state == "unverified"
    assert "unverified" in fobsam("list").stdout


def test_what_cannot_be_removed_is_told(server):
    catalogue.find("one").partial.mkdir(parents=True)  # as a file that another program has open
    ended = fobsam("remove", "one")
    assert ended.returncode == 1
    assert "cannot be removed" in ended.stderr
    assert "bug" not in ended.stderr


def test_two_processes_download_once(server):
    server.pause = 0.05
    command = [sys.executable, "-m", "FoBSAMLib", "models", "download", "one", "--yes"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.wait(60) == 0, process.stderr.read()
        process.stderr.close()
    assert len(server.seen) == 1
    assert catalogue.find("one").path.read_bytes() == CONTENT


def test_an_unknown_checksum_is_taken_from_the_first_file(server, tmp_path):
    model = catalogue.find("open")
    page = tmp_path / "page.html"
    page.write_text("<html>log in</html>")
    told = refused("weights_corrupt", store.take_file, model, page, quiet)
    assert str(page) in told  # by the name that the user knows it by
    assert ".import" not in told
    assert model.expected is None
    first, other = tmp_path / "first.pth", tmp_path / "other.pth"
    first.write_bytes(CONTENT)
    other.write_bytes(weights(0.7))
    store.take_file(model, first, quiet)
    assert first.exists()
    assert model.expected == hashlib.sha256(CONTENT).hexdigest()
    store.remove(model, quiet)
    told = refused("weights_corrupt", store.take_file, model, other, quiet)
    assert "other.pth is not the file that came in first" in told
    assert "fobsam models remove open --forget" in told
    store.remove(model, quiet, forget=True)
    store.take_file(model, other, quiet)
    assert store.verify(model, quiet) == hashlib.sha256(other.read_bytes()).hexdigest()


def test_a_file_that_lacks_what_its_model_needs_does_not_come_in(server, tmp_path):
    model = replace(catalogue.find("open"), entry="model")
    other = tmp_path / "other.pth"
    other.write_bytes(weights(0.7))
    assert "other.pth has no entry 'model'" in refused(
        "weights_corrupt", store.take_file, model, other, quiet
    )
    assert not model.here
    assert model.expected is None


def test_the_papers_archive_gives_its_folds(server, tmp_path):
    server.content = archive(extra=("../../evil", "/etc/evil", "top/notes.txt"))
    model = catalogue.find("fob-paper-sabs")
    assert "fobsam models download fob-paper-sabs" in refused(
        "weights_missing", generators.create, "fob-paper:sabs:0"
    )
    store.download(model, quiet)
    names = sorted(p.name for p in model.path.iterdir())
    assert names == sorted([f"{n}.pth{end}" for n in range(5) for end in ("", ".sha256")])
    assert not list(tmp_path.rglob("evil"))
    assert generators.weights_file("fob-paper:SABS:3") == model.path / "3.pth"
    (said,) = about_folds(model)
    assert "never trained in the folds 0, 1, 2, 3, 4" in said
    assert "identical in all folds" in said
    assert said in fobsam("info", "fob-paper-sabs").stdout
    assert known_about_folds(model) == [said]
    assert store.verify(model, quiet) == hashlib.sha256(server.content).hexdigest()
    assert model.state == "present"
    (model.path / "2.pth").write_bytes(weights(0.4))
    assert known_about_folds(model) == []
    assert model.state == "unverified"
    refused("weights_corrupt", generators.create, "fob-paper:sabs:2")
    refused("weights_corrupt", store.verify, model, quiet)
    (model.path / "2.pth").unlink()
    refused("weights_missing", store.verify, model, quiet)


def test_a_trained_refinement_is_told(server):
    server.content = archive(value=0.4)
    model = catalogue.find("fob-paper-sabs")
    store.download(model, quiet)
    assert "was trained" in about_folds(model)[0]


@pytest.mark.parametrize(
    "content", [b"no zip", archive()[:-500], archive(("a/FSMIS_train_SABS_cv0/ckpt.pth",))]
)
def test_a_damaged_archive_leaves_nothing(server, content):
    server.content = content
    refused("weights_corrupt", store.download, catalogue.find("fob-paper-sabs"), quiet)
    assert lying_in_folder() == []


def test_an_archive_whose_members_cannot_be_unpacked_leaves_nothing(server):
    with zipfile.ZipFile(io.BytesIO(archive())) as plain, io.BytesIO() as written:
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in plain.namelist():
                packed.writestr(name, plain.read(name))
        content = bytearray(written.getvalue())
    content[80:120] = b"\xff" * 40
    server.content = content
    refused("weights_corrupt", store.download, catalogue.find("fob-paper-sabs"), quiet)
    assert lying_in_folder() == []


def test_a_link_in_the_papers_archive_is_not_followed(server, tmp_path):
    secret = tmp_path / "secret.pth"
    secret.write_bytes(weights())
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as opened:
        for fold in range(5):
            member = zipfile.ZipInfo(f"top/FSMIS_train_SABS_cv{fold}/ckpt.pth")
            member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            opened.writestr(member, str(secret))
    server.content = written.getvalue()
    refused("weights_corrupt", store.download, catalogue.find("fob-paper-sabs"), quiet)
    assert lying_in_folder() == []


def test_the_command_line(server, tmp_path):
    listed = fobsam("list", "--json")
    assert [one["state"] for one in json.loads(listed.stdout)] == ["absent"] * 3
    asked = fobsam("download", "one")
    assert asked.returncode == 1
    assert "Licence: Apache-2.0" in asked.stderr
    assert "add --yes" in asked.stderr
    assert server.seen == []
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    assert "one is here" in fobsam("import", "one", str(file)).stdout
    assert "one is right" in fobsam("verify").stdout
    catalogue.find("one").path.write_bytes(b"")
    broken = fobsam("verify")
    assert broken.returncode == 1
    assert broken.stderr.splitlines()[-1].startswith("error: one: one.pth is not the file")
    assert "one is removed" in fobsam("remove", "one").stdout
    assert "Did you mean 'one'" in fobsam("info", "onne").stderr
    assert "compact comes with FoBSAM" in fobsam("info", "compact").stderr
    assert "is a folder" in fobsam("import", "one", str(tmp_path)).stderr
    assert "Traceback" not in asked.stderr + broken.stderr


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "data").mkdir(mode=0o500)
    refused("unwritable", store.download, catalogue.find("one"), quiet)
