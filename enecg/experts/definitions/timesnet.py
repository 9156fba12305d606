"""Definition of TimesNet."""

from functools import partial
from pkgutil import resolve_name

from enecg.experts.definition import ExpertDefinition, deferred
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.settings import ExpertSetting

STEPS = 500
"""Samples per lead after resampling to 50 Hz."""

TOP_K = ExpertSetting("top_k", "periods", default=5, minimum=1, maximum=STEPS // 2)
"""Number of periods. The default for checkpoints is that of `run.py` in the Time-Series-Library."""

TIMESNET = ExpertDefinition(
    name="timesnet",
    code_version=2,
    preprocessing=Preprocessing.resampled(STEPS, normalization="zscore"),
    pooling="mean-std",
    license="MIT",
    source="arXiv 2210.02186",
    published=None,
    embedding_size=88,
    parameters=1_172_384,
    build=deferred("enecg.experts.timesnet:build"),
    settings=(TOP_K,),
    reconstruction=partial(resolve_name, "enecg.experts.timesnet:RECONSTRUCTION"),
)
