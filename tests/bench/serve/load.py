"""The load generator, a process of its own: one level of load on one server.

    python -m serve.load < plan.json > result.json

Closed loop: each caller sends its next request when the last is answered. Open loop: requests leave
on a schedule that was drawn beforehand and knows nothing of the server; latency counts from the
scheduled time, so waiting that the generator itself may cause is in the figure too. Bounded in
count and in time.
"""

import asyncio
import gc
import itertools
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from serve.callers import CALLERS, outcome_of
from serve.tally import Record, References, summary
from serve.usage import cpu_seconds, resident_mib

GRACE_S = 5.0  # a request that is not over so long after its deadline hangs
MOST = 200_000
PATIENCE_S = 60.0  # with the first requests, for which a server may still have to warm up
_SHORTEST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.01, 1.0


@dataclass(frozen=True)
class Plan:
    """One level of load.

    Attributes:
        caller: Name in callers.CALLERS.
        address: host:port of the server.
        pid: Of the server's first process.
        images: JPEG files, sent in turn.
        concurrency: Of a closed loop; 0: open loop.
        rate: Of an open loop, requests per second.
        uniform: Evenly spaced requests in place of a Poisson process.
        seconds: Measured time.
        warm_up: Seconds of the same load before it.
        timeout: Deadline of each request, seconds.
        seed: Of the schedule.
    """

    caller: str
    address: str
    pid: int
    images: list
    concurrency: int = 0
    rate: float = 0.0
    uniform: bool = False
    seconds: float = 10.0
    warm_up: float = 2.0
    timeout: float = 10.0
    seed: int = 0


@dataclass
class Meter:
    """Resources over the measured window: of the server's tree, and of this process."""

    pid: int
    server_cpu: float = 0.0
    own_cpu: float = 0.0
    memory_mib: float = 0.0
    _own: psutil.Process = field(default_factory=psutil.Process)

    def read(self):
        return cpu_seconds(self.pid), sum(self._own.cpu_times()[:2])

    async def watch(self, begin, end):
        """Read the counters at both ends of the window."""
        await asyncio.sleep(begin - time.monotonic())
        server, own = self.read()
        await asyncio.sleep(end - time.monotonic())
        server_after, own_after = self.read()
        self.server_cpu, self.own_cpu = server_after - server, own_after - own
        self.memory_mib = await asyncio.to_thread(resident_mib, self.pid)


class Level:
    """Sends the requests of a plan and records how each ended."""

    def __init__(self, plan, ask, jpegs, references):
        self.plan, self._ask, self._jpegs, self._references = plan, ask, jpegs, references
        self.records = []
        self.begin = time.monotonic() + plan.warm_up
        self.end = self.begin + plan.seconds

    async def closed(self):
        """Callers that wait for each answer; a refused one waits as it was told."""
        turns = itertools.count()

        async def caller():
            while time.monotonic() < self.end and len(self.records) < MOST:
                record = await self._send(next(turns), time.monotonic())
                if record.outcome == "refused":
                    hint = record.retry_after or 0.0
                    wait = min(max(hint, _SHORTEST_BACKOFF_S), _LONGEST_BACKOFF_S)
                    await asyncio.sleep(wait)

        await self._over([asyncio.create_task(caller()) for _ in range(self.plan.concurrency)])

    async def open(self):
        """Requests at the scheduled times, whatever becomes of those before."""
        tasks = []
        for turn, offset in enumerate(schedule(self.plan)):
            due = self.begin - self.plan.warm_up + offset
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self._send(turn, due)))
        await self._over(tasks)

    async def _over(self, tasks):
        """Wait until all are over; those that are not in time hang, and are cut off."""
        if not tasks:  # so few are due
            return
        left = self.end + self.plan.timeout + GRACE_S - time.monotonic()
        _, hanging = await asyncio.wait(tasks, timeout=max(left, 0))
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    async def _send(self, turn, due):
        index = turn % len(self._jpegs)
        record = Record(due, time.monotonic())
        self.records.append(record)
        try:
            # The caller's patience counts from when it was due, as its latency does.
            left = max(self.plan.timeout - (record.sent - due), 0.001)
            answer = await self._ask(self._jpegs[index], left)
            stray = not self._references.belongs(answer, index)
            record.outcome, record.stages = "stray" if stray else "ok", answer.stages
        except asyncio.CancelledError:
            record.outcome = "hung"
            raise
        except Exception as error:  # noqa: BLE001 - counted, by its kind
            record.outcome = outcome_of(error)
            record.error = f"{type(error).__name__}: {error}"
            record.retry_after = getattr(error, "retry_after", None)
        finally:
            record.done = time.monotonic()
        return record


def schedule(plan):
    """Seconds from the warm-up's begin at which requests are due, drawn beforehand."""
    total = plan.warm_up + plan.seconds
    count = min(int(plan.rate * total * 2) + 50, MOST)
    if plan.uniform:
        gaps = np.full(count, 1 / plan.rate)
    else:
        gaps = np.random.default_rng(plan.seed).exponential(1 / plan.rate, count)
    due = np.cumsum(gaps)
    return due[due < total]


async def measure(plan, jpegs):
    """Run one level; a JSON-like summary."""
    async with CALLERS[plan.caller](plan.address) as ask:
        # Each image alone first: what its answers must be, whatever company they come in.
        references = References([await ask(jpeg, PATIENCE_S) for jpeg in jpegs])
        level, meter = Level(plan, ask, jpegs, references), Meter(plan.pid)
        gc.freeze()  # else collections of 50 ms and more in this process count as the server's
        watching = asyncio.create_task(meter.watch(level.begin, level.end))
        await (level.closed() if plan.concurrency else level.open())
        await watching
    return summary(level, meter, references)


def main():
    plan = Plan(**json.load(sys.stdin))
    jpegs = [Path(image).read_bytes() for image in plan.images]
    json.dump(asyncio.run(measure(plan, jpegs)), sys.stdout)


if __name__ == "__main__":
    main()
