"""Options of decoding are part of a store's identity, from extraction to training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quick_runs import QUICK, RANDOM
from wfdb_files import FILE_ORDER, WfdbRecord, random_walk
from written_records import read_ecgs

from enecg.errors import UserError
from pipeline.datasets.base import RecordIndex
from pipeline.datasets.ludb import Ludb
from pipeline.datasets.registry import DATASETS, open_dataset
from pipeline.datasets.wfdb_directory import WfdbDirectory
from pipeline.evaluate import evaluate
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.recompute import recompute
from pipeline.extraction.summary import ExtractionSummary
from pipeline.train import train
from pipeline.training.settings import TrainSettings
from pipeline.waveforms.decode import DECODE_VERSION
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions
from stores.opening import open_store, open_stores

DERIVE = DecodeOptions(derive_leads=True)
MIRROR = DecodeOptions(short_records="mirror")
BOTH = DecodeOptions(short_records="mirror", derive_leads=True)
EIGHT = [FILE_ORDER.index(lead) for lead in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of records: complete, of 8 s, of eight leads, and of 8 s with eight leads."""
    directory = tmp_path_factory.mktemp("lab")
    samples = random_walk()
    names = [FILE_ORDER[column] for column in EIGHT]
    WfdbRecord(samples).write(directory, "plain")
    WfdbRecord(samples[:4000]).write(directory, "short")
    for name, length in (("eight", 5000), ("short_eight", 4000)):
        gains = ("200.0(0)/mV",) * 8
        record = WfdbRecord(samples[:length, EIGHT], gains=gains, names=names)
        record.write(directory, name)
    return directory


def run(dataset: Any, store: Path, **options: Any) -> ExtractionSummary:
    return extract(
        dataset, store, ["dlinear"], options=ExtractOptions(weights=RANDOM, device="cpu", **options)
    )


@pytest.mark.parametrize(
    ("decoding", "failed"),
    [
        (DEFAULT_OPTIONS, {"too_short": 1, "missing_lead": 2}),
        (MIRROR, {"missing_lead": 2}),
        (DERIVE, {"too_short": 2}),
        (BOTH, {}),
    ],
)
def test_each_decoding_option_has_separate_stores_and_is_in_their_provenance(
    root: Path, tmp_path: Path, decoding: DecodeOptions, failed: dict[str, int]
) -> None:
    plain = run(f"wfdb:lab={root}", tmp_path)
    made = run(f"wfdb:lab={root}", tmp_path, decoding=decoding)
    if decoding == DEFAULT_OPTIONS:
        assert made.stores == plain.stores
        assert made.computed == 0
        made = plain
    else:
        assert not set(map(str, made.stores)) & set(map(str, plain.stores))
    assert made.failed_records == failed
    for location in made.stores:
        provenance = open_store(location).provenance
        assert provenance["decode_version"] == DECODE_VERSION
        assert provenance["short_records"] == decoding.short_records
        assert provenance["derive_leads"] is decoding.derive_leads
    again = run(WfdbDirectory("lab", root, decoding=decoding), tmp_path)
    assert again.computed == 0
    assert again.stores == made.stores
    rows = [open_store(summary.stores[0]).read(np.array([1])) for summary in (plain, made)]
    # Batch sizes differ, so the last bits of matrix products differ too.
    np.testing.assert_allclose(*rows, rtol=2**-10, atol=1e-4)


def test_data_set_object_with_other_options_is_rejected(root: Path, tmp_path: Path) -> None:
    dataset = WfdbDirectory("lab", root, decoding=MIRROR)
    with pytest.raises(UserError, match=r"was created with .*mirror.*pass decoding= to its"):
        run(dataset, tmp_path, decoding=BOTH)
    with pytest.raises(UserError, match="was created with"):
        train(dataset, tmp_path, tmp_path / "run", settings=TrainSettings(decoding=DERIVE))
    run(dataset, tmp_path, decoding=MIRROR)


def test_rows_are_recomputed_only_with_the_options_of_the_store(root: Path, tmp_path: Path) -> None:
    made = run(f"wfdb:lab={root}", tmp_path, decoding=BOTH)
    for location in made.stores:
        store = open_store(location)
        decoding = DecodeOptions.from_json(store.provenance)
        assert decoding == BOTH
        same = recompute(store, WfdbDirectory("lab", root, decoding=decoding), 4, device="cpu")
        assert (same.rows, same.equal + same.close, same.different) == (4, 4, ())
        with pytest.raises(UserError, match=r"derive_leads \(now False, in the store True\)"):
            recompute(store, WfdbDirectory("lab", root), 4, device="cpu")


@pytest.mark.parametrize("name", ["mimic-iv-ecg", "ludb", "ptb-xl", "ptb-xl-100", "wfdb:lab"])
def test_every_data_set_supports_the_options(
    name: str, synthetic_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "ludb.csv").write_text("ID,Sex,Age,Rhythms\n1,F,51,Sinus bradycardia\n")
    (tmp_path / "ptbxl_database.csv").write_text(
        "ecg_id,patient_id,age,sex,scp_codes,filename_lr,filename_hr\n1,1,50,0,{},data/1,data/1\n"
    )
    (tmp_path / "record_list.csv").write_text(
        "subject_id,study_id,file_name,ecg_time,path\n1,1,1,2150-01-01 00:00:00,data/1\n"
    )
    samples = random_walk(time=4000)[:, EIGHT]
    names = [FILE_ORDER[column] for column in EIGHT]
    WfdbRecord(samples, gains=("1000.0(0)/mV",) * 8, names=names).write(tmp_path / "data", "1")
    spec = f"{name}{'=' if ':' in name else ':'}{tmp_path}"
    dataset = open_dataset(spec, BOTH)
    assert dataset.read(0).shape == (12, 5000)
    assert dataset.read_leads(0).derived == ("III", "aVR", "aVL", "aVF")
    assert open_dataset(spec).index().digest == dataset.index().digest


class Constant:
    """A data set without decoding options, such as one from another package."""

    namespace = "constant/1"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def index(self) -> RecordIndex:
        return RecordIndex(np.arange(2), np.arange(2))

    def read(self, row: int) -> np.ndarray:
        return np.tile(np.sin(np.arange(5000) / 9), (12, 1)).astype(np.float32)


def test_data_set_without_options_is_extracted_with_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "constant", Constant)
    made = run("constant:x", tmp_path)
    assert open_store(made.stores[0]).provenance["short_records"] == "refuse"
    with pytest.raises(UserError, match="constant does not support --short-records or --derive-le"):
        open_dataset("constant:x", MIRROR)


def test_unknown_rule_for_short_records_is_rejected() -> None:
    with pytest.raises(
        UserError, match="short_records is 'zeros'; it should be 'refuse' or 'mirror'"
    ):
        DecodeOptions(short_records="zeros")


def test_training_reads_the_stores_of_its_options(synthetic_dir: Path, tmp_path: Path) -> None:
    source = read_ecgs(synthetic_dir, 40)
    for position, ecg in enumerate(source.ecgs):
        samples = np.rint(ecg[[0, 1, *range(6, 12)]].T * 1000).astype(np.int16)
        names = [FILE_ORDER[column] for column in EIGHT]
        gains = ("1000.0(0)/mV",) * 8
        WfdbRecord(samples, gains=gains, names=names).write(tmp_path / "lab", f"{position:02d}")
    labels = source.labels.assign(record_id=[f"{position:02d}" for position in range(40)])
    columns = ["record_id", "patient_id", "sex"]
    labels[columns].to_csv(tmp_path / "lab" / "labels.csv", index=False)
    spec, store = f"wfdb:lab={tmp_path / 'lab'}", tmp_path / "store"
    settings = TrainSettings(tasks=("sex",), weights=RANDOM, repeats=1, fit=QUICK, decoding=DERIVE)
    assert run(spec, store).stores != run(spec, store, decoding=DERIVE).stores
    result = train(spec, store, tmp_path / "run", settings=settings, page=False)
    provenances = [opened.provenance for opened in open_stores(store, "wfdb/lab").stores]
    assert sorted(provenance["derive_leads"] for provenance in provenances) == [
        False,
        False,
        True,
        True,
    ]
    assert result.scores
    with pytest.raises(
        UserError,
        match=r"no float16 .* and --short-records mirror for wfdb/lab \(available: dlinear "
        r"\(random:0, float16\), dlinear \(random:0, float16, --derive-leads\)\)",
    ):
        train(spec, store, tmp_path / "other", settings=replace(settings, decoding=MIRROR))
    evaluated = evaluate(tmp_path / "run", spec, store, out=tmp_path / "evaluation")
    assert evaluated.scores


def test_options_do_not_change_complete_records_of_ludb(ludb: Path) -> None:
    record = Ludb(ludb, decoding=BOTH)
    np.testing.assert_array_equal(record.read(3), Ludb(ludb).read(3))
