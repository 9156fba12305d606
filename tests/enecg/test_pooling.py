import pytest
import torch

from enecg.errors import UserError
from enecg.pooled_sizes import pooled_size
from enecg.pooling import POOLINGS, pool

STATES = torch.randn(3, 12, 66, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", POOLINGS)
def test_number_of_features_equals_pooled_size(name: str):
    assert pool(name, STATES).shape == (3, pooled_size(name, 12, 5))


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_identical_states_gives_that_state_and_zero_deviations(name: str):
    state = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    pooled = pool(name, state.expand(3, 12, 66, 5)).unflatten(1, (-1, 5))
    deviation = (pooled == 0).all(-1)
    torch.testing.assert_close(pooled[~deviation], state.expand(int((~deviation).sum()), 5))
    assert deviation.any() == ("std" in name)


def test_segments_preserve_temporal_order_and_mean_does_not():
    reversed_ = STATES.flip(2)
    torch.testing.assert_close(pool("mean", reversed_), pool("mean", STATES))
    assert (pool("segments", reversed_) - pool("segments", STATES)).abs().max() > 0.1


def test_per_series_distinguishes_leads_and_mean_std_does_not():
    swapped = STATES.flip(1)
    torch.testing.assert_close(pool("mean-std", swapped), pool("mean-std", STATES))
    per_lead = pool("per-series", STATES).unflatten(1, (12, 5))
    torch.testing.assert_close(pool("per-series", swapped), per_lead.flip(1).flatten(1))


def test_unknown_pooling_is_an_error():
    with pytest.raises(UserError, match="Unknown pooling 'max'; available: mean, mean-std"):
        pooled_size("max", 12, 5)
