"""Calls that may block for minutes, in threads that do not keep the process alive."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


async def run_in_daemon_thread(
    function: Callable[Arguments, Answer], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Answer:
    """Run a function in a thread for which the process does not wait when it stops.

    A store that does not respond may block its caller for minutes.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Answer] = loop.create_future()

    def resolve(set_outcome: Callable[[Any], None], outcome: object) -> None:
        if not future.done():
            set_outcome(outcome)

    def hand_over(set_outcome: Callable[[Any], None], outcome: object) -> None:
        with suppress(RuntimeError):  # the loop may be gone by now
            loop.call_soon_threadsafe(resolve, set_outcome, outcome)

    def work() -> None:
        try:
            answer = function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - raised in the caller
            hand_over(future.set_exception, error)
        else:
            hand_over(future.set_result, answer)

    threading.Thread(target=work, name="textcam-store", daemon=True).start()
    return await future
