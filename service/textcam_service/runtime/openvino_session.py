"""Sessions in OpenVINO on the CPU, called as onnxruntime's are.

OpenVINO's own interface, not onnxruntime's provider of it: that is a build of onnxruntime of its
own, which takes the place of the served one and lags behind it.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from textcam_service.errors import InvalidSettings, InvalidTensor
from textcam_service.runtime.cpus import usable_cpus

_CPU = "CPU"
_BF16 = "BF16"
_TRANSPOSED = {"ConvolutionBackpropData", "GroupConvolutionBackpropData"}


class OpenVinoSession:
    """A graph with inputs and outputs (N, ...), whose images run side by side, a thread each.

    The network is compiled for one image. So an image's outputs are the same bit for bit, alone and
    in any batch: networks for more images may add up in another order. And OpenVINO gains more
    from a second image at a time than from a second thread for the first.

    Thread-safe: runs follow one another.

    Args:
        model: Serialised ONNX graph.
        threads: Images at a time; 0: as many as CPUs that this process may use.
        bf16: If True, products are computed in bfloat16, else in float32.
        cache: Folder of this graph's compiled networks; empty: none are kept.

    Raises:
        InvalidSettings: OpenVINO cannot run the graph.
    """

    def __init__(self, model: bytes, threads: int, *, bf16: bool = False, cache: str = "") -> None:
        streams = threads or usable_cpus()
        core, given = ov.Core(), _configuration(streams, bf16=bf16, cache=cache)
        try:
            graph = core.read_model(model)
            _copy_shared_weights(graph)
            network = core.compile_model(_for_one_image(graph), _CPU, given)
        except RuntimeError as error:
            said = " ".join(str(error).split())  # several lines
            raise InvalidSettings(
                f"OpenVINO cannot run the graph: {said}; name the provider 'cpu', which is "
                "onnxruntime's"
            ) from error
        self._requests = [network.create_infer_request() for _ in range(streams)]
        self._lock = threading.Lock()

    def run(
        self,
        names: Sequence[str],
        feeds: Mapping[str, NDArray[Any]],
        options: object = None,  # noqa: ARG002 - onnxruntime's
        /,
    ) -> list[NDArray[Any]]:
        """Run a batch of any size.

        Args:
            names: Outputs to return.
            feeds: Every input (N, ...), by name.
            options: Options of onnxruntime, which mean nothing here.

        Returns:
            An array (N, ...) per name, of its own memory.

        Raises:
            InvalidTensor: An input holds NaN or infinity. Within the network they would become
                ordinary numbers: OpenVINO's Relu and Clip turn NaN into 0.
        """
        for name, values in feeds.items():
            if not np.isfinite(values).all():
                raise InvalidTensor(f"{name} holds NaN or infinity; give finite numbers")
        given = {name: np.ascontiguousarray(values) for name, values in feeds.items()}
        (count,) = {len(values) for values in given.values()}
        with self._lock:
            try:
                rows = self._rows(names, given, count)
            except BaseException:
                for request in self._requests:  # they read this run's arrays
                    request.cancel()
                    with suppress(RuntimeError):
                        request.wait()
                raise
        return [np.stack(own) for own in zip(*rows, strict=True)]

    def _rows(
        self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]], count: int
    ) -> list[list[NDArray[Any]]]:
        """Run each image on the next request, once that one's image before is done."""
        rows, streams = [], len(self._requests)
        for index in range(count + streams):
            request = self._requests[index % streams]
            if 0 <= index - streams < count:
                request.wait()
                # Copies: the request's next image overwrites its tensors.
                rows.append([request.get_tensor(name).data[0].copy() for name in names])
            if index < count:
                image = {name: values[index : index + 1] for name, values in feeds.items()}
                request.start_async(image, share_inputs=True)
        return rows


def version() -> str:
    """Return OpenVINO's version."""
    return importlib.metadata.version("openvino")


def has_bf16() -> bool:
    """Return True if the processor has units for bfloat16, such as AMX or AVX512-BF16."""
    return _BF16 in ov.Core().get_property(_CPU, "OPTIMIZATION_CAPABILITIES")


def processor() -> str:
    """Return the processor's name with the kinds of numbers that it has units for."""
    core = ov.Core()
    units = sorted(core.get_property(_CPU, "OPTIMIZATION_CAPABILITIES"))
    return f"{core.get_property(_CPU, 'FULL_DEVICE_NAME').strip()} ({', '.join(units)})"


def _configuration(streams: int, *, bf16: bool, cache: str) -> dict[str, Any]:
    """Return OpenVINO's properties."""
    kept = {"CACHE_DIR": cache} if cache else {}
    return {
        # Left out, it is the processor's fastest kind, which differs between machines.
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": streams,
        "NUM_STREAMS": streams,
        # Each worker process would pin its threads to the same first CPUs.
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,  # the system counts each as a CPU
        **kept,
    }


def _for_one_image(graph: Any) -> Any:
    """Fix the extent N of a graph's inputs, which are (N, ...), to 1."""
    shapes = {}
    for given in graph.inputs:
        shapes[given.get_any_name()] = shape = given.get_partial_shape()
        shape[0] = ov.Dimension(1)
    graph.reshape(shapes)
    return graph


def _copy_shared_weights(graph: Any) -> None:
    """Give each transposed convolution of a graph and of its branches weights of its own.

    A convolution and its gradient share theirs. If these are square in channels, OpenVINO packs
    them once for both, and the gradient is wrong.
    """
    for node in graph.get_ops():
        if node.get_type_name() == "If":
            for branch in range(2):
                _copy_shared_weights(node.get_function(branch))
        if node.get_type_name() in _TRANSPOSED:
            weights = node.input(1).get_source_output()
            source = weights.get_node()
            while source.get_type_name() == "Reshape":
                source = source.input(0).get_source_output().get_node()
            if source.get_type_name() == "Constant":
                copy = np.array(source.data).reshape(tuple(weights.get_shape()))
                node.input(1).replace_source_output(ov.op.Constant(copy).output(0))
