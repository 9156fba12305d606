"""The obstore client for S3, Google Cloud Storage, Azure and web servers."""

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.store import S3Store, from_url

from stores.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

DEFAULT_REGION = "us-east-1"
"""Region of an S3 bucket if neither the environment nor the profile names one."""
MAX_BACKOFF = timedelta(seconds=5)
"""Maximum pause between two attempts of a request."""


def connect_object_store(
    url: str, retry_timeout: timedelta, *, unsigned_fallback: bool = False
) -> "ObjectStore":
    """Return an obstore client for a URL; no request is sent.

    S3 credentials, region and profile come from where boto3 looks for them, the address of another
    S3 server from ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``.

    Args:
        url: ``s3://BUCKET/PREFIX``, ``gs://``, ``az://``, ``https://`` or ``http://``, as
            validated by `check_url`.
        retry_timeout: How long a failing request is retried.
        unsigned_fallback: If no S3 credentials are found, send unsigned requests, as for a public
            bucket, instead of raising.

    Raises:
        StoreError: No S3 credentials were found.
    """
    # Only the time limits retries: if connections are refused, ten attempts take two seconds.
    retry: RetryConfig = {
        "retry_timeout": retry_timeout,
        "max_retries": 10_000,
        "backoff": {"max_backoff": MAX_BACKOFF},
    }
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    is_s3 = url.startswith("s3://")
    # A server on a local network may offer plain HTTP only.
    client: ClientConfig = {"allow_http": (endpoint if is_s3 else url).startswith("http://")}
    if not is_s3:
        return from_url(url, client_options=client, retry_config=retry)
    from boto3 import Session
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = Session()
    config: S3Config = {"region": session.region_name or DEFAULT_REGION}
    if endpoint:
        config["endpoint"] = endpoint
    credentials = None
    if session.get_credentials() is not None:
        credentials = Boto3CredentialProvider(session)
    elif unsigned_fallback:
        config["skip_signature"] = True
    else:
        raise StoreError(
            f"{url}: no S3 credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "AWS_PROFILE, or ~/.aws/credentials."
        )
    return S3Store.from_url(
        url,
        config=config,
        credential_provider=credentials,
        client_options=client,
        retry_config=retry,
    )
