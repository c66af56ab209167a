"""The watch over a store, with stores, engines and canaries that do as they are told."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from textcam_service.errors import ArtefactCorrupt, DriftRefused, StoreFailed
from textcam_service.serving.registry import watcher
from textcam_service.serving.registry.registry import ModelRegistry
from textcam_service.serving.registry.watcher import Watcher
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings
from textcam_service.store.versions import Pointer


class Store:
    """A store of the model "m": its current version, those that were served, and its faults."""

    location = "the store"

    def __init__(self):
        self.version, self.accept_drift = "1", False
        self.served, self.broken, self.down, self.fetched = [], set(), False, []

    def names(self):
        if self.down:
            raise StoreFailed("away")
        return ("m",)

    def current(self, name):
        if self.down:
            raise StoreFailed("away")
        return self.version and Pointer(self.version, accept_drift=self.accept_drift)

    def previous(self, name, pointer):
        return tuple(own for own in reversed(self.served) if own != pointer.version)

    def mark_served(self, name, version):
        self.served.append(version)

    def fetch(self, name, version, cache):
        self.fetched.append(version)
        if version in self.broken:
            raise ArtefactCorrupt(f"{version} is broken")
        return cache / version

    def prune_cache(self, name, cache, folders):
        pass


class StillEngine:
    def __init__(self, version):
        self.bundle = SimpleNamespace(name="m", version=version)

    async def start(self):
        pass

    async def close(self, patience_s):
        pass


@pytest.fixture
def watched(monkeypatch):
    store, clock = Store(), SimpleNamespace(now=0.0)
    drifting = set()

    async def canary(self, name, new, pointer, folder):
        if self._models.versions(name) and pointer.version in drifting and not pointer.accept_drift:
            raise DriftRefused("too far")

    monkeypatch.setattr(watcher, "ModelStore", lambda _: store)
    monkeypatch.setattr(watcher, "load_bundle", lambda *given: SimpleNamespace(version=given[-1]))
    monkeypatch.setattr(watcher, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(Watcher, "_canary", canary)

    def started(**settings):
        given, metrics, switches = ServerSettings(store="s", **settings), Metrics(), []
        models = ModelRegistry(given, SimpleNamespace(describe=lambda _: None), lambda: None)
        models.engine = lambda bundle: StillEngine(bundle.version)
        made = Watcher(models, given, metrics, lambda: switches.append(models.versions("m")[0]))
        read = metrics.registry.get_sample_value
        return SimpleNamespace(
            poll=made.poll,
            version=lambda: models.versions("m")[:1],
            switches=switches,
            pending=lambda: read("textcam_model_pending", {"model": "m"}),
            failures=lambda reason, model="m": (
                read("textcam_model_load_failures_total", {"model": model, "reason": reason}) or 0
            ),
        )

    return SimpleNamespace(store=store, clock=clock, drifting=drifting, started=started)


async def test_the_current_version_is_switched_to_and_marked(watched):
    server = watched.started()
    await server.poll()
    assert (server.version(), server.switches, server.pending()) == (("1",), ["1"], 0)
    watched.store.version = "2"
    await server.poll()
    await server.poll()
    assert server.switches == ["1", "2"]
    assert watched.store.served == ["1", "2"]


async def test_a_store_that_is_away_is_counted_and_what_is_served_stays(watched):
    server = watched.started()
    await server.poll()
    watched.store.down = True
    await server.poll()
    assert server.failures("STORE_FAILED", "") == 1
    assert server.version() == ("1",)


async def test_a_broken_version_is_tried_again_after_pauses_that_grow(watched):
    server = watched.started(store_poll_s=10)
    await server.poll()
    watched.store.version, watched.store.broken = "2", {"2"}
    tries = []
    for _ in range(40):
        watched.clock.now += 5
        count = len(watched.store.fetched)
        await server.poll()
        if len(watched.store.fetched) > count:
            tries.append(watched.clock.now)
    assert [later - sooner for sooner, later in pairwise(tries)] == [10, 20, 40, 80]
    assert (server.version(), server.pending()) == (("1",), 1)
    watched.store.broken.clear()
    watched.clock.now += 1000
    await server.poll()
    assert (server.version(), server.pending()) == (("2",), 0)


async def test_a_version_that_drifts_is_refused_once_until_the_store_says_otherwise(watched):
    server = watched.started(canary_min_top1=0.9)
    await server.poll()
    watched.store.version = "2"
    watched.drifting.add("2")
    for _ in range(3):
        watched.clock.now += 10_000
        await server.poll()
    assert server.failures("DRIFT_REFUSED") == 1
    watched.store.accept_drift = True
    await server.poll()
    assert server.version() == ("2",)


async def test_a_server_that_starts_goes_back_to_a_version_that_was_served(watched):
    watched.store.version, watched.store.broken, watched.store.served = "3", {"3"}, ["1", "2"]
    server = watched.started()
    await server.poll()
    assert (server.version(), server.pending()) == (("2",), 1)
    assert watched.store.served == ["1", "2"]  # going back marks nothing


async def test_a_guarded_server_that_starts_compares_with_what_others_serve(watched):
    watched.store.version, watched.store.served = "2", ["1"]
    watched.drifting.add("2")
    server = watched.started(canary_min_top1=0.9)
    await server.poll()
    assert server.version() == ("1",)
    assert server.failures("DRIFT_REFUSED") == 1


async def test_an_empty_store_is_warned_of_once(watched, caplog):
    watched.store.version = None
    server = watched.started()
    await server.poll()
    await server.poll()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no model is published and current in the store" in caplog.text
