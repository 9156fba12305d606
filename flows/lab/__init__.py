"""Servers of a lab: setup and automations of Prefect, bucket, and results pages."""
