"""Calls in threads of their own."""

import asyncio
import threading

import pytest
from textcam_service.serving.registry.daemon_thread import run_in_daemon_thread


async def test_a_result_and_an_error_come_back_from_a_thread_that_does_not_keep_the_process():
    def work(value, *, times):
        assert threading.current_thread().daemon
        return value * times

    assert await run_in_daemon_thread(work, 3, times=2) == 6
    with pytest.raises(ValueError, match="no number"):
        await run_in_daemon_thread(int, "no number")


async def test_a_cancelled_call_leaves_its_thread_behind():
    free, ended = threading.Event(), threading.Event()

    def work():
        free.wait(10)
        ended.set()

    call = asyncio.create_task(run_in_daemon_thread(work))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    free.set()
    await asyncio.to_thread(ended.wait, 10)
    assert ended.is_set()
