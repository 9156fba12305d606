"""From answers to scores with intervals, and runs judged on other data."""
