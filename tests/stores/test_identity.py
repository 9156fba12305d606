import pytest

from stores.identity import compute_identity

PROVENANCE = {"dataset": "ludb/1.0.1", "expert": "dlinear", "architecture": {"a": 1, "b": [2]}}


def test_key_order_does_not_change_the_identity():
    assert compute_identity(PROVENANCE) == compute_identity(dict(reversed(PROVENANCE.items())))


@pytest.mark.parametrize(
    "change",
    [{"dataset": "ludb/1.0.2"}, {"architecture": {"a": 1, "b": [3]}}, {"more": None}],
)
def test_any_change_of_provenance_changes_the_identity(change: dict[str, object]):
    assert compute_identity(PROVENANCE | change) != compute_identity(PROVENANCE)


def test_nan_in_provenance_is_rejected():
    with pytest.raises(ValueError, match="JSON"):
        compute_identity({"scale": float("nan")})
