"""The prediction for one ECG."""

from collections.abc import Mapping
from dataclasses import dataclass

from enecg.tasks import Kind

NOTICE = "Research use only; not a medical device."


@dataclass(frozen=True)
class TaskPrediction:
    """The prediction of EnECG for one ECG and task.

    Attributes:
        task: Name of the task.
        title: Title of the task.
        kind: Kind of the task.
        unit: Unit of a regression; empty for other kinds.
        value: Predicted value of a regression, in its unit; None for other kinds.
        interval: Lower and upper bound of the conformal interval of a regression; None for other
            kinds, and if the run was not calibrated or has too few validation patients.
        labels: Predicted class, or predicted labels of a multilabel task; empty for a regression.
        probabilities: Probability of each class or label; empty for a regression.
        prediction_set: Classes or labels that cannot be excluded; None for a regression, and if
            the run was not calibrated.
        weights: Gate weight of each expert, averaged over outputs and repeats; the sum is 1.
    """

    task: str
    title: str
    kind: Kind
    unit: str
    value: float | None
    interval: tuple[float, float] | None
    labels: tuple[str, ...]
    probabilities: Mapping[str, float]
    prediction_set: tuple[str, ...] | None
    weights: Mapping[str, float]


@dataclass(frozen=True)
class EcgPrediction:
    """The predictions for one ECG.

    Attributes:
        record: Id or path of the record.
        tasks: Prediction of each task.
        distances: Distance of each expert's embedding from the training embeddings, relative to
            the quantile `pipeline.training.domain.LIMIT_QUANTILE` of the validation records'
            distances; empty if the run was not calibrated.
        warnings: Sentences about the signal and about embeddings far outside the training data.
        notice: Intended use, and the run's untrained experts.
    """

    record: int | str
    tasks: Mapping[str, TaskPrediction]
    distances: Mapping[str, float]
    warnings: tuple[str, ...] = ()
    notice: str = NOTICE


@dataclass(frozen=True)
class RefusedEcg:
    """An ECG that cannot be predicted.

    Attributes:
        record: Id or path of the record.
        reason: One of `pipeline.waveforms.failures.REASONS`, or ``not_finite``.
        detail: One sentence for the user.
        notice: Intended use, and the run's untrained experts.
    """

    record: int | str
    reason: str
    detail: str
    notice: str = NOTICE
