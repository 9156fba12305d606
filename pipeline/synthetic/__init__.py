"""Synthetic patients: a dipole heart, and a data set of them in MIMIC-IV-ECG's own layout."""
