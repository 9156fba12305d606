"""The labels as a flow: MIMIC's tables streamed once, into one Parquet file."""

from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows import parameters as p
from flows.progress import Progress, progress_bar, run_log
from flows.tasks import fail_on_user_error, opaque, return_user_errors
from pipeline.mimic_codes import NORMAL_POTASSIUM_MMOL_L

if TYPE_CHECKING:
    from pipeline.datasets.label_rules import LabelRules


@flow(name="label", flow_run_name="label {dataset}")
@p.documented
@fail_on_user_error
def label(
    *,
    dataset: p.Dataset,
    out: p.LabelsOut,
    hosp: p.Hosp = None,
    window_hours: p.WindowHours = 1.0,
    match: p.Match = "first",
    potassium_items: p.PotassiumItems = p.DEFAULT_POTASSIUM_ITEMS,
    abnormal: p.Abnormal = None,
    potassium_low: p.PotassiumLow = NORMAL_POTASSIUM_MMOL_L[0],
    potassium_high: p.PotassiumHigh = NORMAL_POTASSIUM_MMOL_L[1],
    report: p.ReportLine = "first",
    scheduler: p.Scheduler = None,
) -> tuple[str, ...]:
    """Make the table of labels that train takes by --labels, out of the data set's tables.

    Runs with whatever tables are there, and tells which labels it therefore lacks.
    """
    # Imported here, for they bring Prefect's client and pandas, and asking for help should not
    # wait for them.
    from flows.artifacts import progress_artifact

    logger = get_run_logger()
    with progress_bar("label", "MB", run_log(logger), scale=10**6) as line:
        page = progress_artifact(f"Labels of {dataset}")

        def progress(done: int, total: int) -> None:
            line(done, total)
            page(done, total)

        rules = label_rules(
            window_hours=window_hours,
            match=match,
            potassium_items=potassium_items,
            abnormal=abnormal,
            potassium_low=potassium_low,
            potassium_high=potassium_high,
            report=report,
        )
        lines = label_records(dataset, out, hosp, opaque(rules), scheduler, opaque(progress))
    if isinstance(lines, Exception):
        raise lines
    create_markdown_artifact(key="labels", markdown="\n\n".join(lines))
    for told in lines:
        logger.info(told)
    return lines


def label_rules(
    *,
    window_hours: float = 1.0,
    match: p.Match = "first",
    potassium_items: tuple[str, ...] = p.DEFAULT_POTASSIUM_ITEMS,
    abnormal: p.Abnormal = None,
    potassium_low: float = NORMAL_POTASSIUM_MMOL_L[0],
    potassium_high: float = NORMAL_POTASSIUM_MMOL_L[1],
    report: str = "first",
) -> "LabelRules":
    """What a command line says of the labels. Raises UserError where it cannot be meant."""
    from enecg.errors import UserError
    from pipeline.datasets.label_rules import LabelRules

    items = p.split(potassium_items)
    # Python itself refuses to read a number of some thousand digits.
    wrong = [item for item in items if not item.isdecimal() or len(item) > 18]
    if wrong:
        raise UserError(
            f"{wrong[0][:30]!r} is no itemid; give --potassium-items whole numbers of MIMIC-IV's "
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
    )


@task(name="label records", cache_policy=NO_CACHE)
@return_user_errors
def label_records(
    dataset: str,
    out: Path,
    hosp: Path | None,
    rules: "LabelRules",
    scheduler: str | None,
    progress: Progress,
) -> tuple[str, ...]:
    """Read the tables; a user's mistake is returned, for a raised one is logged."""
    from pipeline.datasets.registry import open_dataset
    from pipeline.labels.label_step import make_labels

    source = open_dataset(dataset)
    return make_labels(source, out, rules, hosp=hosp, scheduler=scheduler, progress=progress).lines
