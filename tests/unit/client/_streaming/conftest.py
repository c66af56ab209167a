"""Either client's explain_many, and a clock that tests move."""

from __future__ import annotations

import pytest
from client_streams import Aio, Clock, Sync


@pytest.fixture(params=[Sync, Aio])
def many(request):
    return request.param().run


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("textcam_client._streaming.sync.time", clock)
    monkeypatch.setattr("textcam_client._streaming.aio.time", clock)
    monkeypatch.setattr("textcam_client._streaming.run.time", clock)
    return clock
