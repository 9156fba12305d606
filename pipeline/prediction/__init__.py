"""Prediction for ECGs with the experts, heads and gate of a run."""
