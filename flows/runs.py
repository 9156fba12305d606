"""`enecg table` and `enecg runs`: tables, pages and exports of runs, without Prefect or torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from flows.help_examples import example
from flows.output import log_to_stderr, print_text
from flows.run_app import ExitCode
from flows.tables import format_table

if TYPE_CHECKING:
    from pipeline.report.table import Table

app: App = App(
    name="runs",
    help_epilogue=example("runs"),
    help="List, show, compare, export and serve finished runs, and draw their pages.",
)

Folder = Annotated[Path, Parameter(help="Run folder, as passed to train with --out.")]
Out = Annotated[
    Path | None,
    Parameter(help="Write to this .md, .csv or .html file instead of the terminal."),
]


def table(
    which: Annotated[
        Literal[
            "1",
            "2",
            "3",
            "figure3",
            "differences",
            "random-weights",
            "leave-one-out",
            "label-efficiency",
        ],
        Parameter(
            help="1: experts with untrained heads; 2: fine-tuned experts and EnECG; 3: ensembles "
            "of the experts; figure3: memory and throughput; differences: EnECG minus other "
            "methods; random-weights: experts minus the same experts with random weights; "
            "leave-one-out: EnECG without each expert; label-efficiency: curves of train "
            "--label-fractions."
        ),
    ],
    run: Folder,
    /,
    *,
    extra: Annotated[
        bool, Parameter(help="Add the metrics that the paper does not report.", negative="")
    ] = False,
    out: Out = None,
) -> None:
    """Print a table of a run: one of the paper's tables, or another of the run's results page."""
    from pipeline.report.paper_tables import tables_with_notes
    from pipeline.runs.results import read_results

    _output(tables_with_notes(read_results(run), which, extra=extra), out)


@app.command(name="ls", help_epilogue=example("runs ls"))
def list_runs(
    folder: Annotated[
        Path, Parameter(help="Folder that contains runs, directly or up to three levels below.")
    ],
    /,
) -> int:
    """List the runs in a folder with data set, experts, untrained weights, date and EnECG's scores.

    Returns:
        Exit code 1 if a run cannot be read, else 0.
    """
    from enecg.errors import UserError
    from pipeline.report import comparison
    from pipeline.runs.find_runs import find_runs
    from pipeline.runs.results import read_results

    runs, errors = [], []
    for path in find_runs(folder):
        try:
            runs.append(read_results(path))
        except UserError as error:
            errors.append(str(error))
    if runs:
        listing = comparison.list_runs(runs)
        print_text("\n".join(format_table(listing.heading, listing.rows)))
    elif not errors:
        print_text(f"No runs in {folder}.")
    for message in errors:
        log_to_stderr(message)
    return ExitCode.ISSUES_FOUND if errors else ExitCode.OK


@app.command(help_epilogue=example("runs show"))
def show(run: Folder, /) -> None:
    """Show a run: its configuration, the stores it was trained from, and its tables."""
    from pipeline.report.paper_tables import all_tables
    from pipeline.runs.results import read_results

    results = read_results(run)
    print_text(results.folder)
    _print_pairs(_flatten(results.config))
    for store in results.config["stores"]:
        print_text(f"\n{store['location']}")
        _print_pairs(results.provenance[store["identity"]].items())
    print_text()
    _output(all_tables(results), None)


@app.command(help_epilogue=example("runs compare"))
def compare(
    run: Folder,
    /,
    *others: Annotated[Path, Parameter(help="Other runs.")],
    out: Annotated[
        Path | None,
        Parameter(
            help="Write to this .md, .csv or .html file instead of the terminal. A .html file is a "
            "page with plots and paired differences from the first run."
        ),
    ] = None,
) -> None:
    """Compare runs: the settings that differ, and the scores with intervals.

    Raises:
        UserError: Only one run is named, a run is invalid, the runs have different data sets, or
            the tables cannot be written.
    """
    from enecg.errors import UserError
    from pipeline.report.comparison import compare_runs
    from pipeline.runs.results import read_results

    if not others:
        raise UserError("Only one run is named; name two or more to compare.")
    runs = [read_results(folder) for folder in (run, *others)]
    if out is not None and out.suffix == ".html":
        from pipeline.report.comparison_page import write_comparison

        write_comparison(runs, out)
        print_text(f"Wrote {out}.")
    else:
        _output(compare_runs(runs), out)


@app.command(help_epilogue=example("runs page"))
def page(
    run: Folder,
    /,
    *,
    with_ecgs: Annotated[
        bool,
        Parameter(
            help="Also draw up to ten ECGs with the largest errors and ten with typical errors for "
            "each task; requires --dataset. The page then contains patient data.",
            negative="",
        ),
    ] = False,
    dataset: Annotated[
        str | None, Parameter(help="The data set of the run, as SOURCE:FOLDER, for --with-ecgs.")
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(
            help="File of the page; by default results.html in the run folder, or "
            "results-with-ecgs.html with --with-ecgs."
        ),
    ] = None,
) -> None:
    """Draw the results page of a run again, from the files in its folder.

    Raises:
        UserError: --with-ecgs or --dataset is missing, the run or the data set is invalid, or the
            page cannot be written.
    """
    from enecg.errors import UserError
    from pipeline.report.page import write_page
    from pipeline.runs.results import read_results

    if with_ecgs != (dataset is not None):
        raise UserError("--with-ecgs and --dataset require each other; pass both or neither.")
    results = read_results(run)
    source = None
    if dataset is not None:
        from pipeline.datasets.registry import open_dataset
        from pipeline.waveforms.options import DecodeOptions

        decoding = results.config["settings"].get("decoding", {})
        source = open_dataset(dataset, DecodeOptions.from_json(decoding))
    print_text(f"Page: {write_page(results, out=out, dataset=source)}")


@app.command(help_epilogue=example("runs export"))
def export(
    run: Folder, out: Annotated[Path, Parameter(help="New folder for the copy.")], /
) -> None:
    """Copy a run's tables, page and predictions for sharing, without record and patient ids."""
    from pipeline.runs.export import export_run

    export_run(run, out)
    print_text(f"Export: {out}")


@app.command(help_epilogue=example("runs serve"))
def serve(
    folder: Annotated[Path, Parameter(help="Folder that contains runs.")],
    /,
    *,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on.")] = 8080,
) -> None:
    """Serve the pages and lists of failed records in a folder over HTTP until interrupted.

    A --host to which other machines can connect, such as 0.0.0.0, requires a password: set
    ENECG_PAGES_AUTH to USER:PASSWORD.
    """
    from flows.lab.pages import AUTH_VARIABLE, serve

    serve(folder, host, port, os.environ.get(AUTH_VARIABLE, ""))


def _output(tables: Sequence[Table], out: Path | None) -> None:
    from pipeline.report.formats import to_markdown, write_tables

    if out is None:
        print_text(to_markdown(tables), end="")
    else:
        write_tables(tables, out)
        print_text(f"Wrote {out}.")


def _print_pairs(pairs: Iterable[tuple[str, Any]]) -> None:
    pairs = list(pairs)
    width = max(len(key) for key, _ in pairs)
    for key, value in pairs:
        print_text(f"  {key:<{width}}  {value}")


def _flatten(config: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Flatten a nested configuration, without its stores."""
    flat: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, dict):
            flat += _flatten(value, f"{prefix}{key} ")
        elif key != "stores":
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            flat.append((prefix + key, "-" if text in (None, "") else text))
    return flat
