"""Labels: writing them to a Parquet file, and encoding them as training targets."""

from pipeline.datasets.label_rules import LabelRules
from pipeline.datasets.record_labels import RecordLabels
from pipeline.labels.label_step import LabelResult, collect_labels, make_labels
from pipeline.labels.parquet_file import content_digest, read_metadata, to_dask, write_labels

__all__ = [
    "LabelResult",
    "LabelRules",
    "RecordLabels",
    "collect_labels",
    "content_digest",
    "make_labels",
    "read_metadata",
    "to_dask",
    "write_labels",
]
