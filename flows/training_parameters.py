"""Parameters of training and sweeps. The defaults in `flows.jobs` are those of `TrainSettings`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from flows.parameters import COHORT, DATA, GATE, HEADS, OUTPUT, SEARCH, TASKS, TRAINING, number

Base = Annotated[
    Path | None,
    Parameter(
        group=DATA,
        help="Folder of an earlier run with --adaptation shared-lora. New tasks are trained on "
        "the frozen hidden layers of that run, with the same stores, patients and repeats.",
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
Share = Annotated[
    bool,
    Parameter(
        group=OUTPUT,
        help="Let other users read the run folder, subject to the umask. By default only its owner "
        "can, because it contains patient ids and labels.",
    ),
]
NoPage = Annotated[
    bool, Parameter(group=OUTPUT, help="Write tables and files, but do not draw the results page.")
]
Log = Annotated[
    Literal["mlflow", "wandb", "tensorboard"] | None,
    Parameter(
        group=OUTPUT,
        help="Log parameters, metrics with intervals and results files without record and patient "
        "ids to this experiment tracker. It writes to a folder beside the run unless the tracker's "
        "environment variables name a server.",
    ),
]
SweepOut = Annotated[
    Path, Parameter(group=OUTPUT, help="Sweep folder. An existing sweep is resumed.")
]

Tasks = Annotated[
    tuple[str, ...],
    Parameter(
        group=TASKS,
        help="Tasks, comma-separated: rr_interval, age, sex, potassium, arrhythmia, or all for "
        "every task that has labels; by default the tasks given by --task, or all without --task.",
    ),
]
OwnTasks = Annotated[
    tuple[str, ...],
    Parameter(
        name="--task",
        group=TASKS,
        help="Custom task as NAME:KIND, NAME:regression:UNIT, NAME:binary:POSITIVE or "
        "NAME:multilabel:COLUMN+COLUMN. NAME is a label column, or with COLUMN+COLUMN any name; "
        "KIND is regression, binary, multiclass or multilabel (a column of codes separated by ; or "
        "| or commas); POSITIVE is the value of the positive class, by default the last in sorted "
        "order; each COLUMN has 1 for records with the label, else 0. Repeat the option or "
        "separate by commas for several tasks; put a task that contains a comma in double quotes.",
    ),
]

Repeats = Annotated[
    int,
    *number(
        "Number of training runs, each with different random patients or, with --folds, a "
        "different seed; results are mean ± SD over repeats.",
        COHORT,
        ge=1,
    ),
]
Patients = Annotated[
    int,
    *number(
        "Patients drawn per repeat, split 70/20/10 into training, validation and test; not with "
        "--folds.",
        COHORT,
        ge=1,
    ),
]
Ecgs = Annotated[
    Literal["one", "all"],
    Parameter(group=COHORT, help="ECGs per patient: one drawn at random, or all."),
]

Threads = Annotated[
    int,
    *number(
        "Maximum number of threads that train on a CPU, each the heads of one expert or of one "
        "expert and repeat; 0 selects the number of cores. --memory-limit can reduce the number. "
        "Results do not depend on it.",
        TRAINING,
        ge=0,
    ),
]
MemoryLimit = Annotated[
    float,
    *number(
        "Memory in GB for embeddings and tensors that are computed from them. If the embeddings "
        "exceed a quarter of it, only one expert's are in memory at a time; tensors above an "
        "eighth of it are written to temporary files. Results do not depend on the limit.",
        TRAINING,
        gt=0,
    ),
]
LabelFractions = Annotated[
    tuple[str, ...],
    Parameter(
        group=COHORT,
        help="Comma-separated fractions of the training and validation patients, such as "
        "0.01,0.1,1. Models are also trained on these fractions, and the page shows "
        "label-efficiency curves.",
    ),
]

Baselines = Annotated[
    str | None,
    Parameter(
        group=HEADS,
        help="random (seed 0) or random:SEED: also train heads on the same experts with random "
        "weights, for experts with published weights or weights from a file. These heads are rows "
        "of the tables, but not part of the gate or of ensembles.",
    ),
]
LeaveOneOut = Annotated[
    bool,
    Parameter(
        group=GATE,
        help="For each expert, also train a gate over the other experts, and show its scores with "
        "the paired difference from EnECG.",
    ),
]

TrainBatchSize = Annotated[int, *number("Records per optimizer step.", TRAINING, ge=1)]
Epochs = Annotated[
    int,
    *number(
        "Maximum number of epochs. With many records, several epochs make one pass over them.",
        TRAINING,
        ge=1,
    ),
]
Patience = Annotated[
    int,
    *number("Epochs without a lower validation loss before training stops.", TRAINING, ge=1),
]
LearningRate = Annotated[float, *number("Learning rate of AdamW.", TRAINING, gt=0, le=1)]
Dropout = Annotated[float, *number("Dropout probability.", TRAINING, ge=0, lt=1)]

Adaptation = Annotated[
    Literal["linear-lora", "lora", "full", "linear", "shared-lora"],
    Parameter(
        group=HEADS,
        help="Head type: linear-lora (regularized linear layers on the features, their quantile "
        "bins and a kernel, in closed form, plus the head of lora as a correction), lora (frozen "
        "hidden layer with a low-rank update, as in the paper), full (all FFN layers trained), "
        "linear (a regularized linear layer on the features alone), or shared-lora (one hidden "
        "layer per expert, trained on all tasks and then frozen, with an adapter per task).",
    ),
]
Rank = Annotated[int, *number("Rank of the LoRA matrices in heads and gate.", HEADS, ge=1, le=1024)]
Alpha = Annotated[
    float,
    *number("LoRA scaling; the update is multiplied by alpha / rank.", HEADS, gt=0, le=1_000_000),
]
Hidden = Annotated[int, *number("Units in the heads' hidden layers.", HEADS, ge=1, le=16_384)]

GateDepth = Annotated[int, *number("Number of hidden layers of the gate.", GATE, ge=1)]
GateHidden = Annotated[int, *number("Units per hidden layer of the gate.", GATE, ge=1, le=16_384)]
GateWeights = Annotated[
    Literal["task", "output"],
    Parameter(
        group=GATE,
        help="task: one weight per expert and task; output: one weight per expert and output, "
        "such as a class.",
    ),
]
GateInput = Annotated[
    Literal["spectrum", "samples"],
    Parameter(
        group=GATE,
        help="Input of the gate: log spectrum of the sampled leads, or their samples as in the "
        "paper.",
    ),
]
GateMixture = Annotated[
    Literal["probabilities", "logits"],
    Parameter(
        group=GATE,
        help="Values that the gate averages for classes and labels: probabilities, or logits as in "
        "the paper.",
    ),
]
TopK = Annotated[int, *number("Experts to select per record; 0 selects all.", GATE, ge=0)]
Balance = Annotated[
    float,
    *number(
        "Scale of the load-balancing loss, which penalizes unequal mean weights of the experts.",
        GATE,
        ge=0,
    ),
]

Trials = Annotated[
    int, *number("Total number of trials, including those of a resumed sweep.", SEARCH, ge=1)
]
AtOnce = Annotated[
    int,
    *number(
        "Trials sampled together; those that differ only in learning rate are trained in one pass.",
        SEARCH,
        ge=1,
    ),
]
LearningRates = Annotated[
    tuple[float, float], Parameter(group=SEARCH, help="Lowest and highest learning rate.")
]
Ranks = Annotated[tuple[int, ...], Parameter(group=SEARCH, help="LoRA ranks to try.")]
Adaptations = Annotated[
    tuple[str, ...],
    Parameter(
        group=SEARCH,
        help="Head types to try, comma-separated: linear-lora, lora, full, linear, shared-lora.",
    ),
]
GateDepths = Annotated[
    tuple[int, ...], Parameter(group=SEARCH, help="Numbers of hidden layers in the gate to try.")
]
Poolings = Annotated[
    tuple[str, ...],
    Parameter(
        group=SEARCH,
        help="Poolings to try, comma-separated; the store must contain embeddings with each.",
    ),
]
