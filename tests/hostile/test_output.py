"""Untrusted text is escaped, secrets are redacted, and irregular or large files are rejected."""

import gzip
import html
import json
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from markdown_it import MarkdownIt

from enecg.errors import UserError
from enecg.experts import digests
from enecg.experts.checkpoint_file import detect_format
from flows.cli import enecg
from flows.job import Artifact
from flows.output import log_to_stderr, print_text, printable
from flows.prefect_job import PrefectJob
from flows.run_app import run_app
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.datasets.record_table import read_record_table
from pipeline.datasets.selection import read_record_ids
from pipeline.report.formats import csv_cell, to_csv, to_html, to_markdown
from pipeline.report.table import Table
from pipeline.report.theme import figure_style, new_figure, to_svg
from stores.errors import StoreError
from stores.url import check_url, redact

pytestmark = pytest.mark.hostile

SVG_ELEMENTS = {"svg", "defs", "g", "path", "use", "text", "tspan", "clipPath", "rect"}
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
def test_secrets_in_malformed_urls_are_not_printed(url: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(StoreError) as raised:
        check_url(url)
    assert "SECRET" not in str(raised.value)
    log_to_stderr(f"mimic-iv-ecg:{url} does not exist; use another.")
    assert "SECRET" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        "https://host/x?token=SECRET",
        "https:/host/x?X-Amz-Signature=SECRET&a=1",
        "s3:/bucket/x?sig=SECRET",
        "s3://bucket/x#SECRET",
        "az://account:SECRET@c/x?sv=SECRET",
        "s3//KEY:SECRET@bucket/x",
        "//user:SECRET@host/x",
        "https:/user:SECRET@host/x",
    ],
)
def test_no_command_prints_a_secret_in_an_option(url: str, capsys: pytest.CaptureFixture[str]):
    """`Path` removes a slash of ``://``, so malformed URLs must be redacted too."""
    train = ["train", "--store", "x", "--out", "y"]
    commands = [
        [*train, "--dataset", url],
        [*train, "--dataset", f"mimic-iv-ecg:{url}"],
        ["extract", "--dataset", "ludb:x", "--store", "x", "--weights", f"dlinear@{url}"],
        ["label", "--dataset", "ludb:x", "--out", "y", "--hosp", url],
        ["label", "--dataset", "ludb:x", "--out", "y", "--scheduler", url],
        ["evaluate", "--run", url, "--dataset", "ludb:x", "--store", "x"],
        ["store", "ls", url],
        ["runs", "show", url],
        ["runs", "ls", url],
    ]
    for option in ("--labels", "--folds", "--records", "--base"):
        commands.append([*train, "--dataset", "ludb:x", option, url])
    for command in commands:
        run_app(enecg(), command)
        captured = capsys.readouterr()
        assert "SECRET" not in captured.out + captured.err, command


def test_secret_in_an_error_on_standard_output_is_redacted(capsys: pytest.CaptureFixture[str]):
    print_text("mimic-iv-ecg:https://user:SECRET@host/x cannot be read.")
    assert capsys.readouterr().out == "mimic-iv-ecg:***@host/x cannot be read.\n"


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


@pytest.mark.parametrize("end", [": next", "; next", ", next", ".", ").", "' next"])
def test_punctuation_after_a_redacted_url_is_kept(end: str):
    assert redact(f"s3:/bucket/x?sig=SEC.R:ET{end}") == f"s3:/bucket/x?***{end}"


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1+cmd|' /C calc'!A0", "-2+3+cmd|x", "\t=1"])
def test_formulas_are_quoted_in_csv(text: str):
    assert csv_cell(text) == f"'{text}"
    table = Table(title="t", heading=("", text), rows=((text, "1"),))
    assert f",{text}" not in to_csv([table])


@pytest.mark.parametrize(
    "text",
    [
        "a|b",
        "<img src=x onerror=y>",
        "![x](https://host/x)",
        "[x](https://host)",
        "a\n\n# b",
        "`a`",
    ],
)
def test_text_in_tables_is_not_interpreted_as_markup(text: str):
    table = Table(text, ("", text), ((text, "0.5 [0.4, 0.6]"),), notes=(text,))
    tokens = MarkdownIt("commonmark").enable("table").parse(to_markdown([table]))
    inline = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in inline} <= {"text", "strong_open", "strong_close"}
    assert [token.type for token in tokens].count("td_open") == 2
    assert not [token for token in tokens if token.type in ("html_block", "heading_open")]
    shown = " ".join(text.split())
    assert [child.content for child in inline].count(shown) == 4
    assert text.startswith("<") is False or text not in to_html([table])


def test_artifacts_contain_neither_html_nor_links(monkeypatch: pytest.MonkeyPatch):
    published: list[str] = []
    monkeypatch.setattr(
        "flows.prefect_job.create_markdown_artifact",
        lambda key, markdown, description: published.extend((markdown, description)),
    )
    text = "<img src=x> ![x](https://host/x) 0.5 [0.4, 0.6] \x1b[2J"
    PrefectJob().publish("results", Artifact("store", text), text)
    markdown, description = published
    assert description == markdown
    assert not {"<", "[", "\x1b"} & {*markdown}
    assert html.unescape(markdown).startswith("<img src=x> ![x](https://host/x) 0.5 [0.4, 0.6]")


@pytest.mark.parametrize("text", ["-0.5", "+3", "-1.5 ± 0.2", "-1.2 [-3.1, 0.5]", "1e-5", "text"])
def test_numbers_are_kept_in_csv(text: str):
    assert csv_cell(text) == text


@pytest.mark.parametrize(
    "namespace",
    ["mimic-iv-ecg/1.0", "../escaped/x", "synthetic/../x", "synthetic/a/b", 3, None, "synthetic"],
)
def test_invalid_name_of_a_synthetic_data_set_is_rejected(namespace: object, tmp_path: Path):
    (tmp_path / "record_list.csv").write_text(
        "subject_id,study_id,file_name,ecg_time,path\n1,2,2,2150-03-01 12:00:00,files/a\n"
    )
    (tmp_path / "synthetic.json").write_text(json.dumps({"namespace": namespace}))
    with pytest.raises(UserError, match="does not name a synthetic data set"):
        assert MimicIvEcg(tmp_path).namespace


def test_changed_byte_with_restored_time_changes_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "SMALL_FILE_BYTES", 10)
    path = tmp_path / "weights.bin"
    path.write_bytes(b"a" * 1000)
    before = path.stat()
    first = digests.file_sha256(path)
    assert digests.file_sha256(path) == first
    with path.open("r+b") as file:
        file.write(b"b")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digests.file_sha256(path) != first


def test_compressed_and_irregular_checkpoints_are_rejected(tmp_path: Path):
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


def test_label_tables_that_are_too_large_are_rejected(tmp_path: Path):
    bomb = tmp_path / "bomb.parquet"
    column = pa.repeat(1, 10**7 + 1)
    pq.write_table(pa.table({"record_id": column, "age": column}), bomb)
    assert bomb.stat().st_size < 10**6
    wide = tmp_path / "wide.csv"
    wide.write_text(",".join(["record_id", *(f"c{n}" for n in range(20_000))]) + "\n")
    for path in (bomb, wide):
        with pytest.raises(UserError, match="a label table has at most"):
            read_record_table(path, np.arange(3), {"age"})


def table_files(folder: Path) -> Iterator[Path]:
    """Yield files that are not tables, or small files that contain large tables."""
    for suffix in (".csv", ".parquet"):
        for name in ("fifo", "folder", "device", "sparse"):
            path = folder / f"{name}{suffix}"
            if name == "fifo":
                os.mkfifo(path)
            elif name == "folder":
                path.mkdir()
            elif name == "device":
                path.symlink_to("/dev/zero")
            else:
                path.write_bytes(b"record_id,age\n" if suffix == ".csv" else b"PAR1")
                os.truncate(path, 10**9)
            yield path
    (folder / "long.csv").write_bytes(b"record_id," + b"x" * (5 << 20) + b"\n")
    yield folder / "long.csv"
    with gzip.open(folder / "rows.csv.gz", "wb", 1) as file:
        file.write(b"record_id,age\n" + b"1,2\n" * 1002)
    yield folder / "rows.csv.gz"
    text = pa.DictionaryArray.from_arrays(pa.repeat(0, 900).cast(pa.int32()), ["x" * 10**6])
    ids = pa.array(range(900))
    pq.write_table(pa.table({"record_id": ids, "age": text}), folder / "text.parquet")
    pq.write_table(pa.table({"record_id": text, "age": ids}), folder / "ids.parquet")
    yield from (folder / "text.parquet", folder / "ids.parquet")


def test_irregular_and_large_tables_are_rejected_with_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipeline.datasets.table_file.MAX_BYTES", 10**8)
    for path in table_files(tmp_path):
        if path.name == "rows.csv.gz":
            monkeypatch.setattr("pipeline.datasets.table_file.MAX_ROWS", 1000)
        with pytest.raises(UserError, match=re.escape(str(path))):
            read_record_table(path, np.arange(3), {"age"})
        if path.name not in ("text.parquet",):
            with pytest.raises(UserError, match=re.escape(str(path))):
                read_record_ids(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3 << 20  # in kB


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name",
    ["US$5 to $\\nothing{$", "\x1b[2J", "<b>", "$$", "--><script>x</script>", '" onload="x'],
)
def test_names_in_plots_are_neither_formulas_nor_markup_nor_warnings(name: str):
    with figure_style():
        figure = new_figure()
        axes = figure.add_subplot(title=name)
        axes.set_xticks([0, 1], labels=[name, name])
        svg = to_svg(figure, name)
    root = ElementTree.fromstring(svg)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= SVG_ELEMENTS
    assert not [key for element in root.iter() for key in element.attrib if key.startswith("on")]
