"""The command `enecg doctor`."""

import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from enecg.experts import get_definition
from flows import parameters as p
from flows.doctor.finding import Finding, Status, run_check
from flows.output import print_text, printable
from flows.run_app import ExitCode
from pipeline.extraction.options import DEFAULT_EXPERTS
from stores.url import redact

if TYPE_CHECKING:
    from pipeline.datasets.base import Dataset

_COLORS: dict[Status, str] = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def doctor(
    *,
    dataset: Annotated[
        str | None,
        Parameter(group=p.DATA, help="Data set to check, as in enecg extract --dataset."),
    ] = None,
    store: Annotated[
        str | None,
        Parameter(
            group=p.STORES,
            help="Root of the stores to check, as in enecg extract --store. If it exists, it is "
            "checked by writing and removing a temporary folder.",
        ),
    ] = None,
    experts: Annotated[
        tuple[str, ...],
        Parameter(
            group=p.STORES,
            help="Experts whose embeddings must fit on the disk, comma-separated; checked if both "
            "--dataset and --store are given.",
        ),
    ] = DEFAULT_EXPERTS,
    as_json: Annotated[
        bool, Parameter(name="--json", group=p.OUTPUT, help="Print the findings as JSON.")
    ] = False,
) -> int:
    """Check the installation, and optionally a data set and a store.

    Each problem is reported with a remedy.

    Returns:
        The exit code: 1 if a check failed, else 0.

    Raises:
        UserError: An expert does not exist.
    """
    names = p.split(experts)
    for name in names:
        get_definition(name)
    findings = []
    for finding in check_all(dataset, store, names):
        findings.append(finding)
        if not as_json:
            _print(finding)
    failed = sum(finding.status == "failed" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    if as_json:
        status = "failed" if failed else "warning" if warnings else "ok"
        document = {
            "enecg": version("enecg"),
            "status": status,
            "checks": [vars(finding) for finding in findings],
        }
        print_text(json.dumps(document, indent=1))
    else:
        print_text(f"{len(findings)} checks, {failed} failed, {warnings} with warnings.")
    return ExitCode.ISSUES_FOUND if failed else ExitCode.OK


def check_all(
    dataset: str | None, store: str | None, experts: tuple[str, ...]
) -> Iterator[Finding]:
    """Run all checks.

    Args:
        dataset: Data set as ``SOURCE:FOLDER``; None skips its checks and that of disk space.
        store: Root folder or URL of the stores; None skips its checks and that of disk space.
        experts: Names of the experts whose embeddings must fit on the disk.

    Yields:
        The findings, in a fixed order.
    """

    def check_software() -> Iterator[Finding]:
        from flows.doctor import software

        yield from software.check_python()
        yield from software.check_packages()

    def check_machine() -> Iterator[Finding]:
        from flows.doctor import machine

        yield from machine.check_torch()
        yield from machine.check_cpu()

    def check_proxies() -> Iterator[Finding]:
        from flows.doctor import services

        yield from services.check_proxies(os.environ)

    def check_prefect() -> Iterator[Finding]:
        from flows.doctor import services

        yield from services.check_prefect()

    def check_weights() -> Iterator[Finding]:
        from flows.doctor import services

        yield from services.check_weights()

    yield from run_check("packages", check_software)
    yield from run_check("torch", check_machine)
    yield from run_check("proxies", check_proxies)
    yield from run_check("Prefect", check_prefect)
    yield from run_check("weights", check_weights)
    yield from _check_data(dataset, store, experts)


def _check_data(
    dataset: str | None, store: str | None, experts: tuple[str, ...]
) -> Iterator[Finding]:
    """Run the checks of the data set and the store."""
    opened: list[Dataset] = []
    if dataset is not None:
        from flows.doctor import data_checks
        from pipeline.datasets.registry import open_dataset

        def check_index() -> Iterator[Finding]:
            source = open_dataset(dataset)
            yield from data_checks.check_index(source)
            opened.append(source)

        yield from run_check("data set: index", check_index)
        if opened:
            source = opened[0]
            yield from run_check("data set: records", lambda: data_checks.check_records(source))
            yield from run_check("labels", lambda: data_checks.check_labels(source))
    if store is not None:
        from flows.doctor import store_checks

        yield from run_check("store", lambda: store_checks.check_store(store))
        if opened:
            name, records = opened[0].namespace, len(opened[0].index())
            yield from run_check(
                "disk space", lambda: store_checks.check_space(store, name, records, experts)
            )


def _print(finding: Finding) -> None:
    """Print a finding as one line, with a colored status on a terminal."""
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    text = printable(redact(f"{finding.name}: {finding.detail}{remedy}.".replace("\n", " ")))
    if not sys.stdout.isatty():
        print_text(f"{finding.status:8} {text}")
        return
    from rich.console import Console
    from rich.text import Text

    line = Text(f"{finding.status:8} ", style=_COLORS[finding.status])
    Console().print(line.append(text, style="default"), soft_wrap=True)
