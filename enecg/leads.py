"""The input of the gate: three leads, resampled to 50 Hz (EnECG, arXiv 2511.22935).

It is stored in the same way as an expert's embedding, so that training reads no waveforms.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from enecg.decimation import decimate
from enecg.ecg_format import LEADS
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.spec import ExpertSpec
from enecg.names import LEADS_SAMPLE

SAMPLED_LEADS = ("II", "V1", "V5")
"""A limb lead, a right precordial and a left precordial lead: the usual leads of rhythm strips."""

STEPS = 500
"""Samples per lead: 10 s at 50 Hz."""


class LeadsSample:
    """The sampled leads in mV at 50 Hz, concatenated: 3 leads of 500 samples."""

    spec = ExpertSpec(
        name=LEADS_SAMPLE,
        code_version=2,
        architecture={},
        preprocessing=Preprocessing.resampled(STEPS, normalization="none", leads=SAMPLED_LEADS),
        pooling="none",
        embedding_size=len(SAMPLED_LEADS) * STEPS,
        weights="none",
        weights_sha256="",
    )

    def embed(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch feature"]:
        """Sample the leads; see `Expert.embed`."""
        leads = torch.stack([ecg[:, LEADS.index(lead)] for lead in SAMPLED_LEADS], dim=1)
        return decimate(leads, STEPS).flatten(1)
