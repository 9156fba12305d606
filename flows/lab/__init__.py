"""Servers of a lab: set-up and automations of Prefect, bucket, and results pages."""
