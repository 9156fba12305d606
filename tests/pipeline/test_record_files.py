"""Files of a data set in a directory, in a public bucket and on a web server."""

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
from wfdb_files import WfdbRecord, random_walk

from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.datasets.registry import open_dataset
from pipeline.extraction.decoding import decode_batches
from pipeline.waveforms import object_files
from pipeline.waveforms.data_root import find_table, local_copy, open_root
from pipeline.waveforms.decode import read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.lead_signals import read_leads
from pipeline.waveforms.object_files import ObjectFiles
from pipeline.waveforms.record_files import OutsideRootError, RecordFiles


class Web:
    """A web server that ignores ranges and records the headers and concurrency of requests."""

    def __init__(self, directory: Path) -> None:
        self.headers: list[dict[str, str]] = []
        self.delay = 0.0
        self.active = self.peak = 0
        lock = threading.Lock()
        web = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                web.headers.append(dict(self.headers.items()))
                with lock:
                    web.active += 1
                    web.peak = max(web.peak, web.active)
                time.sleep(web.delay)
                with lock:
                    web.active -= 1
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
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()


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
    """An environment without S3 credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def assert_equal(dataset: Dataset, other: Dataset, rows: range | None = None) -> int:
    """Assert equal records or failures of two data sets; return the number of readable records."""
    assert dataset.namespace == other.namespace
    assert dataset.index().digest == other.index().digest
    readable = 0
    for row in rows or range(len(dataset.index())):
        results: list[bytes | str] = []
        for source in (dataset, other):
            try:
                results.append(source.read(row).tobytes())
            except UnreadableRecord as error:
                results.append(error.reason)
        assert results[0] == results[1]
        readable += isinstance(results[0], bytes)
    return readable


def test_public_bucket_is_read_without_credentials(
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
    remote = open_dataset(f"mimic-iv-ecg:{s3_root}/")
    local = open_dataset(f"mimic-iv-ecg:{synthetic_dir}")
    assert assert_equal(remote, local) > 40
    assert assert_equal(pickle.loads(pickle.dumps(remote)), local, range(3)) == 3
    pd.testing.assert_frame_equal(remote.labels(), local.labels())
    assert isinstance(remote, MimicIvEcg)
    copy = remote.root
    assert copy.is_dir()
    del remote
    assert not copy.exists(), "the copy of the tables was not deleted with the data set"


def test_requests_are_signed_only_with_credentials(
    synthetic_dir: Path,
    tmp_path: Path,
    web: Web,
    no_credentials: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(synthetic_dir, tmp_path / "web" / "public" / "ecg")
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.address)
    assert_equal(open_dataset("mimic-iv-ecg:s3://public/ecg"), MimicIvEcg(synthetic_dir), range(3))
    assert len(web.headers) > 6
    assert not any("authorization" in map(str.lower, headers) for headers in web.headers)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lab")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    MimicIvEcg("s3://public/ecg")
    assert "authorization" in map(str.lower, web.headers[-1])


def test_web_server_is_read_like_a_directory(synthetic_dir: Path, tmp_path: Path, web: Web) -> None:
    shutil.copytree(synthetic_dir, tmp_path / "web" / "ecg")
    assert_equal(
        open_dataset(f"mimic-iv-ecg:{web.address}/ecg"), MimicIvEcg(synthetic_dir), range(5)
    )


def open_by_path_and_url(tmp_path: Path, web: Web) -> list[RecordFiles]:
    return [DirectoryFiles(tmp_path / "web"), ObjectFiles(web.address)]


def test_files_are_read_up_to_a_limit_or_as_a_stream(tmp_path: Path, web: Web) -> None:
    content = bytes(range(256)) * 20_000
    (tmp_path / "web" / "a").mkdir()
    (tmp_path / "web" / "a" / "b.csv").write_bytes(content)
    (tmp_path / "web" / "empty").write_bytes(b"")
    for files in open_by_path_and_url(tmp_path, web):
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
def test_names_outside_the_root_are_rejected(tmp_path: Path, web: Web, name: str) -> None:
    (tmp_path / "out").write_bytes(b"secret")
    for files in open_by_path_and_url(tmp_path, web):
        with pytest.raises(OutsideRootError):
            files.read(name, 10)
        with pytest.raises(UnreadableRecord, match="outside the data set's folder") as failure:
            read_wfdb(f"{name}/x", files)
        assert failure.value.reason == "unreadable"
    assert not web.headers, "a request was sent"


def test_percent_encoded_paths_do_not_leave_the_root(tmp_path: Path, web: Web) -> None:
    (tmp_path / "web" / "data").mkdir()
    (tmp_path / "web" / "secret").write_bytes(b"secret")
    with pytest.raises(FileNotFoundError):
        ObjectFiles(f"{web.address}/data").read("%2e%2e/secret", 10)
    with pytest.raises(FileNotFoundError):
        ObjectFiles(f"{web.address}/data").read("%2e%2e%2fsecret", 10)


@pytest.mark.parametrize("linked", ["file", "header", "dangling"])
def test_links_to_files_are_followed_only_within_the_root(tmp_path: Path, linked: str) -> None:
    outside = WfdbRecord(random_walk()).write(tmp_path / "outside")
    inside = WfdbRecord(random_walk()).write(tmp_path / "root" / "inside")
    files = DirectoryFiles(tmp_path / "root")
    for target in (outside, inside):
        folder = tmp_path / "root" / f"linked-{target.parent.name}"
        shutil.copytree(inside.parent, folder)
        suffix = ".hea" if linked == "header" else ".dat"
        (folder / f"ecg{suffix}").unlink()
        to = Path(f"{target}.gone") if linked == "dangling" else Path(f"{target}{suffix}")
        (folder / f"ecg{suffix}").symlink_to(to)
    with pytest.raises(UnreadableRecord) as failure:
        read_wfdb("linked-outside/ecg", files)
    assert failure.value.reason == ("missing_file" if linked == "dangling" else "unreadable")
    if linked != "dangling":
        assert f"outside the data set's folder, at {outside.parent}/ecg" in failure.value.detail
        assert "create a symbolic link to the folder" in failure.value.detail
        assert read_wfdb("linked-inside/ecg", files).any()


def test_root_may_be_a_link(tmp_path: Path) -> None:
    WfdbRecord(random_walk()).write(tmp_path / "real" / "data")
    WfdbRecord(random_walk()).write(tmp_path / "disk")
    (tmp_path / "real" / "disk").symlink_to(tmp_path / "disk")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("data/ecg", "disk/ecg"):
        assert read_wfdb(name, DirectoryFiles(tmp_path / "link")).any()
    assert read_wfdb(tmp_path / "link" / "data" / "ecg").any()


LINKS = {
    "a top-level folder": ("p1", "{disk}"),
    "a subfolder": ("files/p1/q2", "{disk}"),
    "a relative link": ("files/p1", "../../disk"),
    "a link to a link": ("files/p1", "{chain}"),
    "a folder reached through a link in the root": ("inner/p1", "{disk}"),
}


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("proc", [True, False], ids=["proc", "no proc"])
def test_linked_folders_are_followed_at_any_depth(
    tmp_path: Path, kind: str, proc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not proc:
        monkeypatch.setattr("pipeline.waveforms.directory_files._PROC_FD", "/nowhere")
    WfdbRecord(random_walk()).write(tmp_path / "disk" / "deep" / "er")
    (tmp_path / "chain").symlink_to(tmp_path / "disk")
    (tmp_path / "root" / "real").mkdir(parents=True)
    (tmp_path / "root" / "inner").symlink_to("real")
    name, target = LINKS[kind]
    link = tmp_path / "root" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target.format(disk=tmp_path / "disk", chain=tmp_path / "chain"))
    files = pickle.loads(pickle.dumps(DirectoryFiles(tmp_path / "root")))
    assert read_wfdb(f"{name}/deep/er/ecg", files).any()


@pytest.mark.parametrize("proc", [True, False], ids=["proc", "no proc"])
def test_links_out_of_a_linked_folder_are_not_followed(
    tmp_path: Path, proc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links in a linked folder may have been created by someone other than the data set's owner."""
    if not proc:
        monkeypatch.setattr("pipeline.waveforms.directory_files._PROC_FD", "/nowhere")
    for name in ("disk/p1", "disk-2/p1", "other/p1", "root/own"):
        WfdbRecord(random_walk()).write(tmp_path / name)
    (tmp_path / "root" / "files").symlink_to(tmp_path / "disk")
    for name, target in (("out", "other/p1"), ("beside", "disk-2/p1"), ("up", "other/..")):
        (tmp_path / "disk" / name).symlink_to(tmp_path / target)
    (tmp_path / "disk" / "p3").symlink_to("p1")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "root" / "own")
    (tmp_path / "disk" / "p1" / "file.hea").symlink_to(tmp_path / "other" / "p1" / "ecg.hea")
    files = DirectoryFiles(tmp_path / "root")
    for name in ("files/p1/ecg", "files/p3/ecg", "files/back/ecg"):
        assert read_wfdb(name, files).any()
    outside = ("files/out/ecg", "files/beside/ecg", "files/up/other/p1/ecg", "files/p1/file")
    for name in outside:
        with pytest.raises(UnreadableRecord, match="outside the data set's folder") as failure:
            read_wfdb(name, files)
        assert failure.value.reason == "unreadable"


HOSTILE_PATHS = [
    "../secret/ecg",
    "files/../../secret/ecg",
    "files/p1/../../../secret/ecg",
    "files/p1/../ecg",
    "{tmp}/secret/ecg",
    "//{tmp}/secret/ecg",
    "./../secret/ecg",
    "files\\..\\..\\secret\\ecg",
]


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_paths_in_a_table_cannot_leave_the_data_set_through_a_linked_folder(
    tmp_path: Path, path: str
) -> None:
    for name in ("secret", "disk/p1", "disk"):
        WfdbRecord(random_walk()).write(tmp_path / name)
    (tmp_path / "root" / "files").mkdir(parents=True)
    (tmp_path / "root" / "files" / "p1").symlink_to(tmp_path / "disk" / "p1")
    rows = [path.format(tmp=tmp_path), "files/p1/ecg"]
    (tmp_path / "root" / "record_list.csv").write_text(
        "subject_id,study_id,file_name,ecg_time,path\n"
        + "".join(f"1,{n},{n},2150-01-01 00:00:00,{row}\n" for n, row in enumerate(rows))
    )
    dataset = open_dataset(f"mimic-iv-ecg:{tmp_path / 'root'}")
    assert dataset.read(1).any()
    for read in (dataset.read, dataset.read_leads):
        with pytest.raises(UnreadableRecord, match="path is outside the data set's fo") as failure:
            read(0)
        assert failure.value.reason == "unreadable"


@pytest.mark.parametrize("which", ["hea", "dat"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "loop"])
@pytest.mark.timeout(20)
def test_special_files_are_unreadable_and_do_not_block(
    tmp_path: Path, which: str, kind: str
) -> None:
    record = WfdbRecord(random_walk()).write(tmp_path)
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root ignores file permissions")
def test_file_without_read_permission_is_unreadable(tmp_path: Path) -> None:
    record = WfdbRecord(random_walk()).write(tmp_path)
    Path(f"{record}.hea").chmod(0)
    with pytest.raises(UnreadableRecord, match="Permission denied"):
        read_wfdb(record)


def test_too_long_name_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRecord):
        read_wfdb("x" * 5000, DirectoryFiles(tmp_path))


def test_other_formats_are_read_from_a_url(tmp_path: Path, web: Web) -> None:
    record = WfdbRecord(random_walk(11 * 250), rate="250").write(tmp_path / "web" / "r")
    header = Path(f"{record}.hea")
    header.write_text(header.read_text().replace(" 16 200", " 61 200"))
    remote = read_leads("r/ecg", ObjectFiles(web.address))
    assert remote.digital.tobytes() == read_leads(record).digital.tobytes()
    assert remote.digital.shape == (12, 2500)


def test_lost_connection_is_a_user_error(
    monkeypatch: pytest.MonkeyPatch, web: Web, tmp_path: Path
) -> None:
    monkeypatch.setattr(object_files, "_RETRY_TIMEOUT", timedelta(seconds=1))
    WfdbRecord(random_walk()).write(tmp_path / "web")
    files = ObjectFiles(web.address)
    assert read_wfdb("ecg", files).any()
    web.server.shutdown()
    web.server.server_close()
    with pytest.raises(UserError, match=r"connection[^\n]+\.$"):
        read_wfdb("ecg", files)


def test_single_refused_file_is_unreadable(
    monkeypatch: pytest.MonkeyPatch, web: Web, tmp_path: Path
) -> None:
    monkeypatch.setattr(object_files, "_RETRY_TIMEOUT", timedelta(seconds=1))
    for name in ("good", "refused"):
        WfdbRecord(random_walk()).write(tmp_path / "web" / name)
    files = ObjectFiles(web.address)
    with pytest.raises(UserError, match="credentials"):
        read_wfdb("refused/ecg", files)  # No file has been read yet, so all of them may be refused.
    assert read_wfdb("good//ecg", files).any()
    with pytest.raises(UnreadableRecord, match="cannot be read") as failure:
        read_wfdb("refused/ecg", files)
    assert failure.value.reason == "unreadable"


def test_refused_file_is_a_user_error_if_the_last_file_was_deleted(
    monkeypatch: pytest.MonkeyPatch, web: Web, tmp_path: Path
) -> None:
    monkeypatch.setattr(object_files, "_RETRY_TIMEOUT", timedelta(seconds=1))
    for name in ("good", "refused"):
        WfdbRecord(random_walk()).write(tmp_path / "web" / name)
    files = ObjectFiles(web.address)
    assert read_wfdb("good/ecg", files).any()
    shutil.rmtree(tmp_path / "web" / "good")
    with pytest.raises(UserError, match="credentials"):
        read_wfdb("refused/ecg", files)


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
def test_invalid_urls_are_rejected_without_disclosing_secrets(url: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]+\.$") as failure:
        open_root(url)
    assert "secret" not in str(failure.value)


def test_url_without_record_list_is_a_user_error(web: Web) -> None:
    with pytest.raises(UserError, match=r"does not contain record_list.csv"):
        open_dataset(f"mimic-iv-ecg:{web.address}/ecg")


def test_read_leads_keeps_saturated_and_missing_samples(tmp_path: Path) -> None:
    samples = random_walk(900)
    samples[:, 3] = 32767
    samples[7, 5] = -32768
    signals = read_leads(WfdbRecord(samples, checksums=[1] * 12).write(tmp_path))
    assert signals.digital.dtype == np.int16
    assert signals.digital[3].min() == 32767
    assert np.isnan(signals.mv[4, 7])
    assert signals.rate_hz == 500
    assert len(signals.checksum_mismatches) > 10


def test_records_from_a_slow_server_are_fetched_in_parallel_and_in_order(
    synthetic_dir: Path, tmp_path: Path, web: Web
) -> None:
    shutil.copytree(synthetic_dir, tmp_path / "web" / "ecg")
    remote, local = MimicIvEcg(f"{web.address}/ecg"), MimicIvEcg(synthetic_dir)
    assert (remote.threads, local.threads) == (16, 1)
    rows = np.arange(len(remote.index()))[::-1]
    remote.read(0)
    web.delay, web.peak = 0.1, 0
    batches = decode_batches(remote, rows[::-1], rows, lambda: 32)
    decoded = [record for batch in batches for record in batch]
    assert [record.row for record in decoded] == rows.tolist()
    assert web.peak > 4, "too few requests were in progress at the same time"
    for record in decoded[:5]:
        if not isinstance(record.ecg, UnreadableRecord):
            assert (record.ecg == local.read(int(rows[::-1][record.row]))).all()
