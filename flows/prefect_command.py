"""What `prefect run` calls: our own command line, given all the words that follow."""

import sys
from typing import Annotated

from cyclopts import App, Parameter

from flows.cli import stages
from flows.run_app import run_app

# Prefect's app would end a mistake with code 1, and would take --help for its own: so it passes
# on every word, and ours answers.
app = App(name="run", help_flags=[], version_flags=[])


@app.default
def run(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
) -> None:
    """Run a stage of EnECG here and now."""
    sys.exit(run_app(stages("prefect run"), words))
