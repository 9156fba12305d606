"""`enecg store`: list, show, verify, clean up and copy the shared stores; needs no Prefect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from flows import parameters as p
from flows import store_report as lines
from flows.progress import log_to_stderr, progress_bar
from flows.run_app import ExitCode
from flows.tables import format_bytes, format_table

if TYPE_CHECKING:
    from pipeline.extraction.recompute import RecomputeResult
    from stores.location import Location

app: App = App(
    name="store", help="Look after the stores: list, show, verify and mend, clean up, copy."
)

Root = Annotated[str, Parameter(help="Root of the stores: a folder, or a URL (s3://, file://).")]
Where = Annotated[
    str, Parameter(help="A root, for all stores below it, or one store of it: a folder or a URL.")
]
RECOMPUTED_ROWS = 16
"""Rows of a store that are computed again where nobody says how many."""


@app.command(name="ls")
def list_stores(url: Where, /) -> int:
    """List the stores: what made them, how much of them is there, who writes to them."""
    from stores.errors import StoreError
    from stores.layout import dataset_name
    from stores.opening import count_rows, resolve

    found = resolve(url).found
    rows = []
    wrong = list(found.errors)
    for store in found.stores:
        try:
            counts = count_rows(store)
        except StoreError as error:
            wrong.append(error)
            continue
        made = store.provenance
        rows.append(
            (
                dataset_name(store.location),
                store.location.parent.name,
                *(made.get(key, "-") for key in ("weights", "pooling", "dtype")),
                *(counts.rows, counts.whole, counts.missing, sum(counts.failed.values())),
                format_bytes(counts.size_bytes),
                store.identity,
                lines.writer(store.location) or "-",
            )
        )
    head = "data set,expert,weights,pooling,dtype,rows,whole,missing,failed,size,identity,writer"
    if rows:
        print("\n".join(format_table(head.split(","), rows)))
    for sentence in wrong:
        print(sentence)
    return ExitCode.ISSUES_FOUND if wrong else ExitCode.OK


@app.command
def show(
    url: Where,
    /,
    *,
    failed: Annotated[
        bool,
        Parameter(help="List every record that could not be had, and why.", negative=""),
    ] = False,
) -> int:
    """Tell all about a store: provenance, counts, runs with their rates, and who writes to it."""
    from stores.errors import StoreError
    from stores.opening import count_rows, resolve

    found = resolve(url).found
    wrong = list(found.errors)
    for store in found.stores:
        try:
            counts = count_rows(store)
        except StoreError as error:
            wrong.append(error)
            continue
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in counts.failed.items())
        print(store.location)
        print(
            f"  rows      {counts.rows:,}: {counts.whole:,} whole, {counts.missing:,} missing, "
            f"{sum(counts.failed.values()):,} failed" + (f" ({reasons})" if reasons else "")
        )
        print(
            f"  size      {format_bytes(counts.size_bytes)}, {store.features:,} features, "
            f"{store.shards:,} shards of {store.shard_rows:,} rows"
        )
        print(f"  writer    {lines.writer(store.location) or 'nobody'}")
        for key, value in store.provenance.items():
            print(f"  {key:<18}{value}")
        for line in lines.runs(store):
            print(f"  run       {line}")
        if failed:
            for line in lines.failures(store):
                print(line)
        print()
    for sentence in wrong:
        print(sentence)
    return ExitCode.ISSUES_FOUND if wrong else ExitCode.OK


@app.command
def verify(
    url: Where,
    /,
    *,
    mend: Annotated[
        bool,
        Parameter(
            help="Set damaged rows back to absent, so that the next extraction computes them.",
            negative="",
        ),
    ] = False,
    recompute: Annotated[
        bool,
        Parameter(
            help="Compute some rows again from the ECGs, and compare; needs --dataset.", negative=""
        ),
    ] = False,
    sample: Annotated[
        int | None,
        Parameter(
            help=f"Rows of each store to compute again, drawn at random: {RECOMPUTED_ROWS} "
            "where it is not given.",
            validator=Number(gte=1),
        ),
    ] = None,
    dataset: Annotated[
        str | None, Parameter(help="Data set of the ECGs, as for extract: SOURCE:FOLDER.")
    ] = None,
    weights: Annotated[
        tuple[str, ...],
        Parameter(
            help="Weights to compute again by, as for extract; none given: those that the store "
            "names, or the published ones.",
            negative="",
            show_default=False,
        ),
    ] = (),
    device: p.Device = "auto",
    seed: p.Seed = 0,
) -> int:
    """Read every shard and tell what is damaged; exit code 1 where something is.

    Nothing is written but by --mend.
    """
    from enecg.errors import UserError
    from stores import verify as verifying
    from stores.errors import StoreError
    from stores.opening import resolve

    if recompute != (dataset is not None) or (sample is not None and not recompute):
        raise UserError(
            "--recompute needs --dataset, and --dataset and --sample need --recompute: verify URL "
            "--recompute --dataset SOURCE:FOLDER."
        )
    address = resolve(url)
    for sentence in address.found.errors:
        print(sentence)
    wrong = bool(address.found.errors)
    for store in address.found.stores:
        try:
            with progress_bar(f"verify {lines.short(store)}", "rows", log_to_stderr) as report:
                result = verifying.verify(store, progress=report)
                if mend and any(one.repairable for one in result.findings):
                    result = verifying.repair_store(
                        store.location, log=log_to_stderr, progress=report
                    )
            for line in lines.verified(result):
                print(line)
            wrong |= not result.intact
            if dataset is not None and result.intact:
                again = _recompute(
                    result.location, dataset, sample or RECOMPUTED_ROWS, weights, device, seed
                )
                for line in lines.recomputed(again):
                    print(line)
                wrong |= bool(again.different)
        except (StoreError, UserError) as error:
            # One store that cannot be looked into leaves the others to be.
            if address.is_single_store:
                raise
            print(error)
            wrong = True
    return ExitCode.ISSUES_FOUND if wrong else ExitCode.OK


@app.command
def gc(
    root: Root,
    /,
    *,
    remove: Annotated[
        bool, Parameter(help="Remove it, instead of only listing it.", negative="")
    ] = False,
) -> None:
    """List what killed writers left behind and nobody uses, or remove it; no row of a store is."""
    from stores import garbage
    from stores.locate import locate

    found = garbage.find_garbage(locate(root))
    if remove:
        found = list(garbage.remove_garbage(found))
    for item in found:
        path = f"{item.location}{'/' if item.is_folder else ''}"
        print(f"{format_bytes(item.size_bytes):>10}  {path}  ({item.reason})")
    total = f"{len(found):,} things, {format_bytes(sum(item.size_bytes for item in found))}"
    if not found:
        print("Nothing was removed." if remove else "There is nothing to remove.")
    else:
        print(f"Removed: {total}." if remove else f"In all {total}; --remove removes them.")


@app.command
def copy(
    source: Where,
    target: Root,
    /,
    *,
    experts: Annotated[
        tuple[str, ...],
        Parameter(
            help="Only these experts, separated by commas; the gate's leads come along.",
            negative="",
            show_default=False,
        ),
    ] = (),
    dataset_name: Annotated[
        tuple[str, ...],
        Parameter(
            help="Only these data sets, such as ludb/1.0.1.", negative="", show_default=False
        ),
    ] = (),
) -> int:
    """Copy stores into another root: what is whole there and missing here, each shard compared.

    A copy that broke off goes on when begun again. Readers of neither side wait.
    """
    from enecg.names import LEADS_SAMPLE
    from stores import copying
    from stores.locate import locate
    from stores.opening import resolve

    address = resolve(source)
    stores = copying.select_stores(
        address,
        reference=LEADS_SAMPLE,
        datasets=p.split(dataset_name),
        experts=p.split(experts),
    )
    wrong = [str(error) for error in address.found.errors]
    with progress_bar("copy", "rows", log_to_stderr) as report:
        copies = copying.copy_stores(
            stores,
            locate(target),
            reference=LEADS_SAMPLE,
            log=log_to_stderr,
            progress=report,
        )
        for done in copies:
            print(
                f"{done.location}: {done.whole:,} rows copied, {done.failed:,} failures noted, "
                f"{done.already_present:,} already there"
            )
            wrong += done.damaged
    for sentence in dict.fromkeys(wrong):
        log_to_stderr(sentence)
    return ExitCode.ISSUES_FOUND if wrong else ExitCode.OK


def _recompute(
    location: Location,
    dataset: str,
    sample: int,
    weights: tuple[str, ...],
    device: str,
    seed: int,
) -> RecomputeResult:
    from pipeline.datasets.registry import open_dataset
    from pipeline.extraction.recompute import recompute
    from stores.opening import open_store

    source = open_dataset(dataset)
    given = p.split(weights)
    store = open_store(location)
    return recompute(store, source, sample, weights=given, device=device, seed=seed)
