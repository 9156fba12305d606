"""Examples and exit codes for the help of the commands."""

EXAMPLES = {
    "extract": "--dataset mimic-iv-ecg:data/demo --store stores --experts dlinear,timesnet "
    "--weights random:0",
    "pretrain": "--dataset mimic-iv-ecg:data/demo --expert timesnet --out pretraining/timesnet",
    "label": "--dataset mimic-iv-ecg:data/demo --out labels.parquet",
    "train": "--dataset mimic-iv-ecg:data/demo --store stores --weights random:0 --out runs/demo",
    "sweep": "--dataset mimic-iv-ecg:data/demo --store stores --weights random:0 --tasks age "
    "--trials 20 --out runs/sweep",
    "refresh": "--dataset mimic-iv-ecg:data/demo --store stores --experts dlinear,timesnet "
    "--weights random:0 --out runs",
    "synthesize": "data/demo --patients 200 --seed 0",
    "evaluate": "--run runs/demo --dataset mimic-iv-ecg:data/other --store stores --out scores",
    "predict": "--run runs/demo ecgs/0001.hea ecgs/more --format json",
    "explain": "--run runs/demo --dataset mimic-iv-ecg:data/demo --cohort 10 --out explanation",
    "experts": "",
    "experts fetch": "moment tempo ecg-fm",
    "doctor": "--dataset ludb:/data/ludb --store stores",
    "data": "check ludb:/data/ludb",
    "data check": "ludb:/data/ludb --limit 1000",
    "store": "ls stores",
    "store card": "stores --name ludb-embeddings --license odbl "
    "--url https://huggingface.co/datasets/LAB/ludb-embeddings",
    "store copy": "stores s3://lab/ecg-stores",
    "store gc": "stores",
    "store ls": "stores",
    "store neighbors": "stores 40689238 --experts moment --count 10",
    "store plot": "stores --out map.html --dataset mimic-iv-ecg:data/demo --color age",
    "store show": "stores --failed",
    "store verify": "stores --repair",
    "table": "2 runs/demo --extra",
    "runs": "ls runs",
    "runs compare": "runs/a runs/b --out comparison.html",
    "runs export": "runs/demo shared/demo",
    "runs ls": "runs",
    "runs page": "runs/demo --with-ecgs --dataset mimic-iv-ecg:data/demo",
    "runs serve": "runs --port 8080",
    "runs show": "runs/demo",
    "--print-completion": "bash",
}
"""Arguments of the example, by command."""

EXIT_CODES = {
    "predict": "Exit code 1 if a record is refused. Research use only; not a medical device.",
    "explain": "Exit code 1 if a named record is refused, or no record can be explained.",
    "doctor": "Exit code 1 if a check failed.",
    "data check": "Exit code 1 if more records than --at-most allows are unreadable or have "
    "findings.",
    "store copy": "Exit code 1 if a store or shard of source or target is damaged or unreadable.",
    "store ls": "Exit code 1 if a store cannot be read.",
    "store show": "Exit code 1 if a store cannot be read.",
    "store verify": "Exit code 1 if a store remains damaged or unverified, or a recomputed row "
    "differs.",
    "runs ls": "Exit code 1 if a run cannot be read.",
}
"""Text below the example, by command."""


def example(command: str, program: str = "enecg") -> str:
    """Return the text below the help of a command.

    Args:
        command: Name of the command, with that of its subcommand, such as ``"store ls"``.
        program: Name of the program, ``enecg`` or ``prefect run``.

    Returns:
        The example, and the command's text in `EXIT_CODES`, if any.
    """
    words = (program, command, EXAMPLES[command])
    text = f"Example: {' '.join(word for word in words if word)}"
    return f"{text}\n\n{EXIT_CODES[command]}" if command in EXIT_CODES else text
