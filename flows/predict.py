"""`enecg predict`: predict values and classes from ECGs with a run, without store or Prefect."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows import parameters as p
from flows.output import log_to_stderr
from flows.prediction_output import Format, open_writer
from flows.progress import forward_logs, progress_bar
from flows.run_app import ExitCode

STANDARD_INPUT = "-"


def predict(
    *record: Annotated[
        str,
        Parameter(
            group=p.DATA,
            help="WFDB records (with or without .hea), folders of them, or - to read a list "
            "from standard input, one per line. With --dataset: record ids.",
            # Without this, - would be an unknown option.
            allow_leading_hyphen=True,
        ),
    ],
    run: p.Run,
    dataset: Annotated[
        str | None,
        Parameter(
            group=p.DATA,
            help="Data set as SOURCE:FOLDER, see enecg extract --help. All its records are "
            "predicted unless ids, --records or --limit are given.",
        ),
    ] = None,
    records: p.Records = None,
    limit: p.Limit = None,
    task: Annotated[
        tuple[str, ...],
        Parameter(group=p.TASKS, help="Tasks to predict, comma-separated; by default all."),
    ] = (),
    coverage: Annotated[
        float,
        *p.number("Requested coverage of intervals and sets on new patients.", p.TASKS, gt=0, lt=1),
    ] = 0.9,
    repeat: Annotated[
        int | None,
        *p.number(
            "Use the heads and gate of this repeat only; by default, combine all repeats.",
            p.TASKS,
            ge=0,
        ),
    ] = None,
    weights: Annotated[
        tuple[str, ...],
        Parameter(
            group=p.STORES,
            help="Checkpoints that have been moved since the extraction, as EXPERT@PATH. Files "
            "with other contents are rejected.",
        ),
    ] = (),
    output_format: Annotated[
        Format,
        Parameter(
            name="--format",
            group=p.OUTPUT,
            help="table for reading; json: one object per line; csv; parquet.",
        ),
    ] = "table",
    out: Annotated[
        Path | None,
        Parameter(group=p.OUTPUT, help="File to write; by default standard output."),
    ] = None,
    device: p.Device = "auto",
) -> int:
    """Predict values and classes from ECGs with the experts, heads and gate of a run.

    Predictions contain values with units, or classes with probabilities; intervals or sets of
    classes, calibrated on the run's validation patients; and the gate's weight of every expert.
    Records that cannot be used are refused with a reason, and the exit code is 1. Not a medical
    device.

    Returns:
        Exit code 1 if a record was refused, else 0.

    Raises:
        UserError: Standard input has no record, or an argument, the run or an expert is unusable.
    """
    # Report a wrong folder before the slow import of torch.
    from pipeline.runs.results import check_run_folder

    check_run_folder(run.expanduser())

    # Imported here because `--help` should not wait for torch.
    from enecg.errors import UserError
    from pipeline.predict import open_source, predict_source
    from pipeline.prediction.live_run import load_run
    from pipeline.prediction.notes import describe_gaps
    from pipeline.prediction.predicted import RefusedEcg

    with forward_logs("enecg", log_to_stderr), forward_logs("pipeline", log_to_stderr):
        live = load_run(run, repeat, device, weights=p.split(weights))
        tasks = p.split(task) or live.tasks
        live.check(coverage, tasks)
        paths = list(_read_input(record))
        if record and not paths:
            raise UserError("Standard input contains no record; write one per line to it.")
        source = open_source(live, paths, dataset, records, limit)
        # Load the experts before the output file is opened, because they may be unavailable.
        _ = live.experts
        for note in describe_gaps(live, coverage, tasks):
            log_to_stderr(note)
        integer_ids = all(isinstance(record_id, int) for record_id in source.records)
        done = refused = warned = 0
        with (
            open_writer(
                output_format, out, live, tasks, coverage, integer_ids=integer_ids
            ) as write,
            progress_bar("predict", "records", log_to_stderr) as progress,
        ):
            for result in predict_source(live, source, progress, coverage=coverage, tasks=tasks):
                write(result)
                done += 1
                if isinstance(result, RefusedEcg):
                    refused += 1
                    log_to_stderr(f"Refused ({result.reason}): {result.detail}")
                    continue
                warned += bool(result.warnings)
                for warning in result.warnings:
                    log_to_stderr(f"Warning: {warning}")
    log_to_stderr(
        f"Records: {done - refused:,} predicted, {warned:,} of them with warnings; {refused:,} "
        f"refused. {live.notice}"
    )
    return ExitCode.ISSUES_FOUND if refused else ExitCode.OK


def _read_input(records: Sequence[str]) -> Iterator[str]:
    """Yield the records, with - replaced by the lines of standard input."""
    from enecg.errors import UserError

    for record in records:
        if record.startswith("--"):
            raise UserError(f"Unknown option {record}. See enecg predict --help.")
        if record != STANDARD_INPUT:
            yield record
            continue
        for line in sys.stdin:
            if text := line.strip():
                yield text
