"""`enecg store`: list, show, verify, clean up and copy the shared stores; needs no Prefect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from flows import parameters as p
from flows import store_lines as lines
from flows.exit_codes import DONE, WRONG
from flows.progress import shown, to_stderr
from flows.tables import columns, size

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
    from stores.addresses import look_up
    from stores.counts import count
    from stores.errors import StoreError
    from stores.layout import dataset_of

    found = look_up(url).found
    rows = []
    wrong = list(found.wrong)
    for store in found.stores:
        try:
            counts = count(store)
        except StoreError as error:
            wrong.append(error)
            continue
        made = store.provenance
        rows.append(
            (
                dataset_of(store.location),
                store.location.parent.name,
                *(made.get(key, "-") for key in ("weights", "pooling", "dtype")),
                *(counts.rows, counts.whole, counts.missing, sum(counts.failed.values())),
                size(counts.bytes),
                store.identity,
                lines.writer(store.location) or "-",
            )
        )
    head = "data set,expert,weights,pooling,dtype,rows,whole,missing,failed,size,identity,writer"
    if rows:
        print("\n".join(columns(head.split(","), rows)))
    for sentence in wrong:
        print(sentence)
    return WRONG if wrong else DONE


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
    from stores.addresses import look_up
    from stores.counts import count
    from stores.errors import StoreError

    found = look_up(url).found
    wrong = list(found.wrong)
    for store in found.stores:
        try:
            counts = count(store)
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
            f"  size      {size(counts.bytes)}, {store.features:,} features, {store.shards:,} "
            f"shards of {store.shard_rows:,} rows"
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
    return WRONG if wrong else DONE


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
    from stores.addresses import look_up
    from stores.errors import StoreError

    if recompute != (dataset is not None) or (sample is not None and not recompute):
        raise UserError(
            "--recompute needs --dataset, and --dataset and --sample need --recompute: verify URL "
            "--recompute --dataset SOURCE:FOLDER."
        )
    address = look_up(url)
    for sentence in address.found.wrong:
        print(sentence)
    wrong = bool(address.found.wrong)
    for store in address.found.stores:
        try:
            with shown(f"verify {lines.short(store)}", "rows", to_stderr) as report:
                result = verifying.verify(store, progress=report)
                if mend and any(one.mendable for one in result.findings):
                    result = verifying.mend(store.location, notice=to_stderr, progress=report)
            for line in lines.verified(result):
                print(line)
            wrong |= not result.sound
            if dataset is not None and result.sound:
                again = _recompute(
                    result.location, dataset, sample or RECOMPUTED_ROWS, weights, device, seed
                )
                for line in lines.recomputed(again):
                    print(line)
                wrong |= bool(again.different)
        except (StoreError, UserError) as error:
            # One store that cannot be looked into leaves the others to be.
            if address.single:
                raise
            print(error)
            wrong = True
    return WRONG if wrong else DONE


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
    from stores import cleaning
    from stores.location import locate

    found = cleaning.garbage(locate(root))
    if remove:
        found = list(cleaning.remove(found))
    for one in found:
        print(f"{size(one.bytes):>10}  {one.location}{'/' if one.folder else ''}  ({one.why})")
    total = f"{len(found):,} things, {size(sum(one.bytes for one in found))}"
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
    from stores import copying
    from stores.addresses import look_up
    from stores.location import locate

    address = look_up(source)
    stores = copying.choose(address, datasets=p.split(dataset_name), experts=p.split(experts))
    wrong = [str(error) for error in address.found.wrong]
    with shown("copy", "rows", to_stderr) as report:
        for done in copying.copy(stores, locate(target), notice=to_stderr, progress=report):
            print(
                f"{done.location}: {done.whole:,} rows copied, {done.failed:,} failures noted, "
                f"{done.already_there:,} already there"
            )
            wrong += done.damaged
    for sentence in dict.fromkeys(wrong):
        to_stderr(sentence)
    return WRONG if wrong else DONE


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
