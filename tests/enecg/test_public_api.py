"""The public names of the package `enecg`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import enecg

STUB = Path(enecg.__file__).with_suffix(".pyi")


@pytest.mark.parametrize("name", enecg.__all__)
def test_every_public_name_is_importable_and_documented(name: str) -> None:
    text = getattr(enecg, name).__doc__
    assert text
    assert not text.startswith(f"{name}("), "the docstring is the signature that `dataclass` sets"


def test_stub_imports_the_public_names_from_their_modules() -> None:
    imports = [
        node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ImportFrom)
    ]
    stub = {alias.name: node.module for node in imports for alias in node.names}
    assert stub == {**enecg._SOURCES, "experts": "enecg"}


def test_import_does_not_load_torch_zarr_or_the_pipeline() -> None:
    loaded = "[name for name in sys.modules if name.split('.')[0] in ('torch', 'pipeline', 'zarr')]"
    code = f"import sys, enecg; dir(enecg); print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'extrct'"):
        enecg.extrct  # noqa: B018
