"""Create a bucket on an S3 server: `python -m flows.lab.bucket NAME`."""

import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from flows.output import log_to_stderr

EXISTS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
FAILED = "Bucket {} cannot be created ({}); check AWS_ENDPOINT_URL and the credentials."


def create_bucket(name: str) -> int:
    """Create a bucket unless it exists.

    Args:
        name: Name of the bucket.

    Returns:
        Exit code: 0 if the bucket exists now, else 2.
    """
    try:
        boto3.client("s3").create_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in EXISTS:
            log_to_stderr(FAILED.format(name, error))
            return 2
    except BotoCoreError as error:
        log_to_stderr(FAILED.format(name, error))
        return 2
    print(f"Bucket: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(create_bucket(*sys.argv[1:]))
