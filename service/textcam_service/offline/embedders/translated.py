"""Networks of embedders, run by onnxruntime on the CPU in place of torch.

A network is translated to ONNX at its first use, compared with torch, and kept in the user's cache
folder. What cannot be translated, or computes something else, stays with torch, and a log line says
so.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch
from torch import nn

from textcam_service.core.types import Float32Array
from textcam_service.errors import ArtefactCorrupt, ExportRefused
from textcam_service.offline.cache import kept
from textcam_service.offline.chunks import Chunk
from textcam_service.offline.export.from_torch.to_onnx import OPSET, to_onnx
from textcam_service.offline.export.numerics import relative_difference
from textcam_service.runtime.device_tensors import NEEDED
from textcam_service.runtime.providers import CPU
from textcam_service.runtime.sessions import make_session

_log = logging.getLogger(__name__)
_TOLERANCE = 1e-4  # of the largest value; translations differ by 1e-6, by the order of sums
_LIBRARIES = ("torch", "onnxscript", "open_clip_torch", "timm", "transformers")
_INPUT, _OUTPUT = "input", "output"


class TranslatedNetwork:
    """A network with one input and one output; may be called from several threads at a time.

    Each call takes one thread: callers run several batches side by side, which uses processors
    better than several threads for one batch.
    """

    def __init__(
        self, name: str, digest: object, module: nn.Module, example: Callable[[], Float32Array]
    ) -> None:
        """Note the network; nothing is translated yet.

        Args:
            name: Name for people.
            digest: Identity of the module's weights and of its computation, as JSON.
            module: The network in evaluation mode. On a GPU it stays with torch.
            example: Called for an input of three items, on which the translation and the module
                are compared.
        """
        self._name, self._digest, self._module, self._example = name, digest, module, example
        self._starting, self._one_at_a_time = threading.Lock(), threading.Lock()

    def __call__(self, given: Float32Array) -> Float32Array:
        """Run the network: (N, ...) -> (N, ...)."""
        with self._starting:  # several first calls translate once
            run = self._run
        return run(given)

    @cached_property
    def _run(self) -> Callable[[Float32Array], Float32Array]:
        weight = next(self._module.parameters(), None)
        if weight is not None and weight.device.type != "cpu":
            return self._by_torch
        try:
            chunk = kept("network", ["graph"], self._identity(), self._translate)
            session = make_session(chunk.tensors["graph"].tobytes(), [(CPU, {})], 1, named=True)
        except (ExportRefused, ArtefactCorrupt) as error:
            _log.warning("%s stays with torch, which is slower: %s", self._name, error)
            return self._by_torch
        return lambda given: np.asarray(session.run([_OUTPUT], {_INPUT: given}, NEEDED)[0])

    def _by_torch(self, given: Float32Array) -> Float32Array:
        weight = next(self._module.parameters())
        # torch takes all processors for one batch.
        with self._one_at_a_time, torch.inference_mode():
            found: torch.Tensor = self._module(torch.from_numpy(given).to(weight.device))
            return np.asarray(found.float().cpu().numpy())

    def _translate(self) -> Chunk:
        """Translate the network.

        Raises:
            ExportRefused: It cannot be translated, or its translation computes something else.
        """
        example = self._example()
        # Two of the three: a batch of another size shows whether the size is free.
        given = [torch.from_numpy(example[:2])]
        graph = to_onnx(self._name, self._module, given, [_INPUT], [_OUTPUT])
        session = make_session(graph, [(CPU, {})], 0, named=True)
        try:
            (found,) = session.run([_OUTPUT], {_INPUT: example})
        except Exception as error:  # onnxruntime's own, of any kind
            raise ExportRefused(f"{self._name}: its translation does not run: {error}") from error
        difference = relative_difference(found, self._by_torch(example))
        if not difference <= _TOLERANCE:
            raise ExportRefused(
                f"{self._name}: its translation differs from torch by {difference:.1e} of the "
                f"largest value; at most {_TOLERANCE:.0e} is usual"
            )
        return Chunk({"graph": np.frombuffer(graph, np.uint8)}, {"difference": difference})

    def _identity(self) -> list[object]:
        """Return all that the graph depends on."""
        return [self._digest, OPSET, {name: _version(name) for name in _LIBRARIES}]


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
