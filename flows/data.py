"""`enecg data`: the signals of a data set, looked through; needs no Prefect and no torch."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from flows import parameters as p
from flows.run_app import ExitCode
from flows.tables import format_table

if TYPE_CHECKING:
    from pipeline.check import SignalReport

app: App = App(name="data", help="Look through the ECGs of a data set.")


@app.command
def check(
    dataset: p.Dataset,
    /,
    *,
    limit: p.Limit = None,
    records: p.Records = None,
    sample: Annotated[
        int | None,
        Parameter(help="So many records, drawn at random by --seed.", validator=Number(gte=1)),
    ] = None,
    seed: p.Seed = 0,
    at_most: Annotated[
        float | None,
        Parameter(
            help="Percent of records that may be wrong; beyond it the command ends with 1.",
            validator=Number(gte=0, lte=100),
        ),
    ] = None,
    only: Annotated[
        tuple[str, ...],
        Parameter(
            help="Findings that count for --at-most, separated by commas; none named: all.",
            negative="",
            show_default=False,
        ),
    ] = (),
    out: Annotated[
        Path | None, Parameter(help="CSV file for the records with findings, a row each.")
    ] = None,
    threads: Annotated[
        int | None, Parameter(help="Records read side by side.", validator=Number(gte=1))
    ] = None,
) -> int:
    """Tell how many ECGs cannot be used, and why, and in how many others something looks wrong."""
    # Imported here, for they bring pandas and scipy, and asking for help should not wait for them.
    import numpy as np

    from enecg.errors import UserError
    from flows.progress import log_to_stderr, progress_bar
    from pipeline.check import check_signals
    from pipeline.datasets.registry import open_dataset
    from pipeline.datasets.selection import select_records
    from pipeline.waveforms.decode import REASONS
    from pipeline.waveforms.quality import FINDINGS

    counted = p.split(only)
    for name in counted:
        if name not in (*REASONS, *FINDINGS):
            known = ", ".join((*REASONS, *FINDINGS))
            raise UserError(f"There is no finding {name!r}; there are {known}.")
    source = open_dataset(dataset)
    index = source.index()
    if not len(index):
        raise UserError(f"{dataset} has no record; give the directory of the whole data set.")
    chosen = select_records(index.record_id, limit=limit, records=records, sample=sample, seed=seed)
    patients = len(np.unique(index.patient_id))
    print(
        f"{source.namespace}: {len(index):,} records of {patients:,} patients, "
        f"index {index.digest[:12]}"
    )
    with progress_bar("check", "records", log_to_stderr) as progress:
        found = check_signals(
            source,
            np.flatnonzero(np.isin(index.record_id, chosen)),
            threads=threads or max(getattr(source, "threads", 1), os.cpu_count() or 1),
            out=out,
            only=counted,
            progress=progress,
        )
    for line in told(found):
        print(line)
    if out is not None:
        print(f"Records with findings: {out}")
    share = found.percent(found.selected)
    if at_most is None or share <= at_most:
        return ExitCode.OK
    log_to_stderr(f"{share:.3g} % of the records are wrong, and {at_most:g} % may be (--at-most).")
    return ExitCode.ISSUES_FOUND


def told(found: "SignalReport") -> list[str]:
    """What was found, in lines."""
    from pipeline.waveforms.decode import REASONS
    from pipeline.waveforms.quality import FINDINGS

    lines = [
        f"{found.records:,} records examined: {found.unusable:,} cannot be used "
        f"({found.percent(found.unusable):.3g} %), {found.flagged - found.unusable:,} others have "
        "findings.",
    ]
    for title, reasons in (("cannot be used", REASONS), ("looks wrong", FINDINGS)):
        rows = [
            (
                reason,
                found.counts[reason],
                f"{found.percent(found.counts[reason]):.3g} %",
                ", ".join(f"{lead} {many}" for lead, many in found.leads[reason].most_common(4)),
                ", ".join(found.examples[reason]),
            )
            for reason in reasons
            if found.counts[reason]
        ]
        if rows:
            head = (title, "records", "share", "leads, the most first", "such as")
            lines += ["", *format_table(head, rows)]
    return lines
