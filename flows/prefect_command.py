"""The command `prefect run`, which runs EnECG's own command line."""

import sys
from typing import Annotated

from cyclopts import App, Parameter

from flows.cli import job_app
from flows.run_app import run_app

# This command accepts all arguments and passes them to EnECG's app. Prefect's app would exit with 1
# on a user error, and would handle --help itself.
app = App(name="run", help_flags=[], version_flags=[])


@app.default
def run(
    *arguments: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
) -> None:
    """Run a flow of EnECG in this process."""
    sys.exit(run_app(job_app("prefect run", "flows.prefect_commands"), arguments))
