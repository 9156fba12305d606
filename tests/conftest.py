"""Fixtures: synthetic and real data sets, stores, a trained run and an S3 server."""

import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import shape_checks
from made_once import list_files, make_once

if TYPE_CHECKING:
    from quick_runs import TrainedRun

# jaxtyping annotations are checked in modules that are imported after this line. Therefore,
# fixtures import modules of the project where they use them.
shape_checks.install()

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def _real_data(variable: str, default: Path) -> Path:
    """Return the folder in an environment variable or the default; skip if it does not exist."""
    path = Path(os.environ.get(variable, default))
    if not path.is_dir():
        pytest.skip(f"{path} does not exist; set {variable} to run this test on real data")
    return path


def _unchanged(folder: Path) -> Iterator[Path]:
    """Yield a folder, and raise `AssertionError` if tests have changed it."""
    before = list_files(folder)
    yield folder
    assert list_files(folder) == before, f"a test has changed {folder}, which all tests share"


@pytest.fixture(scope="session", autouse=True)
def short_waits() -> Iterator[None]:
    """Poll leases often, and do not wait until written files are on the disk.

    Missing synchronization has an effect only after a power failure, and no test simulates one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stores.lease.POLL_SECONDS", 0.02)
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def synthetic_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A synthetic data set of 30 patients, with all kinds of `pipeline.synthetic` defects."""
    from pipeline.synthetic.synthesize import synthesize

    yield from _unchanged(
        make_once(tmp_path_factory, "data", lambda out: synthesize(out, patients=30, seed=0))
    )


@pytest.fixture(scope="session")
def synthetic_stores(
    synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Stores of the records of `synthetic_dir` for the experts in `EXTRACTED`."""
    from quick_runs import EXTRACTED, extract_random

    def make(root: Path) -> None:
        extract_random(f"mimic-iv-ecg:{synthetic_dir}", root, *EXTRACTED)

    yield from _unchanged(make_once(tmp_path_factory, "stores", make))


@pytest.fixture(scope="session")
def quick_ensembles() -> Iterator[None]:
    """Train the weight generator for 5 epochs only; otherwise, it takes a third of a short run."""
    from enecg.ensembles import ENSEMBLES, WeightGenerator

    quick = ENSEMBLES | {"weight generator": WeightGenerator(epochs=5)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.training.repeat.ENSEMBLES", quick)
        yield


@pytest.fixture(scope="session")
def trained_run(
    tmp_path_factory: pytest.TempPathFactory, quick_ensembles: None
) -> Iterator["TrainedRun"]:
    """A run with enough validation patients for intervals with a coverage of 90 %."""
    from quick_runs import TrainedRun, train_quickly

    made = _unchanged(make_once(tmp_path_factory, "trained", train_quickly))
    yield from map(TrainedRun.in_folder, made)


@pytest.fixture(scope="session")
def ludb() -> Path:
    """LUDB 1.0.1: 200 real ECGs."""
    return _real_data("ENECG_LUDB", SHARED_DATA / "ludb")


@pytest.fixture(scope="session")
def mimic_demo() -> Path:
    """Tables of the MIMIC-IV and MIMIC-IV-ECG demos, without waveforms."""
    return _real_data("ENECG_MIMIC_DEMO", SHARED_DATA / "mimic-iv-demo")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """URL of an S3 server with a bucket `lab`; its credentials are in the environment.

    The variable `ENECG_TEST_S3` selects a running server; by default, moto is started.
    """
    # Imported here because most tests do not use S3.
    import boto3
    from moto import backends
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    server = None
    address = os.environ.get("ENECG_TEST_S3")
    if address is None:
        # For each request, moto lists the folders of its package, which takes a third of the time.
        modules = list(backends.list_of_moto_modules())
        backends.list_of_moto_modules = lambda: iter(modules)
        # moto checks `If-None-Match` and `If-Match` before it puts the object, so two threads can
        # both succeed. On S3, conditional puts are atomic.
        lock, put_object = threading.Lock(), S3Response.put_object

        def put_atomically(self: S3Response) -> Any:
            with lock:
                return put_object(self)

        S3Response.put_object = put_atomically  # type: ignore[method-assign]
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "lab")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-lab")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", address)
        client = boto3.client("s3")
        if "lab" not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket="lab")
        yield address
    if server is not None:
        server.stop()


@pytest.fixture
def s3_root(s3_server: str) -> str:
    """URL of an empty prefix on the S3 server."""
    return f"s3://lab/{uuid.uuid4().hex}"
