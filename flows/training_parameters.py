"""Parameters of training and sweeps; the defaults are those of `TrainSettings`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from pydantic import Field

from flows.parameters import COHORT, DATA, GATE, HEADS, OUTPUT, SEARCH, TASKS, TRAINING

Base = Annotated[
    Path | None,
    Parameter(
        group=DATA,
        help="Run folder of a training with --adaptation shared-lora. New tasks are trained on "
        "its frozen hidden layers, with its stores, patients and repeats.",
    ),
]
Out = Annotated[
    Path,
    Parameter(
        group=OUTPUT,
        help="Run folder for heads, results and the results page. An existing run is replaced "
        "when the new one is complete.",
    ),
]
SweepOut = Annotated[
    Path, Parameter(group=OUTPUT, help="Sweep folder. An existing sweep is resumed.")
]

Tasks = Annotated[
    tuple[str, ...],
    Parameter(
        group=TASKS,
        help="Tasks, comma-separated: rr_interval, age, sex, potassium, arrhythmia, or all that "
        "have labels; by default those given by --task, or all if there are none.",
    ),
]
OwnTasks = Annotated[
    tuple[str, ...],
    Parameter(
        name="--task",
        group=TASKS,
        help="Custom task as NAME:KIND or NAME:regression:UNIT. NAME is a label column; KIND is "
        "regression, binary or multiclass. Repeat or separate by commas for several.",
    ),
]

Repeats = Annotated[
    int,
    Parameter(
        group=COHORT,
        help="Trainings on different patients, for the mean ± SD (at least 1).",
        validator=Number(gte=1),
    ),
    Field(ge=1),
]
Patients = Annotated[
    int,
    Parameter(
        group=COHORT,
        help="Patients drawn per repeat (at least 1), split 70/20/10 into training, validation "
        "and test.",
        validator=Number(gte=1),
    ),
    Field(ge=1),
]
Ecgs = Annotated[
    Literal["one", "all"],
    Parameter(group=COHORT, help="ECGs per patient: one drawn at random, or all."),
]

TrainBatchSize = Annotated[
    int,
    Parameter(
        group=TRAINING, help="Records per optimizer step (at least 1).", validator=Number(gte=1)
    ),
    Field(ge=1),
]
Epochs = Annotated[
    int,
    Parameter(
        group=TRAINING, help="Maximum number of epochs (at least 1).", validator=Number(gte=1)
    ),
    Field(ge=1),
]
Patience = Annotated[
    int,
    Parameter(
        group=TRAINING,
        help="Epochs without a lower validation loss before training stops (at least 1).",
        validator=Number(gte=1),
    ),
    Field(ge=1),
]
LearningRate = Annotated[
    float,
    Parameter(
        group=TRAINING,
        help="Learning rate of AdamW (above 0, at most 1).",
        validator=Number(gt=0, lte=1),
    ),
    Field(gt=0, le=1),
]
Dropout = Annotated[
    float,
    Parameter(
        group=TRAINING,
        help="Dropout probability (at least 0, below 1).",
        validator=Number(gte=0, lt=1),
    ),
    Field(ge=0, lt=1),
]

Adaptation = Annotated[
    Literal["lora", "full", "linear", "shared-lora"],
    Parameter(
        group=HEADS,
        help="Head type: lora (frozen hidden layer with a low-rank update, as in the paper), full "
        "(all FFN layers trained), linear (one layer), or shared-lora (one hidden layer per "
        "expert, trained on all tasks and then frozen, with an adapter per task).",
    ),
]
Rank = Annotated[
    int,
    Parameter(
        group=HEADS,
        help="Rank of the LoRA matrices in heads and gate (1 to 1024).",
        validator=Number(gte=1, lte=1024),
    ),
    Field(ge=1, le=1024),
]
Alpha = Annotated[
    float,
    Parameter(
        group=HEADS,
        help="LoRA scaling; the update is multiplied by alpha / rank (above 0, at most 1e6).",
        validator=Number(gt=0, lte=1e6),
    ),
    Field(gt=0, le=1e6),
]
Hidden = Annotated[
    int,
    Parameter(
        group=HEADS,
        help="Units in the heads' hidden layers (1 to 16384).",
        validator=Number(gte=1, lte=16_384),
    ),
    Field(ge=1, le=16_384),
]

GateDepth = Annotated[
    int,
    Parameter(group=GATE, help="Number of hidden layers (at least 1).", validator=Number(gte=1)),
    Field(ge=1),
]
GateHidden = Annotated[
    int,
    Parameter(
        group=GATE,
        help="Units in each hidden layer (1 to 16384).",
        validator=Number(gte=1, lte=16_384),
    ),
    Field(ge=1, le=16_384),
]
GateWeights = Annotated[
    Literal["task", "output"],
    Parameter(group=GATE, help="One weight per expert and task, or per expert and output class."),
]
TopK = Annotated[
    int,
    Parameter(
        group=GATE,
        help="Number of experts to select; 0 selects all.",
        validator=Number(gte=0),
    ),
    Field(ge=0),
]
Balance = Annotated[
    float,
    Parameter(
        group=GATE,
        help="Scale of the load-balancing loss, which penalizes weight on few experts (at least "
        "0).",
        validator=Number(gte=0),
    ),
    Field(ge=0),
]

Trials = Annotated[
    int,
    Parameter(
        group=SEARCH,
        help="Total number of trials, including those of a resumed sweep (at least 1).",
        validator=Number(gte=1),
    ),
    Field(ge=1),
]
AtOnce = Annotated[
    int,
    Parameter(
        group=SEARCH,
        help="Trials proposed together (at least 1). Those whose layers have the same shape are "
        "trained in one pass.",
        validator=Number(gte=1),
    ),
    Field(ge=1),
]
LearningRates = Annotated[
    tuple[float, float],
    Parameter(group=SEARCH, help="Lowest and highest learning rate."),
]
Ranks = Annotated[tuple[int, ...], Parameter(group=SEARCH, help="LoRA ranks.")]
Adaptations = Annotated[
    tuple[str, ...],
    Parameter(group=SEARCH, help="Head types, comma-separated: lora, full, linear, shared-lora."),
]
GateDepths = Annotated[
    tuple[int, ...], Parameter(group=SEARCH, help="Numbers of hidden layers in the gate.")
]
Poolings = Annotated[
    tuple[str, ...],
    Parameter(group=SEARCH, help="Poolings that the store has, comma-separated."),
]
