"""The jobs of the commands, as functions that run with or without Prefect.

The commands and the flows have the same parameters as these functions.
"""
