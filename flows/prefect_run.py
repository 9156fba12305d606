"""The command `prefect run`, which runs a job of EnECG as a flow."""

import sys
from typing import Annotated

from cyclopts import App, Parameter

from flows.cli import job_app
from flows.run_app import run_app

# This command passes all arguments to EnECG's app, because Prefect's app would exit with 1 after a
# user error, and would handle --help itself.
app = App(name="run", help_flags=[], version_flags=[])


@app.default
def run(
    *arguments: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
) -> None:
    """Run a flow of EnECG in this process, and exit."""
    sys.exit(run_app(job_app("prefect run", "flows.flow_commands"), arguments))
