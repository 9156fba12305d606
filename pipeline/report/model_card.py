"""Model card of a run in Markdown: intended use, data, weights, metrics and limits."""

from collections.abc import Iterable

from enecg.errors import UserError
from enecg.experts.registry import get_definition
from pipeline.evaluation.predictions import BASELINES, ENSEMBLE, RIDGE
from pipeline.report.formats import to_markdown
from pipeline.report.notes import (
    NOT_A_DEVICE,
    other_metrics_notes,
    run_notes,
    untrained_warning,
)
from pipeline.report.paper_tables import other_metrics_tables
from pipeline.report.summary import list_facts
from pipeline.report.table import Table, score_table
from pipeline.runs.escaping import escape_markdown
from pipeline.runs.results import RunResults
from pipeline.runs.task_summary import TaskSummary

CARD = "MODEL_CARD.md"
_NOTICE = f"{NOT_A_DEVICE} Do not use this model for the diagnosis or treatment of patients."


def write_card(run: RunResults) -> None:
    """Write the model card of a run to `MODEL_CARD.md` in its folder."""
    (run.folder / CARD).write_text(build_card(run), encoding="utf-8")


def build_card(run: RunResults) -> str:
    """Build the model card of a run.

    Args:
        run: Results of the run.

    Returns:
        Markdown. Text from the run's files is escaped.
    """
    name = escape_markdown(run.config["dataset"])
    methods = [method for method in (*BASELINES, RIDGE, ENSEMBLE) if method in run.methods]
    metrics = to_markdown([score_table(run, methods, ""), *other_metrics_tables(run, [ENSEMBLE])])
    sections = {
        "Intended use": [
            "Research on representations of 10-second 12-lead ECGs: comparing frozen experts, "
            "heads and gates on the tasks below.",
            f"**{_NOTICE}**",
            *_list(map(_describe_task, run.tasks.values())),
        ],
        "Model": [
            "Each task has one head per expert, whose input is the frozen expert's embedding. With "
            "several experts, a gate weights them for each ECG (EnECG, arXiv 2511.22935). "
            "Only heads and gate were trained; the experts' weights are not part of this folder.",
            to_markdown([_expert_table(run)]).strip(),
        ],
        "Data and training": [
            "\n".join(
                f"- {name}: {escape_markdown(value)}"
                for name, value in list_facts(run)
                if name != "Experts"
            ),
        ],
        "Metrics": [
            metrics.strip(),
            *_list((*run_notes(run), *other_metrics_notes(run))),
        ],
        "Limits": _list(_limits(run)),
        "Use": [
            '```python\nimport enecg\n\nrun = enecg.load_run("FOLDER")  # this folder\n```',
        ],
    }
    parts = [f"# Model card: EnECG heads and gate for {name}"]
    if run.untrained:
        warning = escape_markdown(untrained_warning(run.untrained))
        parts.append(f"> **Untrained weights.** {warning}")
    for title, paragraphs in sections.items():
        parts += [f"## {title}", *paragraphs]
    return "\n\n".join(parts) + "\n"


def _list(sentences: Iterable[str]) -> list[str]:
    return ["\n".join(f"- {escape_markdown(sentence)}" for sentence in sentences)]


def _describe_task(task: TaskSummary) -> str:
    classes = f": {' or '.join(task.classes)}" if task.classes else ""
    unit = f" in {task.unit}" if task.unit else ""
    return f"{task.title} ({task.kind}{unit}{classes})"


def _expert_table(run: RunResults) -> Table:
    rows = []
    for store in run.provenance.values():
        expert = store["expert"]
        if expert not in run.weights:
            continue
        weights = run.weights[expert]
        untrained = " (untrained: random)" if weights.startswith("random:") else ""
        rows.append(
            (
                expert,
                f"{weights}{untrained}",
                str(store.get("weights_sha256", ""))[:16],
                _license(expert),
                *(str(store.get(key, "")) for key in ("code_version", "pooling")),
                str(store.get("embedding_size", "")),
            )
        )
    heading = (
        *("expert", "weights", "SHA-256 of the weights", "license"),
        *("code version", "pooling", "features"),
    )
    return Table("", heading, tuple(rows))


def _license(expert: str) -> str:
    """Return the license of an expert's code and published weights; unknown if unregistered."""
    try:
        return get_definition(expert).license
    except UserError:
        return "unknown"


def _limits(run: RunResults) -> list[str]:
    seeds = len(run.config["seeds"])
    limits = [
        "Scores are for test patients of the data set that the run was trained on. Other "
        "hospitals, devices and populations were not tested; use enecg evaluate.",
        "Inputs are 12-lead ECGs of 10 s. Records that cannot be decoded are refused.",
        "Labels have the errors of their source; the notes above list excluded labels.",
        "Probabilities can be miscalibrated; see the expected calibration error (ECE) above.",
        "Subgroups such as sex, age or device were not evaluated separately.",
        "Heads and gate are fitted to patient data, and heads may contain embeddings of training "
        "and validation records. Share them only as the data use agreement of the data set "
        "permits.",
    ]
    if seeds == 1:
        limits.append("One repeat: the variation with training was not measured.")
    if run.untrained:
        limits.append(untrained_warning(run.untrained))
    if run.config["dataset"].startswith("synthetic/"):
        limits.append("The ECGs are simulated. The scores do not apply to real patients.")
    return limits
