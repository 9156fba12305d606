"""The parameters of all flows, each told once: the Prefect UI and the command line read it here.

A parameter is its type, its help with the unit, and what it may be. `documented` copies the help
into a flow's docstring, which is where Prefect looks for it.
"""

import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from cyclopts import Parameter
from cyclopts.validators import Number
from pydantic import Field

from pipeline.mimic_codes import POTASSIUM_ITEMS

DEFAULT_POTASSIUM_ITEMS = tuple(map(str, POTASSIUM_ITEMS))

Function = TypeVar("Function", bound=Callable[..., Any])


def _known_device(_: type, value: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError("A device is auto, cpu, cuda or cuda:N.")


def _commas(values: Iterable[str]) -> str:
    return ",".join(values)


Dataset = Annotated[
    str,
    Parameter(
        help="Data set as SOURCE:FOLDER (mimic-iv-ecg, ludb, ptb-xl, ptb-xl-100), as "
        "mimic-iv-ecg:URL, or any folder of WFDB records as wfdb:NAME=FOLDER, NAME being what its "
        "embeddings are kept under."
    ),
]
Store = Annotated[
    str,
    Parameter(
        help="Root of the shared Zarr stores: a folder, or a URL (s3://BUCKET/PREFIX, file://)."
    ),
    # What `check_url` says, for a Prefect server, which keeps what it is given for a deployment.
    Field(json_schema_extra={"pattern": r"^(file://|(?![^/]+://)|[^/]+://[^/:@?]+(/[^@?]*)?$)"}),
]
Experts = Annotated[
    tuple[str, ...],
    Parameter(
        help="Experts, separated by commas: dlinear, timesnet, moment (the small one, the "
        "paper's choice), moment-base, moment-large, tempo, ecg-fm; enecg experts lists them.",
        negative="",
        show_default=_commas,
    ),
]
StoredExperts = Annotated[
    tuple[str, ...],
    Parameter(
        help="Experts to use, separated by commas; none named: all that the store has with "
        "these weights.",
        negative="",
        show_default=False,
    ),
]
Weights = Annotated[
    tuple[str, ...],
    Parameter(
        help="Weights of all experts: published, hub:REPO@REVISION/FILE, random:SEED (untrained, "
        "and named so in every table) or a path; EXPERT@WEIGHTS for one. Separated by commas, or "
        "given again.",
        negative="",
        show_default=_commas,
    ),
]
Pooling = Annotated[
    tuple[str, ...],
    Parameter(
        help="How states become an embedding, for all experts: default (each expert's own), mean, "
        "mean-std, per-series, per-series-mean-std or segments; EXPERT@POOLING for one. Part of a "
        "store's identity.",
        negative="",
        show_default=_commas,
    ),
]
BatchSize = Annotated[
    int,
    Parameter(
        help="ECGs on the device at once; changes the speed, not the embeddings.",
        validator=Number(gte=1),
    ),
    Field(ge=1),
]
TrainBatchSize = Annotated[
    int, Parameter(help="ECGs in a training step.", validator=Number(gte=1)), Field(ge=1)
]
Device = Annotated[
    str,
    Parameter(
        help="auto (a GPU where there is one), cpu, cuda or cuda:N.", validator=_known_device
    ),
]
Dtype = Annotated[
    Literal["float16", "float32"],
    Parameter(help="Number format of the stored embeddings; part of a store's identity."),
]
Limit = Annotated[
    int | None,
    Parameter(
        help="Only the first so many records of the index; changes no identity.",
        validator=Number(gte=1),
    ),
    Field(ge=1),
]
RetryFailed = Annotated[
    bool,
    Parameter(help="Try again the records that could not be had before.", negative=""),
]
Records = Annotated[
    Path | None,
    Parameter(
        help="Only the records named in this file: one id a line, or a CSV or Parquet table with "
        "a column record_id; changes no identity.",
    ),
]
DryRun = Annotated[
    bool,
    Parameter(
        help="Only tell what there is to do: rows, bytes, and hours by measured rates.",
        negative="",
    ),
]
WaitMinutes = Annotated[
    float,
    Parameter(
        help="Minutes to wait for stores that another extraction writes to.",
        validator=Number(gte=0),
    ),
    Field(ge=0),
]
Out = Annotated[
    Path,
    Parameter(
        help="Folder of the run: its heads, results and page. A run that is there is replaced when "
        "the new one is whole."
    ),
]
NightlyOut = Annotated[
    Path, Parameter(help="Folder of the runs: each gets one of its own in it, named by date.")
]
Tasks = Annotated[
    tuple[str, ...],
    Parameter(
        help="Tasks, separated by commas: rr_interval, age, sex, potassium, arrhythmia; all: "
        "every task that there are labels for. None named: those given by --task, or else all.",
        negative="",
        show_default=False,
    ),
]
OwnTasks = Annotated[
    tuple[str, ...],
    Parameter(
        name="--task",
        help="A task of your own, NAME:KIND, or NAME:regression:UNIT: a column of labels, and "
        "regression, binary or multiclass. Given again, or separated by commas, for several.",
        negative="",
        show_default=False,
    ),
]
Labels = Annotated[
    Path | None,
    Parameter(
        help="CSV or Parquet table of labels, with a column record_id (or study_id); it takes the "
        "place of the data set's own labels.",
    ),
]
Base = Annotated[
    Path | None,
    Parameter(
        help="Folder of a run of --adaptation shared-lora: the tasks are trained on its frozen "
        "hidden layers, from its stores, on its patients and repeats."
    ),
]
LabelsOut = Annotated[
    Path,
    Parameter(
        help="Parquet file to write the labels to; a folder that has to be made for it is its "
        "owner's alone."
    ),
]
Hosp = Annotated[
    Path | None,
    Parameter(
        help="MIMIC-IV's folder hosp, with patients.csv and labevents.csv (or .csv.gz), where it "
        "is not linked into the data set."
    ),
]
WindowHours = Annotated[
    float,
    Parameter(help="Hours from the ECG in which a potassium counts.", validator=Number(gt=0)),
    Field(gt=0),
]
Match = Annotated[
    Literal["first", "nearest"],
    Parameter(
        help="The first potassium in [ECG, ECG + window], or the nearest in [ECG - window, "
        "ECG + window]."
    ),
]
PotassiumItems = Annotated[
    tuple[str, ...],
    Parameter(
        help="The itemids of potassium (in mEq/L or mmol/L), separated by commas.",
        negative="",
        show_default=_commas,
    ),
]
Abnormal = Annotated[
    Literal["flag", "range", "thresholds"] | None,
    Parameter(
        help="What makes a potassium abnormal: the laboratory's flag, the row's own reference "
        "range, or the thresholds; not given: the first of them that the table has columns for.",
    ),
]
PotassiumLow = Annotated[
    float,
    Parameter(
        help="Lowest normal potassium by the thresholds, in mmol/L.", validator=Number(gte=0)
    ),
    Field(ge=0),
]
PotassiumHigh = Annotated[
    float,
    Parameter(
        help="Highest normal potassium by the thresholds, in mmol/L.", validator=Number(gt=0)
    ),
    Field(gt=0),
]
ReportLine = Annotated[
    str,
    Parameter(
        help="Which line of the machine's report is the diagnosis: the first that is not empty, "
        "all of them, or one by its number from 0 to 17."
    ),
]
Scheduler = Annotated[
    str | None,
    Parameter(
        help="Address of a Dask scheduler (tcp://HOST:8786) whose workers see the tables at the "
        "same paths; or threads or processes of this machine. Not given: one pass in one process."
    ),
]
Run = Annotated[Path, Parameter(help="Folder of a run, as enecg train was given it by --out.")]
EvaluationOut = Annotated[
    Path | None,
    Parameter(help="Folder for the results and every answer; none given: they are only printed."),
]
Repeats = Annotated[
    int,
    Parameter(
        help="Trainings with other patients drawn, for the mean ± SD.", validator=Number(gte=1)
    ),
    Field(ge=1),
]
Patients = Annotated[
    int,
    Parameter(
        help="Patients drawn for a repeat, split 70/20/10 into training, validation and test.",
        validator=Number(gte=1),
    ),
    Field(ge=1),
]
Ecgs = Annotated[
    Literal["one", "all"],
    Parameter(help="One ECG of each patient, drawn at random, or all of them."),
]
Seed = Annotated[
    int,
    Parameter(help="Seed of everything drawn at random.", validator=Number(gte=0)),
    Field(ge=0),
]
Epochs = Annotated[
    int,
    Parameter(help="Passes over the training patients at most.", validator=Number(gte=1)),
    Field(ge=1),
]
Patience = Annotated[
    int,
    Parameter(
        help="Epochs without a better validation loss before training stops.",
        validator=Number(gte=1),
    ),
    Field(ge=1),
]
Rank = Annotated[
    int,
    Parameter(help="Rank of the LoRA matrices.", validator=Number(gte=1, lte=1024)),
    Field(ge=1, le=1024),
]
Alpha = Annotated[
    float,
    Parameter(
        help="Scale of the LoRA update; alpha / rank is applied.",
        validator=Number(gt=0, lte=1e6),
    ),
    Field(gt=0, le=1e6),
]
Dropout = Annotated[
    float,
    Parameter(help="Share of units dropped while training.", validator=Number(gte=0, lt=1)),
    Field(ge=0, lt=1),
]
Hidden = Annotated[
    int,
    Parameter(
        help="Width of the heads' hidden layers, in units.", validator=Number(gte=1, lte=16_384)
    ),
    Field(ge=1, le=16_384),
]
LearningRate = Annotated[
    float, Parameter(help="Step size of AdamW.", validator=Number(gt=0, lte=1)), Field(gt=0, le=1)
]


Adaptation = Annotated[
    Literal["lora", "full", "linear", "shared-lora"],
    Parameter(
        help="How heads learn: lora (the paper's: a frozen hidden layer with a low-rank update), "
        "full (the whole FFN), linear (one layer), shared-lora (one hidden layer per expert, "
        "trained on all tasks and then frozen, with an adapter a task)."
    ),
]
GateDepth = Annotated[
    int, Parameter(help="Hidden layers of the gate.", validator=Number(gte=1)), Field(ge=1)
]
GateHidden = Annotated[
    int,
    Parameter(
        help="Width of the gate's hidden layers, in units.", validator=Number(gte=1, lte=16_384)
    ),
    Field(ge=1, le=16_384),
]
GateWeights = Annotated[
    Literal["task", "output"],
    Parameter(help="Whether the gate weighs the experts for each task, or each class of it."),
]
TopK = Annotated[
    int,
    Parameter(help="How many experts the gate listens to; 0: all.", validator=Number(gte=0)),
    Field(ge=0),
]
Balance = Annotated[
    float,
    Parameter(
        help="Scale of a loss that grows where a few experts get all the weight.",
        validator=Number(gte=0),
    ),
    Field(ge=0),
]


SweepOut = Annotated[
    Path, Parameter(help="Folder of the sweep; one that is there is gone on with.")
]
Trials = Annotated[
    int,
    Parameter(help="Settings to be tried in all.", validator=Number(gte=1)),
    Field(ge=1),
]
AtOnce = Annotated[
    int,
    Parameter(
        help="Trials asked for together: trained in one pass where their layers have one shape.",
        validator=Number(gte=1),
    ),
    Field(ge=1),
]
LearningRates = Annotated[
    tuple[float, float],
    Parameter(help="Step sizes to try: from the first to the second.", negative=""),
]
Ranks = Annotated[
    tuple[int, ...], Parameter(help="Ranks of the LoRA matrices to try.", negative="")
]
Adaptations = Annotated[
    tuple[str, ...],
    Parameter(
        help="Adaptations to try, separated by commas: lora, full, linear, shared-lora.",
        negative="",
        show_default=_commas,
    ),
]
GateDepths = Annotated[
    tuple[int, ...], Parameter(help="Hidden layers of the gate to try.", negative="")
]
Poolings = Annotated[
    tuple[str, ...],
    Parameter(
        help="Poolings to try, separated by commas, of those that the store has.",
        negative="",
        show_default=_commas,
    ),
]


def split(values: Iterable[str]) -> tuple[str, ...]:
    """The names in values that may be given one by one or separated by commas."""
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def documented(function: Function) -> Function:
    """The same function, with the help of its parameters written into its docstring."""
    lines = [inspect.cleandoc(function.__doc__ or ""), "", "Args:"]
    for name, hint in get_type_hints(function, include_extras=True).items():
        for note in getattr(hint, "__metadata__", ()):
            if isinstance(note, Parameter) and note.help:
                lines.append(f"    {name}: {note.help}")
    function.__doc__ = "\n".join(lines)
    return function
