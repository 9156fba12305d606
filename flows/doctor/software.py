"""Checks of Python and of the installed packages."""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from flows.doctor.finding import Finding

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
"""File with the tested versions. It exists only in a copy of the repository."""

INSTALL = "pip install --constraint constraints.txt"


def check_python() -> Iterator[Finding]:
    """Compare the version of Python with EnECG's requirement."""
    current = ".".join(map(str, sys.version_info[:3]))
    required = distribution("enecg").metadata["Requires-Python"]
    if SpecifierSet(required).contains(current):
        yield Finding("Python", "ok", f"{current}, {sys.prefix}")
    else:
        yield Finding(
            "Python",
            "failed",
            f"{current}, but EnECG {version('enecg')} requires {required}",
            "create the environment with another Python",
        )


def check_packages() -> Iterator[Finding]:
    """Compare the installed packages with EnECG's requirements and with the tested versions."""
    # Without a copy of the repository, there is no constraints.txt to install with.
    install = INSTALL if CONSTRAINTS.is_file() else "pip install"
    failed = False
    names = []
    for text in requires("enecg") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        names.append(requirement.name)
        installed = _installed(requirement.name)
        if installed is None or not requirement.specifier.contains(installed, prereleases=True):
            failed = True
            found = "is not installed" if installed is None else f"{installed} is installed"
            yield Finding(
                f"package {requirement.name}",
                "failed",
                f"{found}, but EnECG requires {requirement.name}{requirement.specifier}",
                f'run {install} "{requirement.name}{requirement.specifier}"',
            )
    if find_spec("momentfm") is None:
        yield Finding(
            "package momentfm",
            "warning",
            "is not installed, but the MOMENT experts require it",
            "run pip install --no-deps momentfm",
        )
    if not failed:
        yield Finding("packages", "ok", f"{len(names)} required packages have supported versions")
    yield from _compare_with_tested()


def _compare_with_tested() -> Iterator[Finding]:
    """Report the packages with other versions than those in constraints.txt."""
    if not CONSTRAINTS.is_file():
        yield Finding("tested versions", "ok", "not compared: constraints.txt is not installed")
        return
    lines = (
        line.partition("#")[0].strip()
        for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    )
    pins = (Requirement(line) for line in lines if line)
    different = [
        f"{pin.name} {installed} instead of {str(pin.specifier).lstrip('=')}"
        for pin in pins
        if (installed := _installed(pin.name)) is not None
        # A local version such as 2.13.0+cpu satisfies 2.13.0.
        and not pin.specifier.contains(installed, prereleases=True)
    ]
    if not different:
        yield Finding("tested versions", "ok", "all packages have the versions in constraints.txt")
        return
    more = f" and {len(different) - 5} more" if len(different) > 5 else ""
    yield Finding(
        "tested versions",
        "warning",
        f"{', '.join(different[:5])}{more}",
        f"for the tested versions, run {INSTALL} --editable .",
    )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
