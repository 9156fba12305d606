"""Definition of ECG-FM."""

from enecg.ecg_format import SAMPLE_RATE_HZ, SAMPLES
from enecg.experts.definition import ExpertDefinition, deferred
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.pretraining_data import CHALLENGE_2021, MIMIC_IV_ECG
from enecg.experts.weights import HubFile

SEGMENT_SECONDS = 5
"""Length of the segments that fairseq-signals cuts from records to train ECG-FM."""
SEGMENTS = SAMPLES // (SEGMENT_SECONDS * SAMPLE_RATE_HZ)
"""Number of segments per record."""

ECG_FM = ExpertDefinition(
    name="ecg-fm",
    code_version=2,
    preprocessing=Preprocessing(
        windows=SEGMENTS,
        window_steps=SAMPLES // SEGMENTS,
        window_stride_steps=SAMPLES // SEGMENTS,
        normalization="zscore-record",
    ),
    pooling="mean-std",
    # The pooling `segments` is excluded because it averages over series. Here, the series are the
    # two halves of the record, so their tokens with the same index are 5 s apart.
    poolings=("mean", "mean-std", "per-series", "per-series-mean-std"),
    license="MIT",
    source="arXiv 2408.05178",
    published=HubFile("wanglab/ecg-fm", "mimic_iv_ecg_physionet_pretrained.pt"),
    embedding_size=1560,
    parameters=90_373_248,
    build=deferred("enecg.experts.ecg_fm:build"),
    pretrained_on=(MIMIC_IV_ECG, CHALLENGE_2021),
)
