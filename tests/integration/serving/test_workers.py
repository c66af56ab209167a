"""Several server processes on one port, as `textcam serve --workers 2` starts them."""

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import psutil
import pytest
from processes import BACKBONE, TEXTCAM, running
from small_models import write_model
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam_client import Client, Retry


@pytest.fixture(scope="module")
def two(backbone_folder):
    with running("--workers", "2") as started:
        yield started


def metric(running, name):
    with urllib.request.urlopen(running.metrics) as page:
        text = page.read().decode()
    found = re.findall(rf"^{re.escape(name)}(?:{{.*}})? ([0-9.e+]+)$", text, re.MULTILINE)
    return sum(map(float, found))


def explain_by_many(address, photo, count):
    """Each over a connection of its own, so that the kernel deals them out."""

    def one(_):
        with Client(address, timeout=60, retry=Retry(attempts=8)) as client:
            return client.explain(photo).predictions[0].class_name

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, range(count)))


def test_both_serve_and_their_metrics_add_up(two, photos):
    counted = 'textcam_requests_total{code="OK",method="Explain"}'
    before = metric(two, counted)
    answers = explain_by_many(two.address, photos[0], 16)
    assert len(set(answers)) == 1
    assert metric(two, counted) == before + 16
    workers = psutil.Process(two.process.pid).children(recursive=True)
    busy = [w for w in workers if "resource_tracker" not in " ".join(w.cmdline())]
    assert len(busy) == 2
    assert metric(two, "textcam_bundle_info") == 1
    assert metric(two, "textcam_requests_in_flight") == 0


def test_one_killed_is_started_again_and_no_caller_sees_an_error(two, photos):
    before = metric(two, "textcam_worker_restarts_total")
    workers = psutil.Process(two.process.pid).children()
    victim = next(w for w in workers if "resource_tracker" not in " ".join(w.cmdline()))
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(explain_by_many, two.address, photos[0], 12)
        victim.kill()
        assert len(set(answers.result())) == 1
    until = time.monotonic() + 60
    while metric(two, "textcam_worker_restarts_total") != before + 1:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert len(set(explain_by_many(two.address, photos[0], 8))) == 1


def test_a_parent_that_is_killed_takes_its_workers_along(backbone_folder):
    with running("--workers", "2", "--drain-seconds", "1") as started:
        workers = psutil.Process(started.process.pid).children()
        os.kill(started.process.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert alive == []


def test_a_worker_that_cannot_start_says_why(tmp_path):
    command = [TEXTCAM, "serve", "--workers", "2", "--port", "0", "--backbone", str(BACKBONE)]
    ended = subprocess.run(
        [*command, "--bank", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 1
    assert "a worker cannot serve" in ended.stderr
    assert str(tmp_path) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_one_that_cannot_start_again_says_why(tmp_path):
    """As where a model was taken from the disk since: the other goes on."""
    made, log = write_model(tmp_path / "made", 0), tmp_path / "log"
    flags = ["--backbone", str(made / "backbone"), "--bank", str(made / "bank"), "--workers", "2"]
    with log.open("w") as file, running(*flags, stderr=file) as started:
        victim = next(
            child
            for child in psutil.Process(started.process.pid).children()
            if "resource_tracker" not in " ".join(child.cmdline())
        )
        shutil.rmtree(made / "backbone")
        victim.kill()
        until = time.monotonic() + 60
        while not (
            found := re.search(r"worker (\d+) ended with 1$", log.read_text(), re.MULTILINE)
        ):
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
    told = [line for line in log.read_text().splitlines() if f"worker {found[1]} cannot" in line]
    assert len(told) == 1
    assert str(made / "backbone") in told[0]
    assert "Traceback" not in log.read_text()


def test_a_rate_is_of_each_process_not_of_both(backbone_folder):
    """One connection has the whole of it, many have it twice."""

    def answered(address, calls):
        # By default gRPC would share one connection among channels.
        own = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(address, own) as channel:
            stub, passed = explainer_pb2_grpc.ExplainerServiceStub(channel), 0
            for _ in range(calls):
                try:
                    stub.ListModels(pb.ListModelsRequest(), timeout=20)
                    passed += 1
                except grpc.RpcError as refused:
                    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return passed

    with running("--workers", "2", "--rate", "0.001", "--burst", "3") as started:
        assert answered(started.address, 8) == 3
        assert sum(answered(started.address, 4) for _ in range(16)) == 3
