from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from enecg.errors import UserError
from pipeline.pretraining.folder import check_folder
from pipeline.runs.output_folder import check_output


@pytest.mark.parametrize("check", [check_output, partial(check_folder, definition={})])
def test_inaccessible_output_folder_is_a_user_error(
    check: Callable[[Path], object], tmp_path: Path
):
    with pytest.raises(UserError, match=r"cannot be written .* choose another --out"):
        check(tmp_path / ("x" * 300))
