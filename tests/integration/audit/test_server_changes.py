"""Audits of a real server that goes away, or serves another version in between."""

import re
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager

import pytest
from audit_process import wait_for
from audit_runs import audited, contents, plant
from model_callers import publish
from processes import TEXTCAM
from small_models import write_model
from textcam_client import Client
from textcam_client.audit.errors import AuditStopped, OutputRefused
from textcam_client.audit.records.reading import read_records
from textcam_client.audit.run.progress import Silent
from textcam_service.store.models import ModelStore

NAMES = tuple(f"class {index}" for index in range(5))
ROWS = 80


@contextmanager
def serving(store, port=0, *flags):
    """A server of a store in a process of its own, as (process, address)."""
    command = [TEXTCAM, "serve", "--store", str(store), "--port", str(port), "--metrics-port", "-1"]
    given = ("--session-threads", "1", "--store-poll-s", "0.1", "--decode-threads", "1", *flags)
    with subprocess.Popen([*command, *given], stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            found = re.search(r" on (\S+):(\d+)", line)
            assert found, f"the server did not start: {line!r}"
            yield process, f"{found[1]}:{found[2]}"
        finally:
            process.kill()
            process.wait(30)


class At(Silent):
    """Progress that acts once, after some rows."""

    def __init__(self, rows, act):
        self._left, self._act = rows, act
        self.notes = []

    def advance(self, rows):
        self._left -= rows
        if self._left == 0:
            self._act()

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return [write_model(root / str(seed), seed, class_names=NAMES) for seed in range(2)]


@pytest.fixture
def store(tmp_path, models):
    made = ModelStore(tmp_path / "store")
    publish(made, models[0], "1")
    return tmp_path / "store"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("data"), ROWS, NAMES)


@pytest.fixture(scope="module")
def whole(models, data, tmp_path_factory):
    """The files of an audit of version 1 that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole")
    publish(ModelStore(root / "store"), models[0], "1")
    with serving(root / "store") as (_, address), Client(address) as client:
        audited(client, data, root / "out")
    return contents(root / "out")


def test_a_server_killed_for_some_seconds_loses_no_row(store, data, whole, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with serving(store, port) as (process, address), Client(address, timeout=10) as client:
        again = threading.Event()

        def start_later():
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            threading.Timer(3, again.set).start()

        def restart():
            again.wait()
            with serving(store, port):
                ended.wait()

        ended = threading.Event()
        other = threading.Thread(target=restart)
        other.start()
        try:
            # Shorter than the absence, so that the run itself has to wait.
            progress = At(40, start_later)
            audited(client, data, tmp_path / "out", progress, timeout_s=1.0, patience_s=60)
        finally:
            ended.set()
            other.join()
    assert any("the server is away" in note for note in progress.notes)
    assert not any(one.failure for one in read_records(tmp_path / "out"))
    assert contents(tmp_path / "out") == whole


def test_a_server_that_stays_away_stops_the_audit_and_it_goes_on_later(
    store, data, whole, tmp_path
):
    with serving(store) as (process, address), Client(address) as client:
        progress = At(40, process.kill)
        with pytest.raises(AuditStopped, match=r"away for 1 s .* run the same command again"):
            audited(client, data, tmp_path / "out", progress, timeout_s=1.0, patience_s=1.0)
    with serving(store) as (_, address), Client(address) as client:
        audited(client, data, tmp_path / "out")
    assert contents(tmp_path / "out") == whole


def switch(store, model, client):
    """Publish version 2, and wait until it is the served one."""

    def act():
        publish(ModelStore(store), model, "2", accept_drift=True)
        wait_for(lambda: client.model().summary.version == "2", "version 2 is served")

    return act


def test_a_version_that_stays_loaded_is_asked_to_the_end(store, models, data, whole, tmp_path):
    with serving(store, 0, "--store-keep", "1") as (_, address), Client(address) as client:
        progress = At(40, switch(store, models[1], client))
        audited(client, data, tmp_path / "out", progress)
        with pytest.raises(OutputRefused, match="an audit of the model m 1, not of m 2"):
            audited(client, data, tmp_path / "out")
    assert contents(tmp_path / "out") == whole


def test_a_version_that_is_gone_stops_the_audit_and_it_goes_on_with_it_later(
    store, models, data, whole, tmp_path
):
    with serving(store) as (_, address), Client(address) as client:
        progress = At(40, switch(store, models[1], client))
        with pytest.raises(AuditStopped, match=r"the server refuses: .*'1'"):
            audited(client, data, tmp_path / "out", progress)
        with pytest.raises(AuditStopped, match="unfinished audit of m 1, which the server does"):
            audited(client, data, tmp_path / "out")
    first = ModelStore(tmp_path / "first")
    publish(first, models[0], "1")
    with serving(tmp_path / "first") as (_, address), Client(address) as client:
        audited(client, data, tmp_path / "out")
    assert contents(tmp_path / "out") == whole
