"""Follows a store: what becomes current there is loaded, warmed, compared and switched to.

Whatever fails on the way, the version before stays; it is counted, told in the log and tried again.
What is taken is marked in the store, so that servers which start go back to a version that was
taken, not to one that was refused, and judge the current one by the same as those that run.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar

from textcam.v1 import types_pb2 as types_pb

from textcam_service.errors import ArtefactMissing, DriftRefused, StoreFailed, TextCamError
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.engine.engine import Engine
from textcam_service.serving.registry.canary import compare, fixed_set, is_guarded
from textcam_service.serving.registry.registry import ModelRegistry
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings
from textcam_service.store.models import ModelStore
from textcam_service.store.versions import Pointer

_log = logging.getLogger(__name__)
_LONGEST_PAUSE_S = 600.0
# Versions before the current one that are tried where nothing is served yet.
_FALL_BACKS = 3
Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


@dataclass
class _Failed:
    """What could not be followed, and when it is tried again."""

    pointer: Pointer
    until: float
    pause_s: float


class Watcher:
    """Looks at the store again and again.

    Args:
        models: Where new versions go.
        settings: See ServerSettings; `store` is set.
        metrics: What to count in.
        switched: Told after each switch.
    """

    def __init__(
        self,
        models: ModelRegistry,
        settings: ServerSettings,
        metrics: Metrics,
        switched: Callable[[], None],
    ) -> None:
        self._models = models
        self._settings = settings
        self._metrics = metrics
        self._switched = switched
        self._store = ModelStore(settings.store)
        self._passing = TemporaryDirectory(prefix="textcam-models-")
        self._cache = Path(settings.store_cache or self._passing.name)
        self._failed: dict[str, _Failed] = {}
        self._told_empty = self._told_unmarked = False
        # Of each model the folder that is served, and the one before it, for a roll-back.
        self._folders: dict[str, tuple[Path, ...]] = {}
        metrics.looked.set_to_current_time()

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await asyncio.sleep(self._settings.store_poll_s)
            await self.look()

    async def look_until_served(self) -> None:
        """Look, and again until some model is served."""
        await self.look()
        while not self._models.bundles:
            await asyncio.sleep(self._settings.store_poll_s)
            await self.look()

    async def look(self) -> None:
        """Look once, and follow what is current; nothing but cancellation escapes."""
        try:
            current = await _aside(self._current)
        except Exception as error:  # noqa: BLE001 - whatever a store may raise must not end the watch
            self._count("", error)
            return
        self._metrics.looked.set_to_current_time()
        if not current and not self._told_empty:
            self._told_empty = True
            _log.warning(
                "no model is published and current in %s: this server answers nothing until one "
                "is; looking every %g s",
                self._store.place,
                self._settings.store_poll_s,
            )
        for name, pointer in current.items():
            await self._follow(name, pointer)

    def close(self) -> None:
        """Remove what passed through this machine."""
        self._passing.cleanup()

    def _current(self) -> dict[str, Pointer | TextCamError]:
        """Each model's pointer, or what is wrong with it."""
        found: dict[str, Pointer | TextCamError] = {}
        served = {bundle.name for bundle in self._models.bundles}
        # A store that has lost what is served is told, not obeyed.
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
            # One that starts judges by what the others serve, who did not start again.
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
        """Serve the last version before that a server took, where none is served; see before().

        False: there is one, and it cannot be had.
        """
        try:
            before = await _aside(self._store.before, name, pointer)
        except Exception as error:  # noqa: BLE001 - as in look()
            self._count(name, error)
            return False
        for version in before[:_FALL_BACKS]:
            if await self._attempt(name, Pointer(version, accept_drift=True)) is None:
                return True
        return not before

    async def _mark(self, name: str, version: str) -> None:
        """Say in the store that it was taken. One that cannot be written to is as without marks."""
        try:
            await _aside(self._store.mark_served, name, version)
        except StoreFailed as error:
            if not self._told_unmarked:
                self._told_unmarked = True
                _log.warning(
                    "the store is not told which versions are served: after one that was refused, "
                    "roll-backs and servers that start may go to it (%s)",
                    error,
                )

    async def _attempt(self, name: str, pointer: Pointer) -> Exception | None:
        """Switch, or count and return why not; nothing but cancellation escapes."""
        try:
            await self._switch(name, pointer)
        except Exception as error:  # noqa: BLE001 - as in look()
            self._count(name, error)
            return error
        return None

    async def _switch(self, name: str, pointer: Pointer) -> None:
        kept = self._models.kept(name, pointer.version)
        folder = await _aside(self._store.fetch, name, pointer.version, self._cache)
        if kept is not None:
            await self._canary(name, kept, pointer, folder)
            self._models.put(kept)
        else:
            bundle = await _aside(self._load, name, pointer.version, folder)
            engine = self._models.engine(bundle)
            try:
                await engine.start()
                await self._canary(name, engine, pointer, folder)
            except BaseException:
                await engine.close(0)
                raise
            self._models.put(engine)
        self._metrics.swaps.labels(name).inc()
        _log.info("model '%s' is served in version '%s'", name, pointer.version)
        self._switched()
        self._folders[name] = (folder, *self._folders.get(name, ()))[:2]
        with suppress(OSError):  # what cannot be removed now is at the next switch
            await _aside(self._store.tidy, name, self._cache, self._folders[name])

    def _load(self, name: str, version: str, folder: Path) -> ModelBundle:
        return ModelBundle.load(
            name,
            folder / "backbone",
            folder / "bank",
            version=version,
            providers=self._settings.providers,
            threads=self._settings.session_threads,
            device=self._settings.device,
        ).with_words(self._settings.words)

    async def _canary(self, name: str, new: Engine, pointer: Pointer, folder: Path) -> None:
        """Compare a version with the served one, if there is one.

        Raises:
            DriftRefused: They differ by more than the settings allow.
        """
        versions = self._models.versions(name)
        if not versions:
            return
        with self._models.lease(types_pb.ModelSpec(name=name)) as old:
            drift = await compare(old, new, await _aside(fixed_set, folder))
        for measure, value in drift.measures.items():
            self._metrics.drift.labels(name, measure).set(value)
        report = {"model": name, "from": versions[0], "to": pointer.version, **asdict(drift)}
        _log.info("canary %s", json.dumps(report))
        if not pointer.accept_drift:
            drift.require(self._settings, name, pointer.version)

    def _count(self, name: str, error: Exception) -> None:
        known = isinstance(error, TextCamError)
        reason = error.reason if isinstance(error, TextCamError) else "UNEXPECTED"
        self._metrics.load_failures.labels(name, reason).inc()
        _log.error(
            "%s: %s",
            f"model '{name}' stays as it is" if name else "the store cannot be looked at",
            error,
            exc_info=None if known else error,
        )


async def _aside(
    function: Callable[Arguments, Answer], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Answer:
    """Run a function in a thread that a stop of the process does not wait for.

    A store that does not answer may hold its caller for minutes.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Answer] = loop.create_future()

    def settle(set_outcome: Callable[[Any], None], outcome: object) -> None:
        if not future.done():
            set_outcome(outcome)

    def tell(set_outcome: Callable[[Any], None], outcome: object) -> None:
        with suppress(RuntimeError):  # the loop may be gone by now
            loop.call_soon_threadsafe(settle, set_outcome, outcome)

    def work() -> None:
        try:
            answer = function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - goes to the caller
            tell(future.set_exception, error)
        else:
            tell(future.set_result, answer)

    threading.Thread(target=work, name="textcam-store", daemon=True).start()
    return await future
