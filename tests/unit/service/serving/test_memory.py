"""Freed memory goes back to the system, and collections are short."""

import asyncio
import ctypes
import gc
import sys
import weakref
from contextlib import suppress

import psutil
import pytest
from textcam_service.serving.memory import freeze_gc, trim, trim_periodically

needs_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="no glibc: there is nothing to trim",
)


def resident_mib():
    return psutil.Process().memory_info().rss / 2**20


def leave_holes():
    """Free 200 MiB, but for a piece in a hundred."""
    pieces = [bytearray(100_000) for _ in range(2_000)]
    return pieces[::100]


@needs_glibc
def test_what_is_freed_between_living_pieces_is_given_back():
    trim()
    before = resident_mib()
    kept = leave_holes()
    held = resident_mib()
    assert held > before + 100  # else this machine's malloc gives it back by itself
    trim()
    assert resident_mib() < before + 20
    assert len(kept) == 20


@needs_glibc
async def test_it_happens_now_and_then():
    trim()
    before, kept = resident_mib(), leave_holes()
    trimming = asyncio.create_task(trim_periodically(0.01))
    for _ in range(500):
        await asyncio.sleep(0.02)
        if resident_mib() < before + 20:
            break
    trimming.cancel()
    with suppress(asyncio.CancelledError):
        await trimming
    assert resident_mib() < before + 20
    assert kept


class Ring:
    """Something that only itself holds, once its name is gone."""

    def __init__(self):
        self.own = self


def test_what_lives_is_passed_over_by_collections_and_found_once_it_is_settled_again():
    dead, living = Ring(), Ring()
    seen_dead, seen_living = weakref.ref(dead), weakref.ref(living)
    del dead
    freeze_gc()
    try:
        assert seen_dead() is None
        assert not any(one is living for one in gc.get_objects())
        del living
        gc.collect()
        assert seen_living() is not None
        freeze_gc()
        assert seen_living() is None
    finally:
        gc.unfreeze()
