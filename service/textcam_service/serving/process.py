"""A server process: from its start to SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection

from threadpoolctl import threadpool_limits

from textcam_service.serving.memory import freeze_gc, trim_periodically
from textcam_service.serving.registry.loading import load_bundle
from textcam_service.serving.server import Digests, Server
from textcam_service.settings import ServerSettings

_log = logging.getLogger(__name__)


async def serve(
    settings: ServerSettings,
    on_serving: Callable[[Server], None],
    parent: Connection | None = None,
    on_switch: Callable[[Digests], None] = lambda _: None,
    joins: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        settings: See ServerSettings.
        on_serving: Called once the server serves.
        parent: Pipe to the parent process; the server also stops when it closes.
        on_switch: See Server.
        joins: See Server.
    """
    # One image's arithmetic is too small to share; more BLAS threads would only spin.
    threadpool_limits(limits=1, user_api="blas")
    # Pillow's warnings about clients' images do not belong in this log, and Python keeps each one.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    bundle = None
    if not settings.store:
        bundle = load_bundle(
            settings, settings.name, settings.backbone, settings.bank, settings.version
        )
    server = Server(bundle, settings, on_switch, joins)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if parent is not None:
        loop.add_reader(parent.fileno(), stop.set)
    trimming = asyncio.create_task(trim_periodically(), name="textcam-memory")
    if await _start(server, stop):
        freeze_gc()
        on_serving(server)
        await stop.wait()
    trimming.cancel()
    _log.info("draining for at most %.0f s", settings.drain_seconds)
    await server.stop()


async def _start(server: Server, stop: asyncio.Event) -> bool:
    """Start the server; return False if it was stopped before.

    A server with a store responds to calls before its start is complete.
    """
    starting = asyncio.create_task(server.start())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        stopped.cancel()
        await starting  # raises its error, if any
        return True
    starting.cancel()
    await asyncio.wait([starting])
    return False
