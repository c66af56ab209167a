"""The wall clock stepped under a running server (Debian's package `faketime`)."""

import asyncio
import email.utils
import os
import time
import urllib.request
from pathlib import Path

import pytest
from fault_callers import load
from fault_processes import serving, until
from fault_world import Ledger
from textcam_client import AsyncClient

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
pytestmark = pytest.mark.skipif(
    LIBRARY is None,
    reason="NOT TESTED: libfaketime is not installed (apt-get install faketime)",
)
HOUR = 3600


def wall_clock(served):
    """The server's own, as its metrics page dates itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{served.metrics_port}/metrics") as page:
        return email.utils.parsedate_to_datetime(page.headers["Date"]).timestamp()


async def test_the_clock_stepped(world, size, figures, tmp_path):
    """Hours forth and back while calls with deadlines of seconds run: none expires or hangs."""
    file, ledger, steps = tmp_path / "offset", Ledger(world.samples), size(4, 60)
    file.write_text("+0")
    env = {
        **os.environ,
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with serving(world, env=env) as served:
        async with AsyncClient(served.address) as client:
            go_on = [True]
            callers = asyncio.create_task(
                load(client, ledger, lambda: bool(go_on), callers=8, timeout=10)
            )
            for step in range(steps):
                hours = (-1) ** step * (1 + step % 5)
                # At once: a file that is empty for a moment would be a step of its own.
                (tmp_path / "next").write_text(f"{hours * HOUR:+d}")
                (tmp_path / "next").replace(file)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(
                    until,
                    lambda offset=hours * HOUR: abs(wall_clock(served) - time.time() - offset) < 5,
                    10,
                    "the step is seen",
                )
            go_on.clear()
            await callers
        figures |= {"steps": steps} | ledger.settle()
        assert not ledger.failures
        assert served.metric("textcam_expired_total") == 0
