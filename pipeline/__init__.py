"""The two stages, extraction and training, as plain functions that do not depend on Prefect."""
