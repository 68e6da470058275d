"""An S3 server on loopback (moto), for tests and drills.

moto looks whether an object is there and writes it in two steps, in threads; S3 creates in one. On a busy machine two
writers could so both create an object, which no store can tell. Here one object is put at a time.
"""

from __future__ import annotations

import itertools
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch as patched

import pytest

BUCKETS = itertools.count()


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server in this process."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.s3.responses import S3Response  # noqa: PLC0415 - importing it takes seconds, which few tests need
        from moto.server import ThreadedMotoServer  # noqa: PLC0415 - as above
    put, one_at_a_time = S3Response._key_response_put, threading.Lock()

    def put_alone(response: S3Response, *asked: Any, **named: Any) -> Any:
        with one_at_a_time:
            return put(response, *asked, **named)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with patched.object(S3Response, "_key_response_put", put_alone):
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


def empty_bucket(endpoint: str, patch: pytest.MonkeyPatch) -> str:
    """URL of a store in a new bucket; the environment gives access to it."""
    import boto3  # noqa: PLC0415 - as above

    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "canary-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in settings.items():
        patch.setenv(name, value)
    bucket = f"models-{next(BUCKETS)}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/ctr/hourly"
