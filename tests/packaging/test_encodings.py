"""Calls of `Path` methods that open text files pass an encoding."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [
    path.relative_to(ROOT)
    for package in ("enecg", "flows", "pipeline", "stores", "benchmarks")
    for path in sorted((ROOT / package).rglob("*.py"))
]

ENCODING_POSITION = {"read_text": 0, "write_text": 1, "open": 2}
"""Position of the encoding in the arguments of these methods of `Path`."""


def find_calls_without_encoding(source: str) -> list[int]:
    """Return the lines with calls that open a text file without an encoding.

    A call counts if it has the form ``x.read_text(...)``, ``x.write_text(...)`` or ``x.open(...)``,
    for any expression ``x``. For ``open``, see `_is_text_mode`.
    """
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ENCODING_POSITION
        and not any(keyword.arg == "encoding" for keyword in node.keywords)
        and len(node.args) <= ENCODING_POSITION[node.func.attr]
        and (node.func.attr != "open" or _is_text_mode(node))
    ]


def _is_text_mode(node: ast.Call) -> bool:
    """Return whether a call of ``open`` has no arguments, or its first one is a text mode.

    Only the constants "r", "w", "a" and "x" are recognized as text modes.
    """
    mode = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
    return mode in {"r", "w", "a", "x"} or (not node.args and not node.keywords)


def test_calls_without_encoding_are_found():
    source = 'p.read_text()\np.write_text(t)\np.open("w", newline="")\np.open()\n'
    assert find_calls_without_encoding(source) == [1, 2, 3, 4]
    source = 'p.read_text("utf-8")\np.write_text(t, encoding="utf-8")\np.open("rb")\nzarr.open(p)\n'
    assert find_calls_without_encoding(source) == []


def test_text_files_are_opened_with_an_encoding():
    found = [
        f"{path}:{line}"
        for path in SOURCES
        for line in find_calls_without_encoding((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert len(SOURCES) > 400
    assert found == []
