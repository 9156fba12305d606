"""Definition of TEMPO."""

from enecg.experts.definition import ExpertDefinition, deferred
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.pretraining_data import FORECASTING_SETS
from enecg.experts.weights import HubFile

STEPS = 336
"""Samples per series that TEMPO was trained on. An ECG of 10 s is resampled to 33.6 Hz."""

TEMPO = ExpertDefinition(
    name="tempo",
    code_version=2,
    preprocessing=Preprocessing.resampled(STEPS, normalization="zscore"),
    pooling="mean-std",
    license="Apache-2.0",
    source="arXiv 2310.04948",
    published=HubFile("Melady/TEMPO", "TEMPO-80M_v1.pth", companions=("config.json",)),
    embedding_size=4632,
    parameters=84_741_602,
    build=deferred("enecg.experts.tempo:build"),
    pretrained_on=(FORECASTING_SETS,),
)
