"""Features of the signal's quality."""

import numpy as np
from jaxtyping import Float32

from enecg.experts.measurements.analysis import INDEPENDENT_ROWS, Analysis
from enecg.experts.measurements.feature import Feature, Values

FEATURES = (
    Feature("noise_median", "uV", "median over the leads of the median absolute second difference"),
    Feature("noise_max", "uV", "maximum over the leads of the median absolute second difference"),
    Feature(
        "wander_median",
        "mV",
        "median over the leads of the SD of the removed baseline wander and noise",
    ),
    Feature(
        "wander_max",
        "mV",
        "maximum over the leads of the SD of the removed baseline wander and noise",
    ),
    Feature("flat_share_max", "1", "largest share of unchanged samples of a lead"),
    Feature("flat_leads", "1", "number of leads with an SD below 1 % of the largest SD"),
    Feature(
        "noisy_leads", "1", "number of leads with more than 2.5 times the median slope of the leads"
    ),
    Feature("detection_contrast", "dB", "height of the QRS complexes above the median envelope"),
    Feature("limb_residual", "mV", "mean absolute I + III - II, 0 by Einthoven's law"),
    Feature(
        "removed_spikes",
        "1",
        "number of pacemaker spikes and other jumps, including dense series, which are kept",
    ),
    Feature("lead_weight_min", "1", "smallest weight of a lead in the detection of beats, times 8"),
)


def measure_quality(ecg: Float32[np.ndarray, "record 12 time"], analysis: Analysis) -> Values:
    """Measure the quality of the signal.

    Args:
        ecg: All leads in mV.
        analysis: Their analysis.

    Returns:
        The values of `FEATURES`.
    """
    leads = ecg[:, INDEPENDENT_ROWS]
    clean, noise, envelope = analysis.filtered.clean, analysis.noise, analysis.envelope
    wander = (leads[..., ::10] - clean[..., ::10]).std(-1)
    deviation = clean[..., ::4].std(-1)
    unchanged = (np.abs(leads[..., 1::2] - leads[..., :-1:2]) < 1e-4).mean(-1)
    residual = ecg[:, 0, ::7] + ecg[:, 2, ::7] - ecg[:, 1, ::7]
    contrast = envelope.level / np.maximum(envelope.noise, 1e-6)
    return {
        "noise_median": 1000 * np.median(noise.level, axis=1),
        "noise_max": 1000 * noise.level.max(1),
        "wander_median": np.median(wander, axis=1),
        "wander_max": wander.max(1),
        "flat_share_max": unchanged.max(1),
        "flat_leads": (deviation < 0.01 * deviation.max(1, keepdims=True)).sum(1),
        "noisy_leads": (noise.weight < 1).sum(1),
        "detection_contrast": 20 * np.log10(np.maximum(contrast, 1e-2)),
        "limb_residual": np.abs(residual).mean(1),
        "removed_spikes": analysis.spikes,
        "lead_weight_min": 8 * envelope.weight.min(1),
    }
