import pytest

from stores.identity import identity

PROVENANCE = {"dataset": "ludb/1.0.1", "expert": "dlinear", "architecture": {"a": 1, "b": [2]}}


def test_the_order_of_keys_does_not_matter():
    assert identity(PROVENANCE) == identity(dict(reversed(PROVENANCE.items())))


@pytest.mark.parametrize(
    "change",
    [{"dataset": "ludb/1.0.2"}, {"architecture": {"a": 1, "b": [3]}}, {"more": None}],
)
def test_any_change_is_another_identity(change: dict[str, object]):
    assert identity(PROVENANCE | change) != identity(PROVENANCE)


def test_a_number_that_json_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        identity({"scale": float("nan")})
