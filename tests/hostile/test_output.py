"""Text from others does not control the terminal, a page or a spreadsheet."""

import html
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from enecg.errors import UserError
from enecg.experts import checkpoints
from enecg.experts.checkpoint_file import detect_format
from flows.output import log_to_stderr, print_text, printable
from flows.prefect_job import PrefectJob
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.datasets.record_table import read_record_table
from pipeline.report.formats import csv_cell, to_csv
from pipeline.report.table import Table
from stores.errors import StoreError
from stores.url import check_url, redact

pytestmark = pytest.mark.hostile

ESCAPES = ("\x1b[2J", "\x1b]0;title\x07", "\r", "\x9b31m", "\u202e", "\x7f", "\x00", "\x08")


@pytest.mark.parametrize("escape", ESCAPES, ids=ascii)
def test_control_characters_are_printed_as_escapes(escape: str, capsys: pytest.CaptureFixture[str]):
    print_text(f"a{escape}b")
    log_to_stderr(f"a{escape}b")
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert escape not in text
        assert text.startswith("a\\")
    assert printable("tab\tline\nÄ → ±") == "tab\tline\nÄ → ±"


@pytest.mark.parametrize(
    "url",
    [
        "s3:KEY:SECRET@bucket/x",
        "s3:/KEY:SECRET@bucket",
        "s3://KEY:SECRET@bucket",
        "https:/user:SECRET@host/x",
        "https://user:SECRET@host",
        "S3://KEY:SECRET@bucket",
        "ftp://user:SECRET@host",
        "s3://KEY:SEC/RET:SECRET@bucket",
        "https:/SECRET@host/x",
        "s3:SECRET@bucket",
        "s3:/PART/SECRET@bucket",
        "S3:///SECRET@bucket/x",
    ],
)
def test_secrets_of_malformed_urls_are_not_repeated(url: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(StoreError) as raised:
        check_url(url)
    assert "SECRET" not in str(raised.value)
    log_to_stderr(f"mimic-iv-ecg:{url} does not exist; use another.")
    assert "SECRET" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "dlinear@random:0,timesnet@random:1",
        "mimic-iv-ecg:/data/a@b",
        "at 12:30, mail a@b",
        "s3://lab/x",
        "https://host/v1@2/x",
        "file:///data/a@b",
        "hub:REPO@REVISION/FILE",
    ],
)
def test_text_without_secrets_is_kept(text: str):
    assert redact(text) == text


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1+cmd|' /C calc'!A0", "-2+3+cmd|x", "\t=1"])
def test_formulas_are_quoted_in_csv(text: str):
    assert csv_cell(text) == f"'{text}"
    table = Table(title="t", heading=("", text), rows=((text, "1"),))
    assert f",{text}" not in to_csv([table])


def test_artifacts_contain_neither_html_nor_links(monkeypatch: pytest.MonkeyPatch):
    published: list[str] = []
    monkeypatch.setattr(
        "flows.prefect_job.create_markdown_artifact",
        lambda key, markdown: published.append(markdown),
    )
    PrefectJob().publish("results", "<img src=x> ![x](https://host/x) 0.5 [0.4, 0.6] \x1b[2J")
    (markdown,) = published
    assert not {"<", "[", "\x1b"} & {*markdown}
    assert html.unescape(markdown).startswith("<img src=x> ![x](https://host/x) 0.5 [0.4, 0.6]")


@pytest.mark.parametrize("text", ["-0.5", "+3", "-1.5 ± 0.2", "-1.2 [-3.1, 0.5]", "1e-5", "text"])
def test_numbers_are_kept_in_csv(text: str):
    assert csv_cell(text) == text


@pytest.mark.parametrize(
    "namespace",
    ["mimic-iv-ecg/1.0", "../escaped/x", "synthetic/../x", "synthetic/a/b", 3, None, "synthetic"],
)
def test_synthetic_data_set_cannot_claim_another_name(namespace: object, tmp_path: Path):
    (tmp_path / "record_list.csv").write_text(
        "subject_id,study_id,file_name,ecg_time,path\n1,2,2,2150-03-01 12:00:00,files/a\n"
    )
    (tmp_path / "synthetic.json").write_text(json.dumps({"namespace": namespace}))
    with pytest.raises(UserError, match="does not name a synthetic data set"):
        assert MimicIvEcg(tmp_path).namespace


def test_changed_byte_with_restored_time_changes_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import os

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checkpoints, "SMALL_FILE_BYTES", 10)
    path = tmp_path / "weights.bin"
    path.write_bytes(b"a" * 1000)
    before = path.stat()
    first = checkpoints.file_sha256(path)
    assert checkpoints.file_sha256(path) == first
    with path.open("r+b") as file:
        file.write(b"b")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert checkpoints.file_sha256(path) != first


def test_compressed_checkpoint_is_refused(tmp_path: Path):
    import zipfile

    torch.save({"x": torch.zeros(10**6)}, tmp_path / "stored.pt")
    assert detect_format(tmp_path / "stored.pt") == "torch"
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in stored.namelist():
            bomb.writestr(name, stored.read(name))
    with pytest.raises(UserError, match="compressed zip archive"):
        detect_format(tmp_path / "bomb.pt")
    with pytest.raises(UserError, match="not a regular file"):
        detect_format(Path("/dev/zero"))


def test_label_tables_of_absurd_size_are_refused(tmp_path: Path):
    bomb = tmp_path / "bomb.parquet"
    column = pa.repeat(1, 10**7 + 1)
    pq.write_table(pa.table({"record_id": column, "age": column}), bomb)
    assert bomb.stat().st_size < 10**6
    wide = tmp_path / "wide.csv"
    wide.write_text(",".join(["record_id", *(f"c{n}" for n in range(20_000))]) + "\n")
    for path in (bomb, wide):
        with pytest.raises(UserError, match="a label table has at most"):
            read_record_table(path, np.arange(3), {"age"})
