"""Memory that requests took and that nobody needs any more, given back to the system.

glibc keeps what is freed between pieces that still live: after images and answers of many sizes, in
many threads, a process holds more than it uses.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys

_EVERY_S = 30.0


async def keep_trimming(every_s: float = _EVERY_S) -> None:
    """Trim for ever, now and then; other threads go on meanwhile."""
    while True:
        await asyncio.sleep(every_s)
        await asyncio.to_thread(trim)


def trim() -> None:
    """Give freed pages back (malloc_trim(3)): a few milliseconds; nothing without glibc."""
    if sys.platform != "linux":
        return
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))
