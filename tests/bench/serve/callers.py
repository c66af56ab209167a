"""How each server is asked: the same JPEG in, the class and the saliency map out."""

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
import numpy as np
from textcam_client import AsyncClient, DeadlineExceeded, Overloaded, Unavailable

PHRASES = 5
_NO_LIMIT = httpx2.Limits(max_connections=None, max_keepalive_connections=None)


@dataclass(frozen=True)
class Answer:
    """What every server says of an image; `stages` are seconds in the server, where it tells."""

    class_index: int
    saliency_map: np.ndarray
    stages: dict = field(default_factory=dict)


class Refused(Exception):
    """The server is too busy; `retry_after` is its hint in seconds, or None."""

    def __init__(self, message, retry_after):
        super().__init__(message)
        self.retry_after = retry_after


class Late(Exception):
    """The deadline passed."""


@asynccontextmanager
async def textcam(address):
    """This service through its SDK, without retries: class, five phrases, their groups, maps."""
    async with AsyncClient(address, retry=None) as client:

        async def ask(jpeg, timeout):
            try:
                found = await client.explain(
                    jpeg, max_phrases=PHRASES, include_groups=True, heatmap="saliency",
                    prediction_count=1, timeout=timeout,
                )  # fmt: skip
            except (Overloaded, Unavailable) as error:
                raise Refused(f"{error.reason}: {error}", error.retry_after) from error
            except DeadlineExceeded as error:
                raise Late(str(error)) from error
            target = found.explanation
            if target.saliency_map is None or len(target.groups) != len(target.phrases):
                raise ValueError("an answer came without its map or groups")
            stages = dict(found.stage_seconds)
            return Answer(found.predictions[0].class_index, target.saliency_map, stages)

        yield ask


def _http(path, body, read):
    """A caller of a JSON-over-HTTP server: `body` of a JPEG, `read` of the decoded answer."""

    @asynccontextmanager
    async def caller(address):
        async with httpx2.AsyncClient(
            base_url=f"http://{address}", limits=_NO_LIMIT, timeout=None, trust_env=False
        ) as client:

            async def ask(jpeg, timeout):
                payload = body(base64.b64encode(jpeg).decode())
                try:
                    # The client's own timeouts are each for a part of the exchange.
                    got = await asyncio.wait_for(client.post(path, json=payload), timeout)
                except asyncio.TimeoutError as error:
                    raise Late(f"no answer in {timeout:.3g} s") from error
                if got.status_code in (429, 503):
                    hint = got.headers.get("retry-after", "")
                    raise Refused(got.text[:200], float(hint) if hint.isdigit() else None)
                if got.status_code in (408, 504):
                    raise Late(got.text[:200])
                if got.status_code != 200:
                    raise RuntimeError(f"HTTP {got.status_code}: {got.text[:200]}")
                return read(json.loads(got.content))

            yield ask

    return caller


def _plain(answer):
    saliency_map = np.asarray(answer["saliency_map"], np.float32)
    return Answer(answer["class_index"], saliency_map)


def _tensors(answer):
    """An answer of the open inference protocol."""
    found = {one["name"]: np.reshape(one["data"], one["shape"]) for one in answer["outputs"]}
    saliency_map = found["saliency_map"][0].astype(np.float32)
    return Answer(int(found["class_index"].flat[0]), saliency_map)


def _tensor_request(text):
    tensor = {
        "name": "image", "shape": [1, 1], "datatype": "BYTES",
        "parameters": {"content_type": "base64"}, "data": [text],
    }  # fmt: skip
    return {"inputs": [tensor]}


CALLERS = {
    "textcam": textcam,
    "litserve": _http("/predict", lambda text: {"image": text}, _plain),
    "bentoml": _http("/explain", lambda text: {"images": [text]}, lambda found: _plain(found[0])),
    "mlserver": _http("/v2/models/explainer/infer", _tensor_request, _tensors),
}


def outcome_of(error):
    """Name an outcome by what was raised."""
    kinds = {Refused: "refused", Late: "late"}
    return next((word for kind, word in kinds.items() if isinstance(error, kind)), "failed")
