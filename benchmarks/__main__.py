"""List the benchmarks, run one of them, or run several and print one table of ratios.

python -m benchmarks                 # list
python -m benchmarks extraction      # run benchmarks/extraction.py with its defaults
python -m benchmarks all --quick     # run all on small data, and print one table
python -m benchmarks all             # run all with their default sizes; takes hours

`all` runs the benchmarks that report ratios and need no real data set, and prints their other
output to standard error. Both quantities of a ratio are measured in the same run.
"""

import ast
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._ratios import RATIOS_VARIABLE

BENCHMARKS = Path(__file__).parent
FULL: dict[str, str] = {
    "decode": "",
    "extraction": "",
    "stages": "",
    "expert_costs": "",
    "memory": "",
    "large_index": "",
    "workers": "",
    "kills": "",
    "labels": "--folder {folder}/labels",
    "store": "--folder {folder}",
    "train": "--folder {folder}",
    "training_cost": "--folder {folder}/cost",
}
"""Arguments of the benchmarks for `all`; `{folder}` is replaced by a temporary folder."""
QUICK: dict[str, str] = {
    "decode": "--records 60 --repeats 3 --seconds 0.3",
    "extraction": "--experts dlinear measurements --records 64 --rounds 3",
    "stages": "--records 200 --rounds 1 --experts dlinear",
    "expert_costs": "--experts dlinear timesnet --batch 2 --rounds 2",
    "memory": "--records 500 2000 --experts dlinear",
    "large_index": "--records 200000",
    "workers": "--patients 20 --workers 2 --timesnet-records 8 --kills 2",
    "kills": "--kills 5",
    "labels": "--folder {folder}/labels --millions 1",
    "store": "--folder {folder} --rows 20000 --repeats 2",
    "train": "--folder {folder} --records 500 --epochs 2 --no-experts",
    "training_cost": "--folder {folder}/cost --records 500 --features 64 --epochs 3",
}


def main() -> None:
    """Run the benchmark that the first argument names, or all; without arguments, list them."""
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py") if not path.stem.startswith("_"))
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        for name in names:
            module = ast.parse((BENCHMARKS / f"{name}.py").read_text(encoding="utf-8"))
            print(f"{name:<20}{(ast.get_docstring(module) or '').splitlines()[0]}")
        return
    name = sys.argv[1]
    if name == "all":
        run_all(QUICK if "--quick" in sys.argv else FULL)
        return
    if name not in names:
        sys.exit(f"There is no benchmark {name!r}; available: all, {', '.join(names)}.")
    sys.argv = [f"benchmarks/{name}.py", *sys.argv[2:]]
    runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")


def run_all(commands: dict[str, str]) -> None:
    """Run benchmarks in turn, print their ratios, and exit with an error if a benchmark failed."""
    rows, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in commands.items():
            ratios = Path(folder) / f"{name}.jsonl"
            ratios.touch()
            print(f"## {name} {arguments}".rstrip(), file=sys.stderr, flush=True)
            result = subprocess.run(
                [
                    sys.executable,
                    BENCHMARKS / f"{name}.py",
                    *arguments.format(folder=folder).split(),
                ],
                env=os.environ | {RATIOS_VARIABLE: str(ratios)},
                stdout=sys.stderr,
                check=False,
            )
            if result.returncode:
                failed.append(name)
            rows += [
                (name, json.loads(line)) for line in ratios.read_text(encoding="utf-8").splitlines()
            ]
    print("| benchmark | case | ratio | of | to |\n|---|---|--:|---|---|")
    for name, row in rows:
        print(f"| {name} | {row['case']} | {row['ratio']:.3g} | {row['of']} | {row['to']} |")
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
