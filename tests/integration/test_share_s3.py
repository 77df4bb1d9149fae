"""A share on S3, by moto's server: in `make test-long` alone, where moto and s3fs are installed."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
from tests.sizes import IS_LONG

pytestmark = [
    pytest.mark.skipif(not IS_LONG, reason="moto takes seconds to start: make test-long"),
    pytest.mark.skipif(
        not all(map(find_spec, ("moto", "s3fs", "boto3"))), reason="needs moto[server] and s3fs"
    ),
]

# In a process of its own: the server's and the client's threads go with it.
PROGRAM = """
import os, time
os.environ.update(
    AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1"
)
import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:%d" % server.get_host_and_port()[1]
boto3.client("s3").create_bucket(Bucket="epochs")

from epochal import Runtime
from epochal.artifact import Artifact
from epochal.errors import EpochUnavailableError
from epochal.kinds import scalar
from epochal.share import Share
from epochal.worker import epochs

def plugin(n):
    head = '# /// plugin\\n# id = "geo"\\n# version = "1"\\n# ///\\n'
    code = f"from epochal.kinds import scalar\\n@scalar\\ndef f(x: int) -> int: return x + {n}\\n"
    return Artifact("geo", {"geo.py": (head + code).encode()})

URL = "s3://epochs/one"
with Runtime(share=URL) as rt:
    rt.load(plugin(0))
    first = rt.epoch.id
    worker = epochs(URL)
    assert worker.get(first)[scalar]["geo.f"](1) == 1
    rt.reload("geo", plugin(1), drain_timeout=0)
    assert worker.get(rt.epoch.id)[scalar]["geo.f"](1) == 2
    with rt.lease("nightly"):
        labels = [lease.label for lease in rt.cluster.leases()]
        assert labels == ["current epoch", "nightly"], labels
    ahead = Share(URL, clock=lambda: time.time() + 20)
    assert ahead.collect(older_than_s=5, keep=0).epochs == (first,)
    worker.close()
    try:
        epochs(URL).get(first)
    except EpochUnavailableError as error:
        assert "is not in the share" in str(error)
    else:
        raise AssertionError
    assert epochs(URL).get(rt.epoch.id)[scalar]["geo.f"](1) == 2
    epochs(URL).close()
server.stop()
print("served from S3")
"""


def test_a_share_on_s3_serves_leases_and_is_collected():
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False
    )
    assert "served from S3" in ran.stdout, ran.stderr[-4000:]
