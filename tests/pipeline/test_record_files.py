"""Data sets in a directory, in a bucket that needs no credentials, and on a web server."""

import os
import pickle
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from wfdb_files import Made, walk

from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.datasets.registry import open_dataset
from pipeline.extraction.decoding import decode_batches
from pipeline.waveforms import object_files
from pipeline.waveforms.data_root import find_table, local_copy, open_root
from pipeline.waveforms.decode import read_leads, read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.object_files import ObjectFiles
from pipeline.waveforms.record_files import OutsideRootError, RecordFiles


class Web:
    """A web server of a directory, which knows no ranges; and what it was asked."""

    def __init__(self, directory: Path) -> None:
        self.headers: list[dict[str, str]] = []
        self.delay = 0.0
        web = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                web.headers.append(dict(self.headers.items()))
                time.sleep(web.delay)
                if "refused" in self.path:
                    self.send_error(403)
                else:
                    super().do_GET()

            def log_message(self, *_: object) -> None:
                pass

        handler = partial(Handler, directory=str(directory))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server of `tmp_path / "web"`."""
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web")
    yield web
    web.server.shutdown()
    web.server.server_close()


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nobody has set up S3."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def same(dataset: Dataset, other: Dataset, rows: range | None = None) -> int:
    """Check that every record is the same or bad for the same reason; how many are good."""
    assert dataset.namespace == other.namespace
    assert dataset.index().digest == other.index().digest
    good = 0
    for row in rows or range(len(dataset.index())):
        got: list[bytes | str] = []
        for one in (dataset, other):
            try:
                got.append(one.read(row).tobytes())
            except UnreadableRecord as bad:
                got.append(bad.reason)
        assert got[0] == got[1]
        good += isinstance(got[0], bytes)
    return good


def test_a_bucket_that_needs_no_credentials_is_a_data_set(
    synthetic_dir: Path,
    s3_root: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    import boto3

    bucket, _, prefix = s3_root.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    for path in synthetic_dir.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(synthetic_dir)}"
            content = path.read_bytes()
            client.put_object(Bucket=bucket, Key=key, Body=content, ACL="public-read")
    request.getfixturevalue("no_credentials")
    there = open_dataset(f"mimic-iv-ecg:{s3_root}/")
    here = open_dataset(f"mimic-iv-ecg:{synthetic_dir}")
    assert same(there, here) > 40
    assert same(pickle.loads(pickle.dumps(there)), here, range(3)) == 3
    pd.testing.assert_frame_equal(there.labels(), here.labels())
    assert isinstance(there, MimicIvEcg)
    copy = there.root
    assert copy.is_dir()
    del there
    assert not copy.exists(), "the tables' copy lasts as long as the data set"


def test_without_credentials_nothing_is_signed(
    synthetic_dir: Path,
    tmp_path: Path,
    web: Web,
    no_credentials: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(synthetic_dir, tmp_path / "web" / "public" / "ecg")
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.address)
    same(open_dataset("mimic-iv-ecg:s3://public/ecg"), MimicIvEcg(synthetic_dir), range(3))
    assert len(web.headers) > 6
    assert not any("authorization" in map(str.lower, seen) for seen in web.headers)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lab")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    MimicIvEcg("s3://public/ecg")
    assert "authorization" in map(str.lower, web.headers[-1])


def test_a_web_server_is_a_data_set(synthetic_dir: Path, tmp_path: Path, web: Web) -> None:
    shutil.copytree(synthetic_dir, tmp_path / "web" / "ecg")
    same(open_dataset(f"mimic-iv-ecg:{web.address}/ecg"), MimicIvEcg(synthetic_dir), range(5))


def both(tmp_path: Path, web: Web) -> list[RecordFiles]:
    return [DirectoryFiles(tmp_path / "web"), ObjectFiles(web.address)]


def test_a_file_is_read_up_to_a_limit_and_as_a_stream(tmp_path: Path, web: Web) -> None:
    content = bytes(range(256)) * 20_000
    (tmp_path / "web" / "a").mkdir()
    (tmp_path / "web" / "a" / "b.csv").write_bytes(content)
    (tmp_path / "web" / "empty").write_bytes(b"")
    for files in both(tmp_path, web):
        assert files.read("a/b.csv", 300) == (content[:300], len(content))
        assert files.read("a//./b.csv", 1 << 30) == (content, len(content))
        assert files.read("a/b.csv", 0) == (b"", len(content))
        assert files.read("empty", 5) == (b"", 0)
        with files.open("a/b.csv") as stream:
            assert stream.read(7) == content[:7]
            assert stream.read() == content[7:]
        assert find_table(files, "a/b") == "a/b.csv"
        assert find_table(files, "a/c") is None
        with local_copy(files, "a/b.csv") as path:
            assert path.read_bytes() == content
        for name in ("nothing", "nothing/at/all", "empty/not/a/folder"):
            with pytest.raises(FileNotFoundError):
                files.read(name, 1)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../out", "a/../../out", "a\\b", "a\0b", "..", "a/.."]
)
def test_no_name_leaves_the_root(tmp_path: Path, web: Web, name: str) -> None:
    (tmp_path / "out").write_bytes(b"secret")
    for files in both(tmp_path, web):
        with pytest.raises(OutsideRootError):
            files.read(name, 10)
        with pytest.raises(UnreadableRecord, match="outside the data set's folder") as failure:
            read_wfdb(f"{name}/x", files)
        assert failure.value.reason == "unreadable"
    assert not web.headers, "nobody was asked"


def test_percent_signs_lead_nowhere_on_a_web_server(tmp_path: Path, web: Web) -> None:
    (tmp_path / "web" / "data").mkdir()
    (tmp_path / "web" / "secret").write_bytes(b"secret")
    with pytest.raises(FileNotFoundError):
        ObjectFiles(f"{web.address}/data").read("%2e%2e/secret", 10)
    with pytest.raises(FileNotFoundError):
        ObjectFiles(f"{web.address}/data").read("%2e%2e%2fsecret", 10)


@pytest.mark.parametrize("linked", ["file", "header", "folder", "dangling"])
def test_a_link_out_of_the_root_is_not_followed_and_one_within_is(
    tmp_path: Path, linked: str
) -> None:
    outside = Made(walk()).write(tmp_path / "outside")
    inside = Made(walk()).write(tmp_path / "root" / "inside")
    files = DirectoryFiles(tmp_path / "root")
    for target in (outside, inside):
        folder = tmp_path / "root" / f"linked-{target.parent.name}"
        if linked == "folder":
            folder.symlink_to(target.parent)
        else:
            shutil.copytree(inside.parent, folder)
            suffix = ".dat" if linked in ("file", "dangling") else ".hea"
            (folder / f"ecg{suffix}").unlink()
            to = Path(f"{target}.gone") if linked == "dangling" else Path(f"{target}{suffix}")
            (folder / f"ecg{suffix}").symlink_to(to)
    want = "missing_file" if linked == "dangling" else "unreadable"
    with pytest.raises(UnreadableRecord) as failure:
        read_wfdb("linked-outside/ecg", files)
    assert failure.value.reason == want
    if linked != "dangling":
        assert read_wfdb("linked-inside/ecg", files).any()


def test_a_root_may_itself_be_a_link(tmp_path: Path) -> None:
    Made(walk()).write(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read_wfdb("ecg", DirectoryFiles(tmp_path / "link")).any()
    assert read_wfdb(tmp_path / "link" / "ecg").any()


def test_the_folder_of_records_may_be_on_another_disk_and_no_other(tmp_path: Path) -> None:
    for name in ("disk/p1", "other/p1"):
        Made(walk()).write(tmp_path / name)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "files").symlink_to(tmp_path / "disk")
    (tmp_path / "root" / "more").symlink_to(tmp_path / "other")
    (tmp_path / "disk" / "p2").symlink_to(tmp_path / "other" / "p1")
    files = DirectoryFiles(tmp_path / "root", linked_folders=("files",))
    assert read_wfdb("files/p1/ecg", files).any()
    for name in ("more/p1/ecg", "files/p2/ecg"):
        with pytest.raises(UnreadableRecord) as failure:
            read_wfdb(name, files)
        assert failure.value.reason == "unreadable"


def test_links_are_seen_where_there_is_no_proc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.waveforms.directory_files._PROC_FD", "/nowhere")
    test_a_link_out_of_the_root_is_not_followed_and_one_within_is(tmp_path, "folder")


@pytest.mark.parametrize("which", ["hea", "dat"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "loop"])
@pytest.mark.timeout(20)
def test_what_is_no_file_is_a_bad_record_and_waits_for_nobody(
    tmp_path: Path, which: str, kind: str
) -> None:
    record = Made(walk()).write(tmp_path)
    path = Path(f"{record}.{which}")
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    with pytest.raises(UnreadableRecord) as failure:
        read_wfdb(record)
    assert failure.value.reason == ("unreadable" if kind == "loop" else "missing_file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_the_right_to_read_it_is_a_bad_record(tmp_path: Path) -> None:
    record = Made(walk()).write(tmp_path)
    Path(f"{record}.hea").chmod(0)
    with pytest.raises(UnreadableRecord, match="Permission denied"):
        read_wfdb(record)


def test_a_name_too_long_is_a_bad_record(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRecord):
        read_wfdb("x" * 5000, DirectoryFiles(tmp_path))


def test_other_formats_are_read_at_a_url_too(tmp_path: Path, web: Web) -> None:
    record = Made(walk(11 * 250), rate="250").write(tmp_path / "web" / "r")
    header = Path(f"{record}.hea")
    header.write_text(header.read_text().replace(" 16 200", " 61 200"))
    there = read_leads("r/ecg", ObjectFiles(web.address))
    assert there.digital.tobytes() == read_leads(record).digital.tobytes()
    assert there.digital.shape == (12, 2500)


def test_a_lost_connection_is_no_records_fault(
    monkeypatch: pytest.MonkeyPatch, web: Web, tmp_path: Path
) -> None:
    monkeypatch.setattr(object_files, "_RETRY_TIMEOUT", timedelta(seconds=1))
    Made(walk()).write(tmp_path / "web")
    files = ObjectFiles(web.address)
    assert read_wfdb("ecg", files).any()
    web.server.shutdown()
    web.server.server_close()
    with pytest.raises(UserError, match=r"connection[^\n]+\.$"):
        read_wfdb("ecg", files)


def test_one_file_that_a_server_refuses_is_a_bad_record(
    monkeypatch: pytest.MonkeyPatch, web: Web, tmp_path: Path
) -> None:
    monkeypatch.setattr(object_files, "_RETRY_TIMEOUT", timedelta(seconds=1))
    for name in ("good", "refused"):
        Made(walk()).write(tmp_path / "web" / name)
    files = ObjectFiles(web.address)
    with pytest.raises(UserError, match="credentials"):
        read_wfdb("refused/ecg", files)  # nothing was given yet: it may refuse all
    assert read_wfdb("good/ecg", files).any()
    with pytest.raises(UnreadableRecord, match="cannot be read") as failure:
        read_wfdb("refused/ecg", files)
    assert failure.value.reason == "unreadable"


@pytest.mark.parametrize(
    "url",
    [
        "https://me:secret@example.org/ecg",
        "s3://key:secret@bucket/ecg",
        "https://example.org/ecg?token=secret",
        "ftp://example.org/ecg",
        "s3://",
    ],
)
def test_a_url_that_is_no_place_or_has_a_secret_is_told_without_it(url: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]+\.$") as failure:
        open_root(url)
    assert "secret" not in str(failure.value)


def test_a_url_without_the_list_is_told_in_a_sentence(web: Web) -> None:
    with pytest.raises(UserError, match=r"has no record_list.csv"):
        open_dataset(f"mimic-iv-ecg:{web.address}/ecg")


def test_twelve_leads_are_there_for_who_looks_at_their_quality(tmp_path: Path) -> None:
    samples = walk(900)
    samples[:, 3] = 32767
    samples[7, 5] = -32768
    leads = read_leads(Made(samples, checksums=[1] * 12).write(tmp_path))
    assert leads.digital.dtype == np.int16
    assert leads.digital[3].min() == 32767
    assert np.isnan(leads.mv[4, 7])
    assert leads.rate_hz == 500
    assert len(leads.checksum_mismatches) > 10


def test_records_behind_a_slow_server_are_fetched_side_by_side_and_in_order(
    synthetic_dir: Path, tmp_path: Path, web: Web
) -> None:
    shutil.copytree(synthetic_dir, tmp_path / "web" / "ecg")
    there, here = MimicIvEcg(f"{web.address}/ecg"), MimicIvEcg(synthetic_dir)
    assert (there.threads, here.threads) == (16, 1)
    rows = np.arange(len(there.index()))[::-1]
    there.read(0)
    web.delay = 0.1
    began = time.monotonic()
    got = [one for batch in decode_batches(there, rows[::-1], rows, 32) for one in batch]
    took = time.monotonic() - began
    assert [one.row for one in got] == rows.tolist()
    assert took < len(rows) * 2 * web.delay / 2, "one by one, each record takes two delays"
    for one in got[:5]:
        if not isinstance(one.ecg, UnreadableRecord):
            assert (one.ecg == here.read(int(rows[::-1][one.row]))).all()
