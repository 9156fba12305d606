"""Run folders: write and read them, load and apply their models."""
