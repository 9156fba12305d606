"""Copying a run without the ids of records and patients."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from enecg.errors import UserError
from pipeline.runs.results import CONFIG, PROVENANCE, RESULTS, read_results

COPIED = (CONFIG, PROVENANCE, RESULTS, "results.md", "results.html")
PREDICTIONS = "predictions.parquet"
IDS = ("record_id", "patient_id")


def export_run(folder: Path, out: Path) -> None:
    """Copy the tables, the page and the predictions of a run, without cohorts, models and ids.

    The rows of the predictions are shuffled, because their order could identify records.

    Args:
        folder: Run folder.
        out: New folder.

    Raises:
        UserError: `folder` is not a run folder, or `out` exists or cannot be written.
    """
    read_results(folder)
    folder, out = folder.expanduser(), out.expanduser()
    try:
        out.mkdir(parents=True)
        for name in COPIED:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, out / name)
        predictions = pq.read_table(folder / PREDICTIONS).drop_columns(list(IDS))
        order = np.random.default_rng().permutation(len(predictions))
        pq.write_table(predictions.take(order), out / PREDICTIONS)
    except FileExistsError as error:
        raise UserError(f"{out} exists; choose a new folder.") from error
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error}); choose another folder.") from error
