"""Checks of parameters, which report common user errors before a job or a Prefect server starts.

The arguments are parameters of jobs; an invalid one raises `UserError` or `StoreError`. The jobs
validate their parameters as well. Imports are local because importing torch would delay `--help`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flows.jobs.label import label_rules
from flows.jobs.refresh import new_run_folder
from flows.jobs.sweep import search_space
from flows.parameters import split
from pipeline.extraction.options import DEFAULT_EXPERTS
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions, ShortRecords


def check_dataset(
    dataset: str, records: Path | None = None, decoding: DecodeOptions = DEFAULT_OPTIONS
) -> None:
    """Check that the data set can be opened and contains the records listed in a file."""
    from pipeline.datasets.registry import open_dataset
    from pipeline.datasets.selection import select_records

    source = open_dataset(dataset, decoding)
    if records is not None:
        select_records(source.index().record_id, records=records)


def check_experts(
    dataset: str,
    experts: Iterable[str] = DEFAULT_EXPERTS,
    weights: Iterable[str] = ("published",),
    pooling: Iterable[str] = ("default",),
    precision: Iterable[str] = ("float32",),
    expert_settings: Iterable[str] = (),
    records: Path | None = None,
    short_records: ShortRecords = "refuse",
    derive_leads: bool = False,
    **_: Any,
) -> None:
    """Check the data set and the options of the experts, and download missing weights."""
    from enecg.experts import ExpertOption, get_definition, parse_expert_settings
    from enecg.experts.registry import check_precision

    check_dataset(dataset, records, DecodeOptions(short_records, derive_leads))
    weights_option = ExpertOption.parse("--weights", split(weights))
    pooling_option = ExpertOption.parse("--pooling", split(pooling))
    precision_option = ExpertOption.parse("--precision", split(precision))
    parse_expert_settings(split(expert_settings), split(experts))
    for definition in [get_definition(expert) for expert in split(experts)]:
        definition.resolve_pooling(pooling_option.get(definition.name))
        check_precision(definition.name, precision_option.get(definition.name))
        definition.find_weights(weights_option.get(definition.name))


def check_pretraining(
    dataset: str,
    expert: str = "timesnet",
    sizes: Iterable[str] = (),
    records: Path | None = None,
    exclude_records: Path | None = None,
    short_records: ShortRecords = "refuse",
    derive_leads: bool = False,
    **_: Any,
) -> None:
    """Check the data set, the files of selected and excluded records, and the model's sizes."""
    from pipeline.pretraining.settings import parse_sizes

    decoding = DecodeOptions(short_records, derive_leads)
    check_dataset(dataset, records, decoding)
    if exclude_records is not None:
        check_dataset(dataset, exclude_records, decoding)
    parse_sizes(split(sizes), expert)


def check_tasks(tasks: Iterable[str], own_tasks: Iterable[str], labels: Path | None) -> None:
    """Check the names of tasks, the specs of custom tasks and the header of the label file."""
    from enecg import tasks as task_registry
    from pipeline.datasets.record_table import read_column_names

    own = task_registry.parse_tasks(split(own_tasks))
    names = (name for name in split(tasks) if name != task_registry.ALL)
    task_registry.select_tasks(names, own)
    if labels is not None:
        read_column_names(labels)


def check_training(
    dataset: str,
    store: str,
    out: Path,
    tasks: Iterable[str] = (),
    own_tasks: Iterable[str] = (),
    labels: Path | None = None,
    experts: Iterable[str] = (),
    weights: Iterable[str] = ("published",),
    pooling: Iterable[str] = ("default",),
    precision: Iterable[str] = ("float32",),
    dtype: str = "float16",
    expert_settings: Iterable[str] = (),
    short_records: ShortRecords = "refuse",
    derive_leads: bool = False,
    base: Path | None = None,
    baselines: str | None = None,
    limit: int | None = None,
    records: Path | None = None,
    **_: Any,
) -> None:
    """Check tasks, run folder, --baselines, and the base run or else the data set and stores."""
    from pipeline.datasets.registry import open_dataset
    from pipeline.extraction.request import StoreSelection
    from pipeline.runs.base_run import open_base
    from pipeline.runs.output_folder import check_output
    from pipeline.training.baseline_stores import BaselineRequest, open_baselines, parse_baselines
    from pipeline.training.store_selection import open_cache

    check_tasks(tasks, own_tasks, labels)
    check_output(out)
    weights_of_baselines = None if baselines is None else parse_baselines(baselines)
    if base is not None:
        open_base(str(base))
        return
    decoding = DecodeOptions(short_records, derive_leads)
    selection = StoreSelection(
        *(split(experts), split(weights), split(pooling), dtype, split(expert_settings), decoding),
        split(precision),
    )
    namespace = open_dataset(dataset, decoding).namespace
    cache = open_cache(store, namespace, selection)
    if weights_of_baselines is not None:
        request = BaselineRequest(
            *(dataset, store, selection, weights_of_baselines, limit),
            None if records is None else str(records),
        )
        open_baselines(request, namespace, cache.experts)


def check_sweep(
    dataset: str,
    store: str,
    tasks: Iterable[str] = (),
    own_tasks: Iterable[str] = (),
    labels: Path | None = None,
    experts: Iterable[str] = (),
    weights: Iterable[str] = ("published",),
    poolings: Iterable[str] = ("default",),
    precision: Iterable[str] = ("float32",),
    dtype: str = "float16",
    expert_settings: Iterable[str] = (),
    short_records: ShortRecords = "refuse",
    derive_leads: bool = False,
    **parameters: Any,
) -> None:
    """Check the search space, the tasks, the data set, and that stores exist for every pooling."""
    from pipeline.datasets.registry import open_dataset
    from pipeline.extraction.request import StoreSelection
    from pipeline.training.store_selection import open_cache
    from pipeline.training.sweep_space import check_space

    check_space(search_space(poolings=poolings, **parameters))
    check_tasks(tasks, own_tasks, labels)
    decoding = DecodeOptions(short_records, derive_leads)
    namespace = open_dataset(dataset, decoding).namespace
    for pooling in split(poolings):
        selection = StoreSelection(
            *(split(experts), split(weights), (pooling,), dtype, split(expert_settings), decoding),
            split(precision),
        )
        open_cache(store, namespace, selection)


def check_labels(
    dataset: str,
    out: Path,
    hosp: Path | None = None,
    scheduler: str | None = None,
    **rules: Any,
) -> None:
    """Check the label rules, the data set and `hosp`, and create the folder of the output file."""
    from pipeline.datasets.mimic_tables.labels import check_hosp
    from pipeline.labels.parquet_file import prepare_folder

    label_rules(**rules)
    check_dataset(dataset)
    if hosp is not None:
        check_hosp(hosp)
    prepare_folder(out.expanduser())


def check_refresh(
    out: Path,
    tasks: Iterable[str] = (),
    own_tasks: Iterable[str] = (),
    labels: Path | None = None,
    **parameters: Any,
) -> None:
    """Check the tasks, the folder of runs, the data set and the experts; see `check_experts`."""
    from pipeline.runs.output_folder import check_output

    check_tasks(tasks, own_tasks, labels)
    check_output(new_run_folder(out))
    check_experts(**parameters)
