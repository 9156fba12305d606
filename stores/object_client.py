"""Configuration of obstore clients for S3, Google Cloud Storage, Azure and web servers."""

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.store import S3Store, from_url

from stores.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

DEFAULT_REGION = "us-east-1"
"""S3 region used if neither the environment nor the profile sets one."""
MAX_BACKOFF = timedelta(seconds=5)
"""Maximum delay between retries."""


def connect_object_store(
    url: str, retry_timeout: timedelta, *, unsigned_fallback: bool = False
) -> "ObjectStore":
    """Return an obstore client for a URL, without sending a request to the store.

    boto3 finds the S3 credentials, region and profile. To use an S3-compatible server, set its URL
    in ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``.

    Args:
        url: ``s3://BUCKET/PREFIX``, ``gs://``, ``az://``, ``https://`` or ``http://``, as
            validated by `check_url`.
        retry_timeout: Maximum time for which a failing request is retried.
        unsigned_fallback: Whether to send unsigned requests, which public buckets accept, if no
            S3 credentials are found.

    Returns:
        The client.

    Raises:
        StoreError: No S3 credentials were found, and `unsigned_fallback` is False; boto3 cannot
            read them; or the URL of the S3 server is invalid.
        obstore.exceptions.BaseError: obstore rejects the URL or its configuration.
    """
    # Limit retries by time only: with refused connections, obstore's default of ten retries takes
    # a few seconds.
    retry_config: RetryConfig = {
        "retry_timeout": retry_timeout,
        "max_retries": 10_000,
        "backoff": {"max_backoff": MAX_BACKOFF},
    }
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    is_s3 = url.startswith("s3://")
    # Servers on a local network may support plain HTTP only.
    client_options: ClientConfig = {
        "allow_http": (endpoint if is_s3 else url).startswith("http://")
    }
    if not is_s3:
        return from_url(url, client_options=client_options, retry_config=retry_config)
    from boto3 import Session
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = Session()
        config: S3Config = {"region": session.region_name or DEFAULT_REGION}
        credentials = session.get_credentials()
    # OSError is raised if the program in `credential_process` does not exist.
    except (BotoCoreError, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".:")
        raise StoreError(
            f"{url}: boto3 cannot read the S3 credentials: {reason}; correct AWS_PROFILE, the "
            "other AWS variables in the environment, or the files in ~/.aws."
        ) from error
    if endpoint:
        # obstore panics if the scheme or the host is missing.
        if not re.match("https?://[^/]", endpoint):
            raise StoreError(
                f"{url}: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL is not the URL of an S3 server; "
                "set it to a URL such as http://localhost:9000."
            )
        config["endpoint"] = endpoint
    credential_provider = None
    if credentials is not None:
        credential_provider = Boto3CredentialProvider(session)
    elif unsigned_fallback:
        config["skip_signature"] = True
    else:
        raise StoreError(
            f"{url}: no S3 credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "set AWS_PROFILE, or create ~/.aws/credentials."
        )
    return S3Store.from_url(
        url,
        config=config,
        credential_provider=credential_provider,
        client_options=client_options,
        retry_config=retry_config,
    )
