"""ECGs of chosen test records on a results page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.report.ecg_plot import plot_ecg
from pipeline.report.examples import Example, choose_examples
from pipeline.report.svg import encode_svg
from pipeline.runs.results import RunResults
from pipeline.runs.run_details import RunDetails
from pipeline.waveforms.errors import UnreadableRecord


@dataclass(frozen=True)
class EcgFigure:
    """The ECG of a record.

    Attributes:
        anchor: Id of the drawing in the page.
        svg: The drawing; None if the record cannot be read.
        size: Width and height of the drawing, in units of its view box.
        problem: Reason why the record cannot be read; empty if it can.
    """

    anchor: str
    svg: Markup | None
    size: tuple[float, float] = (0.0, 0.0)
    problem: str = ""


@dataclass(frozen=True)
class Examples:
    """The examples of a task.

    Attributes:
        largest: Records with the largest errors.
        typical: Records with errors close to the median.
    """

    largest: tuple[tuple[Example, EcgFigure], ...]
    typical: tuple[tuple[Example, EcgFigure], ...]


class EcgDrawings:
    """The ECGs of a page. An ECG that is an example of several tasks is drawn once.

    Args:
        dataset: The data set.
        run: The run, which must be of this data set.

    Attributes:
        figures: Drawn ECGs by record id.

    Raises:
        UserError: The run was trained on another data set.
    """

    def __init__(self, dataset: Dataset, run: RunResults) -> None:
        if dataset.namespace != run.config["dataset"]:
            raise UserError(
                f"{run.folder} was trained on {run.config['dataset']}, but the data set is "
                f"{dataset.namespace}; pass the data set of the run."
            )
        self.figures: dict[str | int, EcgFigure] = {}
        self._dataset = dataset
        self._record_id = dataset.index().record_id
        self._order = np.argsort(self._record_id)

    def build(self, details: RunDetails, task: str, experts: Sequence[str]) -> Examples:
        """Choose the examples of a task and draw their ECGs.

        Args:
            details: Details of the run.
            task: Name of the task.
            experts: Names of the experts, in the order of the gate's weights.

        Returns:
            The examples and their drawings.
        """
        largest, typical = choose_examples(details, task, experts)
        return Examples(self._attach(largest), self._attach(typical))

    def _attach(self, examples: Iterable[Example]) -> tuple[tuple[Example, EcgFigure], ...]:
        return tuple((example, self._figure(example.record_id)) for example in examples)

    def _figure(self, record_id: str | int) -> EcgFigure:
        if record_id not in self.figures:
            self.figures[record_id] = self._draw(record_id, f"ecg-{len(self.figures)}")
        return self.figures[record_id]

    def _draw(self, record_id: Any, anchor: str) -> EcgFigure:
        position = int(np.searchsorted(self._record_id, record_id, sorter=self._order))
        row = int(self._order[min(position, len(self._order) - 1)])
        if self._record_id[row] != record_id:
            return EcgFigure(anchor, None, problem="not in the index of the data set")
        try:
            ecg = self._dataset.read(row)
        except UnreadableRecord as error:
            return EcgFigure(anchor, None, problem=str(error))
        figure = plot_ecg(ecg, layout="compact")
        svg = encode_svg(figure, f"12-lead ECG of record {record_id}")
        size = figure.get_size_inches() * 72
        # `encode_svg` escapes all text.
        body = svg[svg.index(">") + 1 : svg.rindex("</svg>")]
        return EcgFigure(anchor, Markup(body), (float(size[0]), float(size[1])))
