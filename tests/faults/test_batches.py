"""Faults within a batch, put into a server of the test's own process."""

import asyncio
import io
import threading
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from fault_callers import LEFT, ask, load
from fault_processes import read_metric
from fault_world import Ledger
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from textcam_client import AsyncClient, InvalidRequest
from textcam_client.errors import ServerError
from textcam_service.serving.grpc.contract import EXPLAINER
from textcam_service.serving.server import Server
from textcam_service.settings import ServerSettings


class Session:
    """The backbone's session behind a gate: while shut, each batch runs when it is permitted."""

    def __init__(self, backbone):
        self.running = 0
        self.fault = lambda images: None
        self._gate = threading.Condition()
        self._shut, self._permits = False, 0
        self._see, backbone.forward = backbone.forward, self._gated

    def shut(self):
        self._shut = True

    def permit(self):
        with self._gate:
            self._permits += 1
            self._gate.notify_all()

    def open(self):
        with self._gate:
            self._shut, self._permits = False, 0
            self._gate.notify_all()

    def _gated(self, images):
        self.running = len(images)
        with self._gate:
            assert self._gate.wait_for(lambda: self._permits or not self._shut, timeout=20)
            self._permits -= self._shut
        self.running = 0
        self.fault(images)
        return self._see(images)


class Bench:
    """A server in this process, its session, a client of it, and the books."""

    def __init__(self, world, server, session, client):
        self.server, self.session, self.client = server, session, client
        self.ledger = Ledger(world.samples)

    def ask(self):
        return asyncio.create_task(ask(self.client, self.ledger))

    async def metric(self, name, **labels):
        return await asyncio.to_thread(read_metric, self.server.metrics_port, name, **labels)

    async def running(self, count):
        await until(lambda: self.session.running == count)

    async def queued(self, count):
        for _ in range(500):
            if await self.metric("textcam_queue_depth_images") == count:
                return
        raise AssertionError(f"never were {count} images queued")

    async def batch(self, count, *further):
        """`count` asks, and further tasks, that wait behind a batch of one; and that one's."""
        self.session.shut()
        first = self.ask()
        await self.running(1)
        tasks = [*(self.ask() for _ in range(count)), *map(asyncio.create_task, further)]
        await self.queued(len(tasks))
        return first, tasks

    async def run_batch(self, count, *further):
        """As batch(), and all in one inference that has begun but is not yet permitted."""
        first, tasks = await self.batch(count, *further)
        self.session.permit()
        await first
        await self.running(len(tasks))
        return tasks

    async def finish(self, tasks):
        self.session.open()
        return await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def bench_of(world, **settings):
    bundle = world.bundle()
    session = Session(bundle.backbone)
    server = Server(bundle, ServerSettings(port=0, metrics_port=0, drain_seconds=5, **settings))
    await server.start()
    try:
        async with AsyncClient(f"127.0.0.1:{server.port}") as client:
            yield Bench(world, server, session, client)
    finally:
        session.open()
        await server.stop()


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("never came true")


async def test_one_of_four_in_a_batch_cancelled(world, size, figures):
    """While they wait, and while they run, by turns: the other three answer."""
    turns = size(8, 400)
    async with bench_of(world, max_batch=4) as bench:
        for turn in range(turns):
            if turn % 2:
                tasks = await bench.run_batch(4)
                first = tasks[0]
            else:
                first, tasks = await bench.batch(4)
            tasks[turn // 2 % 4].cancel()
            if not turn % 2:
                await bench.queued(3)
                bench.session.permit()
            await bench.finish([first, *tasks])
        figures |= bench.ledger.settle()
        assert figures["answered"] == figures["requests"] - turns
        assert bench.ledger.failures == {LEFT: turns}
        assert await bench.metric("textcam_requests_in_flight") == 0


def grey_png():
    file = io.BytesIO()
    Image.new("RGB", (96, 96), (7, 7, 7)).save(file, "PNG")
    return file.getvalue()


async def test_a_poisoned_image_in_a_full_batch(world, size, figures):
    """An image on which the session fails harms none of those that share its batch."""

    def allergic(images):
        if any(image.max() == image.min() for image in images):
            raise RuntimeError("poison")

    turns = size(3, 100)
    async with bench_of(world, max_batch=8) as bench:
        bench.session.fault = allergic
        for _ in range(turns):
            tasks = await bench.run_batch(7, bench.client.explain(grey_png()))
            *_, poisoned = await bench.finish(tasks)
            assert isinstance(poisoned, ServerError)
        figures |= {"poisoned": turns} | bench.ledger.settle()
        assert not bench.ledger.failures


async def test_a_damaged_image_among_others(world, size, figures):
    """Files that end early or are no images are refused by themselves."""
    whole = [sample.encoded for sample in world.samples[:3]]
    damaged = [b"", b"no image", *(file[: len(file) // 2] for file in whole)]
    turns = size(2, 60)
    async with bench_of(world, max_batch=8) as bench:
        for _ in range(turns):
            good = [bench.ask() for _ in range(7)]
            for file in damaged:
                with pytest.raises(InvalidRequest):
                    await bench.client.explain(file)
            await asyncio.gather(*good)
        figures |= {"damaged": turns * len(damaged)} | bench.ledger.settle()
        assert not bench.ledger.failures


@pytest.mark.parametrize("error", [RuntimeError("once"), StopIteration(), SystemExit(1)])
async def test_the_session_raises_for_one_batch(world, size, figures, error):
    """Its callers are answered, rightly or by an error; the next batch is as ever."""
    turns = size(2, 40)
    async with bench_of(world, max_batch=8) as bench:
        for _ in range(turns):
            tasks = await bench.run_batch(8)
            bench.session.fault = lambda images, left=[error]: raise_one(left)
            await bench.finish(tasks)
            before = bench.ledger.failures.total()
            await asyncio.gather(*(bench.ask() for _ in range(8)))
            assert bench.ledger.failures.total() == before
        figures |= bench.ledger.settle()
        assert set(bench.ledger.failures) <= {"INTERNAL"}


def raise_one(left):
    if left:
        raise left.pop()


async def test_the_consumer_killed(world, size, figures):
    """Callers of the SDK see no error, and health says SERVING again."""
    kills = size(2, 30)
    told = []
    async with bench_of(world) as bench:

        async def watch(channel):
            request = health_pb2.HealthCheckRequest(service=EXPLAINER)
            async for answer in health_pb2_grpc.HealthStub(channel).Watch(request):
                told.append(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

        async with grpc.aio.insecure_channel(f"127.0.0.1:{bench.server.port}") as channel:
            watcher = asyncio.create_task(watch(channel))
            killing = True
            callers = asyncio.create_task(load(bench.client, bench.ledger, lambda: killing))
            for _ in range(kills):
                await asyncio.sleep(0.3)
                consumers = [t for t in asyncio.all_tasks() if t.get_name() == "textcam-batcher"]
                for consumer in consumers:
                    consumer.cancel()
            await asyncio.sleep(0.5)
            killing = False
            await callers
            await until(lambda: told[-1] == "SERVING")
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher
        figures |= {"kills": kills, "told NOT_SERVING": told.count("NOT_SERVING")}
        figures |= bench.ledger.settle()
        assert not bench.ledger.failures
