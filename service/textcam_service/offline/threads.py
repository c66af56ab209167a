"""The same work on many items, in as many threads as the process has processors."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

from threadpoolctl import threadpool_limits

from textcam_service.runtime.cpus import usable_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int = 0
) -> Iterator[Result]:
    """Apply a function to items in threads, and yield the results in the items' order.

    At most threads + 1 items are in work, or done and not yet taken. A single item is done in the
    caller's thread. Meanwhile numpy's own products take one thread each: several, beside these,
    wait for each other for longer than they compute.

    Args:
        function: Called from several threads at a time; it should spend its time outside the
            interpreter's lock.
        items: The items, taken one at a time in the caller's thread.
        threads: Number of threads; 0: as many as this process may use.
    """
    rest = iter(items)
    first = [*islice(rest, 2)]
    if len(first) < 2:
        yield from map(function, first)
        return
    count = threads or usable_cpus()
    waiting: deque[Future[Result]] = deque()
    with (
        threadpool_limits(1, "blas"),
        ThreadPoolExecutor(count, thread_name_prefix="textcam-offline") as pool,
    ):
        try:
            for item in chain(first, rest):
                waiting.append(pool.submit(function, item))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # after an error, or when the caller takes no more
                future.cancel()
