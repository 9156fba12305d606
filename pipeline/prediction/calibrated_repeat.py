"""Models of one repeat with the calibration of their predictions."""

from dataclasses import dataclass

from enecg.errors import UserError
from pipeline.prediction.calibration import Calibration, calibrate
from pipeline.runs.calibration import VALIDATION
from pipeline.runs.predictor import Predictor
from pipeline.runs.saved_run import SavedRun
from pipeline.training.domain import EmbeddingDomain


@dataclass(frozen=True)
class CalibratedRepeat:
    """Models of one repeat with their calibration.

    Attributes:
        predictor: Heads and gate.
        calibrations: Calibration by task; empty for runs of earlier versions.
        domains: Distributions of training embeddings by expert; empty for runs of earlier versions.
    """

    predictor: Predictor
    calibrations: dict[str, Calibration]
    domains: dict[str, EmbeddingDomain]


def load_calibrated(
    saved: SavedRun, number: int, predictor: Predictor, device: str
) -> CalibratedRepeat:
    """Load the calibration of a repeat.

    Args:
        saved: The run.
        number: Index of the repeat.
        predictor: Heads and gate of the repeat.
        device: Torch device of the distributions.

    Returns:
        The models; `calibrations` and `domains` are empty if the run is not calibrated.

    Raises:
        UserError: A file of the calibration is missing or damaged.
    """
    if not saved.is_calibrated:
        return CalibratedRepeat(predictor, {}, {})
    validation = saved.validation
    rows = validation[validation["repeat"] == number]
    try:
        calibrations = {
            task: calibrate(rows[rows["task"] == task], targets)
            for task, targets in predictor.targets.items()
        }
    except (ValueError, IndexError, TypeError) as error:
        raise UserError(
            f"{saved.folder / VALIDATION} is damaged ({error}). Train again."
        ) from error
    domains = {name: domain.to(device) for name, domain in saved.domains(number).items()}
    return CalibratedRepeat(predictor, calibrations, domains)
