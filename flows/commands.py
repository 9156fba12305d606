"""The flows as commands: checked, run in this process, their last lines printed."""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.settings import get_current_settings

from flows.embedded_server import start_server
from flows.extract import estimate
from flows.extract import extract as extract_flow
from flows.label import label as label_flow
from flows.label import rules_of
from flows.parameters import split
from flows.progress import to_stderr
from flows.refresh import refresh as refresh_flow
from flows.sweep import space_of
from flows.sweep import sweep as sweep_flow
from flows.train import train as train_flow
from pipeline.extraction.options import DEFAULT_EXPERTS
from stores.url import check_url

Lines = tuple[str, ...]


def _as_command(flow: Flow[Any, Lines], check: Callable[..., None]) -> Callable[..., None]:
    """A function with the flow's own parameters, to be given to a command line.

    `check` raises the user's commonest mistakes, before a server is started for them; the flow
    itself finds them all.
    """

    @functools.wraps(flow.fn)
    def command(**parameters: Any) -> None:
        # Before all else, for Prefect keeps what a flow is given.
        if "store" in parameters:
            check_url(parameters["store"])
        check(**parameters)
        if not get_current_settings().api.url:
            to_stderr(
                "Starting the embedded Prefect server: some ten seconds. "
                "(PREFECT_API_URL names a running one.)"
            )
            start_server()
        for line in flow(**parameters):
            print(line)

    return command


def _the_dataset_is_there(dataset: str, records: Path | None = None) -> None:
    # Imported here, for it brings torch, and asking for help should not wait for it.
    from pipeline.datasets.registry import open_dataset
    from pipeline.datasets.selection import select_records

    source = open_dataset(dataset)
    if records is not None:
        select_records(source.index().record_id, records=records)


def _the_experts_are_there(
    dataset: str,
    experts: Iterable[str] = DEFAULT_EXPERTS,
    weights: Iterable[str] = ("published",),
    pooling: Iterable[str] = ("default",),
    records: Path | None = None,
    **_: Any,
) -> None:
    from enecg.experts import ExpertOption, get_definition
    from enecg.experts.weights import find_weights

    _the_dataset_is_there(dataset, records=records)
    choice = ExpertOption.parse("--weights", split(weights))
    pooled = ExpertOption.parse("--pooling", split(pooling))
    for definition in [get_definition(expert) for expert in split(experts)]:
        definition.resolve_pooling(pooled.get(definition.name))
        find_weights(definition.name, choice.get(definition.name), definition.published)


def _the_questions_can_be_asked(
    tasks: Iterable[str], own_tasks: Iterable[str], labels: Path | None
) -> None:
    from enecg import tasks as known
    from pipeline.datasets.record_table import read_column_names

    own = known.parse_tasks(split(own_tasks))
    known.select_tasks((name for name in split(tasks) if name != known.ALL), own)
    if labels is not None:
        read_column_names(labels)


def _the_training_can_begin(
    dataset: str,
    store: str,
    out: Path,
    tasks: Iterable[str] = (),
    own_tasks: Iterable[str] = (),
    labels: Path | None = None,
    experts: Iterable[str] = (),
    weights: Iterable[str] = ("published",),
    pooling: Iterable[str] = ("default",),
    dtype: str = "float16",
    base: Path | None = None,
    **_: Any,
) -> None:
    from pipeline.datasets.registry import open_dataset
    from pipeline.runs.base_run import open_base
    from pipeline.runs.output_folder import check_output
    from pipeline.training.cache import open_cache

    _the_questions_can_be_asked(tasks, own_tasks, labels)
    check_output(out)
    if base is not None:
        open_base(str(base))
        return
    open_cache(
        store,
        open_dataset(dataset).namespace,
        experts=split(experts),
        weights=split(weights),
        pooling=split(pooling),
        dtype=dtype,
    )


def _the_sweep_can_begin(
    dataset: str,
    store: str,
    tasks: Iterable[str] = (),
    own_tasks: Iterable[str] = (),
    labels: Path | None = None,
    experts: Iterable[str] = (),
    weights: Iterable[str] = ("published",),
    poolings: Iterable[str] = ("default",),
    dtype: str = "float16",
    **parameters: Any,
) -> None:
    from pipeline.datasets.registry import open_dataset
    from pipeline.training.cache import open_cache
    from pipeline.training.sweep_space import check_space

    check_space(space_of(poolings=poolings, **parameters))
    _the_questions_can_be_asked(tasks, own_tasks, labels)
    for pooling in split(poolings):
        open_cache(
            store,
            open_dataset(dataset).namespace,
            experts=split(experts),
            weights=split(weights),
            pooling=(pooling,),
            dtype=dtype,
        )


def _the_labels_can_be_made(
    dataset: str,
    out: Path,
    hosp: Path | None = None,
    scheduler: str | None = None,
    **rules: Any,
) -> None:
    from pipeline.datasets.mimic_tables.labels import check_hosp
    from pipeline.labels.parquet_file import prepare_folder

    rules_of(**rules)
    _the_dataset_is_there(dataset)
    if hosp is not None:
        check_hosp(hosp)
    prepare_folder(out.expanduser())


def _the_night_can_begin(
    tasks: Iterable[str] = (),
    own_tasks: Iterable[str] = (),
    labels: Path | None = None,
    **parameters: Any,
) -> None:
    _the_questions_can_be_asked(tasks, own_tasks, labels)
    _the_experts_are_there(**parameters)


_extract = _as_command(extract_flow, _the_experts_are_there)


@functools.wraps(extract_flow.fn)
def extract(*, dry_run: bool = False, **parameters: Any) -> None:
    """Run the extraction; with `dry_run`, print an estimate without starting a server."""
    if not dry_run:
        _extract(**parameters)
        return
    for line in estimate(**parameters):
        print(line)


label = _as_command(label_flow, _the_labels_can_be_made)
train = _as_command(train_flow, _the_training_can_begin)
sweep = _as_command(sweep_flow, _the_sweep_can_begin)
refresh = _as_command(refresh_flow, _the_night_can_begin)
