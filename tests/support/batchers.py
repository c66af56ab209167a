"""A batcher's events and session for tests, and waits that give up after seconds."""

import asyncio
import threading
from types import SimpleNamespace

from textcam_service.serving.batching.latency import BatchLatency
from textcam_service.serving.batching.scheduling import Lane

LONG = 60.0
CALLBACKS = ("on_batch", "on_depth", "on_expired", "on_cancelled", "on_rejected")


class Events:
    """Counts a batcher's events."""

    def __init__(self):
        self.batches, self.expired, self.cancelled, self.rejected, self.depth = [], 0, 0, 0, 0
        self.reasons, self.restarts = [], 0

    def on_batch(self, size):
        self.batches.append(size)

    def on_depth(self, depth):
        self.depth = depth

    def on_expired(self):
        self.expired += 1

    def on_cancelled(self):
        self.cancelled += 1

    def on_rejected(self, reason):
        self.rejected += 1
        self.reasons.append(reason)

    def on_restart(self):
        self.restarts += 1


class Session:
    """Doubles its items once its gate is open."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.begun, self.ran = [], []

    def run(self, items):
        self.begun.append(list(items))
        assert self.gate.wait(10)
        self.ran.append(list(items))
        for item in items:
            if isinstance(item, BaseException):
                raise item
        return [item * 2 for item in items]


async def until(condition):
    """Wait until a condition holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("never came true")


async def settle():
    """Let the loop run everything that needs no waiting."""
    for _ in range(20):
        await asyncio.sleep(0)


def consumer():
    """Return the task of the only batcher's consumer."""
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "textcam-batcher")
    return task


async def busy(batcher, session):
    """Submit item 0 and let it block the session; return its task."""
    session.gate.clear()
    first = asyncio.create_task(batcher.submit(0, None))
    await until(lambda: session.begun[-1:] == [[0]])
    return first


def seed_slow(batcher, seconds):
    """Seed the batcher as if every batch had taken so long."""
    for size in range(1, 9):
        for _ in range(9):
            batcher.seed_latency(size, seconds)


def latency_of(**seconds):
    """Return a BatchLatency that observed these: _4=1.0 is 1 s for a batch of 4."""
    made = BatchLatency()
    for name, value in seconds.items():
        made.observe(int(name[1:]), value)
    return made


def queue_item(deadline, lane=Lane.AUDIT, admitted=0.0):
    return SimpleNamespace(deadline=deadline, lane=lane, admitted=admitted, is_ready=True)
