"""The list of failed records on disk."""

from pathlib import Path

import pytest

from enecg.errors import UserError
from flows.failed_records import FailedRecord, write_failed


def test_error_leaves_no_partial_file(tmp_path: Path):
    file = tmp_path / "failed.csv"
    file.mkdir()
    with pytest.raises(UserError, match=r"failed\.csv cannot be written \(Is a directory\)"):
        write_failed([FailedRecord(5, "dlinear", "flat_lead")], file)
    assert list(tmp_path.iterdir()) == [file]
