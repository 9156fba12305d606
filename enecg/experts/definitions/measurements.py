"""Definition of the expert `measurements`."""

from enecg.experts.definition import ExpertDefinition, deferred
from enecg.experts.preprocessing import Preprocessing

FEATURES = 247
"""Number of measurements in `measurements.measure.FEATURES`."""

MEASUREMENTS = ExpertDefinition(
    name="measurements",
    code_version=4,
    preprocessing=Preprocessing(),
    pooling="none",
    poolings=("none",),
    license="MIT",
    source="docs/measurements.md",
    published=None,
    embedding_size=FEATURES,
    parameters=0,
    build=deferred("enecg.experts.measurements.expert:build"),
    has_weights=False,
)
