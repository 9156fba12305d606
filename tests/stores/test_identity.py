import pytest

from stores.identity import compute_identity

PROVENANCE = {"dataset": "ludb/1.0.1", "expert": "dlinear", "architecture": {"a": 1, "b": [2]}}


def test_the_order_of_keys_does_not_matter():
    assert compute_identity(PROVENANCE) == compute_identity(dict(reversed(PROVENANCE.items())))


@pytest.mark.parametrize(
    "change",
    [{"dataset": "ludb/1.0.2"}, {"architecture": {"a": 1, "b": [3]}}, {"more": None}],
)
def test_any_change_is_another_identity(change: dict[str, object]):
    assert compute_identity(PROVENANCE | change) != compute_identity(PROVENANCE)


def test_a_number_that_json_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        compute_identity({"scale": float("nan")})
