"""Outcomes of commands that the fixture `run_enecg` runs."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Outcome:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def out_lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def err_lines(self) -> list[str]:
        return self.err.splitlines()


RunCommand = Callable[..., Outcome]
