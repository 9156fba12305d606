"""Definition of ECG-JEPA."""

from enecg.ecg_format import SECONDS
from enecg.experts.definition import ExpertDefinition, deferred
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.pretraining_data import CHAPMAN_NINGBO, CODE_15
from enecg.experts.weights import ManualFile

JEPA_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
"""Independent leads; the other four are linear combinations of I and II."""

STEPS = 2500
"""Samples per lead after resampling to 250 Hz."""

ECG_JEPA = ExpertDefinition(
    name="ecg-jepa",
    code_version=1,
    preprocessing=Preprocessing(
        sample_rate_hz=STEPS / SECONDS,
        window_steps=STEPS,
        window_stride_steps=STEPS,
        resampling="fourier",
        padding="periodic",
        leads=JEPA_LEADS,
    ),
    pooling="mean",
    license="MIT",
    source="arXiv 2410.08559",
    published=ManualFile("multiblock_epoch100.pth", "https://github.com/sehunfromdaegu/ECG_JEPA"),
    embedding_size=792,
    parameters=85_374_720,
    build=deferred("enecg.experts.ecg_jepa:build"),
    pretrained_on=(CHAPMAN_NINGBO, CODE_15),
)
