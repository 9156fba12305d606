"""Definition of ECGFounder."""

from enecg.experts.definition import ExpertDefinition, deferred
from enecg.experts.filtering import Filtering
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.pretraining_data import HEEDB
from enecg.experts.weights import HubFile

PUBLISHED_FILE = "12_lead_ECGFounder.pth"

FILTERING = Filtering(
    notch_hz=50.0, notch_quality=30.0, band_hz=(0.67, 40.0), band_order=4, baseline_steps=201
)
"""The filters of `filter_bandpass` in the published code, `util.py`."""

ECGFOUNDER = ExpertDefinition(
    name="ecgfounder",
    code_version=1,
    preprocessing=Preprocessing(filtering=FILTERING, normalization="zscore-all-leads"),
    pooling="mean",
    license="MIT",
    source="arXiv 2410.04133",
    published=HubFile("PKUDigitalHealth/ECGFounder", PUBLISHED_FILE),
    embedding_size=1048,
    parameters=30_598_896,
    build=deferred("enecg.experts.ecgfounder:build"),
    pretrained_on=(HEEDB,),
)
