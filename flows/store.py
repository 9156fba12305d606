"""`enecg store`: list, show, map, verify, repair, clean up and copy stores, without Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from flows import parameters as p
from flows import store_report
from flows import verification_parameters as vp
from flows.help_examples import example
from flows.output import log_to_stderr, print_text
from flows.progress import progress_bar
from flows.run_app import ExitCode
from flows.store_card import card
from flows.tables import format_bytes, format_table

if TYPE_CHECKING:
    from stores.embeddings import EmbeddingStore
    from stores.errors import StoreError
    from stores.opening import RowCounts
    from stores.verify import Verification

app: App = App(name="store", help_epilogue=example("store"))
app.command(card, help_epilogue=example("store card"))
app.command(
    "flows.store_browse:plot",
    name="plot",
    help="Write a page with a map of each expert's embeddings and the similarity of the experts.",
    help_epilogue=example("store plot"),
)
app.command(
    "flows.store_browse:neighbors",
    name="neighbors",
    help="Print the records whose embeddings are nearest to that of a record, for each expert.",
    help_epilogue=example("store neighbors"),
)

Root = Annotated[str, Parameter(help="Root of the stores: a folder or a URL (s3://, file://).")]
Url = Annotated[
    str, Parameter(help="Folder or URL of one store, or of a root for all stores below it.")
]


@app.command(name="ls", help_epilogue=example("store ls"))
def list_stores(url: Url, /) -> int:
    """List stores with weights, pooling, data type, row counts, size, identity and current writer.

    Returns:
        Exit code 1 if a store cannot be read, else 0.
    """
    from stores.layout import dataset_name

    counted, errors = _count_stores(url)
    rows = [
        (
            dataset_name(store.location),
            store.location.parent.name,
            *(store.provenance.get(key, "-") for key in ("weights", "pooling", "dtype")),
            *(counts.rows, counts.whole, counts.missing, sum(counts.failed.values())),
            format_bytes(counts.size_bytes),
            store.identity,
            store_report.writer(store) or "-",
        )
        for store, counts in counted
    ]
    head = "data set,expert,weights,pooling,dtype,rows,complete,missing,failed,size,identity,writer"
    if rows:
        print_text("\n".join(format_table(head.split(","), rows)))
    return _log_errors(errors)


@app.command(help_epilogue=example("store show"))
def show(
    url: Url,
    /,
    *,
    failed: Annotated[bool, Parameter(help="List every failed record with its reason.")] = False,
) -> int:
    """Show the provenance, row counts, runs with their rates, and current writer of stores.

    Returns:
        Exit code 1 if a store cannot be read, else 0.
    """
    counted, errors = _count_stores(url)
    for store, counts in counted:
        lines = store_report.describe(store, counts)
        if failed:
            lines += store_report.failed_records(store)
        print_text("\n".join(lines), end="\n\n")
    return _log_errors(errors)


@app.command(help_epilogue=example("store verify"))
def verify(
    url: Url,
    /,
    *,
    repair: Annotated[
        bool,
        Parameter(help="Set damaged rows to absent, so that the next extraction computes them."),
    ] = False,
    recompute: Annotated[
        bool,
        Parameter(
            group=p.RECOMPUTATION,
            help="Recompute some rows from the ECGs and compare them with the stored rows; "
            "requires --dataset.",
        ),
    ] = False,
    sample: vp.Sample = None,
    dataset: vp.RecomputedDataset = None,
    weights: vp.RecomputedWeights = (),
    device: p.Device = "auto",
    seed: p.Seed = 0,
) -> int:
    """Read every shard and report damage. Writes only with --repair.

    Returns:
        Exit code 1 if a store remains damaged or unverified, or a recomputed row differs, else 0.

    Raises:
        UserError: Options are missing; or `url` is one store, and its expert cannot be loaded.
        StoreError: There is no store; or `url` is one store, and it cannot be read or repaired.
    """
    from enecg.errors import UserError
    from stores.errors import StoreError
    from stores.opening import resolve

    if recompute != (dataset is not None) or (sample is not None and not recompute):
        raise UserError(
            "--recompute requires --dataset, and --dataset and --sample require --recompute, as "
            "in: enecg store verify URL --recompute --dataset SOURCE:FOLDER."
        )
    resolved = resolve(url)
    damaged = bool(resolved.found.errors)
    for unreadable in resolved.found.errors:
        print_text(unreadable)
    for store in resolved.found.stores:
        try:
            result = _verify(store, repair)
            print_text("\n".join(store_report.verification(result)))
            damaged |= not result.intact
            if dataset is not None and result.intact:
                damaged |= _recompute(
                    result, dataset, sample or vp.DEFAULT_SAMPLE, weights, device, seed
                )
        except (StoreError, UserError) as error:
            # If there are several stores, report the error and verify the others.
            if resolved.is_single_store:
                raise
            print_text(error)
            damaged = True
    return ExitCode.ISSUES_FOUND if damaged else ExitCode.OK


@app.command(help_epilogue=example("store gc"))
def gc(
    root: Root,
    /,
    *,
    remove: Annotated[bool, Parameter(help="Remove the files instead of listing them.")] = False,
) -> None:
    """List or remove files of interrupted writers and removed stores. Rows of stores are kept."""
    from stores import garbage
    from stores.links import find_links
    from stores.locate import locate
    from stores.regular_files import describe_link

    location = locate(root)
    denied: list[StoreError] = []
    found = garbage.find_garbage(location, denied)
    for link, target in find_links(location):
        log_to_stderr(describe_link(link, target))
    if remove:
        found = list(garbage.remove_garbage(found, denied))
    for error in denied:
        log_to_stderr(str(error))
    for item in found:
        path = f"{item.location}{'/' if item.is_folder else ''}"
        print_text(f"{format_bytes(item.size_bytes):>10}  {path}  ({item.reason})")
    count = f"{len(found):,} item{'s' if len(found) > 1 else ''}"
    total = f"{count}, {format_bytes(sum(item.size_bytes for item in found))}"
    if not found:
        print_text("Removed nothing." if remove else "Nothing to remove.")
    else:
        print_text(
            f"Removed {total}." if remove else f"Total: {total}. Run with --remove to delete."
        )


@app.command(help_epilogue=example("store copy"))
def copy(
    source: Url,
    target: Root,
    /,
    *,
    experts: Annotated[
        tuple[str, ...],
        Parameter(help="Copy only these experts and the gate's leads, comma-separated."),
    ] = (),
    dataset_name: Annotated[
        tuple[str, ...],
        Parameter(help="Copy only these data sets, comma-separated, such as ludb/1.0.1."),
    ] = (),
) -> int:
    """Copy the rows that are missing in the target root: embeddings, and reasons of failures.

    Each written shard is read back and compared. An interrupted copy resumes when it is run again.
    Both roots remain readable during the copy.

    Returns:
        Exit code 1 if a store or shard of source or target is damaged or unreadable, else 0.
    """
    from enecg.names import LEADS_SAMPLE
    from stores import copying
    from stores.locate import locate
    from stores.opening import resolve

    resolved = resolve(source)
    stores = copying.select_stores(
        resolved,
        reference=LEADS_SAMPLE,
        datasets=p.split(dataset_name),
        experts=p.split(experts),
    )
    errors = [str(error) for error in resolved.found.errors]
    with progress_bar("copy", "rows", log_to_stderr) as progress:
        copies = copying.copy_stores(
            stores,
            locate(target),
            reference=LEADS_SAMPLE,
            log=log_to_stderr,
            progress=progress,
        )
        for copied in copies:
            print_text(
                f"{copied.location}: {copied.whole:,} rows copied, {copied.failed:,} failed rows "
                f"recorded, {copied.already_present:,} rows already present"
            )
            errors += copied.damaged
    for error in dict.fromkeys(errors):
        log_to_stderr(error)
    return ExitCode.ISSUES_FOUND if errors else ExitCode.OK


def _count_stores(
    url: str,
) -> tuple[list[tuple[EmbeddingStore, RowCounts]], list[StoreError]]:
    """Return the stores at `url` with their row counts, and the errors of unreadable stores."""
    from stores.errors import StoreError
    from stores.opening import count_rows, resolve

    found = resolve(url).found
    counted, errors = [], list(found.errors)
    for store in found.stores:
        try:
            counted.append((store, count_rows(store)))
        except StoreError as error:
            errors.append(error)
    return counted, errors


def _log_errors(errors: Sequence[StoreError]) -> ExitCode:
    for error in errors:
        log_to_stderr(str(error))
    return ExitCode.ISSUES_FOUND if errors else ExitCode.OK


def _verify(store: EmbeddingStore, repair: bool) -> Verification:
    from stores import verify
    from stores.layout import dataset_name

    title = f"verify {dataset_name(store.location)} {store.location.parent.name}"
    with progress_bar(title, "rows", log_to_stderr) as progress:
        result = verify.verify(store, progress=progress)
        if repair and any(finding.repairable for finding in result.findings):
            result = verify.repair_store(store.location, log=log_to_stderr, progress=progress)
    return result


def _recompute(
    verified: Verification,
    dataset: str,
    sample: int,
    weights: tuple[str, ...],
    device: str,
    seed: int,
) -> bool:
    """Recompute some rows, print the comparison and return whether any row differs."""
    from pipeline.datasets.registry import open_dataset
    from pipeline.extraction.recompute import recompute
    from pipeline.waveforms.options import DecodeOptions
    from stores.opening import open_store

    store = open_store(verified.location)
    source = open_dataset(dataset, DecodeOptions.from_json(store.provenance))
    result = recompute(store, source, sample, weights=p.split(weights), device=device, seed=seed)
    print_text("\n".join(store_report.recomputation(result)))
    return bool(result.different)
