"""Features of the spectrum: power in frequency bands of a few leads."""

import numpy as np
from jaxtyping import Float32

from enecg.experts.measurements.feature import Feature, Values
from enecg.experts.measurements.filtering import INDEPENDENT_LEADS, frequencies

_LEADS = ("II", "V1", "V5")
_BANDS_HZ = ((0.5, 1.5), (1.5, 3), (3, 5), (5, 9), (9, 15), (15, 25), (25, 40), (40, 48), (62, 90))
_FLOOR_MV2 = 1e-9

FEATURES = tuple(
    Feature(
        f"power_{low:g}_{high:g}_hz_{lead}",
        "dB",
        f"power of lead {lead}, {low:g} to {high:g} Hz, relative to 1 mV²",
    )
    for lead in _LEADS
    for low, high in _BANDS_HZ
)


def measure_spectrum(spectrum: Float32[np.ndarray, "record 8 frequency"]) -> Values:
    """Measure the power in each band.

    Args:
        spectrum: `FilteredLeads.spectrum`, in mV².

    Returns:
        The values of `FEATURES`.
    """
    bins = spectrum.shape[-1]
    hz = frequencies(bins)
    values = {}
    for lead in _LEADS:
        own = spectrum[:, INDEPENDENT_LEADS.index(lead)]
        for low, high in _BANDS_HZ:
            first, last = np.searchsorted(hz, (low, high))
            # By Parseval's theorem, this is the mean square of the extended signal in the band.
            power = 2 * own[:, first:last].sum(1, dtype=np.float64) / (2 * (bins - 1)) ** 2
            values[f"power_{low:g}_{high:g}_hz_{lead}"] = 10 * np.log10(power + _FLOOR_MV2)
    return values
