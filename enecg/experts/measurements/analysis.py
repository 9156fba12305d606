"""Beats and waves of a batch of ECGs, from which the features are computed."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from enecg.ecg_format import LEADS
from enecg.experts.measurements.average_beat import AverageBeat, make_average_beat
from enecg.experts.measurements.beat_waves import BeatWaves, find_waves
from enecg.experts.measurements.detection import Beats, detect_beats
from enecg.experts.measurements.envelope import Envelope, compute_envelope
from enecg.experts.measurements.filtering import INDEPENDENT_LEADS, FilteredLeads, filter_leads
from enecg.experts.measurements.noise import Noise, measure_noise
from enecg.experts.measurements.pacing import remove_spikes
from enecg.experts.measurements.rhythm import median_rr_s

INDEPENDENT_ROWS = [LEADS.index(lead) for lead in INDEPENDENT_LEADS]


@dataclass(frozen=True)
class Analysis:
    """Intermediate results of the measurement of a batch.

    Attributes:
        leads: Independent leads in mV, without pacemaker spikes; see `remove_spikes`.
        spikes: Number of spikes per record, including those that `remove_spikes` keeps because they
            are too dense for pacing.
        filtered: The filtered leads.
        noise: Noise of the leads.
        envelope: The detection envelope.
        beats: The beats.
        average: The average beats.
        waves: P, QRS and T of the average beats.
    """

    leads: Float32[np.ndarray, "record 8 time"]
    spikes: Int[np.ndarray, " record"]
    filtered: FilteredLeads
    noise: Noise
    envelope: Envelope
    beats: Beats
    average: AverageBeat
    waves: BeatWaves


def analyze(ecg: Float32[np.ndarray, "record 12 time"]) -> Analysis:
    """Find the beats and their waves.

    Args:
        ecg: ECGs in mV at 500 Hz, without missing samples.

    Returns:
        The analysis.
    """
    leads, spikes = remove_spikes(ecg[:, INDEPENDENT_ROWS])
    filtered = filter_leads(leads)
    envelope = compute_envelope(filtered.detection)
    beats = detect_beats(envelope, filtered.clean)
    noise = measure_noise(leads, filtered.clean)
    average = make_average_beat(filtered.clean, beats)
    waves = find_waves(average, noise.weight, median_rr_s(beats))
    return Analysis(leads, spikes, filtered, noise, envelope, beats, average, waves)
