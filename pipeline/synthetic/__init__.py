"""Synthetic patients with simulated ECGs, in the layout of MIMIC-IV-ECG."""
