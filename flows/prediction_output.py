"""Writers of predictions: plain-text table, JSON lines, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TextIO

from enecg.errors import UserError
from flows.output import print_text, printable
from flows.tables import format_table, one_line
from stores.url import redact

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.prediction.live_run import LiveRun
    from pipeline.prediction.predicted import TaskPrediction
    from pipeline.prediction.rows import Result

Format = Literal["table", "json", "csv", "parquet"]

Write = Callable[["Result"], None]

BATCH_ROWS = 1000
"""Number of rows that are written to a Parquet file at a time."""


@contextmanager
def open_writer(
    form: Format,
    out: Path | None,
    live: LiveRun,
    tasks: Sequence[str],
    coverage: float,
    *,
    integer_ids: bool,
) -> Iterator[Write]:
    """Open a writer of predictions.

    Args:
        form: Format of the output.
        out: File to write; None for standard output.
        live: The run.
        tasks: Names of the tasks.
        coverage: Coverage of intervals and prediction sets.
        integer_ids: Whether the record ids are integers.

    Yields:
        A function that writes one prediction or refusal. A table is written when the block ends.

    Raises:
        UserError: The file cannot be written, or Parquet would be written to a terminal.
        OSError: Standard output cannot be written, or the block raises it.
    """
    # Imported here because `--help` should not wait for torch.
    import pyarrow as pa

    from pipeline.prediction.rows import make_schema

    schema = make_schema(live, tasks, pa.int64() if integer_ids else pa.string())
    if form == "parquet" and out is None and sys.stdout.isatty():
        raise UserError("Parquet is binary; name a file with --out, or redirect standard output.")
    with ExitStack() as stack:
        file = None
        if out is not None:
            file = stack.enter_context(io.BufferedWriter(_OutputFile(out)))
        if form == "parquet":
            yield stack.enter_context(_parquet(file or sys.stdout.buffer, schema))
            return
        write_line: Callable[[str], None] = print_text
        if file is not None:
            text_file = stack.enter_context(io.TextIOWrapper(file, encoding="utf-8"))
            write_line = _line_writer(text_file)
        yield stack.enter_context(_text(form, write_line, schema, live, tasks, coverage))


class _OutputFile(io.FileIO):
    """A file to write that raises UserError if it cannot be opened, written or closed."""

    def __init__(self, path: Path) -> None:
        with _convert_errors(path):
            super().__init__(path.expanduser(), "w")

    def write(self, data: Any, /) -> int:
        with _convert_errors(self.name):
            return super().write(data)

    def close(self) -> None:
        with _convert_errors(self.name):
            super().close()


@contextmanager
def _convert_errors(out: object) -> Iterator[None]:
    """Raise OSError as a UserError that names the file `out`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror}); choose another --out."
        ) from error


def _line_writer(file: TextIO) -> Callable[[str], None]:
    def write_line(line: str) -> None:
        file.write(printable(redact(line)) + "\n")

    return write_line


@contextmanager
def _parquet(file: BinaryIO, schema: pa.Schema) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.prediction.rows import to_row

    rows: list[dict[str, Any]] = []
    with pq.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema))
            rows.clear()

        def write(result: Result) -> None:
            rows.append(to_row(result))
            if len(rows) >= BATCH_ROWS:
                flush()

        yield write
        flush()


@contextmanager
def _text(
    form: Format,
    write_line: Callable[[str], None],
    schema: pa.Schema,
    live: LiveRun,
    tasks: Sequence[str],
    coverage: float,
) -> Iterator[Write]:
    from pipeline.prediction.rows import to_document, to_row

    if form == "json":
        yield lambda result: write_line(
            json.dumps(to_document(result, coverage), allow_nan=False, ensure_ascii=False)
        )
    elif form == "csv":
        write_line(_csv_line(schema.names))
        yield lambda result: write_line(
            _csv_line([to_row(result).get(name, "") for name in schema.names])
        )
    else:
        results: list[Result] = []
        yield results.append
        for line in format_predictions(results, tasks, live, coverage):
            write_line(line)


def _csv_line(cells: Sequence[object]) -> str:
    from pipeline.report.formats import csv_cell

    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(
        csv_cell(one_line(cell)) if isinstance(cell, str) else cell for cell in cells
    )
    return text.getvalue()


def format_predictions(
    results: Sequence[Result], tasks: Sequence[str], live: LiveRun, coverage: float
) -> list[str]:
    """Format predictions as an aligned table, followed by a legend and the run's notice.

    Args:
        results: Predictions and refusals.
        tasks: Names of the tasks.
        live: The run.
        coverage: Coverage of intervals and prediction sets.

    Returns:
        The lines.
    """
    from pipeline.prediction.predicted import RefusedEcg

    titles = [live.repeats[0].targets[task].task.title for task in tasks]
    rows = []
    for result in results:
        record = str(result.record)
        if isinstance(result, RefusedEcg):
            rows.append([record, *("-" for _ in tasks), "-", f"refused: {result.reason}"])
            continue
        predictions = [result.tasks[task] for task in tasks]
        notes = "warning" if result.warnings else ""
        cells = map(_format_task, predictions)
        rows.append([record, *cells, _format_weights(predictions), notes])
    legend = "gate weights: mean over tasks."
    if live.saved.is_calibrated:
        legend = (
            f"[ ] interval and {{ }} classes, requested to contain the truth for "
            f"{100 * coverage:.4g} % of new patients; {legend}"
        )
    return [
        *format_table(("record", *titles, "gate weights", "notes"), rows),
        "",
        legend,
        live.notice,
    ]


def _format_task(prediction: TaskPrediction) -> str:
    if prediction.value is not None:
        digits = 0 if abs(prediction.value) >= 100 else 1
        unit = f" {prediction.unit}" if prediction.unit else ""
        bounds = ""
        if prediction.interval is not None:
            bounds = " [{:.{d}f}, {:.{d}f}]".format(*prediction.interval, d=digits)
        return f"{prediction.value:.{digits}f}{unit}{bounds}"
    chosen = ", ".join(f"{name} {prediction.probabilities[name]:.2f}" for name in prediction.labels)
    names = prediction.prediction_set
    return f"{chosen or 'none'}{'' if names is None else ' {' + ', '.join(names) + '}'}"


def _format_weights(predictions: Sequence[TaskPrediction]) -> str:
    experts = predictions[0].weights
    return ", ".join(
        f"{name} {sum(task.weights[name] for task in predictions) / len(predictions):.2f}"
        for name in experts
    )
