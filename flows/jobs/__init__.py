"""What each command does, as functions that run with or without Prefect.

Their parameters are those of the command line and of the flows.
"""
