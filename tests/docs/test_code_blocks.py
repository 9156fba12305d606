"""Run every shell and Python block of README, CONTRIBUTING and docs that is not excluded.

A page's blocks run in order in one working directory. The comment `<!-- not run: REASON -->`
directly before a block excludes the block.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNNABLE = {"sh", "python"}
REASON = re.compile(r"<!-- not run: (?P<reason>.+?) -->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced code block of a page."""

    page: Path
    line: int
    language: str
    code: str
    not_run: str | None


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced code blocks of a page in order."""
    reason = None
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        if token.type == "html_block" and (match := REASON.search(token.content)):
            reason = match["reason"]
        elif token.type == "fence":
            assert token.map is not None
            line = token.map[0] + 1
            yield Block(page, line, token.info.strip(), token.content, reason)
            reason = None
        else:
            reason = None


def run(block: Block, directory: Path, variables: dict[str, str]) -> None:
    """Run a block; fail with its output if it exits with a code other than 0."""
    command = {
        "sh": ["bash", "-euo", "pipefail", "-c", block.code],
        "python": [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", block.code],
    }[block.language]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **variables, "PATH": path, "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    where = f"{block.page.relative_to(ROOT)}:{block.line}"
    assert done.returncode == 0, f"{where}\n{block.code}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "page",
    [
        page if page.name == "README.md" else pytest.param(page, marks=pytest.mark.slow)
        for page in PAGES
    ],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_block_runs(page: Path, request: pytest.FixtureRequest) -> None:
    runnable = [
        block for block in blocks(page) if block.language in RUNNABLE and block.not_run is None
    ]
    for block in runnable:
        run(block, request.getfixturevalue("workspace"), request.getfixturevalue("prefect_api"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_with_commands_or_imports_have_a_language(page: Path) -> None:
    for block in blocks(page):
        assert block.language or not re.search(r"^(enecg|prefect|import) ", block.code, re.M)
