"""Definition of DLinear."""

from functools import partial
from pkgutil import resolve_name

from enecg.experts.definition import ExpertDefinition, deferred
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.settings import ExpertSetting

STEPS = 500
"""Samples per lead after resampling to 50 Hz."""
MOVING_AVERAGE = 25
"""The default kernel of the Time-Series-Library, half a second at 50 Hz."""

MOVING_AVERAGE_SETTING = ExpertSetting(
    "moving_avg", "moving_average", default=MOVING_AVERAGE, minimum=1, maximum=STEPS - 1, odd=True
)

DLINEAR = ExpertDefinition(
    name="dlinear",
    code_version=3,
    preprocessing=Preprocessing.resampled(STEPS, normalization="zscore"),
    pooling="per-series",
    poolings=("per-series", "mean"),
    license="Apache-2.0",
    source="arXiv 2205.13504",
    published=None,
    embedding_size=2328,
    parameters=96_192,
    build=deferred("enecg.experts.dlinear:build"),
    settings=(MOVING_AVERAGE_SETTING,),
    reconstruction=partial(resolve_name, "enecg.experts.dlinear:RECONSTRUCTION"),
)
