"""Explanation of a run's outputs for ECGs of a data set."""
