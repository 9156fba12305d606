"""The command line: `enecg`, and the same stages under `prefect run`."""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from flows import parameters as p
from flows.environment import set_defaults
from flows.run_app import run_app

STAGES = {
    "extract": "Run the frozen experts over the ECGs and keep their embeddings in the store.",
    "label": "Make the table of labels out of the data set's tables, for train --labels.",
    "train": "Train the heads and the gate from the store, and tell how good they are.",
    "sweep": "Try settings of heads and gate, and tell which do best on validation patients.",
    "refresh": "Extract the records that are new, then train all heads: what runs at night.",
}
"""The stages that are flows, by the name of their command, each with its help."""


def stages(name: str) -> App:
    """An app with one command a stage, each imported only when it is called."""
    app: App = App(
        name=name,
        help="Frozen ECG experts once, into a shared store; heads and gate from the store.",
        version_flags=[],
    )
    for stage, told in STAGES.items():
        app.command(f"flows.commands:{stage}", name=stage, help=told)
    return app


def enecg() -> App:
    """The app `enecg`: the stages, and what needs no Prefect."""
    app = stages("enecg")
    app.version_flags = ["--version"]
    app.version = lambda: version("enecg")
    app.command(
        "flows.evaluate:evaluate",
        name="evaluate",
        help="Judge a run on patients that it has not seen, of its own data set or another.",
    )
    app.command(synthesize)
    app.command(
        "flows.experts:app",
        name="experts",
        help="List the experts, or fetch their published weights.",
    )
    app.command("flows.data:app", name="data", help="Look through the ECGs of a data set.")
    app.command(
        "flows.store:app",
        name="store",
        help="Look after the stores: list, show, verify and mend, clean up, copy.",
    )
    app.command(
        "flows.runs:table",
        name="table",
        help="Tell a run's results in the layout of one of the paper's tables.",
    )
    app.command(
        "flows.runs:app",
        name="runs",
        help="List finished runs, show one, or compare several.",
    )
    return app


def synthesize(
    directory: Annotated[Path, Parameter(help="Folder to write to.")],
    *,
    patients: Annotated[int, Parameter(help="How many people.")] = 200,
    seed: p.Seed = 0,
) -> None:
    """Write a synthetic data set in the layout of MIMIC-IV-ECG, labels in the signal."""
    from flows.progress import log_to_stderr, progress_bar
    from pipeline.synthetic.synthesize import synthesize as write

    with progress_bar("synthesize", "records", log_to_stderr) as report:
        write(directory, patients=patients, seed=seed, progress=report)
    print(f"Data set: mimic-iv-ecg:{directory}")


def main() -> None:
    """Answer the words given to `enecg`, and leave with an exit code."""
    set_defaults(os.environ, quiet=True)
    sys.exit(run_app(enecg(), sys.argv[1:]))
