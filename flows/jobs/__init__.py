"""The jobs of the commands, as functions that run with or without Prefect.

Their parameters are those of the command line and of the flows.
"""
