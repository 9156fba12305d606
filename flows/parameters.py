"""Types of the parameters of flows and commands, annotated with range, help text and group.

The command line and the Prefect UI both read these annotations. Parameters of single jobs are in
`training_parameters.py`, `pretraining_parameters.py`, `label_parameters.py` and
`verification_parameters.py`.
"""

import csv
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from cyclopts import Group, Parameter
from cyclopts.validators import Number
from pydantic import Field

Function = TypeVar("Function", bound=Callable[..., Any])

# Sections of `--help`, in the order in which they are shown.
DATA = Group.create_ordered("Data")
STORES = Group.create_ordered("Stores and experts")
OUTPUT = Group.create_ordered("Output")
TASKS = Group.create_ordered("Tasks and labels")
LABEL_RULES = Group.create_ordered("Label rules")
COHORT = Group.create_ordered("Cohort")
TRAINING = Group.create_ordered("Training")
HEADS = Group.create_ordered("Heads")
GATE = Group.create_ordered("Gate")
SEARCH = Group.create_ordered("Search space")
RECOMPUTATION = Group.create_ordered("Recomputation")
EXECUTION = Group.create_ordered("Execution")


def number(
    text: str,
    group: Group,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> tuple[Parameter, Any]:
    """Return the annotations of a number with a range, for the command line and for Prefect.

    Args:
        text: Help text, to which the range is appended.
        group: Section of `--help`.
        ge: Lower bound, inclusive.
        gt: Lower bound, exclusive.
        le: Upper bound, inclusive.
        lt: Upper bound, exclusive.

    Returns:
        The annotations, to be unpacked into `Annotated`.
    """
    bounds = {"at least": ge, "above": gt, "at most": le, "below": lt}
    limits = ", ".join(f"{word} {bound:,}" for word, bound in bounds.items() if bound is not None)
    parameter = Parameter(
        group=group,
        help=f"{text} {limits.capitalize()}.",
        validator=Number(gte=ge, gt=gt, lte=le, lt=lt),
    )
    return parameter, Field(ge=ge, gt=gt, le=le, lt=lt)


def _check_device(_: type, value: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError("The device must be auto, cpu, cuda or cuda:N.")


Dataset = Annotated[
    str,
    Parameter(
        group=DATA,
        help="Data set as SOURCE:FOLDER. Sources: mimic-iv-ecg (also as mimic-iv-ecg:URL), ludb, "
        "ptb-xl, ptb-xl-100, and wfdb:NAME=FOLDER (also as wfdb:NAME=URL) for any folder of WFDB "
        "records, with NAME as the name of its stores.",
    ),
]
Limit = Annotated[
    int | None,
    *number(
        "Use only the first LIMIT records in index order; applies after --records.", DATA, ge=1
    ),
]
Records = Annotated[
    Path | None,
    Parameter(
        group=DATA,
        help="Use only the records listed in this file: one id per line, or a CSV or Parquet "
        "table with a record_id (or study_id) column.",
    ),
]
Folds = Annotated[
    Path | None,
    Parameter(
        group=COHORT,
        help="CSV or Parquet table of folds with a record_id (or study_id, ecg_id) column, such as "
        "ptbxl_database.csv. The folds split the records; by default, the split is random.",
    ),
]
FoldColumn = Annotated[
    str,
    Parameter(
        group=COHORT,
        help="Column of the folds. Its values are train, validation and test, or names of folds to "
        "pass to --train-folds, --validation-folds and --test-folds.",
    ),
]
EvaluatedFolds = Annotated[
    Path | None,
    Parameter(
        group=COHORT,
        help="CSV or Parquet table of folds with a record_id (or study_id, ecg_id) column. Only "
        "the records of its test folds are evaluated.",
    ),
]
EvaluatedFoldColumn = Annotated[
    str,
    Parameter(
        group=COHORT,
        help="Column of the folds, with the value test or the names to pass to --test-folds.",
    ),
]
TrainFolds = Annotated[
    tuple[str, ...],
    Parameter(
        group=COHORT,
        help="Folds of the training records, comma-separated; if only --validation-folds and "
        "--test-folds are given, all other folds.",
    ),
]
ValidationFolds = Annotated[
    tuple[str, ...],
    Parameter(group=COHORT, help="Folds of the validation records, comma-separated."),
]
TestFolds = Annotated[
    tuple[str, ...], Parameter(group=COHORT, help="Folds of the test records, comma-separated.")
]
ShortRecords = Annotated[
    Literal["refuse", "mirror"],
    Parameter(
        group=DATA,
        help="Treatment of records shorter than 10 s: refuse excludes them; mirror extends those "
        "of at least 5 s to 10 s with their end in reverse. Part of the store's identity.",
    ),
]
DeriveLeads = Annotated[
    bool,
    Parameter(
        group=DATA,
        help="Compute missing limb leads from two recorded ones, such as III, aVR, aVL and aVF of "
        "eight-lead records. Part of the store's identity.",
    ),
]
Run = Annotated[Path, Parameter(group=DATA, help="Run folder, as passed to enecg train --out.")]

Store = Annotated[
    str,
    Parameter(
        group=STORES,
        help="Root of the shared Zarr stores: a folder or a URL (s3://BUCKET/PREFIX, "
        "file:///PATH).",
    ),
    # Like `check_url`, this pattern rejects URLs with credentials. A Prefect server applies it
    # before it saves the parameters of a deployment.
    Field(json_schema_extra={"pattern": r"^(file://|(?![^/]+://)|[^/]+://[^/:@?]+(/[^@?]*)?$)"}),
]
Experts = Annotated[
    tuple[str, ...],
    Parameter(
        group=STORES,
        help="Experts to run, comma-separated: dlinear, timesnet, moment (MOMENT-1-small, as in "
        "the paper), moment-base, moment-large, tempo, ecg-fm, ecgfounder, ecg-jepa, measurements. "
        "enecg experts lists all.",
    ),
]
StoredExperts = Annotated[
    tuple[str, ...],
    Parameter(
        group=STORES,
        help="Experts to use, comma-separated; by default all that have embeddings with these "
        "weights and options in the store.",
    ),
]
Weights = Annotated[
    tuple[str, ...],
    Parameter(
        group=STORES,
        help="Weights of the experts, comma-separated: published, hub:REPO@REVISION/FILE, "
        "random:SEED (untrained, marked in every table) or a path. EXPERT@WEIGHTS sets the weights "
        "of one expert.",
    ),
]
Pooling = Annotated[
    tuple[str, ...],
    Parameter(
        group=STORES,
        help="Pooling of an expert's states into an embedding: default (the expert's own), mean, "
        "mean-std, per-series, per-series-mean-std or segments. EXPERT@POOLING sets the pooling of "
        "one expert. Part of the store's identity.",
    ),
]
ExpertSettings = Annotated[
    tuple[str, ...],
    Parameter(
        name="--expert-setting",
        group=STORES,
        help="Hyperparameters that a checkpoint does not contain, as EXPERT.NAME=VALUE, "
        "comma-separated: timesnet.top_k (default for checkpoints: 5) and dlinear.moving_avg "
        "(default: 25). Part of the store's identity.",
    ),
]
Precision = Annotated[
    tuple[str, ...],
    Parameter(
        group=STORES,
        help="Precision of an expert's matrix products and convolutions: float32, bfloat16 or "
        "float16. EXPERT@PRECISION sets that of one expert. Part of the store's identity.",
    ),
]
Dtype = Annotated[
    Literal["float16", "float32"],
    Parameter(
        group=STORES, help="Data type of the stored embeddings. Part of the store's identity."
    ),
]

EvaluationOut = Annotated[
    Path | None,
    Parameter(
        group=OUTPUT,
        help="Folder for the results and predictions; by default the results are only printed.",
    ),
]
RefreshOut = Annotated[
    Path,
    Parameter(
        group=OUTPUT,
        help="Folder of runs; each training writes to a subfolder named by its date and time.",
    ),
]

Labels = Annotated[
    Path | None,
    Parameter(
        group=TASKS,
        help="CSV or Parquet table of labels with a record_id (or study_id) column. Replaces the "
        "data set's own labels.",
    ),
]

MissingValues = Annotated[
    tuple[str, ...],
    Parameter(
        name="--missing-value",
        group=TASKS,
        help="Value of a label column that means missing, as COLUMN=VALUE. Repeat or separate by "
        "commas for several.",
    ),
]

BatchSize = Annotated[
    int | None,
    *number(
        "Records per forward pass; by default adapted so that a batch takes a few seconds and fits "
        "into memory. Does not change the embeddings.",
        EXECUTION,
        ge=1,
    ),
]
Device = Annotated[
    str,
    Parameter(
        group=EXECUTION,
        help="auto (a GPU if available), cpu, cuda or cuda:N.",
        validator=_check_device,
    ),
]
Workers = Annotated[
    int | None,
    *number(
        "Worker processes on this machine; by default one per device (see --devices).",
        EXECUTION,
        ge=1,
    ),
]
Devices = Annotated[
    tuple[str, ...],
    Parameter(
        group=EXECUTION,
        help="Devices of the worker processes, such as cuda:0,cuda:1; by default --device, or all "
        "GPUs if it is auto.",
        validator=lambda type_, values: [_check_device(type_, value) for value in split(values)],
    ),
]
TorchThreads = Annotated[
    int | None,
    *number(
        "CPU threads of each worker; by default, the cores that other processes leave free are "
        "divided among the workers.",
        EXECUTION,
        ge=1,
    ),
]
ExtractScheduler = Annotated[
    str | None,
    Parameter(
        group=EXECUTION,
        help="Address of a Dask scheduler (tcp://HOST:8786) whose workers compute the rows. Data "
        "set and store must have the same paths on all workers.",
    ),
]
Seed = Annotated[int, *number("Seed of all random draws.", EXECUTION, ge=0)]
RetryFailed = Annotated[
    bool, Parameter(group=EXECUTION, help="Retry records that failed in earlier runs.")
]
DryRun = Annotated[
    bool,
    Parameter(
        group=EXECUTION,
        help="Print the rows to compute, their size and, if known from earlier runs, the hours. "
        "Missing weights are downloaded, because the identity of a store depends on them.",
    ),
]
WaitMinutes = Annotated[
    float,
    *number("Minutes to wait for stores that another extraction is writing.", EXECUTION, ge=0),
]


def split(values: Iterable[str]) -> tuple[str, ...]:
    """Split values at commas, so that an option accepts a list and may also be repeated.

    Args:
        values: Texts with one or more names. A name that contains a comma is in double quotes, as
            in CSV: ``"grade:binary:mild, early"``.

    Returns:
        The names.
    """
    names = (
        name
        for value in values
        for name in next(csv.reader([" ".join(value.splitlines())], skipinitialspace=True), [])
    )
    return tuple(name.strip() for name in names if name.strip())


def documented(function: Function) -> Function:
    """Append the help texts of the parameters to a flow's docstring, which Prefect's UI shows."""
    lines = [inspect.cleandoc(function.__doc__ or ""), "", "Args:"]
    for name, hint in get_type_hints(function, include_extras=True).items():
        for annotation in getattr(hint, "__metadata__", ()):
            if isinstance(annotation, Parameter) and annotation.help:
                lines.append(f"    {name}: {annotation.help}")
    function.__doc__ = "\n".join(lines)
    return function
