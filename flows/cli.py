"""The command line `enecg`. The command `prefect run` runs the same jobs as Prefect flows."""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from flows import parameters as p
from flows.environment import has_prefect_server, set_defaults, use_temporary_home
from flows.help_examples import example
from flows.output import log_to_stderr, print_text
from flows.run_app import run_app

JOBS = {
    "extract": "Compute the embeddings that the store is missing.",
    "pretrain": "Pretrain an expert without published weights on the ECGs of training patients.",
    "label": "Make the label table for train --labels from the data set's tables.",
    "train": "Train heads and gate on stored embeddings and evaluate them on test patients.",
    "sweep": "Search for the head and gate settings that score best on validation patients.",
    "refresh": "Extract new records, then train. Intended for a schedule.",
}
"""Help text of each command that runs a job, by name."""

COMMANDS = {
    "evaluate": ("flows.evaluate:evaluate", "Evaluate a run on patients it was not trained on."),
    "predict": ("flows.predict:predict", "Predict values and classes from ECGs with a run."),
    "explain": (
        "flows.explain:explain",
        "Show which waves of an ECG a run's outputs depend on.\n\nContributions of samples are "
        "integrated gradients through each expert and its head, and through the gated mixture. "
        "Research software, not a medical device.",
    ),
    "experts": ("flows.experts:app", "List the experts, or download their published weights."),
    "doctor": (
        "flows.doctor.command:doctor",
        "Check the installation, and optionally a data set and a store.",
    ),
    "data": ("flows.data:app", "Check the signals of a data set."),
    "store": ("flows.store:app", "List, show, map, verify, repair, clean up and copy stores."),
    "table": ("flows.runs:table", "Print a table of a run, as in the paper or the results page."),
    "runs": ("flows.runs:app", "List, show, compare, export and serve runs, and draw their pages."),
}
"""Import path and help text of other commands, by name."""


def _format_default(value: Any) -> str | None:
    """Format a default for `--help`; None hides it."""
    if value is None or value is False or value == ():
        return None
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def job_app(name: str, module: str) -> App:
    """Return an app with one command per job.

    Args:
        name: Name of the app.
        module: Module of the commands; imported only to run one of them or to show its help.

    Returns:
        The app.
    """
    app: App = App(
        name=name,
        help="Extract ECG embeddings with frozen experts into shared stores, and train heads and "
        "a gate on them.",
        version_flags=[],
        # Do not add options of the form `--no-X` or `--empty-X`.
        default_parameter=Parameter(negative=(), show_default=_format_default),
    )
    for job, text in JOBS.items():
        app.command(f"{module}:{job}", name=job, help=text, help_epilogue=example(job, name))
    return app


def enecg() -> App:
    """Return the app `enecg`."""
    app = job_app("enecg", "flows.commands")
    app.version_flags = ["--version"]
    app.version = lambda: version("enecg")
    for name, (path, text) in COMMANDS.items():
        # cyclopts accepts only a name and a help text for the import path of an app.
        options = {} if path.endswith(":app") else {"help_epilogue": example(name)}
        app.command(path, name=name, help=text, **options)
    app.command(synthesize, help_epilogue=example("synthesize"))
    option = "--print-completion"
    app.command(print_completion, name=option, help_epilogue=example(option))
    return app


def synthesize(
    directory: Annotated[Path, Parameter(group=p.OUTPUT, help="Folder to write to.")],
    *,
    patients: Annotated[int, *p.number("Number of patients.", p.DATA, ge=1)] = 200,
    seed: p.Seed = 0,
) -> None:
    """Write a synthetic data set in MIMIC-IV-ECG's layout. Its signals depend on its labels."""
    from flows.progress import progress_bar
    from pipeline.synthetic.synthesize import synthesize as write

    with progress_bar("synthesize", "records", log_to_stderr) as progress:
        write(directory, patients=patients, seed=seed, progress=progress)
    print_text(f"Data set: mimic-iv-ecg:{directory}")


def print_completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Shell of the script.")], /
) -> None:
    """Print a script that completes commands, options and choices in a shell."""
    print(enecg().generate_completion(shell=shell))


def main() -> None:
    """Run `enecg` with the arguments of this process and exit."""
    set_defaults(os.environ, quiet=True)
    if has_prefect_server(os.environ):
        use_temporary_home(os.environ, log_to_stderr)
    sys.exit(run_app(enecg(), sys.argv[1:]))
