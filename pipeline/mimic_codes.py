"""Codes and limits in MIMIC-IV's tables, shared by label rules and synthetic data."""

POTASSIUM_SERUM_ITEM = 50971
POTASSIUM_WHOLE_BLOOD_ITEM = 50822
POTASSIUM_ITEMS = (POTASSIUM_SERUM_ITEM, POTASSIUM_WHOLE_BLOOD_ITEM)
"""MIMIC-IV `d_labitems`: potassium in serum or plasma (chemistry) and whole blood (blood gas)."""

POTASSIUM_REFERENCE_MMOL_L = (3.3, 5.1)
"""Reference range in the potassium rows of MIMIC-IV's `labevents`."""

NORMAL_POTASSIUM_MMOL_L = (3.5, 5.1)
"""Default limits of normal potassium, for rows without a reference range."""

ABNORMAL_FLAG = "abnormal"
"""The only value of `labevents.flag`; an empty flag means normal."""

UNMEASURED = 29999
"""Value of a measurement that the ECG machine could not determine, in any column."""

REPORT_LINES = 18
"""Number of report columns in `machine_measurements`: `report_0` to `report_17`."""
