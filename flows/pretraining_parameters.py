"""Parameters of pretraining (see `PretrainSettings`) and of the exclusion of its patients."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from flows.parameters import COHORT, DATA, EXECUTION, OUTPUT, STORES, TRAINING, number

Expert = Annotated[
    Literal["timesnet", "dlinear"], Parameter(group=STORES, help="Expert to pretrain.")
]
Out = Annotated[
    Path,
    Parameter(
        group=OUTPUT,
        help="Folder for the weights, the list of patients and the validation curve. If it "
        "contains an interrupted pretraining run, that run is resumed.",
    ),
]
Share = Annotated[
    bool,
    Parameter(
        group=OUTPUT,
        help="Let other users read the files, subject to the umask. By default only their owner "
        "can, because they contain patient ids.",
    ),
]
ExcludeRecords = Annotated[
    Path | None,
    Parameter(
        group=DATA,
        help="File with ids of records whose patients are excluded, instead of the test patients "
        "of train; same formats as --records.",
    ),
]
Repeats = Annotated[
    int,
    *number(
        "Value of --repeats in train; the test patients of all these repeats are excluded.",
        COHORT,
        ge=1,
    ),
]
Patients = Annotated[int, *number("Value of --patients in train.", COHORT, ge=1)]
Validation = Annotated[
    float,
    *number(
        "Fraction of the patients for the validation error, which selects the epoch to save.",
        COHORT,
        gt=0,
        lt=1,
    ),
]
Sizes = Annotated[
    tuple[str, ...],
    Parameter(
        name="--size",
        group=TRAINING,
        help="Sizes of the model as NAME=VALUE, comma-separated (defaults in parentheses): "
        "channels (12; 1 for one series per lead), model_size (32), feed_forward_size (32), "
        "layers (2), kernels (6) and top_k (3) of timesnet; individual (0) and moving_avg (25) of "
        "dlinear.",
    ),
]
Epochs = Annotated[
    int, *number("Maximum number of epochs, including those of a resumed run.", TRAINING, ge=1)
]
Patience = Annotated[
    int,
    *number("Epochs without a lower validation error before training stops.", TRAINING, ge=1),
]
BatchSize = Annotated[int, *number("Records per optimizer step.", TRAINING, ge=1)]
LearningRate = Annotated[float, *number("Learning rate of Adam.", TRAINING, gt=0, le=1)]
MaskRatio = Annotated[
    tuple[float, float],
    Parameter(group=TRAINING, help="Lowest and highest fraction of masked samples of a record."),
]
MaskLength = Annotated[
    int, *number("Consecutive samples of a lead masked together, at 50 Hz.", TRAINING, ge=1)
]
Threads = Annotated[
    int | None,
    *number(
        "CPU threads; by default, one for each core that other processes leave free.",
        EXECUTION,
        ge=1,
    ),
]
CheckpointMinutes = Annotated[
    float, *number("Minutes between checkpoints within an epoch.", EXECUTION, ge=0)
]
ExcludePretrained = Annotated[
    bool,
    Parameter(
        group=COHORT,
        help="Exclude test patients on whose ECGs an expert was pretrained, instead of failing "
        "with an error.",
    ),
]
PretrainingPatients = Annotated[
    tuple[Path, ...],
    Parameter(
        group=DATA,
        help="List of pretraining patients (EXPERT.patients.txt), if it is not beside the "
        "weights. Repeat the option for several lists.",
    ),
]
