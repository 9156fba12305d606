"""The nightly check of the stores: read all rows, and recompute some of them from the ECGs."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from enecg.errors import UserError
from flows import parameters as p
from flows import verification_parameters as vp
from flows.job import Artifact, current_job
from flows.progress import Progress

if TYPE_CHECKING:
    from pipeline.datasets.base import Dataset
    from pipeline.waveforms.options import DecodeOptions
    from stores.embeddings import EmbeddingStore

MAX_NAMED = 5
"""Number of damaged stores that the error message names."""


@dataclass(frozen=True)
class Recomputation:
    """Settings for recomputing rows of stores.

    Attributes:
        open_source: Opens the data set with the decoding of a store.
        sample: Number of rows per store.
        weights: Weights of the experts; empty selects the random weights in a store's provenance,
            or otherwise the published weights.
        device: Device of the experts.
        seed: Seed of the sample.
    """

    open_source: Callable[["DecodeOptions"], "Dataset"]
    sample: int
    weights: tuple[str, ...]
    device: str
    seed: int


@dataclass(frozen=True)
class StoreCheck:
    """Result of the check of one store.

    Attributes:
        store: Location of the store; the error message if it cannot be opened.
        intact: Whether the store can be read, no row is damaged and no recomputed row differs.
        lines: Lines of the report.
    """

    store: str
    intact: bool
    lines: tuple[str, ...]


def verify(
    *,
    store: p.Store,
    dataset: vp.RecomputedDataset = None,
    sample: vp.Sample = None,
    weights: vp.RecomputedWeights = (),
    device: p.Device = "auto",
    seed: vp.DailySeed = None,
) -> tuple[str, ...]:
    """Verify the checksums of all stores, and recompute some rows of the stores of `dataset`.

    Writes nothing to the stores.

    Returns:
        Lines of the report.

    Raises:
        UserError: A store is damaged or cannot be verified, or a recomputed row differs.
        StoreError: `store` is invalid or unreachable, or contains no stores.
    """
    # Imported here because `--help` should not wait for torch.
    from pipeline.datasets.registry import open_dataset
    from stores.opening import resolve

    recomputation = None
    if dataset is not None:
        seed = int(f"{datetime.now():%Y%m%d}") if seed is None else seed
        # Cache the data sets: opening the index of a large one takes seconds, and most stores have
        # the same decoding.
        open_source = functools.cache(functools.partial(open_dataset, dataset))
        recomputation = Recomputation(
            open_source, sample or vp.DEFAULT_SAMPLE, p.split(weights), device, seed
        )
    job = current_job()
    artifact = Artifact(store, f"Verification of the stores in {store}")
    found = resolve(store).found
    checks = [StoreCheck(str(error), False, (str(error),)) for error in found.errors]
    total, done = sum(len(opened.record_id) for opened in found.stores), 0
    with job.progress("verify", "rows", artifact) as progress:
        for opened in found.stores:

            def report(rows: int, _: int, before: int = done) -> None:
                progress(before + rows, total)

            name = f"verify {opened.location.parent.name} {opened.identity}"
            checks.append(job.step(name, check_store, opened, recomputation, report))
            done += len(opened.record_id)
    lines = tuple(line for check in checks for line in check.lines)
    if recomputation is not None:
        lines = (*lines, f"Seed of the recomputed rows: {seed}")
    job.publish("verification", artifact, verification_page(checks, lines))
    damaged = [check.store for check in checks if not check.intact]
    if damaged:
        for line in lines:
            job.log(line)
        more = f" and {len(damaged) - MAX_NAMED} more" if len(damaged) > MAX_NAMED else ""
        raise UserError(
            f"{len(damaged)} of {len(checks)} stores are damaged, unverifiable or differ from the "
            f"ECGs: {', '.join(damaged[:MAX_NAMED])}{more}. See the report of this run; `enecg "
            "store verify URL --repair` sets damaged rows to absent, and extract computes them "
            "again."
        )
    return lines


def check_store(
    store: "EmbeddingStore", recomputation: Recomputation | None, progress: Progress
) -> StoreCheck:
    """Verify a store. If it is intact and belongs to the data set, recompute some of its rows.

    Args:
        store: The store.
        recomputation: Data set and settings; None recomputes no rows.
        progress: Called with the number of verified rows and the total, both of this store.

    Returns:
        The result. Errors are included in the report.
    """
    from flows import store_report
    from pipeline.extraction.recompute import recompute
    from pipeline.waveforms.options import DecodeOptions
    from stores import verify as store_verification
    from stores.errors import StoreError
    from stores.layout import dataset_name

    location = str(store.location)
    try:
        verified = store_verification.verify(store, progress=progress)
        lines, intact = store_report.verification(verified), verified.intact
        if recomputation is not None and intact:
            source = recomputation.open_source(DecodeOptions.from_json(store.provenance))
            if dataset_name(store.location) == source.namespace:
                result = recompute(
                    store,
                    source,
                    recomputation.sample,
                    weights=recomputation.weights,
                    device=recomputation.device,
                    seed=recomputation.seed,
                )
                lines += store_report.recomputation(result)
                intact = not result.different
    except (StoreError, UserError) as error:
        # Report the error, so that the other stores are verified.
        lines, intact = [f"{location}: {error}"], False
    return StoreCheck(location, intact, tuple(lines))


def verification_page(checks: list[StoreCheck], lines: tuple[str, ...]) -> str:
    """Format a verification in Markdown.

    Args:
        checks: Results by store.
        lines: Lines of the report.

    Returns:
        A table of the stores, followed by the report.
    """
    rows = "\n".join(
        f"| {'intact' if check.intact else '**damaged**'} | {check.store} |" for check in checks
    )
    report = "\n".join(lines)
    return f"# Verification\n\n| state | store |\n|---|---|\n{rows}\n\n```text\n{report}\n```\n"
