import pytest


@pytest.fixture(scope="session", autouse=True)
def _quick_ensembles(quick_ensembles: None) -> None:
    """Shorten training in all tests of the pipeline."""
