"""An empty S3-speaking server on loopback, and the environment in which s3:// means it."""

from __future__ import annotations

import urllib.request

import pytest

_MISSING = "NOT TESTED: s3:// stores, the extra 'dev' is not installed"
s3fs = pytest.importorskip("s3fs", reason=_MISSING)
moto = pytest.importorskip("moto.server", reason=_MISSING)


def start_s3(monkeypatch, bucket):
    """Start it; the server, its port and a file system in which the bucket is."""
    server = moto.ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    # Its buckets are the process's, and another test may have left some.
    reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    files.mkdir(bucket)
    return server, port, files
