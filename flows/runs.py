"""`enecg table` and `enecg runs`: the tables of finished runs; needs no Prefect and no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from flows.tables import format_table

if TYPE_CHECKING:
    from pipeline.report.table import Table

app: App = App(name="runs", help="List finished runs, show one, or compare several.")

Folder = Annotated[Path, Parameter(help="Folder of a run, as given to train by --out.")]
Out = Annotated[
    Path | None,
    Parameter(help="File to write to instead: Markdown, CSV or HTML by its suffix."),
]


def table(
    which: Annotated[
        Literal["1", "2", "3", "figure3"],
        Parameter(
            help="1: experts under untrained heads; 2: fine-tuned experts and EnECG; 3: ways to "
            "join the experts; figure3: memory and throughput."
        ),
    ],
    run: Folder,
    /,
    *,
    extra: Annotated[
        bool, Parameter(help="The metrics besides the paper's too.", negative="")
    ] = False,
    out: Out = None,
) -> None:
    """Tell a run's results in the layout of one of the paper's tables."""
    from pipeline.report.paper_tables import blocks
    from pipeline.runs.results import read_results

    _tell(blocks(read_results(run), which, extra=extra), out)


@app.command(name="ls")
def list_runs(
    folder: Annotated[Path, Parameter(help="Folder with runs in it, or below it.")], /
) -> None:
    """List the runs in a folder: data set, experts, when, and EnECG's scores."""
    from enecg.errors import UserError
    from pipeline.report.comparison import listed
    from pipeline.runs import results as runs

    found, wrong = [], []
    for one in runs.find_runs(folder):
        try:
            found.append(runs.read_results(one))
        except UserError as error:
            wrong.append(str(error))
    if found:
        told = listed(found)
        print("\n".join(format_table(told.heading, told.rows)))
    elif not wrong:
        print(f"There are no runs in {folder}.")
    for sentence in wrong:
        print(sentence)


@app.command
def show(run: Folder, /) -> None:
    """Tell all about a run: how it was made, from which stores, and its tables."""
    from pipeline.report.paper_tables import all_tables
    from pipeline.runs.results import read_results

    one = read_results(run)
    print(one.folder)
    _list(_flat(one.config))
    for store in one.config["stores"]:
        print(f"\n{store['location']}")
        _list(one.provenance[store["identity"]].items())
    print()
    _tell(all_tables(one), None)


@app.command
def compare(
    run: Folder, /, *others: Annotated[Path, Parameter(help="Other runs.")], out: Out = None
) -> None:
    """Set runs side by side: the settings they differ in, then their scores with intervals."""
    from enecg.errors import UserError
    from pipeline.report import comparison
    from pipeline.runs.results import read_results

    if not others:
        raise UserError("One run cannot be compared; name two or more.")
    _tell(comparison.compare([read_results(one) for one in (run, *others)]), out)


def _tell(tables: Sequence[Table], out: Path | None) -> None:
    from pipeline.report.formats import markdown, write

    if out is None:
        print(markdown(tables), end="")
    else:
        write(tables, out)
        print(f"Written: {out}")


def _list(named: Iterable[tuple[str, Any]]) -> None:
    told = list(named)
    width = max(len(key) for key, _ in told)
    for key, value in told:
        print(f"  {key:<{width}}  {value}")


def _flat(config: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """A run's configuration by key; its stores are told apart."""
    flat: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{before}{key} ")
        elif key != "stores":
            listed = ", ".join(map(str, value)) if isinstance(value, list) else value
            flat.append((before + key, "-" if listed in (None, "") else listed))
    return flat
