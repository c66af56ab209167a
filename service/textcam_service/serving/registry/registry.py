"""The served models: each name's current version, those before it, and who still uses them.

A version is switched by one assignment on the event loop. A request holds a lease on the version
that it began with, so that one is closed only after its last answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from textcam.v1 import types_pb2 as types_pb

from textcam_service.errors import InvalidArgument, ModelLoading, UnknownModel, UnknownVersion
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.engine.engine import Engine
from textcam_service.serving.memory import freeze_gc
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.serving.telemetry.tracing import Tracer
from textcam_service.settings import ServerSettings

_LOADING_RETRY_S = 1.0
# Whether who asks may know of a model.
Visibility: TypeAlias = Callable[[str], bool]


def _all_shown(_: str) -> bool:
    return True


@dataclass(eq=False)
class _Version:
    """A warm version: its pipeline, and how many calls use it."""

    engine: Engine
    leases: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def lease(self) -> Iterator[Engine]:
        self.leases += 1
        self.unused.clear()
        try:
            yield self.engine
        finally:
            self.leases -= 1
            if not self.leases:
                self.unused.set()

    async def close(self, patience_s: float) -> None:
        """Once nobody uses it."""
        if self.leases:
            await self.unused.wait()
        await self.engine.close(patience_s)


class ModelRegistry:
    """Versions by name, on one event loop.

    Args:
        settings: See ServerSettings.
        metrics: What to count in.
        changed: Told that a model came, changed, failed or recovered.
        tracer: Told of each batch; None: nobody is.
    """

    def __init__(
        self,
        settings: ServerSettings,
        metrics: Metrics,
        changed: Callable[[], None],
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._changed = changed
        self._tracer = tracer
        # By name: the current version, then those that are kept, the latest first.
        self._versions: dict[str, tuple[_Version, ...]] = {}
        self._failing: set[Engine] = set()
        self._leaving: dict[asyncio.Task[None], _Version] = {}

    @property
    def bundles(self) -> tuple[ModelBundle, ...]:
        """The current versions, in order of name."""
        return tuple(held[0].engine.bundle for _, held in sorted(self._versions.items()))

    @property
    def names(self) -> frozenset[str]:
        """All that are served, or to be."""
        return frozenset(self._versions) | frozenset(self._settings.store_models)

    def versions(self, name: str) -> tuple[str, ...]:
        """Versions that a call may name, the current one first."""
        return tuple(held.engine.bundle.version for held in self._versions.get(name, ()))

    def is_ready(self, name: str = "") -> bool:
        """Whether a model can take requests; "": all that are to be served, and one at least."""
        wanted = {name} if name else self.names
        return bool(wanted) and all(
            each in self._versions and self._versions[each][0].engine not in self._failing
            for each in wanted
        )

    def engine(self, bundle: ModelBundle) -> Engine:
        """A pipeline that is not started yet, whose health is heard."""

        def hear(healthy: bool) -> None:
            (self._failing.discard if healthy else self._failing.add)(made)
            self._changed()

        made = Engine(bundle, self._settings, self._metrics, hear, self._tracer)
        return made

    def meant(self, name: str, shows: Visibility = _all_shown) -> str:
        """The model that a request means; "": the only one that is served.

        Raises:
            InvalidArgument: No name, where several models are served; says those that are shown.
            ModelLoading: No name, and nothing is loaded yet.
        """
        if name:
            return name
        if not self.names:
            raise ModelLoading("no model is loaded yet", retry_after_s=_LOADING_RETRY_S)
        if len(self.names) > 1:
            known = self._listed(shows)
            raise InvalidArgument(
                f"several models are served: name one{known and f' of {known}'}", field="model"
            )
        return next(iter(self.names))

    @contextmanager
    def lease(self, spec: types_pb.ModelSpec, shows: Visibility = _all_shown) -> Iterator[Engine]:
        """The version that a request names, open for as long as the context lasts.

        Args:
            spec: As it came.
            shows: Which models errors may tell of.

        Raises:
            InvalidArgument: See meant().
            UnknownModel: Nothing of that name is served.
            UnknownVersion: The model is served in other versions.
            ModelLoading: It is to be served, but is not loaded yet.
        """
        with self._find(spec, shows).lease() as engine:
            yield engine

    def kept(self, name: str, version: str) -> Engine | None:
        """A version of a model, if it is loaded and current or kept."""
        for held in self._versions.get(name, ()):
            if held.engine.bundle.version == version:
                return held.engine
        return None

    def put(self, engine: Engine) -> None:
        """Make a warm version current; those that are not kept leave after their last answer."""
        bundle = engine.bundle
        before = self._versions.get(bundle.name, ())
        own = [held for held in before if held.engine is engine] or [_Version(engine)]
        others = [held for held in before if held.engine is not engine]
        count = 1 + self._settings.store_keep
        held = (*own, *others)
        self._versions[bundle.name] = held[:count]
        for old in held[count:]:
            task = asyncio.create_task(old.close(self._settings.drain_seconds))
            self._leaving[task] = old
            task.add_done_callback(self._left)
        self._metrics.describe(bundle)
        self._changed()

    async def close(self, patience_s: float) -> None:
        """Close all, whoever still uses them, within `patience_s` seconds for their queues."""
        left = [*self._leaving.values(), *(own for held in self._versions.values() for own in held)]
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*(version.engine.close(patience_s) for version in left))

    def _left(self, task: asyncio.Task[None]) -> None:
        self._failing.discard(self._leaving.pop(task).engine)
        if not task.cancelled():
            task.result()
            freeze_gc()  # a pipeline and its parts hold each other

    def _listed(self, shows: Visibility) -> str:
        return ", ".join(f"'{name}'" for name in sorted(self.names) if shows(name))

    def _find(self, spec: types_pb.ModelSpec, shows: Visibility) -> _Version:
        name = self.meant(spec.name, shows)
        if not self.names:
            raise ModelLoading("no model is loaded yet", retry_after_s=_LOADING_RETRY_S)
        if name not in self.names:
            known = self._listed(shows)
            raise UnknownModel(
                f"no model '{name}' is served here{known and f', only {known}'}",
                field="model.name",
            )
        if name not in self._versions:
            raise ModelLoading(f"model '{name}' is not loaded yet", retry_after_s=_LOADING_RETRY_S)
        for held in self._versions[name]:
            if spec.version in {"", held.engine.bundle.version}:
                return held
        raise UnknownVersion(
            f"model '{name}' is served in version {', '.join(map(repr, self.versions(name)))}, "
            f"not '{spec.version}'; leave the version empty for the current one",
            field="model.version",
        )
