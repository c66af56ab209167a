"""Batchers with a session that blocks while its gate is closed."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from batchers import Events, Session
from textcam_service.serving.batching.batcher import Batcher
from textcam_service.serving.batching.deadlines import BatchLimits


@pytest.fixture
async def made():
    session, events = Session(), Events()
    with ThreadPoolExecutor(1) as executor:
        batchers = []

        async def make(run=None, hooks=events, probe=None, on_health_change=None, **limits):
            batcher = Batcher(
                run or session.run, BatchLimits(**limits), executor, hooks, probe, on_health_change
            )
            batcher.seed_latency(1, 0.0)  # as if nothing took time: deadlines are what is tested
            await batcher.start()
            batchers.append(batcher)
            return batcher

        yield session, events, make
        session.gate.set()
        for batcher in batchers:
            await batcher.drain(5)
