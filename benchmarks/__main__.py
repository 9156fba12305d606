"""List the benchmarks, or run one of them.

python -m benchmarks                 # list
python -m benchmarks extraction      # run benchmarks/extraction.py with its defaults
"""

import ast
import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> None:
    """List the benchmarks, or run the one that the first argument names."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    if len(sys.argv) < 2:
        for name in names:
            module = ast.parse((FOLDER / f"{name}.py").read_text())
            print(f"{name:<20}{(ast.get_docstring(module) or '').splitlines()[0]}")
        return
    name = sys.argv[1]
    if name not in names:
        sys.exit(f"There is no benchmark {name!r}; available: {', '.join(names)}.")
    sys.argv = [f"benchmarks/{name}.py", *sys.argv[2:]]
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


if __name__ == "__main__":
    main()
