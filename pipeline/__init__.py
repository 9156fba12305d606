"""The two stages as plain functions: data sets, labels, cohorts, extraction, training, report."""
