"""Hostile requests and images against a real server: no crash, no hang, no growth."""

import io
import struct
from collections import Counter

import grpc
import numpy as np
import pytest
from fault_callers import ALL_CLASSES
from fault_processes import Memory, serving
from fault_world import Ledger
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_service.serving.engine.jobs import MAX_REQUEST_ID

EXPLAIN = "/textcam.v1.ExplainerService/Explain"
STREAM = "/textcam.v1.ExplainerService/ExplainStream"
TOGETHER = 16
SECONDS = 30
REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND"}
FLAGS = (
    *("--max-image-pixels", "1000000", "--max-image-bytes", "200000", "--max-passes", "64"),
    *("--log-level", "CRITICAL"),
)


def seeds(world):
    """Image files of many kinds, whole; hypothesis damages them."""
    rng = np.random.default_rng(7)
    noise = Image.fromarray(rng.integers(0, 256, (40, 56, 3), np.uint8))
    deep = Image.fromarray(rng.integers(0, 2**16, (30, 20)).astype(np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = [
        (noise.convert("CMYK"), {"format": "JPEG"}),
        (noise, {"format": "JPEG", "progressive": True, "exif": turned}),
        (noise.convert("P"), {"format": "PNG", "transparency": 3}),
        (noise.convert("1"), {"format": "PNG", "interlace": 1}),
        (noise.convert("LA"), {"format": "PNG"}),
        (deep, {"format": "PNG"}),
        (noise, {"format": "PNG", "save_all": True, "append_images": [noise.rotate(90)]}),
        (noise, {"format": "WEBP", "save_all": True, "append_images": [noise.rotate(90)]}),
        (noise.convert("RGBA"), {"format": "WEBP", "quality": 5}),
        (noise.resize((1, 1)), {"format": "PNG"}),
        (noise.resize((3000, 1)), {"format": "PNG"}),
        (noise.resize((2000, 2000)), {"format": "JPEG", "quality": 1}),
    ]
    made = [sample.encoded for sample in world.samples[:3]]
    for image, options in kinds:
        file = io.BytesIO()
        image.save(file, **options)
        made.append(file.getvalue())
    return made


def damaged(whole):
    """Bytes with a few places overwritten, cut out, doubled, or all cut short."""

    def apply(parts):
        data, edits = bytearray(parts[0]), parts[1]
        for place, kind, with_what in edits:
            at = place % (len(data) + 1)
            if kind == "overwrite":
                data[at : at + len(with_what)] = with_what
            elif kind == "insert":
                data[at:at] = with_what
            elif kind == "remove":
                del data[at : at + 1 + 7 * len(with_what)]
            else:
                del data[at:]
        return bytes(data)

    # Most that decides anything stands near the beginning.
    place = st.one_of(st.integers(0, 64), st.integers(0, 2**16))
    what = st.one_of(
        st.binary(min_size=1, max_size=6),
        st.sampled_from([struct.pack(">I", n) for n in (0, 1, 2**16, 2**31 - 1, 2**32 - 1)]),
    )
    kind = st.sampled_from(("overwrite", "overwrite", "overwrite", "insert", "remove", "cut"))
    return st.tuples(whole, st.lists(st.tuples(place, kind, what), max_size=4)).map(apply)


def requests(images):
    """ExplainRequests with each field in and out of its range."""
    small, any_int = st.integers(-1, 12), st.integers(-(2**31), 2**31 - 1)
    number = st.one_of(small, small, any_int)
    name = st.one_of(st.just("scenes"), st.text(max_size=8))
    ref = st.one_of(
        st.builds(types_pb.ClassRef, index=number),
        st.builds(types_pb.ClassRef, name=st.text(max_size=6)),
    )
    target = st.one_of(
        st.builds(types_pb.Target, top_k=st.builds(types_pb.Target.TopK, k=number)),
        st.builds(
            types_pb.Target,
            classes=st.builds(types_pb.Target.Classes, classes=st.lists(ref, max_size=3)),
        ),
        st.builds(types_pb.Target, contrast=st.builds(contrast, ref, ref)),
    )
    extents = st.lists(st.one_of(st.integers(-1, 40), st.integers(-(2**63), 2**63 - 1)), max_size=4)
    tensor = st.one_of(
        st.builds(
            types_pb.Tensor, dtype=st.integers(0, 3), shape=extents, data=st.binary(max_size=64)
        ),
        st.tuples(st.integers(1, 9), st.integers(1, 9)).map(
            lambda hw: types_pb.Tensor(dtype=1, shape=[*hw, 3], data=bytes(hw[0] * hw[1] * 3))
        ),
    )
    image = st.one_of(
        *[st.fixed_dictionaries({"encoded": images})] * 4,
        st.fixed_dictionaries({"encoded": st.binary(max_size=64)}),
        st.fixed_dictionaries({"pixels": tensor}),
    )
    further = st.fixed_dictionaries(
        {},
        optional={
            "request_id": st.one_of(st.text(max_size=6), st.just("x" * (MAX_REQUEST_ID + 1))),
            "model": st.builds(types_pb.ModelSpec, name=name, version=st.just("")),
            "target": target,
            "max_phrases": number,
            "include_groups": st.booleans(),
            "heatmap": number,
            "prediction_count": number,
            "method": st.integers(-1, 19),
        },
    )
    plain = st.just({})
    return st.tuples(image, st.one_of(plain, further)).map(
        lambda parts: pb.ExplainRequest(**parts[0], **parts[1])
    )


def contrast(one, other):
    return types_pb.Target.Contrast(target=one, reference=other)


class Hostile:
    """Sends a handful of inputs at once, and judges what comes back."""

    def __init__(self, served, channel, samples):
        self.codes = Counter()
        self.inputs = 0
        self.ledger = Ledger(samples)
        self._served = served
        self._explain = channel.unary_unary(EXPLAIN)
        self._stream = channel.stream_stream(STREAM)

    def call_each(self, messages):
        """Messages as bytes, well-formed or not, beside a request that must be answered."""
        calls = [self._explain.future(message, timeout=SECONDS) for message in messages]
        request_id, sample = self.ledger.send()
        good = pb.ExplainRequest(
            request_id=request_id, encoded=sample.encoded, prediction_count=ALL_CLASSES
        )
        answer = self._explain(good.SerializeToString(), timeout=SECONDS)
        self.ledger.answered(request_id, pb.ExplainResponse.FromString(answer))
        for message, call in zip(messages, calls, strict=True):
            code = call.code().name
            self.codes[code] += 1
            if not parses(message):
                assert code == "INVALID_ARGUMENT", (code, call.details())
            else:
                assert code in {"OK", *REFUSALS}, (code, call.details())
        self.inputs += len(messages)

    def stream(self, sent):
        """Requests over one stream: each is answered, once."""
        for place, request in enumerate(sent):
            request.request_id = request.request_id or str(place)
        messages = [pb.ExplainStreamRequest(request=one).SerializeToString() for one in sent]
        answers = [
            pb.ExplainStreamResponse.FromString(item)
            for item in self._stream(iter(messages), timeout=SECONDS)
        ]
        for answer in answers:
            code = "OK"
            if answer.HasField("error"):
                code = next(c.name for c in grpc.StatusCode if c.value[0] == answer.error.code)
            self.codes[code] += 1
            assert code in {"OK", *REFUSALS}, answer.error
        # Longer ones come back cut.
        asked = Counter(
            one.request_id[:MAX_REQUEST_ID] for one in sent
        )  # longer ones come back cut
        assert Counter(answer.request_id for answer in answers) == asked
        self.inputs += len(sent)


def parses(message):
    try:
        pb.ExplainRequest.FromString(message)
    except DecodeError:
        return False
    return True


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_hostile_requests_and_images(world, size, figures, monkeypatch):
    # With an arena for each thread, what is kept depends on which threads met the largest work.
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    # Hypothesis remembers all that a run tried, gigabytes in the end: hence several runs. The last
    # tenth asks what the second did, so that memory is compared where the same is in work.
    runs, examples = size([0], [*range(27), 3, 4, 5]), size(50, 500)
    wanted = len(runs) * examples * TOGETHER
    request = requests(damaged(st.sampled_from(seeds(world))))
    # Of four messages, one is damaged on the wire as well.
    message = st.one_of(
        *[request.map(lambda one: one.SerializeToString())] * 3,
        damaged(request.map(lambda one: one.SerializeToString())),
    )
    together = {"min_size": TOGETHER, "max_size": TOGETHER}
    rounds = st.one_of(
        st.tuples(st.just("call_each"), st.lists(message, **together)),
        st.tuples(st.just("stream"), st.lists(request, **together)),
    )
    with serving(world, *FLAGS) as served, grpc.insecure_channel(served.address) as channel:
        hostile, memory = Hostile(served, channel, world.samples), Memory(served, wanted)

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(rounds)
        def fuzz(one_round):
            how, given_ = one_round
            getattr(hostile, how)(given_)
            memory.look(hostile.inputs)

        try:
            for run in runs:
                seed(run)(fuzz)()
        finally:
            figures |= {"inputs": hostile.inputs, "codes": dict(hostile.codes)}
        figures |= memory.figures()
        figures["unexpected"] = int(served.metric("textcam_unexpected_errors_total"))
        assert served.process.poll() is None
    hostile.ledger.settle()
    assert figures["unexpected"] == 0
    assert hostile.inputs >= wanted
    if size(False, True):
        assert figures["trend %"] < 3
