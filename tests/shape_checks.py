"""How the tests check the shapes and dtypes in signatures while they run."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""As for a type checker, an int will do for a float."""
