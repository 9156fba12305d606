"""For any contents of a table, its reader returns labels or raises UserError."""

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_tables import ECG_TIME, records

from enecg.errors import UserError
from pipeline.datasets.absence_reasons import REASONS, reason_column
from pipeline.datasets.label_rules import LabelRules
from pipeline.datasets.mimic_tables.csv_scan import SkippedRows
from pipeline.datasets.mimic_tables.machine import read_machine_labels
from pipeline.datasets.mimic_tables.patients import read_patient_labels
from pipeline.datasets.mimic_tables.potassium import read_potassium_labels
from pipeline.datasets.mimic_tables.records import read_paths, read_records

RECORDS = records((7, 1, ECG_TIME), (8, 1, None), (9, 2, "2150-03-01 12:30:00"))


def _records(path: Path) -> None:
    read = read_records(path)
    assert str(read["record_id"].dtype) == "int64"
    assert len(read_paths(path)) == len(read)


def _machine(path: Path) -> None:
    for report in ("first", "all", "0"):
        _check(read_machine_labels(path, RECORDS, LabelRules(report=report), SkippedRows()))


def _patients(path: Path) -> None:
    _check(read_patient_labels(path, RECORDS, SkippedRows()))


def _potassium(path: Path) -> None:
    for rules in (LabelRules(), LabelRules(match="nearest", window_hours=8000)):
        labels, _ = read_potassium_labels(path, RECORDS, rules)
        _check(labels)


def _check(labels: object) -> None:
    """Check that each label is a finite number, a text, or missing with a reason."""
    for name in REASONS:
        if name in labels:  # type: ignore[operator]
            column, reasons = labels[name], labels[reason_column(name)]  # type: ignore[index]
            assert (column.isna() == reasons.notna()).all()
            assert len(column) == len(RECORDS)
            if column.dtype.kind == "f":
                assert np.isfinite(column.dropna()).all()


READERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "record_list.csv": (_records, "subject_id,study_id,ecg_time,path"),
    "machine_measurements.csv": (_machine, "study_id,report_0,report_1,rr_interval"),
    "patients.csv": (_patients, "subject_id,gender,anchor_age,anchor_year"),
    "labevents.csv": (_potassium, "subject_id,itemid,charttime,valuenum,flag"),
}

FIELDS = st.one_of(
    st.sampled_from(
        (
            *("1", "2", "7", "8", "50971", "50822", "50971.0", "4.4", "M", "F", "2150", "800"),
            *("29999", "-1", "1e400", "nan", "inf", "0x10", "1_0"),
            *(ECG_TIME, "2150-03-01 12:30", "2150-02-30 12:00:00", "0001-01-01 00:00:00", "NULL"),
            *("9" * 30, "", " ", '"', '""', '"a\nb"', '"a,b"', "\ufeff", "\x00", "Sinus rhythm."),
        )
    ),
    st.text(max_size=8),
    st.integers().map(str),
    st.floats().map(str),
)
ROWS = st.lists(st.lists(FIELDS, max_size=6).map(",".join), max_size=12)
ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])


def _fuzz(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    quiet = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    return lambda test: quiet(test)


def _read(name: str, content: bytes, *, compressed: bool, damage: int | None) -> None:
    data = gzip.compress(content) if compressed else content
    if damage is not None and data:
        data = data[: damage % (len(data) + 1)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (name + ".gz" if compressed else name)
        path.write_bytes(data)
        try:
            READERS[name][0](path)
        except UserError as error:
            message = str(error)
            assert "\n" not in message
            assert message.endswith(".")


def _read_rows(name: str, rows: list[str], end: str, choice: dict[str, object]) -> None:
    content = end.join([READERS[name][1], *rows, ""]).encode("utf-8", "surrogatepass")
    _read(name, content, compressed=bool(choice["gz"]), damage=choice["damage"])  # type: ignore[arg-type]


CHOICE = st.fixed_dictionaries(
    {"gz": st.booleans(), "damage": st.none() | st.none() | st.integers(0, 2000)}
)
quick, long = _fuzz(10), _fuzz(2500)


@pytest.mark.parametrize("name", READERS)
@quick
@given(rows=ROWS, end=ENDS, choice=CHOICE)
def test_any_rows_give_labels_or_user_error(
    name: str, rows: list[str], end: str, choice: dict[str, object]
) -> None:
    _read_rows(name, rows, end, choice)


@pytest.mark.parametrize("name", READERS)
@quick
@given(content=st.binary(max_size=300))
def test_any_bytes_give_labels_or_user_error(name: str, content: bytes) -> None:
    _read(name, content, compressed=False, damage=None)
    _read(name, READERS[name][1].encode() + b"\n" + content, compressed=False, damage=None)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
@long
@given(rows=ROWS, end=ENDS, choice=CHOICE)
def test_many_rows_give_labels_or_user_error(
    name: str, rows: list[str], end: str, choice: dict[str, object]
) -> None:
    _read_rows(name, rows, end, choice)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
@long
@given(content=st.binary(max_size=300))
def test_many_bytes_give_labels_or_user_error(name: str, content: bytes) -> None:
    _read(name, content, compressed=False, damage=None)
    _read(name, READERS[name][1].encode() + b"\n" + content, compressed=False, damage=None)
