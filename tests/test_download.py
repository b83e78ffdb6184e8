"""Downloads from a server of this machine that breaks off, corrupts, refuses, forgets, and means ill."""

import hashlib
import io
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import sedsoft.cli as cli
from sedsoft.core import FileError
from sedsoft.download import (
    ARCHIVES,
    EVALUATION_AUDIO,
    Archive,
    archive_url,
    download,
    fetch,
    find_missing,
    find_size,
    unpack,
)

NOISE = np.random.default_rng(0).bytes(300_000)  # does not compress


def make_zip(files: dict, *, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        if link:
            entry = zipfile.ZipInfo(link)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, "/etc")
    return buffer.getvalue()


GOOD = make_zip({"development_audio/city_center/a.wav": NOISE, "development_audio/b/c.wav": b"quiet"})


def archive_of(content: bytes, name: str = "a.zip") -> Archive:
    return Archive(name, 7, hashlib.md5(content).hexdigest(), "development_audio")


@dataclass
class Server:
    """A server of one file; `break_after` and the like may change between requests."""

    content: bytes = GOOD
    break_after: int | None = None  # bytes, then it hangs up
    with_ranges: bool = True
    shift: int = 0  # bytes by which an answer begins too late
    corrupt: int = 0  # so many answers have a wrong byte
    refusals: list[int] = field(default_factory=list)  # status codes of the next answers
    n_answers: int | None = None  # then it is too busy
    wait_s: float = 0.0  # between blocks
    asked: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers["Range"]
        self.asked.append(asked)
        self.paths.append(handler.path)
        if self.n_answers is not None and len(self.asked) > self.n_answers:
            handler.send_error(503)
            return
        if self.refusals:
            handler.send_error(self.refusals.pop(0))
            return
        begin = int(asked[6:-1]) if asked and self.with_ranges else 0
        size = len(self.content)
        if asked and self.with_ranges and begin >= size:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{size}")
            handler.end_headers()
            return
        begin += self.shift if begin else 0
        body = bytearray(self.content[begin:])
        if self.corrupt:
            self.corrupt -= 1
            body[-1] ^= 1
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Length", str(len(body)))
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        handler.end_headers()
        end = len(body) if self.break_after is None else self.break_after
        for k in range(0, min(end, len(body)), 10_000):
            handler.wfile.write(body[k : min(k + 10_000, end)])
            handler.wfile.flush()
            time.sleep(self.wait_s)


@pytest.fixture
def server():
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.answer(self)

        def do_HEAD(self):
            self.send_response(404 if state.refusals else 200)
            self.send_header("Content-Length", str(len(state.content)))
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{http.server_port}"
        yield state
        http.shutdown()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_archives_are_those_of_the_task():
    assert [archive_url(archive) for archive in (*ARCHIVES, EVALUATION_AUDIO)] == [
        "https://zenodo.org/records/7244360/files/development_annotation.zip?download=1",
        "https://zenodo.org/records/7244360/files/development_audio.zip?download=1",
        "https://zenodo.org/records/7870026/files/Evaluation_audio.zip?download=1",
    ]
    assert {archive.name: archive.md5 for archive in (*ARCHIVES, EVALUATION_AUDIO)} == {
        "development_audio.zip": "3de7cb4f92a115a6f5cc077a41ca07b3",
        "development_annotation.zip": "e6a3f84f8020725d559b38ccb494ef3d",
        "Evaluation_audio.zip": "f18a036f5d8d3b5d4e810cae75da308e",
    }


def test_an_archive_is_fetched_unpacked_and_not_fetched_again(server, tmp_path):
    root = tmp_path / "deep" / "corpus"
    assert download(root, [archive_of(GOOD)], server.url) == (root / "development_audio",)
    assert (root / "development_audio" / "city_center" / "a.wav").read_bytes() == NOISE
    assert names(root) == ["a.zip", "development_audio"]
    assert server.paths == ["/7/files/a.zip?download=1"]
    assert download(root, [archive_of(GOOD)], server.url) == (root / "development_audio",)
    assert len(server.asked) == 1


def test_one_that_was_brought_by_hand_is_used(server, tmp_path):
    (tmp_path / "a.zip").write_bytes(GOOD)
    download(tmp_path, [archive_of(GOOD)], server.url)
    assert server.asked == []
    assert (tmp_path / "development_audio" / "b" / "c.wav").read_bytes() == b"quiet"


def test_a_download_that_breaks_off_goes_on(server, tmp_path):
    server.break_after = 40_000
    assert fetch(archive_of(GOOD), tmp_path, server.url, wait_s=0).read_bytes() == GOOD
    begins = [int(asked[6:-1]) for asked in server.asked[1:]]
    assert begins == [32_768 * k for k in range(1, 9)]
    assert names(tmp_path) == ["a.zip"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, tmp_path):
    server.break_after, server.n_answers = 70_000, 1
    with pytest.raises(FileError, match=r"a\.zip: not fetched: 503 .*; 65536 bytes are kept, the same call goes on"):
        fetch(archive_of(GOOD), tmp_path, server.url, n_tries=3, wait_s=0)
    assert len(server.asked) == 4
    server.break_after, server.n_answers, server.asked = None, None, []
    assert fetch(archive_of(GOOD), tmp_path, server.url, wait_s=0).read_bytes() == GOOD
    assert server.asked == ["bytes=65536-"]


def test_a_killed_download_goes_on(server, tmp_path):
    server.wait_s = 0.05
    code = "import sys; from sedsoft.download import *; fetch(Archive('a.zip', 7, sys.argv[1], 'x'), *sys.argv[2:])"
    command = [sys.executable, "-c", code, archive_of(GOOD).md5, str(tmp_path), server.url]
    process = subprocess.Popen(command)
    part = tmp_path / "a.zip.part"
    while not (part.exists() and part.stat().st_size > 50_000):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = part.stat().st_size
    server.wait_s, server.asked = 0.0, []
    assert fetch(archive_of(GOOD), tmp_path, server.url, wait_s=0).read_bytes() == GOOD
    assert server.asked == [f"bytes={kept}-"]


def test_a_server_that_knows_no_ranges_sends_all_again(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(b"something else" * 1000)
    server.with_ranges = False
    assert fetch(archive_of(GOOD), tmp_path, server.url, wait_s=0).read_bytes() == GOOD
    assert server.asked == ["bytes=14000-"]


def test_a_part_that_is_whole_already_is_not_asked_for_again(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(GOOD)
    assert fetch(archive_of(GOOD), tmp_path, server.url, wait_s=0).read_bytes() == GOOD
    assert server.asked == [f"bytes={len(GOOD)}-"]


def test_a_part_that_is_too_long_is_thrown_away(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(GOOD + b"more")
    assert fetch(archive_of(GOOD), tmp_path, server.url, wait_s=0).read_bytes() == GOOD
    assert server.asked == [f"bytes={len(GOOD) + 4}-", None]


def test_an_answer_that_begins_elsewhere_is_not_received(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(GOOD[:50_000])
    server.shift = 3
    server.corrupt = 2  # the answer that is not received, and the one after it: a single wrong checksum
    assert fetch(archive_of(GOOD), tmp_path, server.url, wait_s=0).read_bytes() == GOOD
    assert server.asked == ["bytes=50000-", None, None]


def test_a_corrupt_download_is_fetched_once_more_and_then_refused(server, tmp_path):
    server.corrupt = 1
    assert fetch(archive_of(GOOD), tmp_path, server.url, wait_s=0).read_bytes() == GOOD
    (tmp_path / "a.zip").unlink()
    server.corrupt, server.asked, server.break_after = 100, [], 200_000
    with pytest.raises(FileError, match=r"a\.zip: not fetched: MD5 hash of downloaded file"):
        fetch(archive_of(GOOD), tmp_path, server.url, wait_s=0)
    assert server.asked.count(None) == 2
    assert names(tmp_path) == []


def test_a_wrong_part_of_a_download_is_noticed(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(bytes(50_000))
    assert fetch(archive_of(GOOD), tmp_path, server.url, wait_s=0).read_bytes() == GOOD
    assert server.asked == ["bytes=50000-", None]


def test_a_busy_server_is_asked_again_a_missing_file_is_not(server, tmp_path):
    server.refusals = [503, 429, 500]
    assert fetch(archive_of(GOOD), tmp_path, server.url, wait_s=0).read_bytes() == GOOD
    assert len(server.asked) == 4
    server.refusals, server.asked = [404], []
    with pytest.raises(FileError, match=r"b\.zip: not fetched: 404"):
        fetch(archive_of(GOOD, "b.zip"), tmp_path, server.url, wait_s=0)
    assert len(server.asked) == 1
    server.refusals, server.asked = [503] * 9, []
    with pytest.raises(FileError, match=r"b\.zip: not fetched: 503"):
        fetch(archive_of(GOOD, "b.zip"), tmp_path, server.url, n_tries=4, wait_s=0)
    assert len(server.asked) == 4


def test_no_server_is_said_in_a_line(tmp_path):
    with pytest.raises(FileError, match=r"a\.zip: not fetched: .*refused"):
        fetch(archive_of(GOOD), tmp_path, "http://127.0.0.1:9", n_tries=1, wait_s=0)
    with pytest.raises(FileError, match=r"a\.zip: not found: .*refused"):
        find_size(archive_of(GOOD), "http://127.0.0.1:9")


def test_the_size_is_known_beforehand(server):
    assert find_size(archive_of(GOOD), server.url) == len(GOOD)
    server.refusals = [404]
    with pytest.raises(FileError, match=r"a\.zip: not found: 404"):
        find_size(archive_of(GOOD), server.url)


EVIL = {
    "../outside.txt": '"../outside.txt" leads out of its folder',
    "development_audio/../../outside.txt": '"development_audio/../../outside.txt" leads out of its folder',
    "/tmp/outside.txt": '"/tmp/outside.txt" is an absolute path',
    "C:/outside.txt": '"C:/outside.txt" is an absolute path',
    "..\\outside.txt": '"..\\outside.txt" leads out of its folder',
}


@pytest.mark.parametrize("name", EVIL)
def test_nothing_is_unpacked_outside_its_folder(server, tmp_path, name):
    server.content = make_zip({"development_audio/a.wav": b"good", name: b"evil"})
    root = tmp_path / "a" / "corpus"
    with pytest.raises(FileError) as error:
        download(root, [archive_of(server.content)], server.url)
    assert str(error.value) == f"{root / 'a.zip'}: {EVIL[name]}; nothing was unpacked"
    assert names(root) == ["a.zip"]
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["corpus"]


def test_links_are_refused(server, tmp_path):
    server.content = make_zip({"development_audio/a.wav": b"good"}, link="development_audio/etc")
    with pytest.raises(FileError, match=r'a\.zip: "development_audio/etc" is a link; nothing was unpacked'):
        download(tmp_path, [archive_of(server.content)], server.url)
    assert names(tmp_path) == ["a.zip"]


def corrupt_inside(content: bytes) -> bytes:
    """An archive whose list of entries is whole, and a file in it is not."""
    return content[:1000] + bytes([content[1000] ^ 255]) + content[1001:]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>not found</html>", "not a whole zip archive: File is not a zip file"),
        (GOOD[:-100], "not a whole zip archive: File is not a zip file"),
        (corrupt_inside(GOOD), "not a whole zip archive: "),
        (make_zip({"audio/a.wav": b"", "b.txt": b""}), "holds no folder development_audio, but audio, b.txt"),
        (make_zip({}), "holds no folder development_audio, but nothing"),
    ],
)
def test_an_archive_that_is_none_leaves_nothing(content, reason, tmp_path):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(FileError) as error:
        unpack(tmp_path / "a.zip", tmp_path, "development_audio")
    assert str(error.value).startswith(f"{tmp_path / 'a.zip'}: {reason}")
    assert names(tmp_path) == ["a.zip"]


def test_an_encrypted_archive_is_refused(tmp_path):
    content = bytearray(make_zip({"development_audio/a.wav": b"secret"}))
    for magic, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(magic) + flags_at] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(FileError, match=r'"development_audio/a\.wav" is encrypted'):
        unpack(tmp_path / "a.zip", tmp_path, "development_audio")


def test_a_disk_that_is_too_small_is_known_before(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(GOOD)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(FileError, match=r"a\.zip: unpacks to 0\.0 GB, 0\.0 GB are free"):
        unpack(tmp_path / "a.zip", tmp_path, "development_audio")
    assert names(tmp_path) == ["a.zip"]


def test_a_disk_that_fills_up_leaves_nothing_half_unpacked(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(GOOD)

    def fail(self, entry, path):
        path.mkdir()
        (path / "half").write_text("")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extract", fail)
    with pytest.raises(
        FileError, match=r"development_audio: not unpacked: \[Errno 28\] No space left.*archive is kept"
    ):
        unpack(tmp_path / "a.zip", tmp_path, "development_audio")
    assert names(tmp_path) == ["a.zip"]


def test_a_disk_that_fills_up_is_named_and_the_download_goes_on(server, tmp_path, monkeypatch):
    archive = archive_of(server.content)
    whole = Path.open

    def full(path, mode="r", *arguments, **named):
        file = whole(path, mode, *arguments, **named)
        if path.suffix == ".part" and len(server.asked) == 1:
            file.write(GOOD[:1000])
            file.close()
            raise OSError(28, "No space left on device")
        return file

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(FileError, match=r"a\.zip\.part: not written: \[Errno 28\] No space left"):
        fetch(archive, tmp_path, server.url, wait_s=0)
    assert fetch(archive, tmp_path, server.url, wait_s=0).read_bytes() == GOOD
    assert server.asked == [None, "bytes=1000-"]


def test_command_fetches_what_is_missing(server, tmp_path, monkeypatch, capsys):
    archives = (archive_of(server.content),)
    monkeypatch.setattr(cli, "find_missing", partial(find_missing, archives=archives))
    monkeypatch.setattr(cli, "find_size", partial(find_size, base_url=server.url))
    monkeypatch.setattr(cli, "download", partial(download, archives=archives, base_url=server.url, wait_s=0))
    cli.download_corpus(tmp_path / "new")
    assert f"fetching a.zip, 0.00 GB, to {tmp_path / 'new'}/development_audio" in capsys.readouterr().out
    assert (tmp_path / "new" / "development_audio" / "city_center" / "a.wav").read_bytes() == NOISE
    cli.download_corpus(tmp_path / "new")
    assert "has both archives already" in capsys.readouterr().out


def test_command_uses_what_was_brought_by_hand_and_a_server_that_knows_no_size(tmp_path, monkeypatch, capsys):
    archives, asked = (archive_of(GOOD), archive_of(GOOD, "b.zip")), []

    def refuse(archive):
        asked.append(archive.name)
        raise FileError(archive.name, "not found")

    monkeypatch.setattr(cli, "find_missing", partial(find_missing, archives=archives))
    monkeypatch.setattr(cli, "find_size", refuse)
    monkeypatch.setattr(cli, "download", lambda root: None)
    (tmp_path / "a.zip").write_bytes(GOOD)
    cli.download_corpus(tmp_path)
    said = capsys.readouterr().out
    assert f"unpacking {tmp_path / 'a.zip'}, to" in said
    assert "fetching b.zip, of unknown size, to" in said
    assert asked == ["b.zip"]


def test_the_folder_that_says_all_is_there_comes_last(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(make_zip({"development_audio/a.wav": b"", "A.md": b"", "z/a.md": b""}))
    renamed, rename = [], Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, target: renamed.append(path.name) or rename(path, target))
    unpack(tmp_path / "a.zip", tmp_path, "development_audio")
    assert sorted(renamed[:2]) == ["A.md", "z"]
    assert renamed[2] == "development_audio"


def test_entries_that_name_nothing_are_passed_over(tmp_path):
    path, names = tmp_path / "a.zip", ("./", ".", "development_audio/a.wav")
    path.write_bytes(make_zip(dict.fromkeys(names, b"")))
    assert [file.name for file in unpack(path, tmp_path, "development_audio").iterdir()] == ["a.wav"]
    path.write_bytes(make_zip(dict.fromkeys(names[:2], b"")))
    with pytest.raises(FileError, match="holds no folder other, but nothing"):
        unpack(path, tmp_path, "other")


def test_what_a_killed_process_left_is_cleared_and_what_is_there_is_kept(tmp_path):
    (tmp_path / "a.zip").write_bytes(make_zip({"development_audio/a.wav": b"new", "README.md": b"new"}))
    (tmp_path / ".unpacking-a" / "development_audio").mkdir(parents=True)
    (tmp_path / ".unpacking-a" / "development_audio" / "old.wav").write_text("half")
    (tmp_path / "README.md").write_text("mine")
    unpack(tmp_path / "a.zip", tmp_path, "development_audio")
    assert names(tmp_path) == ["README.md", "a.zip", "development_audio"]
    assert names(tmp_path / "development_audio") == ["a.wav"]
    assert (tmp_path / "README.md").read_text() == "mine"
    with pytest.raises(FileError, match="development_audio: is there already"):
        unpack(tmp_path / "a.zip", tmp_path, "development_audio")
