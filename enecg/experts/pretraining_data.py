"""Data sets that published weights were trained on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PretrainingData:
    """A data set that published weights were trained on.

    Attributes:
        name: Name of the data set, as published.
        parts: Names of the data sets whose patients are in the pretraining data: the first part of
            a namespace such as `ptb-xl/1.0.3`, or NAME of `wfdb/NAME`.
    """

    name: str
    parts: tuple[str, ...] = ()

    def contains(self, namespace: str) -> bool:
        """Return whether this data set contains patients of the data set with the namespace."""
        return namespace.removeprefix("wfdb/").partition("/")[0] in self.parts


MIMIC_IV_ECG = PretrainingData("MIMIC-IV-ECG", ("mimic-iv-ecg", "mimic-iv-ecg-demo"))

# `ptbdb`, `challenge-2020`, `challenge-2021` and `ecg-arrhythmia` are databases on PhysioNet.
CHALLENGE_2021 = PretrainingData(
    "PhysioNet/CinC Challenge 2021 (including PTB-XL, PTB, CPSC 2018, Georgia, Chapman-Shaoxing, "
    "Ningbo)",
    ("ptb-xl", "ptb-xl-100", "ptbdb", "challenge-2020", "challenge-2021", "ecg-arrhythmia"),
)

CHAPMAN_NINGBO = PretrainingData(
    "Chapman-Shaoxing and Ningbo", ("ecg-arrhythmia", "challenge-2021")
)

CODE_15 = PretrainingData("CODE-15%", ("code-15",))

HEEDB = PretrainingData("Harvard-Emory ECG Database", ("heedb",))

TIME_SERIES_PILE = PretrainingData("Time Series Pile (public time series of many domains)")

FORECASTING_SETS = PretrainingData("public forecasting data sets")
