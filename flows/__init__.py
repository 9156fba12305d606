"""Prefect flows and the command line: what runs when, on which machine."""
