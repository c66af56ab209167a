"""Watcher of a store: loads, warms, compares and switches to each version that becomes current.

If a step fails, the version before stays; the failure is counted, logged and tried again. Versions
that were taken are marked in the store. So a starting server goes back to a version that was taken,
not to one that was refused. It compares the current version with the same one as the running
servers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from textcam_service.errors import ArtefactMissing, DriftRefused, StoreFailed, TextCamError
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.engine.engine import Engine
from textcam_service.serving.engine.jobs import ModelRef
from textcam_service.serving.registry.canary import (
    MEASURES,
    check_drift,
    compare,
    comparison_images,
    is_guarded,
)
from textcam_service.serving.registry.daemon_thread import run_in_daemon_thread
from textcam_service.serving.registry.loading import load_bundle
from textcam_service.serving.registry.registry import ModelRegistry
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings
from textcam_service.store.models import ModelStore
from textcam_service.store.pointers import Pointer

_log = logging.getLogger(__name__)
_LONGEST_PAUSE_S = 600.0
# Versions before the current one that are tried where nothing is served yet.
_FALL_BACKS = 3


@dataclass
class _Failed:
    """A pointer that could not be followed, and the time of the next try."""

    pointer: Pointer
    until: float
    pause_s: float


class Watcher:
    """Polls a store and follows its current versions.

    Args:
        models: Takes new versions.
        settings: See ServerSettings; `store` is set.
        metrics: Counters.
        on_switch: Called after each switch.
    """

    def __init__(
        self,
        models: ModelRegistry,
        settings: ServerSettings,
        metrics: Metrics,
        on_switch: Callable[[], None],
    ) -> None:
        self._models = models
        self._settings = settings
        self._metrics = metrics
        self._on_switch = on_switch
        self._store = ModelStore(settings.store)
        self._temporary = TemporaryDirectory(prefix="textcam-models-")
        self._cache = Path(settings.store_cache or self._temporary.name)
        self._failed: dict[str, _Failed] = {}
        self._warned_empty = self._warned_unmarked = False
        # By model: the folder of the served version, and the one before it, for a roll-back.
        self._folders: dict[str, tuple[Path, ...]] = {}
        metrics.store_polled.set_to_current_time()

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            await asyncio.sleep(self._settings.store_poll_s)
            await self.poll()

    async def poll_until_served(self) -> None:
        """Poll until some model is served."""
        await self.poll()
        while not self._models.current:
            await asyncio.sleep(self._settings.store_poll_s)
            await self.poll()

    async def poll(self) -> None:
        """Read the store once and follow its current versions; raises nothing but cancellation."""
        try:
            current = await run_in_daemon_thread(self._current)
        except Exception as error:  # noqa: BLE001 - no error of a store may end the watch
            self._count("", error)
            return
        self._metrics.store_polled.set_to_current_time()
        if not current and not self._warned_empty:
            self._warned_empty = True
            _log.warning(
                "no model is published and current in %s: this server answers nothing until one "
                "is; polled every %g s",
                self._store.location,
                self._settings.store_poll_s,
            )
        for name, pointer in current.items():
            await self._follow(name, pointer)

    def close(self) -> None:
        """Remove the temporary copies of remote models."""
        self._temporary.cleanup()

    def _current(self) -> dict[str, Pointer | TextCamError]:
        """Return each model's pointer, or the error that reading it raised."""
        found: dict[str, Pointer | TextCamError] = {}
        served = {bundle.name for bundle in self._models.current}
        # A served model that the store has lost stays served; the loss is reported.
        for name in sorted({*(self._settings.store_models or self._store.names()), *served}):
            try:
                pointer = self._store.current(name)
            except TextCamError as error:
                if isinstance(error, StoreFailed):
                    raise
                found[name] = error
                continue
            if pointer is not None:
                found[name] = pointer
            elif name in self._models.names:
                found[name] = ArtefactMissing(f"the store has no current version of '{name}'")
        return found

    async def _follow(self, name: str, pointer: Pointer | TextCamError) -> None:
        if isinstance(pointer, TextCamError):
            self._metrics.pending.labels(name).set(1)
            self._count(name, pointer)
            return
        if self._models.versions(name)[:1] == (pointer.version,):
            self._failed.pop(name, None)
            self._metrics.pending.labels(name).set(0)
            return
        failed = self._failed.get(name)
        if failed and failed.pointer == pointer and time.monotonic() < failed.until:
            return
        self._metrics.pending.labels(name).set(1)
        begins, known = not self._models.versions(name), True
        if begins and is_guarded(self._settings) and not pointer.accept_drift:
            # A server that starts compares with the version that running servers serve.
            known = await self._fall_back(name, pointer)
        error = await self._attempt(name, pointer)
        if error is None:
            self._failed.pop(name, None)
            self._metrics.pending.labels(name).set(0)
            if known:
                await self._mark(name, pointer.version)
            return
        again = failed.pause_s * 2 if failed and failed.pointer == pointer else 0.0
        pause = min(max(again, self._settings.store_poll_s), _LONGEST_PAUSE_S)
        until = math.inf if isinstance(error, DriftRefused) else time.monotonic() + pause
        self._failed[name] = _Failed(pointer, until, pause)
        if begins and not self._models.versions(name):
            await self._fall_back(name, pointer)

    async def _fall_back(self, name: str, pointer: Pointer) -> bool:
        """Serve the last version that a server took, if none is served; see ModelStore.before().

        Returns:
            False if there is one, but it cannot be loaded.
        """
        try:
            before = await run_in_daemon_thread(self._store.previous, name, pointer)
        except Exception as error:  # noqa: BLE001 - as in poll()
            self._count(name, error)
            return False
        for version in before[:_FALL_BACKS]:
            if await self._attempt(name, Pointer(version, accept_drift=True)) is None:
                return True
        return not before

    async def _mark(self, name: str, version: str) -> None:
        """Mark a version as taken; a store that cannot be written to stays without marks."""
        try:
            await run_in_daemon_thread(self._store.mark_served, name, version)
        except StoreFailed as error:
            if not self._warned_unmarked:
                self._warned_unmarked = True
                _log.warning(
                    "the store cannot be marked with the versions that are served: after a version "
                    "was refused, roll-backs and servers that start may go to it (%s)",
                    error,
                )

    async def _attempt(self, name: str, pointer: Pointer) -> Exception | None:
        """Switch; count and return the error if that fails. Raises nothing but cancellation."""
        try:
            await self._switch(name, pointer)
        except Exception as error:  # noqa: BLE001 - as in poll()
            self._count(name, error)
            return error
        return None

    async def _switch(self, name: str, pointer: Pointer) -> None:
        loaded = self._models.find(name, pointer.version)
        folder = await run_in_daemon_thread(self._store.fetch, name, pointer.version, self._cache)
        if loaded is not None:
            await self._canary(name, loaded, pointer, folder)
            self._models.promote(loaded)
        else:
            bundle = await run_in_daemon_thread(self._load, name, pointer.version, folder)
            engine = self._models.engine(bundle)
            try:
                await engine.start()
                await self._canary(name, engine, pointer, folder)
            except BaseException:
                await engine.close(0)
                raise
            self._models.promote(engine)
        self._metrics.swaps.labels(name).inc()
        _log.info("model '%s' is served in version '%s'", name, pointer.version)
        self._on_switch()
        self._folders[name] = (folder, *self._folders.get(name, ()))[:2]
        with suppress(OSError):  # the next switch tries again
            await run_in_daemon_thread(
                self._store.prune_cache, name, self._cache, self._folders[name]
            )

    def _load(self, name: str, version: str, folder: Path) -> ModelBundle:
        return load_bundle(self._settings, name, folder / "backbone", folder / "bank", version)

    async def _canary(self, name: str, new: Engine, pointer: Pointer, folder: Path) -> None:
        """Compare a new version with the served one, if there is one.

        Raises:
            DriftRefused: They differ by more than the settings allow.
        """
        versions = self._models.versions(name)
        if not versions:
            return
        with self._models.lease(ModelRef(name)) as old:
            agreement = await compare(
                old, new, await run_in_daemon_thread(comparison_images, folder)
            )
        for measure in MEASURES:
            self._metrics.drift.labels(name, measure).set(getattr(agreement, measure))
        report = {"model": name, "from": versions[0], "to": pointer.version, **asdict(agreement)}
        _log.info("canary %s", json.dumps(report))
        if not pointer.accept_drift:
            check_drift(agreement, self._settings, name, pointer.version)

    def _count(self, name: str, error: Exception) -> None:
        known = isinstance(error, TextCamError)
        reason = error.reason if isinstance(error, TextCamError) else "UNEXPECTED"
        self._metrics.load_failures.labels(name, reason).inc()
        _log.error(
            "%s: %s",
            f"model '{name}' stays as it is" if name else "the store cannot be read",
            error,
            exc_info=None if known else error,
        )
