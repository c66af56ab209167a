"""Callers who hold on to what they have: slow readers, and connections that say nothing."""

import asyncio
import contextlib
import io
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time

import grpc
from fault_callers import ALL_CLASSES, ask, for_seconds, load
from fault_processes import serving, until
from fault_world import Ledger, Sample
from PIL import Image
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc as pb_grpc
from textcam.v1 import types_pb2 as types_pb
from textcam_client import AsyncClient
from textcam_service.imaging import decoding

SIDE = 768  # an answer with a heatmap of that size has over half a megabyte
BACKLOG = 1000  # unread answers of over half a gigabyte, if a server worked them off
GROWTH_MIB = 100.0


def large_samples(world, count=6):
    """Images with large answers, and what these must show."""
    backbone = world.bundle().backbone
    made = []
    for sample in world.samples[:count]:
        image = Image.open(io.BytesIO(sample.encoded)).convert("RGB").resize((SIDE, SIDE))
        file = io.BytesIO()
        image.save(file, "PNG")
        network_input, _ = decoding.prepare(image, backbone.manifest.preprocessing)
        made.append(Sample(file.getvalue(), backbone.logits(network_input[None])[0]))
    return made


async def requests(ledger, count):
    for _ in range(count):
        request_id, sample = ledger.send()
        one = pb.ExplainRequest(
            request_id=request_id,
            encoded=sample.encoded,
            prediction_count=ALL_CLASSES,
            include_groups=False,
            heatmap=types_pb.HEATMAP_FORM_IMAGE,
        )
        yield pb.ExplainStreamRequest(request=one)


async def read_slowly(stub, ledger, count, pause, end):
    """Read an answer per `pause` seconds until the end; returns how many."""
    call, read = stub.ExplainStream(requests(ledger, count)), 0
    async for item in call:
        ledger.answered(item.request_id, item.response)
        read += 1
        if time.monotonic() > end:
            call.cancel()
            return read
        await asyncio.sleep(pause)
    return read


async def latencies(client, ledger, seconds, served):
    """Milliseconds of answers to a caller who asks one by one, and the server's peak memory."""
    took, peak, go_on = [], 0.0, for_seconds(seconds)
    while go_on():
        started = time.monotonic()
        await ask(client, ledger)
        took.append((time.monotonic() - started) * 1000)
        peak = max(peak, served.resident_mib())
        await asyncio.sleep(0.01)
    return round(statistics.median(took), 1), peak


async def test_a_slow_reader(world, size, figures):
    """It costs the server a bounded memory, and the other callers nothing."""
    large, others = large_samples(world), Ledger(world.samples)
    seconds = size(3, 45)
    with serving(world) as served:
        async with (
            AsyncClient(served.address) as client,
            grpc.aio.insecure_channel(served.address) as channel,
        ):
            stub = pb_grpc.ExplainerServiceStub(channel)
            quick = Ledger(large)
            assert await read_slowly(stub, quick, 48, 0, time.monotonic() + 60) == 48
            quick.settle()
            before, warm = await latencies(client, others, size(1, 5), served)
            done = served.metric("textcam_requests_total", method="ExplainStream")
            slow, end = Ledger(large), time.monotonic() + seconds
            reading = asyncio.create_task(read_slowly(stub, slow, BACKLOG, size(0.5, 1.0), end))
            await asyncio.sleep(size(1, 5))  # until it has filled all that it may fill
            during, peak = await latencies(client, others, seconds - size(1, 5), served)
            read = await reading
            worked = served.metric("textcam_requests_total", method="ExplainStream") - done
        until(lambda: served.metric("textcam_requests_in_flight") == 0, 5, "the work is forgotten")
    figures |= {
        "read": read,
        "worked off": int(worked),
        "growth MiB": round(peak - warm, 1),
        "ms to others before": before,
        "ms to others during": during,
    } | others.settle()
    assert not others.failures
    assert worked < BACKLOG / 4
    assert peak - warm < GROWTH_MIB
    assert during < 3 * before + 20


SILENCES = {
    "nothing": b"",
    "half a preface": b"PRI * HTTP/2.0\r\n",
    "a preface only": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "half a frame": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00",
}
# Callers whose processes are stopped: amid a stream, and between two calls.
CALLERS = (
    """
import itertools, sys
from textcam_client import Client
with Client(sys.argv[1]) as client:
    image = open(sys.argv[2], "rb").read()
    for answer in client.explain_many(itertools.repeat(image)):
        print("answered", flush=True)
""",
    """
import sys, time
from textcam_client import Client
with Client(sys.argv[1]) as client:
    client.explain(open(sys.argv[2], "rb").read())
    print("answered", flush=True)
    time.sleep(600)
""",
)


async def test_half_open_connections(world, size, figures, tmp_path):
    """Others are answered meanwhile; who hangs up is forgotten at once, who is dead soon."""
    ledger, each, dead = Ledger(world.samples), size(10, 100), size(2, 4)
    image = tmp_path / "image.png"
    image.write_bytes(world.samples[0].encoded)
    with serving(world) as served, contextlib.ExitStack() as stack:
        idle = served.connections()
        silent = []
        for said in SILENCES.values():
            for _ in range(each):
                one = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
                one.sendall(said)
                silent.append(one)
        for turn in range(dead):
            stack.enter_context(stopped_caller(CALLERS[turn % 2], served, image))
        until(lambda: served.connections() >= idle + len(silent) + dead, 10, "all are connected")
        async with AsyncClient(served.address) as client:
            await load(client, ledger, for_seconds(size(1.5, 10)), callers=4)
        figures |= {"silent": len(silent), "stopped": dead} | ledger.settle()
        assert not ledger.failures
        for one in silent[::2]:
            one.close()
        half = idle + len(silent) // 2 + dead
        figures["seconds until half were gone"] = round(
            until(lambda: served.connections() <= half, 5, "closed connections are gone"), 1
        )
        if size(False, True):  # as long as the server's own patience lasts
            figures["seconds until all were gone"] = round(
                until(lambda: served.connections() <= idle, 120, "dead connections are dropped"), 1
            )
            until(lambda: served.metric("textcam_requests_in_flight") == 0, 5, "so is their work")


@contextlib.contextmanager
def stopped_caller(code, served, image):
    command = [sys.executable, "-c", code, served.address, str(image)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "answered\n"
            process.send_signal(signal.SIGSTOP)
            yield process
        finally:
            process.kill()


def frame(kind, flags, stream, content):
    """A frame of HTTP/2 (RFC 9113, 4.1)."""
    head = struct.pack(">I", len(content))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + content


def header(name, value):
    """A literal header field without indexing (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


CALL = b"".join(
    header(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/textcam.v1.ExplainerService/Explain"),
        (b":authority", b"x"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
)
HEADERS, RESET, SETTINGS, END_HEADERS, CANCEL = 1, 3, 4, 4, struct.pack(">I", 8)


async def test_calls_that_are_opened_and_reset_without_end(world, size, figures):
    """Others are answered meanwhile, and what the calls held is given back."""
    ledger, count = Ledger(world.samples), size(60_000, 200_000)
    with serving(world, "--rate", "1000000") as served:
        before = served.resident_mib()
        async with AsyncClient(served.address) as client:
            await ask(client, ledger)
            flood = asyncio.create_task(asyncio.to_thread(open_and_reset, served.port, count))
            slowest = 0.0
            while not flood.done() or slowest == 0.0:
                started = time.monotonic()
                await ask(client, ledger)
                slowest = max(slowest, time.monotonic() - started)
            sent = await flood
            started = time.monotonic()
            await ask(client, ledger)
            slowest = max(slowest, time.monotonic() - started)
        growth = served.resident_mib() - before
    figures |= {
        "reset": sent,
        "slowest other answer s": round(slowest, 2),
        "growth MiB": round(growth, 1),
    } | ledger.settle()
    assert not ledger.failures
    assert slowest < 2.0
    assert growth < GROWTH_MIB


def open_and_reset(port, count):
    """Returns how many calls were sent until the server hung up, if it did."""
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))
        for turn in range(count):
            stream = 2 * turn + 1
            call = frame(HEADERS, END_HEADERS, stream, CALL) + frame(RESET, 0, stream, CANCEL)
            try:
                one.sendall(call)
            except OSError:
                return turn
    return count
