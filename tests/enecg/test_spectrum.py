import math

import torch

from enecg.gate import Gate
from enecg.heads import compress_outliers
from enecg.leads import SAMPLED_LEADS, STEPS
from enecg.spectrum import BANDS, log_spectrum

TIME = torch.arange(STEPS) / 50


def sampled(hertz: float, phase: float = 0.0) -> torch.Tensor:
    return torch.sin(2 * math.pi * hertz * TIME + phase).repeat(1, len(SAMPLED_LEADS)) + 0.3


def test_spectrum_has_its_peak_at_the_frequency_of_the_signal():
    for hertz in (1.0, 5.0, 15.0):
        banded = log_spectrum(sampled(hertz)).unflatten(-1, (len(SAMPLED_LEADS), BANDS))
        # Band k contains the frequencies from 0.1 + 0.4 k to 0.4 + 0.4 k Hz.
        assert (banded.argmax(-1) == math.ceil(hertz / 0.4) - 1).all()


def test_spectrum_does_not_depend_on_the_phase():
    first, second = log_spectrum(sampled(5.05)), log_spectrum(sampled(5.05, 2.0))
    peak = first > first.amax() - 5
    torch.testing.assert_close(first[peak], second[peak], rtol=0.02, atol=0.0)
    assert not torch.allclose(sampled(5.05), sampled(5.05, 2.0), atol=0.5)


def test_spectrum_of_a_flat_lead_is_finite():
    assert log_spectrum(torch.zeros(2, len(SAMPLED_LEADS) * STEPS)).isfinite().all()


def test_gate_transforms_leads_into_their_spectra():
    leads = torch.cat([sampled(1.0), sampled(8.0)])
    gates = []
    for spectrum in (True, False):
        width = log_spectrum(leads).shape[1] if spectrum else leads.shape[1]
        gates.append(Gate(width, {"age": 1}, 2, hidden=4, dropout=0.0, spectrum=spectrum))
    ffn = gates[0].ffn["age"]
    torch.nn.init.normal_(ffn.prediction.weight)  # type: ignore[arg-type, union-attr]
    weights = gates[0](leads)["age"]
    expected = ffn(compress_outliers(log_spectrum(leads))).softmax(-1).unsqueeze(1)
    torch.testing.assert_close(weights, expected)
    assert "window" in gates[0].state_dict()
    assert "window" not in gates[1].state_dict()
