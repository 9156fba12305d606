"""`enecg explain`: attribute a run's outputs to the waves of ECGs."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows import parameters as p
from flows.output import log_to_stderr, print_text
from flows.progress import progress_bar
from flows.run_app import ExitCode

ExplanationOut = Annotated[
    Path | None,
    Parameter(
        group=p.OUTPUT,
        help="Folder for the page, figures and tables; by default only the tables are printed.",
    ),
]


def explain(
    *records: Annotated[str, Parameter(group=p.DATA, help="Ids of the records to explain.")],
    run: p.Run,
    dataset: p.Dataset,
    task: Annotated[str, Parameter(group=p.TASKS, help="Task of the run.")] = "rr_interval",
    class_name: Annotated[
        str | None,
        Parameter(
            name="--class",
            group=p.TASKS,
            help="Class or label to explain; by default the positive class of a binary task, "
            "otherwise the most probable class or label of each record.",
        ),
    ] = None,
    cohort: Annotated[
        int | None,
        *p.number(
            "Instead of named records, explain this many, drawn from patients that the run was not "
            "trained on, and average over them.",
            p.DATA,
            ge=1,
        ),
    ] = None,
    out: ExplanationOut = None,
    repeat: Annotated[int, *p.number("Index of the repeat to explain.", p.EXECUTION, ge=0)] = 0,
    steps: Annotated[int, *p.number("Steps of the integrated gradients.", p.EXECUTION, ge=2)] = 16,
    references: Annotated[
        int, *p.number("Number of ECGs to average for the baseline.", p.EXECUTION, ge=1)
    ] = 16,
    seed: p.Seed = 0,
    device: p.Device = "auto",
) -> int:
    """Show which waves of an ECG the outputs of a run depend on, for each expert.

    Returns:
        Exit code 1 if a named record was refused, or no record could be explained, else 0.
    """
    # Report a wrong folder before the slow import of torch.
    from pipeline.runs.results import check_run_folder

    check_run_folder(run.expanduser())

    # Imported here because `--help` should not wait for torch.
    from pipeline.explain import explain as explain_records
    from pipeline.explanation.options import ExplainOptions
    from pipeline.report.explanation_files import PAGE, to_text

    options = ExplainOptions(cohort, class_name, repeat, steps, references, seed, device)
    with progress_bar("explain", "records", log_to_stderr) as progress:
        result = explain_records(
            run, dataset, records, task=task, options=options, out=out, progress=progress
        )
    print_text(to_text(result), end="")
    if out is not None:
        print_text(f"\nPage: {out / PAGE}")
    if not result.records or (records and result.refusals):
        return ExitCode.ISSUES_FOUND
    return ExitCode.OK
