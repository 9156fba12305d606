"""Summary of a run for the top of a page: data, settings, and the main score of each task."""

from dataclasses import dataclass

from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, RIDGE
from pipeline.report.table import format_measure
from pipeline.runs.results import RunResults


@dataclass(frozen=True)
class Card:
    """The main score of EnECG on a task.

    Attributes:
        task: Name of the task.
        title: Title of the task.
        metric: Metric with its unit.
        value: Mean and, with several repeats, standard deviation.
        interval: 95% interval, as ``low to high``; empty if the score is missing or undefined.
        others: Ridge regression and the constant predictor, with their mean scores.
    """

    task: str
    title: str
    metric: str
    value: str
    interval: str
    others: tuple[tuple[str, str], ...]


def build_cards(run: RunResults) -> list[Card]:
    """Build the cards of a run, one per task."""
    cards = []
    for task in run.tasks.values():
        value, _, interval = format_measure(run.score(ENSEMBLE, task.name)).partition(" [")
        cards.append(
            Card(
                task.name,
                task.title,
                f"{task.metric_name} {task.unit}".rstrip(),
                value,
                interval.rstrip("]").replace(", ", " to "),
                tuple(
                    (method, format_measure(score).partition(" ")[0])
                    for method in (RIDGE, CONSTANT)
                    if (score := run.score(method, task.name)) is not None
                ),
            )
        )
    return cards


def list_facts(run: RunResults) -> list[tuple[str, str]]:
    """List the data and settings of a run, as pairs of name and value."""
    config = run.config
    settings = config["settings"]
    folds = config.get("folds")
    repeats = len(config["seeds"])
    facts = [
        ("Data set", config["dataset"]),
        # Repeats can use fewer patients; see `TrainSettings.patients`.
        ("Available data", f"{config['records']:,} ECGs of {config['patients']:,} patients"),
        ("Split", "by the table of folds" if folds else "70/20/10 by patient"),
        ("Repeats", f"{repeats} ({_seeds(config['seeds'])})"),
        ("Experts", ", ".join(f"{name} ({weights})" for name, weights in run.weights.items())),
        *(
            [
                (
                    "Random baselines",
                    ", ".join(f"{name} ({seed})" for name, seed in run.random_baselines.items()),
                )
            ]
            if run.random_baselines
            else []
        ),
        ("Trained on", f"{config['device']} in {config['seconds']:,.0f} s"),
        ("Finished", config["finished"].replace("T", " ")),
        ("Versions", ", ".join(map(" ".join, config["versions"].items()))),
    ]
    heads = settings.get("fit", {}).get("adaptation")
    if isinstance(heads, str):
        position = next(
            position for position, (name, _) in enumerate(facts) if name == "Trained on"
        )
        facts.insert(position, ("Heads", heads))
    return facts


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
