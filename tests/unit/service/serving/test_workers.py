"""Ports, settings and messages of the worker processes."""

import multiprocessing
import socket
from types import SimpleNamespace

import pytest
from textcam_service.errors import InvalidSettings
from textcam_service.serving import workers
from textcam_service.serving.workers import worker_settings
from textcam_service.settings import ServerSettings


def test_a_worker_has_its_share_of_the_cpus_and_no_metrics_port(monkeypatch):
    monkeypatch.setattr(workers, "usable_cpus", lambda: 8)
    own = worker_settings(ServerSettings(workers=3, decode_threads=5, metrics_port=9), 7, -1)
    assert (own.port, own.metrics_port, own.health_port) == (7, -1, -1)
    assert (own.session_threads, own.decode_threads) == (2, 5)
    monkeypatch.setattr(workers, "usable_cpus", lambda: 1)
    assert worker_settings(ServerSettings(workers=3), 7, -1).session_threads == 1


def test_a_free_port_is_reserved_for_all_workers():
    settings = ServerSettings(workers=2)
    with workers._reserved(settings, 0) as port:
        assert port > 0
        with socket.socket() as worker, socket.socket() as stranger:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind(("127.0.0.1", port))
            with pytest.raises(OSError, match="in use"):
                stranger.bind(("127.0.0.1", port))
    with workers._reserved(settings, -1) as none:
        assert none == -1


def test_a_port_in_use_is_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fault = rf"cannot listen on 127\.0\.0\.1:{port}: .*; choose another port"
        with (
            pytest.raises(InvalidSettings, match=fault),
            workers._reserved(ServerSettings(), port),
        ):
            pass


@pytest.fixture
def worker():
    ours, theirs = multiprocessing.Pipe()
    process = SimpleNamespace(pid=1, exitcode=3, join=lambda: None)
    yield workers._Worker(process, ours), theirs
    ours.close()
    theirs.close()


def test_a_worker_reports_its_bundles_or_why_it_cannot_serve(worker, caplog):
    started, pipe = worker
    pipe.send({"m": {"version": "1"}})
    assert workers._await_ready(started, []) == {"m": {"version": "1"}}
    pipe.send({"m": {"version": "2"}})
    assert started.receive() == {"m": {"version": "2"}}
    pipe.send("the port is in use")
    assert started.receive() is None
    assert "worker 1 cannot serve: the port is in use" in caplog.text
    pipe.send("the bank is missing")
    with pytest.raises(InvalidSettings, match="a worker cannot serve: the bank is missing"):
        workers._await_ready(started, [])


def test_a_worker_that_ends_before_it_serves_is_named_with_its_status(worker):
    started, pipe = worker
    pipe.close()
    assert started.receive() is None
    with pytest.raises(InvalidSettings, match="it ended with status 3"):
        workers._await_ready(started, [])


def test_a_stop_ends_the_wait_for_a_worker(worker):
    started, _ = worker
    assert workers._await_ready(started, [15]) == {}
