"""Release of unused memory without delaying requests.

glibc keeps freed memory between blocks that are still in use. So after images and responses of many
sizes in many threads, a process holds more memory than it uses. And a full garbage collection
visits every live object while all threads wait: 50 to 65 ms under load in a server of one model.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys

_EVERY_S = 30.0


async def trim_periodically(every_s: float = _EVERY_S) -> None:
    """Trim every `every_s` seconds until cancelled; other threads go on meanwhile."""
    while True:
        await asyncio.sleep(every_s)
        await asyncio.to_thread(trim)


def trim() -> None:
    """Return freed pages to the system with malloc_trim(3), if glibc has it.

    Takes a few milliseconds.
    """
    if sys.platform != "linux":
        return
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))


def freeze_gc() -> None:
    """Collect garbage, and exempt all remaining objects from later collections.

    Called after a model was loaded or removed; later collections of requests' garbage are then
    short.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
