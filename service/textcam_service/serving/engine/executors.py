"""Threads that finish begun requests before they begin new ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from queue import PriorityQueue
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class PriorityExecutor:
    """Threads that decode images and respond to requests, responses first.

    In one queue, the images of a burst would all be decoded before the first answer. With two,
    decoding still runs ahead of inference: while a batch runs, there is nothing to answer.

    Args:
        threads: Number of threads.

    Attributes:
        decoding: Executor of the first step of requests.
        responding: Executor of the last step of requests; goes first.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="textcam-worker")
        # By urgency; work of one urgency in the order of its arrival.
        self._waiting: PriorityQueue[tuple[int, int, Future[Any], Callable[[], Any]]]
        self._waiting = PriorityQueue()
        self._numbers = count()
        self.responding: Executor = _Lane(partial(self._submit, 0))
        self.decoding: Executor = _Lane(partial(self._submit, 1))

    def shutdown(self) -> None:
        """Take no more work; finish the work that waits."""
        self._pool.shutdown(wait=False)

    def _submit(self, urgency: int, work: Callable[[], Answer]) -> Future[Answer]:
        future: Future[Answer] = Future()
        # One more thread takes work: not this piece, but the most urgent one.
        self._pool.submit(self._work)
        self._waiting.put((urgency, next(self._numbers), future, work))
        return future

    def _work(self) -> None:
        _, _, future, work = self._waiting.get()
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - goes to the future
            future.set_exception(error)


class _Lane(Executor):
    """One urgency of a PriorityExecutor."""

    def __init__(self, submit: Callable[[Callable[[], Any]], Future[Any]]) -> None:
        self._submit = submit

    def submit(
        self,
        function: Callable[Arguments, Answer],
        /,
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Future[Answer]:
        return self._submit(partial(function, *args, **kwargs))


async def run_in_executor(
    executor: Executor,
    function: Callable[Arguments, Answer],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Answer:
    """Run a function in an executor's thread."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(executor, partial(function, *args, **kwargs))
