"""Metrics that depend only on the order of scores."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from enecg.rank_metrics import average_precision, roc_area


@pytest.mark.parametrize("records", [2, 3, 5, 40, 1000])
@pytest.mark.parametrize("decimals", [0, 1, 15], ids=["many ties", "some ties", "no ties"])
def test_areas_equal_those_of_scikit_learn(records: int, decimals: int):
    for seed in range(20):
        random = np.random.default_rng(seed)
        positive = random.permutation(np.arange(records) < random.integers(1, records))
        score = (0.2 * random.normal(size=records) + 0.1 * positive).round(decimals)
        assert roc_area(positive, score) == roc_auc_score(positive, score)
        single = score.astype(np.float32)
        assert roc_area(positive, single) == roc_auc_score(positive, single)
        expected = average_precision_score(positive, score)
        assert average_precision(positive, score) == pytest.approx(expected, rel=1e-12)
