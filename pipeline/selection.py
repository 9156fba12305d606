"""Which records of a data set are asked for."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int

from enecg.errors import UserError

ID_COLUMNS = ("record_id", "study_id")
"""Headers under which a table's record ids are looked for."""


def select(
    index: Int[np.ndarray, " record"],
    *,
    limit: int | None = None,
    records: Path | None = None,
) -> Int[np.ndarray, " pick"]:
    """Record ids out of an index, in its order: those named in a file, of them the first `limit`.

    Raises UserError where the file cannot be read or names records that are not in the index.
    """
    chosen = index
    if records is not None:
        named = np.unique(read_record_ids(records))
        strange = np.setdiff1d(named, index)
        if len(strange):
            raise UserError(
                f"{records} names {len(strange)} records that the data set does not have, such as "
                f"{strange[0]}; take them out, or give the --dataset they are of."
            )
        chosen = index[np.isin(index, named)]
    return chosen[:limit]


def read_record_ids(file: Path) -> Int[np.ndarray, " pick"]:
    """The ids in a text file (one a line), or in a CSV or Parquet table's `record_id` column.

    Raises UserError where the file is not there or holds none.
    """
    try:
        if file.suffix == ".parquet":
            table = pd.read_parquet(file)
        else:
            with file.open() as lines:
                first = lines.readline().split(",")[0].strip()
            header = None if first.lstrip("-").isdecimal() else 0
            table = pd.read_csv(file, header=header, comment="#", skipinitialspace=True)
        column = next((name for name in ID_COLUMNS if name in table), table.columns[0])
        return table[column].to_numpy().astype(np.int64)
    except FileNotFoundError as error:
        raise UserError(f"{file} is not there; name a file of record ids.") from error
    except (OSError, ValueError, pd.errors.ParserError, IndexError) as error:
        raise UserError(
            f"{file} holds no record ids ({str(error).splitlines()[0]}); give one a line, or a "
            "CSV or Parquet table with a column record_id."
        ) from error
