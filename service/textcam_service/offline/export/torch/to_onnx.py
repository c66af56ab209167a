"""Torch modules as ONNX graphs, and how closely these compute the same."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from textcam_service.artefacts.backbone import (
    ACTIVATION_MAPS,
    CLASS_WEIGHTS,
    HEAD_GRADIENT,
    INPUT,
    LOGITS,
)
from textcam_service.core.types import Float32Array, FloatArray
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.torch.head_vjp import eager_gradients
from textcam_service.offline.export.torch.split import Head

OPSET = 18
_LEAST = 1e-30  # keeps a division by nothing from failing


def to_onnx(
    what: str,
    module: nn.Module,
    given: Sequence[torch.Tensor],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> bytes:
    """Serialise a graph with a free batch dimension, all weights inside."""
    free = _free_batch(module, len(given))
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


def _free_batch(module: nn.Module, count: int) -> tuple[Any, ...]:
    """The shapes of `count` inputs; those that forward takes as *args stand in a tuple."""
    free = tuple({0: torch.export.Dim.DYNAMIC} for _ in range(count))
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return free
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*free[:named], free[named:]) if count > named else free


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


def maps_of(graph: bytes) -> Callable[[Float32Array], Float32Array]:
    """What a backbone's graph makes of images (N, 3, h, w): activation maps (N, D, H, W)."""
    session = _cpu_session(graph)

    def run(images: Float32Array) -> Float32Array:
        (maps,) = session.run([ACTIVATION_MAPS], {INPUT: images})
        return np.asarray(maps)

    return run


def head_parity(
    graph: bytes, head: Head, given: Mapping[str, torch.Tensor], further: Sequence[str] = ()
) -> tuple[float, float]:
    """How closely a head's graph agrees with torch, over batches of 1 and all.

    Args:
        graph: Of the head; with gradients where `given` has class weights.
        head: As torch runs it.
        given: The graph's inputs, by name.
        further: Names of its further outputs; see gradient.eager_gradients.

    Returns:
        The largest relative difference of a logit; and the norm of the difference of gradients,
        of maps, attention or taps, relative to their norm. Single values may differ more: a
        ReLU's input next to 0 may fall on either side.
    """
    session = _cpu_session(graph)
    logits_errors, gradient_errors = [0.0], [0.0]
    for count in (1, len(given[ACTIVATION_MAPS])):
        own = {name: tensor[:count] for name, tensor in given.items()}
        feeds = {name: tensor.numpy() for name, tensor in own.items()}
        contexts = [own[name] for name in head.contexts]
        with torch.no_grad():
            wanted = head(own[ACTIVATION_MAPS], *contexts).numpy()
        (logits,) = session.run([LOGITS], feeds)
        logits_errors.append(difference(logits, wanted))
        if CLASS_WEIGHTS in own:
            names = [HEAD_GRADIENT, *further]
            slopes = eager_gradients(head, own[ACTIVATION_MAPS], own[CLASS_WEIGHTS], contexts)
            for found, slope in zip(session.run(names, feeds), slopes, strict=True):
                off = float(np.linalg.norm(found - slope.numpy()))
                gradient_errors.append(off / max(float(slope.norm()), _LEAST))
    # Unlike Python's max, numpy's lets no nan slip through.
    return float(np.max(logits_errors)), float(np.max(gradient_errors))


def difference(found: FloatArray, wanted: FloatArray) -> float:
    """Largest absolute difference, relative to the largest wanted value, however small."""
    return float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), _LEAST))


def _cpu_session(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
