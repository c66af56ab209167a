"""A backbone's graphs in OpenVINO, each compared once with onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from textcam_service.artefacts.backbone import ACTIVATION_MAPS, CLASS_WEIGHTS, INPUT, LAYER, LOGITS
from textcam_service.core.types import Float32Array, Preprocessing
from textcam_service.errors import InvalidSettings
from textcam_service.runtime.openvino_session import (
    OpenVinoSession,
    has_bf16,
    processor,
    version,
)
from textcam_service.runtime.providers import BF16, DeviceOptions, engines_of
from textcam_service.runtime.session import Session

# Largest difference between the runtimes in float32, as a share of an output's largest value.
_TOLERANCE = 1e-3
_LEAST_SCALE = 1e-30  # keeps a division by zero from failing
_NOTE = "compared.json"


def openvino_sessions(
    graphs: Mapping[str, tuple[bytes, str]],
    size: Preprocessing,
    threads: int,
    options: DeviceOptions,
    *,
    is_int8: bool,
) -> dict[str, OpenVinoSession]:
    """Start a session of each graph; in bf16 that of the trunk alone, as heads' evidence adds up.

    Each graph is compared with onnxruntime in float32. If engines are kept, so is a note of it, and
    the next start with the same graphs, processor and version compares nothing.

    Args:
        graphs: Serialised graphs with their digests, by name; see artefacts.backbone.
        size: Size of the trunk's input.
        threads: See OpenVinoSession.
        options: See DeviceOptions.
        is_int8: True: the trunk is quantized.

    Raises:
        InvalidSettings: OpenVINO cannot run a graph, or computes something else than onnxruntime;
            the processor has no units for bf16; or the folder for engines cannot be written.
    """
    bf16 = options.precision == BF16
    if bf16 and not has_bf16():
        raise InvalidSettings(
            f"precision bf16: {processor()} has no units for it (AMX, AVX512-BF16), and OpenVINO "
            "would compute in fp32 without a word; choose fp32, or auto"
        )
    folder = _made_folder(engines_of(graphs["backbone"][1], options))

    def start(name: str, *, rounded: bool) -> OpenVinoSession:
        model, digest = graphs[name]
        cache = engines_of(digest, options)
        return OpenVinoSession(model, threads, bf16=rounded, cache=cache)

    sessions = {name: start(name, rounded=bf16 and name == "backbone") for name in graphs}
    subject = {
        "graphs": {name: digest for name, (_, digest) in graphs.items()},
        "openvino": version(),
        "processor": processor(),
    }
    if folder is None or not _is_noted(folder, subject):
        exact = sessions | ({"backbone": start("backbone", rounded=False)} if bf16 else {})
        models = {name: model for name, (model, _) in graphs.items()}
        difference = require_same(models, exact, size, is_int8=is_int8)
        if folder is not None:
            note = json.dumps(subject | {"difference": difference}, indent=2)
            (folder / _NOTE).write_text(note + "\n", encoding="utf-8")
    return sessions


def require_same(
    graphs: Mapping[str, bytes],
    sessions: Mapping[str, Session],
    size: Preprocessing,
    *,
    is_int8: bool = False,
) -> float:
    """Compare sessions with onnxruntime, on two random images and what follows from them.

    An int8 trunk must only give finite numbers: its steps of rounding multiply from layer to layer,
    and onnxruntime differs as much from itself without its optimisations. Its explanations decide;
    see model.precision.

    Args:
        graphs: Serialised graphs, by name; see artefacts.backbone.
        sessions: Session of each graph, in float32.
        size: Size of the trunk's input.
        is_int8: True: the trunk is quantized.

    Returns:
        The largest difference, as a share of an output's largest value.

    Raises:
        InvalidSettings: It is above 1e-3.
    """
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 3, size.height, size.width)).astype(np.float32)
    seen, worst = _compared(
        "backbone",
        graphs["backbone"],
        sessions["backbone"],
        {INPUT: images},
        np.inf if is_int8 else _TOLERANCE,
    )
    weights = rng.normal(size=seen[LOGITS].shape).astype(np.float32)
    feeds = {**seen, CLASS_WEIGHTS: weights}
    for name, maps in (("head", ACTIVATION_MAPS), ("layers", f"{LAYER}0")):
        if name in graphs:
            given = feeds | {ACTIVATION_MAPS: seen[maps]}
            worst = max(worst, _compared(name, graphs[name], sessions[name], given)[1])
    return worst


def _compared(
    name: str,
    graph: bytes,
    session: Session,
    feeds: Mapping[str, Float32Array],
    tolerance: float = _TOLERANCE,
) -> tuple[dict[str, Float32Array], float]:
    """Return onnxruntime's outputs by name, and the largest difference from them."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Without optimisations: as each operator is defined.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    own = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    given = {each.name: feeds[each.name] for each in own.get_inputs()}
    names = [each.name for each in own.get_outputs()]
    wanted, found = own.run(names, given), session.run(names, given)
    worst = 0.0
    for output, one, other in zip(names, wanted, found, strict=True):
        difference = _difference(one, other)
        if not difference <= tolerance:  # NaN is no agreement
            raise InvalidSettings(
                f"OpenVINO computes {output!r} of {name}.onnx otherwise than onnxruntime: off by "
                f"{difference:.3g} of its largest value, where {tolerance:g} is allowed; name "
                "the provider 'cpu', which is onnxruntime's"
            )
        worst = max(worst, difference)
    return dict(zip(names, wanted, strict=True)), worst


def _difference(wanted: Float32Array, found: Float32Array) -> float:
    if wanted.shape != found.shape:
        return float("inf")
    scale = max(float(np.abs(wanted).max()), _LEAST_SCALE)
    return float(np.abs(found - wanted).max() / scale)


def _made_folder(path: str) -> Path | None:
    if not path:
        return None
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSettings(f"engine_cache: {path} cannot be created: {error}") from error
    return Path(path)


def _is_noted(folder: Path, subject: Mapping[str, Any]) -> bool:
    """Return True if these graphs were compared by this processor and version before."""
    try:
        noted = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(noted, dict) and subject.items() <= noted.items()
