import re
from pathlib import Path

import pytest

from flows.artifact_keys import MAX_LENGTH, artifact_key
from flows.page_links import page_link
from flows.prefect_job import without_folder


def test_key_names_the_kind_and_the_subject():
    key = artifact_key("extraction", "s3://lab/ecg-stores mimic-iv-ecg:/data/MIMIC")
    assert key == "extraction-s3-lab-ecg-stores-mimic-iv-ecg-data-mimic"


def test_long_keys_are_shortened_and_remain_different():
    keys = {artifact_key("results", f"/lab/{name}/{'x' * 200}") for name in "ab"}
    assert len(keys) == 2
    assert all(re.fullmatch(r"[a-z0-9-]+", key) and len(key) <= MAX_LENGTH for key in keys)


@pytest.mark.parametrize(
    ("file", "link"),
    [
        ("runs/a b/results.html", "http://lab:8080/a%20b/results.html"),
        ("elsewhere/results.html", None),
    ],
)
def test_only_files_in_the_served_folder_have_a_link(file: str, link: str | None, tmp_path: Path):
    environ = {"ENECG_PAGES_ROOT": str(tmp_path / "runs"), "ENECG_PAGES_URL": "http://lab:8080/"}
    assert page_link(tmp_path / file, environ) == link
    assert page_link(tmp_path / file, {}) is None


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("/data/files/p1/s2/3.dat: has 1,000 bytes", "3.dat: has 1,000 bytes"),
        ("s3://lab/files/3: lead V1 is flat", "3: lead V1 is flat"),
        ("unit mV/s is unknown", "unit mV/s is unknown"),
        ("", ""),
    ],
)
def test_folders_are_removed_from_details_of_failed_records(detail: str, shown: str):
    assert without_folder(detail) == shown
