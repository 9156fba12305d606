"""LeadsSample: the few resampled leads that the gate sees (EnECG, arXiv 2511.22935, method).

It is kept in the stores like an expert's embedding, so that training opens no waveform.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from enecg.experts.base import ExpertSpec
from enecg.experts.preprocessing import Preprocessing
from enecg.names import LEADS_SAMPLE
from enecg.signal import LEADS, resample

SAMPLED_LEADS = ("II", "V1", "V5")
"""One limb lead, one right and one left precordial lead: the usual rhythm strip."""
STEPS = 500


class LeadsSample:
    """The sampled leads, in mV, one after the other: 3 leads of 500 samples at 50 Hz."""

    spec = ExpertSpec(
        name=LEADS_SAMPLE,
        code_version=1,
        architecture={},
        preprocessing=Preprocessing.resampled(STEPS, normalization="none", leads=SAMPLED_LEADS),
        pooling="none",
        embedding_size=len(SAMPLED_LEADS) * STEPS,
        weights="none",
        weights_sha256="",
    )

    def embed(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch feature"]:
        """See `Expert.embed`."""
        rows = torch.tensor([LEADS.index(lead) for lead in SAMPLED_LEADS], device=ecg.device)
        return resample(ecg[:, rows], STEPS).flatten(1)
