"""Closed-loop load by the bare stubs of one checkout, in a process of its own.

    python -m serve.wire_load < plan.json > result.json    (PYTHONPATH: tests/bench, that protos/)

The plan: `address` and `pid` of the server, `images` (JPEG files), `kind` (see REQUESTS),
`callers`, `seconds`, `warm_up`. Prints requests that ended in the measured window, those that
failed, the window's seconds, and CPU seconds of the server and of this process in it.
"""

import asyncio
import gc
import io
import itertools
import json
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import psutil
from PIL import Image
from textcam.oip import open_inference_pb2 as oip
from textcam.oip import open_inference_pb2_grpc
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc

from serve.usage import cpu_seconds

DEADLINE_S = 30.0
BATCH, SIDE = 4, 320  # of a request of pixels
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def explain(channel, jpegs):
    """One JPEG by Explain."""
    requests = [pb.ExplainRequest(encoded=jpeg) for jpeg in jpegs]
    return explainer_pb2_grpc.ExplainerServiceStub(channel).Explain, requests


def infer(channel, jpegs):
    """One JPEG by ModelInfer, with all outputs."""
    raw = [len(jpeg).to_bytes(4, "little") + jpeg for jpeg in jpegs]
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
    return _infer(channel, tensor, raw)


def infer_pixels(channel, jpegs):
    """A batch of four images' pixels by ModelInfer, with all outputs."""
    pixels = [np.asarray(Image.open(io.BytesIO(own)).resize((SIDE, SIDE))) for own in jpegs]
    shape = (BATCH, SIDE, SIDE, 3)
    batches = [np.stack([pixels[(i + j) % len(pixels)] for j in range(BATCH)]) for i in range(4)]
    tensor = oip.ModelInferRequest.InferInputTensor(name="pixels", datatype="UINT8", shape=shape)
    return _infer(channel, tensor, [batch.tobytes() for batch in batches])


def _infer(channel, tensor, contents):
    requests = [
        oip.ModelInferRequest(inputs=[tensor], raw_input_contents=[own]) for own in contents
    ]
    return open_inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer, requests


REQUESTS = {"explain": explain, "infer": infer, "infer-pixels": infer_pixels}


async def measure(plan, jpegs):
    ended, turns = [], itertools.count()
    async with grpc.aio.insecure_channel(plan["address"], _OPTIONS) as channel:
        call, requests = REQUESTS[plan["kind"]](channel, jpegs)
        await call(requests[0], timeout=DEADLINE_S)
        begin = time.monotonic() + plan["warm_up"]
        end = begin + plan["seconds"]

        async def caller():
            while time.monotonic() < end:
                try:
                    await call(requests[next(turns) % len(requests)], timeout=DEADLINE_S)
                    ended.append((time.monotonic(), True))
                except grpc.aio.AioRpcError:
                    ended.append((time.monotonic(), False))

        gc.freeze()
        callers = [asyncio.create_task(caller()) for _ in range(plan["callers"])]
        await asyncio.sleep(begin - time.monotonic())
        own, server = psutil.Process(), cpu_seconds(plan["pid"])
        began, own_cpu = time.monotonic(), sum(own.cpu_times()[:2])
        await asyncio.sleep(end - time.monotonic())
        took, server = time.monotonic() - began, cpu_seconds(plan["pid"]) - server
        own_cpu = sum(own.cpu_times()[:2]) - own_cpu
        await asyncio.gather(*callers)
    inside = [good for at, good in ended if began <= at < began + took]
    return {
        "requests": sum(inside), "failed": len(inside) - sum(inside), "seconds": took,
        "server_cpu_s": server, "own_cpu_s": own_cpu,
    }  # fmt: skip


if __name__ == "__main__":
    given = json.load(sys.stdin)
    files = [Path(image).read_bytes() for image in given["images"]]
    json.dump(asyncio.run(measure(given, files)), sys.stdout)
