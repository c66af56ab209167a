"""Translation of torch modules to ONNX graphs."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from textcam_service.errors import ExportRefused

OPSET = 18


def to_onnx(
    what: str,
    module: nn.Module,
    given: Sequence[torch.Tensor],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> bytes:
    """Translate a module to a serialized graph with a free batch dimension, all weights inside.

    Args:
        what: Name of the module, for errors.
        module: The module, in evaluation mode.
        given: Example inputs, batch first.
        inputs: Their names.
        outputs: Names of the module's outputs.

    Raises:
        ExportRefused: The exporter cannot translate it.
    """
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
        for node in graph.graph.node:
            del node.metadata_props[:]  # stack traces with this machine's paths
        serialized: bytes = graph.SerializeToString()  # fails beyond 2 GB
    except Exception as error:  # the exporter's own, of any kind, in a foreign network
        summary = re.search(r"<class '[\w.]+'>: (.*)", str(error))  # the exporter's own
        reason = summary.group(1) if summary else error
        raise ExportRefused(f"{what}: torch cannot export it to ONNX: {reason}") from error
    return serialized


def _free_batch(module: nn.Module, count: int) -> tuple[Any, ...]:
    """Describe the shapes of `count` inputs; those that forward takes as *args form a tuple."""
    free = tuple({0: torch.export.Dim.DYNAMIC} for _ in range(count))
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return free
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*free[:named], free[named:]) if count > named else free


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's progress and warnings; its errors are raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
