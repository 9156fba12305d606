"""Published splits: a table that assigns each record to a fold, such as PTB-XL's `strat_fold`."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from enecg.errors import UserError
from pipeline.datasets.base import RecordIndex
from pipeline.datasets.id_columns import ID_COLUMNS
from pipeline.datasets.label_columns import list_classes, parse_nullable_strings, quote_examples
from pipeline.datasets.record_table import read_column_names, read_record_table
from pipeline.labels.label_file import check_patients

PARTS = ("train", "validation", "test")
"""Parts of the split. Folds with these names are used by default."""

PTB_XL_ID = "ecg_id"
"""Column of record ids in PTB-XL's table. It is not accepted in tables of labels, because PTB-XL's
table has other codes, such as 0 for male."""

COLUMN = "fold"
"""Default name of the column of folds."""


@dataclass(frozen=True)
class Folds:
    """A table of folds, and the folds of each part of the split.

    If `validation`, `test` and `train` are all empty, the folds named ``validation``, ``test`` and
    ``train`` are used.

    Attributes:
        file: CSV, gzipped CSV or Parquet file with a column `record_id` (or `study_id`, `ecg_id`).
        column: Name of the column of folds. Default: ``fold``.
        validation: Folds of the validation records, such as ``("9",)``.
        test: Folds of the test records.
        train: Folds of the training records. Default, with `validation` or `test`: all other folds.
    """

    file: str
    column: str = COLUMN
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    train: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in PARTS:
            object.__setattr__(self, part, tuple(map(str, getattr(self, part))))


@dataclass(frozen=True)
class FoldAssignment:
    """The part of the split of each record of a data set.

    Attributes:
        folds: The table and the folds of each part.
        sha256: SHA-256 of the file.
        part: ``train``, ``validation`` or ``test`` by record id; missing for records without a fold
            or in an unused fold.
        unused: Number of the data set's records in each unused fold.
        unknown_records: Number of records of the file that are not in the data set.
    """

    folds: Folds
    sha256: str
    part: pd.Series
    unused: dict[str, int]
    unknown_records: int

    def to_document(self) -> dict[str, Any]:
        """Return the provenance of the split as a JSON document."""
        return {
            "file": Path(self.folds.file).name,
            "sha256": self.sha256,
            "column": self.folds.column,
            **{part: list(getattr(self.folds, part)) for part in PARTS},
        }


def fold_options(
    file: Path | None,
    column: str,
    *,
    train: tuple[str, ...] = (),
    validation: tuple[str, ...] = (),
    test: tuple[str, ...] = (),
) -> Folds | None:
    """Return the folds for the command-line options.

    Args:
        file: File of folds, or None.
        column: Column of folds.
        train: Folds of the training records.
        validation: Folds of the validation records.
        test: Folds of the test records.

    Returns:
        The folds, or None without a file.

    Raises:
        UserError: Another option is given without a file.
    """
    if file is not None:
        return Folds(str(file), column, validation, test, train)
    if column != COLUMN or train or validation or test:
        raise UserError(
            "--fold-column, --train-folds, --validation-folds and --test-folds require a table of "
            "folds; add --folds FILE."
        )
    return None


def read_folds(
    folds: Folds, index: RecordIndex, *, parts: tuple[str, ...] = PARTS
) -> FoldAssignment:
    """Read a table of folds and assign the records of a data set to the parts of the split.

    Args:
        folds: The table and the folds of each part.
        index: The data set's records and patients.
        parts: The parts that are used; folds of other parts are unused. Default: all.

    Returns:
        The assignment.

    Raises:
        UserError: The file cannot be read, lacks the column, or has other patients than the data
            set; a part has no fold; a fold does not exist; or a fold or patient is in two parts.
    """
    path = Path(folds.file).expanduser()
    if not path.is_file():
        raise UserError(
            f"{path} does not exist or is not a file; --folds must be a table of ids and folds."
        )
    columns = read_column_names(path)
    if folds.column not in columns:
        raise UserError(
            f"{path} has no column {folds.column!r}, only {', '.join(columns[:30])}; name the "
            "column of folds with --fold-column."
        )
    rows = read_record_table(
        path, index.record_id, {folds.column}, id_columns=(*ID_COLUMNS, PTB_XL_ID)
    )
    if rows.patients is not None:
        check_patients(rows.patients, index, path)
    fold_names = parse_nullable_strings(rows.table[folds.column])
    part_of = _map_folds(folds, list_classes(fold_names), path, parts)
    part = fold_names.map(part_of).astype("string")
    _check_patients(part, index, path)
    unused = fold_names[fold_names.notna() & part.isna()].value_counts(sort=False)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return FoldAssignment(
        folds,
        sha256,
        part,
        {str(fold): int(count) for fold, count in sorted(unused.items())},
        len(rows.unknown_records),
    )


def describe_test_folds(assignment: FoldAssignment, records: int) -> str:
    """Describe the test folds of an evaluation.

    Args:
        assignment: The assignment of the data set's records.
        records: Number of selected records in the test folds.

    Returns:
        A sentence.
    """
    folds = ", ".join(assignment.folds.test) or "test"
    return (
        f"Evaluated on the {records:,} records of fold {folds} in column "
        f"{assignment.folds.column} of {Path(assignment.folds.file).name} "
        f"(SHA-256 {assignment.sha256[:12]}); {assignment.unknown_records:,} records of the file "
        "are not in the data set."
    )


def _map_folds(
    folds: Folds, available: list[str], path: Path, parts: tuple[str, ...]
) -> dict[str, str]:
    """Return the part of the split for each used fold."""
    selected = {part: getattr(folds, part) for part in PARTS}
    if not any(selected.values()):
        selected = {part: (part,) for part in parts}
    elif not selected["train"] and "train" in parts:
        held_out = {*selected["validation"], *selected["test"]}
        selected["train"] = tuple(fold for fold in available if fold not in held_out)
    part_of: dict[str, str] = {}
    where = f"column {folds.column} of {path}"
    for part in parts:
        if not selected[part]:
            raise UserError(
                f"No fold of {where} is selected for {part} (folds: "
                f"{', '.join(available[:30]) or 'none'}); add --{part}-folds."
            )
        remedy = " and ".join(f"--{name}-folds" for name in parts if name != "train")
        for fold in selected[part]:
            if fold not in available:
                raise UserError(
                    f"{where} has no fold {fold!r} for {part}, only "
                    f"{quote_examples(available) or 'empty cells'}; name its folds with {remedy}."
                )
            if part_of.setdefault(fold, part) != part:
                raise UserError(
                    f"Fold {fold!r} of {where} is selected for {part_of[fold]} and for {part}; "
                    "select it once."
                )
    return part_of


def _check_patients(part: pd.Series, index: RecordIndex, path: Path) -> None:
    """Raise UserError if a patient has records in two parts."""
    rows = pd.DataFrame(
        {"patient": index.patient_id, "part": part.to_numpy(object), "record": index.record_id}
    ).dropna(subset="part")
    first = rows.groupby("patient", sort=False)[["part", "record"]].transform("first")
    differ = rows["part"] != first["part"]
    if differ.any():
        row, other = rows[differ].iloc[0], first[differ].iloc[0]
        patients = rows["patient"][differ].nunique()
        raise UserError(
            f"{path} has {patients} patients in two parts of the split, such as {row['patient']} "
            f"with record {other['record']} in {other['part']} and record {row['record']} in "
            f"{row['part']}; put all records of a patient into one part."
        )
