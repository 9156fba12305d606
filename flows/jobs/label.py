"""The label step, which writes a data set's labels to one Parquet file."""

from pathlib import Path
from typing import TYPE_CHECKING

from flows import label_parameters as lp
from flows import parameters as p
from flows.job import Artifact, current_job
from flows.progress import Progress
from pipeline.mimic_codes import NORMAL_POTASSIUM_MMOL_L

if TYPE_CHECKING:
    from pipeline.datasets.label_rules import LabelRules


def label(
    *,
    dataset: p.Dataset,
    out: lp.LabelsOut,
    hosp: lp.Hosp = None,
    window_hours: lp.WindowHours = 1.0,
    match: lp.Match = "first",
    potassium_items: lp.PotassiumItems = lp.DEFAULT_POTASSIUM_ITEMS,
    abnormal: lp.Abnormal = None,
    potassium_low: lp.PotassiumLow = NORMAL_POTASSIUM_MMOL_L[0],
    potassium_high: lp.PotassiumHigh = NORMAL_POTASSIUM_MMOL_L[1],
    report: lp.ReportLine = "first",
    skip_lines: lp.SkipLines = None,
    scheduler: lp.Scheduler = None,
) -> tuple[str, ...]:
    """Make the label table for `train --labels` from the data set's tables.

    Labels whose table is missing are omitted and listed in the report.

    Returns:
        Lines of the report.
    """
    rules = label_rules(
        window_hours=window_hours,
        match=match,
        potassium_items=potassium_items,
        abnormal=abnormal,
        potassium_low=potassium_low,
        potassium_high=potassium_high,
        report=report,
        skip_lines=skip_lines,
    )
    job = current_job()
    # Progress is measured in bytes of the tables for MIMIC-IV-ECG, and in records otherwise.
    unit, scale = ("MB", 10**6) if dataset.startswith("mimic-iv-ecg:") else ("records", 1)
    artifact = Artifact(str(out), f"Labels of {dataset} in {out}")
    with job.progress("label", unit, artifact, scale=scale) as progress:
        lines = job.step(
            f"label {dataset}", label_records, *(dataset, out, hosp, rules, scheduler, progress)
        )
    job.publish("labels", artifact, "\n\n".join(lines))
    return lines


def label_rules(
    *,
    window_hours: float = 1.0,
    match: lp.Match = "first",
    potassium_items: tuple[str, ...] = lp.DEFAULT_POTASSIUM_ITEMS,
    abnormal: lp.Abnormal = None,
    potassium_low: float = NORMAL_POTASSIUM_MMOL_L[0],
    potassium_high: float = NORMAL_POTASSIUM_MMOL_L[1],
    report: str = "first",
    skip_lines: Path | None = None,
) -> "LabelRules":
    """Return the rules for the job's parameters.

    Raises:
        UserError: A parameter is invalid or out of range, or `skip_lines` cannot be read.
    """
    from enecg.errors import UserError
    from pipeline.datasets.label_rules import NON_DIAGNOSTIC, LabelRules, read_phrases

    items = p.split(potassium_items)
    # Python raises ValueError for an integer of several thousand digits.
    invalid = [item for item in items if not item.isdecimal() or len(item) > 18]
    if invalid:
        raise UserError(
            f"Invalid item id {invalid[0][:30]!r} in --potassium-items; use item ids of MIMIC-IV's "
            "d_labitems, such as 50971,50822."
        )
    return LabelRules(
        window_hours=window_hours,
        match=match,
        potassium_items=tuple(map(int, items)),
        abnormal=abnormal,
        potassium_low=potassium_low,
        potassium_high=potassium_high,
        report=report,
        skip_lines=NON_DIAGNOSTIC if skip_lines is None else read_phrases(skip_lines),
    )


def label_records(
    dataset: str,
    out: Path,
    hosp: Path | None,
    rules: "LabelRules",
    scheduler: str | None,
    progress: Progress,
) -> tuple[str, ...]:
    """Make the label table.

    Args:
        dataset: Data set as ``SOURCE:FOLDER``.
        out: Parquet file to write.
        hosp: Folder of MIMIC-IV's hospital tables; None selects that of the data set.
        rules: Label rules.
        scheduler: Dask scheduler as for `connect_scheduler`; None reads the tables without Dask.
        progress: Called as ``progress(done, total)``, in bytes for MIMIC-IV-ECG, else in records.

    Returns:
        Lines of the report.
    """
    from pipeline.datasets.registry import open_dataset
    from pipeline.labels.label_step import make_labels

    source = open_dataset(dataset)
    return make_labels(source, out, rules, hosp=hosp, scheduler=scheduler, progress=progress).lines
