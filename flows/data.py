"""`enecg data`: check the signals of a data set. This module imports neither Prefect nor torch."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from flows import parameters as p
from flows.help_examples import example
from flows.run_app import ExitCode
from flows.tables import format_table

if TYPE_CHECKING:
    from pipeline.check import SignalReport

app: App = App(name="data", help_epilogue=example("data"))


@app.command(help_epilogue=example("data check"))
def check(
    dataset: p.Dataset,
    /,
    *,
    limit: p.Limit = None,
    records: p.Records = None,
    short_records: p.ShortRecords = "refuse",
    derive_leads: p.DeriveLeads = False,
    sample: Annotated[
        int | None, *p.number("Check only this many records, drawn at random.", p.DATA, ge=1)
    ] = None,
    seed: p.Seed = 0,
    at_most: Annotated[
        float | None,
        *p.number(
            "Exit with 1 if more than this percentage of records are unreadable or have findings.",
            p.OUTPUT,
            ge=0,
            le=100,
        ),
    ] = None,
    only: Annotated[
        tuple[str, ...],
        Parameter(
            group=p.OUTPUT,
            help="Findings and reasons of unreadable records to count for --at-most, "
            "comma-separated; by default all.",
        ),
    ] = (),
    out: Annotated[
        Path | None,
        Parameter(
            group=p.OUTPUT, help="CSV file for the unreadable records and those with findings."
        ),
    ] = None,
    threads: Annotated[
        int | None,
        *p.number(
            "Number of records to read in parallel; by default the number of CPUs, or more if the "
            "data set is at a URL.",
            p.EXECUTION,
            ge=1,
        ),
    ] = None,
) -> int:
    """Count unreadable records by reason, and records with findings by finding.

    Returns:
        Exit code 1 if more than --at-most percent of the checked records are unreadable or have
        findings (with --only, have one of the named reasons and findings), else 0.

    Raises:
        UserError: An option or the data set is invalid, the data set has no records, or the CSV
            file cannot be written.
    """
    # Imported here because `--help` should not wait for pandas and scipy.
    import numpy as np

    from enecg.errors import UserError
    from flows.output import log_to_stderr, print_text
    from flows.progress import progress_bar
    from pipeline.check import check_signals
    from pipeline.datasets.registry import open_dataset
    from pipeline.datasets.selection import select_records
    from pipeline.waveforms.failures import REASONS
    from pipeline.waveforms.options import DecodeOptions
    from pipeline.waveforms.quality import FINDINGS

    selected_findings = p.split(only)
    for name in selected_findings:
        if name not in (*REASONS, *FINDINGS):
            available = ", ".join((*REASONS, *FINDINGS))
            raise UserError(f"Unknown finding {name!r} in --only; available: {available}.")
    source = open_dataset(dataset, DecodeOptions(short_records, derive_leads))
    index = source.index()
    if not len(index):
        raise UserError(f"{dataset} has no records; pass the root folder of the data set.")
    selected = select_records(
        index.record_id, limit=limit, records=records, sample=sample, seed=seed
    )
    patients = len(np.unique(index.patient_id))
    print_text(
        f"{source.namespace}: {len(index):,} records of {patients:,} patients, "
        f"index {index.digest[:12]}"
    )
    with progress_bar("check", "records", log_to_stderr) as progress:
        report = check_signals(
            source,
            np.flatnonzero(np.isin(index.record_id, selected)),
            threads=threads or max(getattr(source, "threads", 1), os.cpu_count() or 1),
            out=out,
            only=selected_findings,
            progress=progress,
        )
    print_text("\n".join(_format_report(report)))
    if out is not None:
        print_text(f"Unreadable records and records with findings: {out}")
    share = report.percent(report.selected)
    if at_most is None or share <= at_most:
        return ExitCode.OK
    found = "findings named in --only" if selected_findings else "findings or are unreadable"
    log_to_stderr(
        f"{share:.3g} % of the records have {found}, more than the {at_most:g} % allowed by "
        "--at-most."
    )
    return ExitCode.ISSUES_FOUND


def _format_report(report: "SignalReport") -> list[str]:
    from pipeline.waveforms.failures import REASONS
    from pipeline.waveforms.quality import FINDINGS

    lines = [
        f"{report.records:,} records checked: {report.unreadable:,} unreadable "
        f"({report.percent(report.unreadable):.3g} %), "
        f"{report.flagged - report.unreadable:,} others with findings.",
    ]
    for title, names in (("unreadable", REASONS), ("finding", FINDINGS)):
        rows = [
            (
                name,
                report.counts[name],
                f"{report.percent(report.counts[name]):.3g} %",
                ", ".join(f"{lead} {count}" for lead, count in report.leads[name].most_common(4)),
                ", ".join(report.examples[name]),
            )
            for name in names
            if report.counts[name]
        ]
        if rows:
            head = (title, "records", "share", "most frequent leads", "examples")
            lines += ["", *format_table(head, rows)]
    return lines
