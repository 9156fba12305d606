"""Ensembles that EnECG's gate is compared with (arXiv 2511.22935, Table 3).

All ensembles combine the predictions of the same heads: standardized values for regression tasks,
class probabilities for other tasks.
"""

from enecg.ensembles.averages import Confidence, Mean
from enecg.ensembles.base import Ensemble, EnsembleOutput, HeadOutputs, task_loss
from enecg.ensembles.greedy import Greedy
from enecg.ensembles.stacking import Stacking
from enecg.ensembles.weight_generator import WeightGenerator

__all__ = [
    "ENSEMBLES",
    "Confidence",
    "Ensemble",
    "EnsembleOutput",
    "Greedy",
    "HeadOutputs",
    "Mean",
    "Stacking",
    "WeightGenerator",
    "task_loss",
]

_ALL: tuple[Ensemble, ...] = (Mean(), Confidence(), Greedy(), WeightGenerator(), Stacking())
ENSEMBLES: dict[str, Ensemble] = {ensemble.name: ensemble for ensemble in _ALL}
"""Ensembles by name, in the order of the results table."""
