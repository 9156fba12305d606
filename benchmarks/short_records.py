"""Compare rules to extend short records to 10 s, by their effect on the embeddings.

    python benchmarks/short_records.py ptb-xl:data/ptb-xl [--experts dlinear,timesnet,ecg-fm]

Ten-second records are cut and extended to 10 s again. The benchmark measures the Euclidean distance
between the embeddings of the extended and the original record. Features are standardized over the
patients, and distances are divided by the median distance between two patients. For comparison, the
distance between two records of the same patient is printed as "another record".

The column "farther than the nearest patient" is the percentage of records whose distance exceeds
the distance between the original record and the nearest record of another patient.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch

from enecg.ecg_format import SAMPLE_RATE_HZ, SAMPLES
from enecg.experts import Expert, load_expert
from pipeline.datasets.base import Dataset
from pipeline.datasets.registry import open_dataset
from pipeline.waveforms.errors import UnreadableRecord

BATCH = 8

RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "zeros": lambda ecg: np.pad(ecg, ((0, 0), (0, SAMPLES - ecg.shape[1]))),
    "last sample": lambda ecg: np.pad(ecg, ((0, 0), (0, SAMPLES - ecg.shape[1])), mode="edge"),
    "mirror": lambda ecg: np.pad(ecg, ((0, 0), (0, SAMPLES - ecg.shape[1])), mode="symmetric"),
    "repeat": lambda ecg: np.pad(ecg, ((0, 0), (0, SAMPLES - ecg.shape[1])), mode="wrap"),
}


def read_patients(dataset: Dataset, count: int) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return one ECG per patient, and a second ECG of patients with several.

    Patients with an unreadable record among their first two are skipped.

    Args:
        dataset: The data set.
        count: Number of patients; those with several records come first.

    Returns:
        The first ECG of each patient, and the second ECGs by index into the first ones.
    """
    rows: dict[int | str, list[int]] = {}
    for row, patient in enumerate(dataset.index().patient_id.tolist()):
        rows.setdefault(patient, []).append(row)
    ordered = sorted(rows.values(), key=lambda patient_rows: len(patient_rows) == 1)
    first: list[np.ndarray] = []
    second: dict[int, np.ndarray] = {}
    for patient_rows in ordered:
        try:
            ecgs = [dataset.read(row) for row in patient_rows[:2]]
        except UnreadableRecord:
            continue
        if len(ecgs) > 1:
            second[len(first)] = ecgs[1]
        first.append(ecgs[0])
        if len(first) == count:
            break
    return np.stack(first), second


def embed(expert: Expert, ecgs: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        parts = [
            expert.embed(torch.from_numpy(ecgs[start : start + BATCH]))
            for start in range(0, len(ecgs), BATCH)
        ]
    return torch.cat(parts).double().numpy()


def measure(
    name: str,
    weights: str,
    ecgs: np.ndarray,
    second: dict[int, np.ndarray],
    seconds: list[float],
) -> None:
    """Print the distances of one expert.

    The first row is for other records of the same patients, if there are any. The other rows
    are for the extended records, one row per duration and rule.

    Args:
        name: Name of the expert.
        weights: Weights of the expert, such as ``random:0``.
        ecgs: The first ECG of each patient.
        second: Second ECGs, by index into `ecgs`.
        seconds: Durations to which the records are cut, in s.
    """
    expert = load_expert(name, weights)
    full = embed(expert, ecgs)
    mean, scale = full.mean(0), np.maximum(full.std(0), 1e-9)
    full = (full - mean) / scale
    between = np.linalg.norm(full[:, None] - full[None], axis=-1)
    typical = np.median(between[np.triu_indices(len(full), 1)])
    np.fill_diagonal(between, np.inf)
    nearest = between.min(1)

    def report(label: str, embedding: np.ndarray, rows: Sequence[int]) -> None:
        error = np.linalg.norm((embedding - mean) / scale - full[rows], axis=1)
        print(
            f"| {name} | {label} | {np.median(error) / typical:.2f} | "
            f"{np.percentile(error, 95) / typical:.2f} | "
            f"{100 * (error > nearest[rows]).mean():.0f} % |",
            flush=True,
        )

    if second:
        report("another record", embed(expert, np.stack([*second.values()])), [*second])
    for duration in seconds:
        cut = ecgs[:, :, : round(duration * SAMPLE_RATE_HZ)]
        for rule, fill in RULES.items():
            filled = np.stack([fill(ecg) for ecg in cut])
            report(f"{duration:g} s, {rule}", embed(expert, filled), range(len(ecgs)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", help="data set as SOURCE:FOLDER")
    parser.add_argument("--experts", default="dlinear,timesnet,ecg-fm")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--patients", type=int, default=80)
    parser.add_argument("--seconds", type=float, nargs="+", default=[9.9, 9, 8, 6])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ecgs, second = read_patients(open_dataset(arguments.dataset), arguments.patients)
    print(f"{len(ecgs)} patients, {len(second)} with another record; weights {arguments.weights}")
    print(
        "| expert | input | median distance | 95th percentile | farther than the nearest patient |"
    )
    print("|---|---|--:|--:|--:|")
    for name in arguments.experts.split(","):
        measure(name, arguments.weights, ecgs, second, arguments.seconds)


if __name__ == "__main__":
    main()
