"""Type checker for the shapes and dtypes in jaxtyping annotations during tests."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""Accepts an int for a float, as type checkers do."""
