import pytest
import torch

from enecg.pooling import POOLINGS, pool, pooled_size

STATES = torch.randn(3, 12, 66, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", POOLINGS)
def test_a_pooling_gives_as_many_features_as_it_says(name: str):
    assert pool(name, STATES).shape == (3, pooled_size(name, 12, 5))


@pytest.mark.parametrize("name", POOLINGS)
def test_a_pooling_of_states_that_are_all_the_same_is_that_state_and_no_spread(name: str):
    state = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    pooled = pool(name, state.expand(3, 12, 66, 5)).unflatten(1, (-1, 5))
    spread = (pooled == 0).all(-1)
    torch.testing.assert_close(pooled[~spread], state.expand(int((~spread).sum()), 5))
    assert spread.any() == ("std" in name)


def test_the_mean_alone_loses_the_order_in_time_and_segments_keep_it():
    turned = STATES.flip(2)
    torch.testing.assert_close(pool("mean", turned), pool("mean", STATES))
    assert (pool("segments", turned) - pool("segments", STATES)).abs().max() > 0.1


def test_the_mean_alone_loses_which_lead_it_was_and_per_series_keeps_it():
    swapped = STATES.flip(1)
    torch.testing.assert_close(pool("mean-std", swapped), pool("mean-std", STATES))
    per_lead = pool("per-series", STATES).unflatten(1, (12, 5))
    torch.testing.assert_close(pool("per-series", swapped), per_lead.flip(1).flatten(1))
