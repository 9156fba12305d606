"""What a training, or a sweep of them, is asked to do."""

from dataclasses import dataclass, field

from pipeline.training.cohorts import Ecgs
from pipeline.training.fit import FitSettings


@dataclass(frozen=True)
class TrainSettings:
    """What is trained, on whom, and how.

    `tasks` by name, or `all` that there are labels for; `own_tasks` of a lab's own as
    `enecg.tasks.parse_task` reads them, trained whatever `tasks` names, and alone where it names
    none (without own tasks, none named is `all`); `labels`: a file that takes
    the place of the data set's own labels; `experts` by name, or every one that the store has
    with these weights; `patients` drawn for each of `repeats`, with the seeds `seed`,
    `seed + 1`, ..., and of each `one` of the `ecgs` or `all`; `limit` takes the first records of
    the index. `base`: the folder of a `shared-lora` run on whose hidden layers the tasks are
    trained; stores, patients, repeats and hidden units are that run's own then.
    """

    tasks: tuple[str, ...] = ()
    own_tasks: tuple[str, ...] = ()
    labels: str | None = None
    experts: tuple[str, ...] = ()
    weights: tuple[str, ...] = ("published",)
    pooling: tuple[str, ...] = ("default",)
    dtype: str = "float16"
    device: str = "auto"
    repeats: int = 3
    patients: int = 10_000
    ecgs: Ecgs = "all"
    seed: int = 0
    limit: int | None = None
    base: str | None = None
    fit: FitSettings = field(default_factory=FitSettings)
