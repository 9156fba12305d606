"""The format of a decoded ECG: 12 leads, 10 s at 500 Hz, in mV."""

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Order of the leads in every decoded record, as in the standard 12-lead printout."""

SAMPLE_RATE_HZ = 500
SECONDS = 10
SAMPLES = SAMPLE_RATE_HZ * SECONDS
"""Samples per lead."""
