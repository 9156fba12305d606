"""Synthetic patients with simulated ECGs, written in the layout of MIMIC-IV-ECG."""
