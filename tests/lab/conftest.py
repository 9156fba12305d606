"""A lab on loopback: the processes of the Compose files, with Postgres and an S3 server."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from lab_compose import ROOT, read_service
from lab_servers import BIN, Lab, free_ports, start_postgres, start_s3

from pipeline.synthetic.synthesize import synthesize

CRASHED_AFTER_SECONDS = 60
"""Twice the interval of the heartbeats, so that the test takes less than five minutes."""
S3_KEYS = {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "secret-of-the-lab"}


@pytest.fixture(scope="module")
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """URL of an HTTP server, and the JSON messages that it has received."""
    messages: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", messages
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def lab(
    tmp_path_factory: pytest.TempPathFactory, webhook: tuple[str, list[dict[str, Any]]]
) -> Iterator[Lab]:
    """All services of the Compose files, with two Dask workers."""
    folder = tmp_path_factory.mktemp("lab")
    addresses = [
        "postgres:5432",
        "server:4200",
        "worker:8080",
        "pages:8080",
        "s3:9000",
        "dask-scheduler:8786",
        "dask-scheduler:8787",
        "dask-worker:8789",
        "dask-worker-2:8789",
    ]
    ports = dict(zip(addresses, free_ports(len(addresses)), strict=True))
    for name in ("stores", "labels", "runs"):
        (folder / name).mkdir()
    synthesize(folder / "data", patients=40, seed=0)
    # A folder like `/srv/enecg` in the image.
    (folder / "flows").symlink_to(ROOT / "flows")
    deployments = (ROOT / "prefect.yaml").read_text()
    seconds = f"crashed_after_seconds: {CRASHED_AFTER_SECONDS}"
    assert "crashed_after_seconds: 300" in deployments
    (folder / "prefect.yaml").write_text(deployments.replace("crashed_after_seconds: 300", seconds))
    values = {
        "POSTGRES_PASSWORD": "postgres-password",
        "PREFECT_AUTH": "anna:prefect-password",
        "PAGES_AUTH": "anna:pages-password",
        "ENECG_RUNS": str(folder / "runs"),
        "ENECG_PAGES_URL": f"http://127.0.0.1:{ports['pages:8080']}",
        "ENECG_NOTIFY_BLOCK": "custom-webhook/lab",
        **S3_KEYS,
    }
    environment = {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
        "PREFECT_API_URL": f"http://127.0.0.1:{ports['server:4200']}/api",
        "PREFECT_API_AUTH_STRING": values["PREFECT_AUTH"],
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        **S3_KEYS,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3:9000']}",
    }
    lab = Lab(folder, values, ports, environment, messages=webhook[1])
    postgres = None
    try:
        postgres = start_postgres(lab)
        start_s3(lab)
        bucket = read_service("bucket", values, ports)
        subprocess.run(
            bucket.command, env={**environment, **bucket.environment}, cwd=folder, check=True
        )
        lab.start("server")
        block = (
            "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block; "
            f"Block(name='lab', url='{webhook[0]}', "
            "json_data={'subject': '{{subject}}', 'body': '{{body}}'}).save('lab')"
        )
        lab.run("python", "-c", block)
        lab.start("dask-scheduler")
        lab.start("dask-worker")
        ports["dask-worker:8789"] = ports["dask-worker-2:8789"]
        lab.start("dask-worker", as_name="dask-worker-2")
        lab.start("pages")
        lab.start("worker")
        yield lab
    finally:
        for name in reversed([*lab.processes]):
            lab.kill(name)
        if postgres is not None:
            shutil.rmtree(postgres, ignore_errors=True)


@pytest.fixture(scope="module")
def bucket(lab: Lab) -> Any:
    """A client of the S3 server."""
    return boto3.client(
        "s3",
        endpoint_url=lab.environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=S3_KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=S3_KEYS["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
