"""Torch modules as ONNX graphs, and how closely these compute the same."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from textcam_service.core.types import FloatArray
from textcam_service.errors import ExportRefused
from textcam_service.graphs import (
    ACTIVATION_MAPS,
    CLASS_WEIGHTS,
    HEAD_GRADIENT,
    INPUT,
    LOGITS,
)
from textcam_service.offline.cut import Head

OPSET = 18


def to_onnx(
    what: str,
    module: nn.Module,
    given: Sequence[torch.Tensor],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> bytes:
    """Serialise a graph with a free batch dimension, all weights inside."""
    free = tuple({0: torch.export.Dim.DYNAMIC} for _ in given)
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                tuple(given),
                dynamo=True,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=free,
                opset_version=OPSET,
                verbose=False,
            )
        if program is None:
            raise RuntimeError("the exporter returned nothing")
        graph = program.model_proto
    except Exception as error:  # whatever the exporter may meet in a foreign network
        told = re.search(r"<class '[\w.]+'>: (.*)", str(error))  # the exporter's own summary
        reason = told.group(1) if told else error
        raise ExportRefused(f"{what}: torch cannot export it to ONNX: {reason}") from error
    for node in graph.graph.node:
        del node.metadata_props[:]  # stack traces with this machine's paths
    serialised: bytes = graph.SerializeToString()
    return serialised


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and warnings from the user; its errors are raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def parity(graph: bytes, eager: nn.Module, images: torch.Tensor) -> tuple[float, float]:
    """Largest relative difference to torch of logits and maps, over batches of 1 and all.

    Args:
        graph: Of the backbone.
        eager: The network as it stands: images -> logits, maps.
        images: (N, 3, h, w).
    """
    session = _cpu_session(graph)
    errors = []
    for batch in (images[:1], images):
        with torch.inference_mode():
            wanted = [tensor.numpy() for tensor in eager(batch)]
        found = session.run([LOGITS, ACTIVATION_MAPS], {INPUT: batch.numpy()})
        errors.append([difference(f, w) for f, w in zip(found, wanted, strict=True)])
    logits_error, maps_error = np.max(errors, axis=0).tolist()
    return logits_error, maps_error


def gradient_parity(graph: bytes, head: Head, given: Mapping[str, torch.Tensor]) -> float:
    """Norm of the gradients' difference to torch's, relative to torch's norm.

    Single values may differ more: a ReLU's input next to 0 may fall on either side.
    """
    session = _cpu_session(graph)
    worst = 0.0
    for count in (1, len(given[ACTIVATION_MAPS])):
        own = {name: tensor[:count] for name, tensor in given.items()}
        maps = own[ACTIVATION_MAPS].clone().requires_grad_(True)
        logits = head(maps, *(own[name] for name in head.contexts))
        (wanted,) = torch.autograd.grad((logits * own[CLASS_WEIGHTS]).sum(), maps)
        feeds = {name: tensor.numpy() for name, tensor in own.items()}
        found_logits, found = session.run([LOGITS, HEAD_GRADIENT], feeds)
        scale = max(float(wanted.norm()), 1e-12)
        off = float(np.linalg.norm(found - wanted.numpy())) / scale
        worst = max(worst, off, difference(found_logits, logits.detach().numpy()))
    return worst


def difference(found: FloatArray, wanted: FloatArray) -> float:
    """Largest absolute difference, relative to max(1, largest wanted value)."""
    return float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max()))


def _cpu_session(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
