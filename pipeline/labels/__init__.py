"""Labels as a step of its own: MIMIC's tables streamed once into one Parquet file."""

from pipeline.labels.label_table import content_digest, counts, read_told, to_dask, write_labels
from pipeline.labels.labelled import HasMimicTables, Labels, MimicTables, label, label_from_mimic
from pipeline.labels.make import Made, make_labels
from pipeline.labels.records import read_records
from pipeline.labels.rules import PLAUSIBLE_RR_MS, LabelRules
from pipeline.labels.tables import find_table

__all__ = [
    "PLAUSIBLE_RR_MS",
    "HasMimicTables",
    "LabelRules",
    "Labels",
    "Made",
    "MimicTables",
    "content_digest",
    "counts",
    "find_table",
    "label",
    "label_from_mimic",
    "make_labels",
    "read_records",
    "read_told",
    "to_dask",
    "write_labels",
]
