"""Parameters of the label step. The defaults in `flows.jobs.label` are those of `LabelRules`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from flows.parameters import DATA, EXECUTION, LABEL_RULES, OUTPUT, number
from pipeline.mimic_codes import POTASSIUM_ITEMS

DEFAULT_POTASSIUM_ITEMS = tuple(map(str, POTASSIUM_ITEMS))

Hosp = Annotated[
    Path | None,
    Parameter(
        group=DATA,
        help="MIMIC-IV's hosp folder with patients.csv and labevents.csv (or .csv.gz); by default "
        "the data set's own hosp folder or link.",
    ),
]
LabelsOut = Annotated[
    Path,
    Parameter(
        group=OUTPUT,
        help="Parquet file for the labels. If its folder does not exist, it is created with access "
        "for its owner only.",
    ),
]
WindowHours = Annotated[
    float,
    *number(
        "Maximum hours between an ECG and its potassium result; see --match.", LABEL_RULES, gt=0
    ),
]
Match = Annotated[
    Literal["first", "nearest"],
    Parameter(
        group=LABEL_RULES,
        help="Potassium result to use: the first in [ECG, ECG + window], or the nearest in "
        "[ECG - window, ECG + window].",
    ),
]
PotassiumItems = Annotated[
    tuple[str, ...],
    Parameter(
        group=LABEL_RULES,
        help="MIMIC-IV item ids of potassium in mEq/L or mmol/L, comma-separated.",
    ),
]
Abnormal = Annotated[
    Literal["range", "flag", "thresholds"] | None,
    Parameter(
        group=LABEL_RULES,
        help="Criterion for abnormal potassium: the row's reference range, the laboratory's flag, "
        "or the thresholds; by default the first of these that the table has columns for.",
    ),
]
PotassiumLow = Annotated[
    float,
    *number(
        "Lowest normal potassium in mmol/L, for --abnormal thresholds, and with --abnormal range "
        "for rows without this limit.",
        LABEL_RULES,
        ge=0,
    ),
]
PotassiumHigh = Annotated[
    float,
    *number("Highest normal potassium in mmol/L; see --potassium-low.", LABEL_RULES, gt=0),
]
ReportLine = Annotated[
    str,
    Parameter(
        group=LABEL_RULES,
        help="Line of the machine report to use as the diagnosis: first (the first that is not "
        "skipped), all, or a line number from 0 to 17.",
    ),
]
SkipLines = Annotated[
    Path | None,
    Parameter(
        group=LABEL_RULES,
        help="Text file with one phrase per line. Report lines that contain one of these phrases "
        "are skipped, because they are not diagnoses; an empty file skips none. The default "
        "phrases are listed in docs/labels.md.",
    ),
]
Scheduler = Annotated[
    str | None,
    Parameter(
        group=EXECUTION,
        help="Dask scheduler for reading MIMIC-IV's lab table: threads or processes on this "
        "machine, or the address of a cluster (tcp://HOST:8786) whose workers have the table at "
        "the same path; by default, the table is read without Dask.",
    ),
]
