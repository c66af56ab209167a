"""The served models: each name's current version, earlier ones, and the leases on them.

A version is switched by one assignment on the event loop. A request holds a lease on the version
that it began with. So a version is closed only after its last response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from textcam_service.errors import InvalidArgument, ModelLoading, UnknownModel, UnknownVersion
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.engine.engine import Engine
from textcam_service.serving.engine.jobs import ModelRef
from textcam_service.serving.memory import freeze_gc
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.serving.telemetry.tracing import Tracer
from textcam_service.settings import ServerSettings

_LOADING_RETRY_S = 1.0
# Returns True if the caller may know of a model, by its name.
Visibility: TypeAlias = Callable[[str], bool]


def _all_visible(_: str) -> bool:
    return True


@dataclass(eq=False)
class _Version:
    """A warm version: its engine, and the number of calls that use it."""

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
        """Close the engine after the last lease ends."""
        if self.leases:
            await self.unused.wait()
        await self.engine.close(patience_s)


class ModelRegistry:
    """Served models by name. Lives on one event loop.

    Args:
        settings: See ServerSettings.
        metrics: Counters.
        on_change: Called when a model came, changed, failed or recovered.
        tracer: Traces of batches; None: none.
    """

    def __init__(
        self,
        settings: ServerSettings,
        metrics: Metrics,
        on_change: Callable[[], None],
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._on_change = on_change
        self._tracer = tracer
        # By name: the current version, then earlier ones that are kept, the latest first.
        self._versions: dict[str, tuple[_Version, ...]] = {}
        self._failing: set[Engine] = set()
        self._closing: dict[asyncio.Task[None], _Version] = {}

    @property
    def current(self) -> tuple[ModelBundle, ...]:
        """The current versions, in order of name."""
        return tuple(held[0].engine.bundle for _, held in sorted(self._versions.items()))

    @property
    def names(self) -> frozenset[str]:
        """Names of the models that are served, or are to be served."""
        return frozenset(self._versions) | frozenset(self._settings.store_models)

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the versions that a call may name, the current one first."""
        return tuple(held.engine.bundle.version for held in self._versions.get(name, ()))

    def is_ready(self, name: str = "") -> bool:
        """Return True if a model can take requests.

        Args:
            name: Its name; empty: all models that are to be served, at least one.
        """
        wanted = {name} if name else self.names
        return bool(wanted) and all(
            each in self._versions and self._versions[each][0].engine not in self._failing
            for each in wanted
        )

    def engine(self, bundle: ModelBundle) -> Engine:
        """Make an engine, not started yet; its health counts in is_ready()."""

        def on_health_change(healthy: bool) -> None:
            (self._failing.discard if healthy else self._failing.add)(engine)
            self._on_change()

        engine = Engine(bundle, self._settings, self._metrics, on_health_change, self._tracer)
        return engine

    def resolve_name(self, name: str, can_see: Visibility = _all_visible) -> str:
        """Return the name of the model that a request means.

        Args:
            name: Name as given; empty: the only model that is served.
            can_see: Selects the models that errors may name.

        Raises:
            InvalidArgument: No name is given, but several models are served.
            ModelLoading: No name is given, and nothing is loaded yet.
        """
        if name:
            return name
        if not self.names:
            raise ModelLoading("no model is loaded yet", retry_after_s=_LOADING_RETRY_S)
        if len(self.names) > 1:
            known = self._visible_names(can_see)
            raise InvalidArgument(
                f"several models are served: name one{known and f' of {known}'}", field="model"
            )
        return next(iter(self.names))

    @contextmanager
    def lease(self, ref: ModelRef, can_see: Visibility = _all_visible) -> Iterator[Engine]:
        """Keep the version that a request names open for as long as the context lasts.

        Args:
            ref: Name and version as the request gives them.
            can_see: Selects the models that errors may name.

        Raises:
            InvalidArgument: See resolve_name().
            UnknownModel: Nothing of that name is served.
            UnknownVersion: The model is served in other versions.
            ModelLoading: It is to be served, but is not loaded yet.
        """
        with self._version(ref, can_see).lease() as engine:
            yield engine

    def find(self, name: str, version: str) -> Engine | None:
        """Return a version of a model if it is loaded, be it current or kept."""
        for held in self._versions.get(name, ()):
            if held.engine.bundle.version == version:
                return held.engine
        return None

    def promote(self, engine: Engine) -> None:
        """Make a warm version current; versions that are not kept close after their last lease."""
        bundle = engine.bundle
        before = self._versions.get(bundle.name, ())
        own = [held for held in before if held.engine is engine] or [_Version(engine)]
        others = [held for held in before if held.engine is not engine]
        count = 1 + self._settings.store_keep
        held = (*own, *others)
        self._versions[bundle.name] = held[:count]
        for old in held[count:]:
            task = asyncio.create_task(old.close(self._settings.drain_seconds))
            self._closing[task] = old
            task.add_done_callback(self._on_closed)
        self._metrics.describe(bundle)
        self._on_change()

    async def close(self, patience_s: float) -> None:
        """Close all versions, leased or not, within `patience_s` seconds for their queues."""
        left = [*self._closing.values(), *(own for held in self._versions.values() for own in held)]
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*(version.engine.close(patience_s) for version in left))

    def _on_closed(self, task: asyncio.Task[None]) -> None:
        self._failing.discard(self._closing.pop(task).engine)
        if not task.cancelled():
            task.result()
            freeze_gc()  # an engine and its parts refer to each other

    def _visible_names(self, can_see: Visibility) -> str:
        return ", ".join(f"'{name}'" for name in sorted(self.names) if can_see(name))

    def _version(self, ref: ModelRef, can_see: Visibility) -> _Version:
        name = self.resolve_name(ref.name, can_see)
        if not self.names:
            raise ModelLoading("no model is loaded yet", retry_after_s=_LOADING_RETRY_S)
        if name not in self.names:
            known = self._visible_names(can_see)
            raise UnknownModel(
                f"no model '{name}' is served here{known and f', only {known}'}",
                field="model.name",
            )
        if name not in self._versions:
            raise ModelLoading(f"model '{name}' is not loaded yet", retry_after_s=_LOADING_RETRY_S)
        for held in self._versions[name]:
            if ref.version in {"", held.engine.bundle.version}:
                return held
        raise UnknownVersion(
            f"model '{name}' is served in version {', '.join(map(repr, self.versions(name)))}, "
            f"not '{ref.version}'; leave the version empty for the current one",
            field="model.version",
        )
