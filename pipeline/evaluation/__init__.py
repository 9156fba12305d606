"""Predictions, decision thresholds, and scores with bootstrap intervals by patient."""
